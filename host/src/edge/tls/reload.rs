//! Another certificate while the server runs.
//!
//! One task looks at the two files, and puts what they hold in force when it can be used. It looks at what they hold and
//! not at their times, which a tool may set as it likes; they are small. The two are replaced one after the other: what has
//! changed counts once it has stayed the same for one turn, so that a new certificate isn't held against the old key.

use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::Tls;
use super::certificate::Files;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Has the files read again at once. Cheap to clone; when the last one is dropped, nobody looks at them any more.
#[derive(Debug, Clone)]
pub struct CertificateReloader(mpsc::Sender<()>);

impl CertificateReloader {
    pub(super) fn start(tls: Tls, files: Files, provider: Arc<CryptoProvider>) -> Self {
        let (sender, requests) = mpsc::channel(1);
        tokio::spawn(run(Looker { tls, files, provider }, requests));
        Self(sender)
    }

    /// Reads them now, whatever they hold; what came of it is in the log.
    pub fn reload(&self) {
        // If one waits already, that one will do.
        let _ = self.0.try_send(());
    }
}

async fn run(looker: Looker, mut requests: mpsc::Receiver<()>) {
    let mut looker = Some(looker);
    // What was tried last, whatever came of it; and what was there at the last look.
    let mut tried = looker.as_ref().map(|looker| Some(looker.tls.shared.pair.load().digest));
    let mut seen = tried;
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let asked = tokio::select! {
            asked = requests.recv() => match asked {
                Some(()) => true,
                None => return,
            },
            _ = looks.tick() => false,
        };
        let Some(mine) = looker.take() else { return };
        let (before, last) = (tried.flatten(), seen.flatten());
        // Files may be on something slow.
        let looked = tokio::task::spawn_blocking(move || {
            let now = mine.files.digest();
            let is_settled = now == last && now != before;
            let reads = asked || is_settled;
            if reads {
                mine.read();
            }
            (mine, now, reads)
        });
        let Ok((mine, now, reads)) = looked.await else { return };
        looker = Some(mine);
        seen = Some(now);
        if reads {
            tried = Some(now);
        }
    }
}

/// What the task owns.
struct Looker {
    tls: Tls,
    files: Files,
    provider: Arc<CryptoProvider>,
}

impl Looker {
    fn read(&self) {
        match self.files.read(&self.provider) {
            Ok(pair) if pair.digest == self.tls.shared.pair.load().digest => self.tls.found_unusable(false),
            Ok(pair) => {
                tracing::info!(not_after = %pair.not_after, "another certificate is in force for TLS");
                self.tls.put_in_force(pair);
            }
            Err(error) => {
                tracing::error!(%error, "the certificate of TLS stays as it was");
                self.tls.found_unusable(true);
            }
        }
    }
}
