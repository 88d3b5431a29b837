//! The failure catalogue: things that went wrong in servers of this kind, each as a test, grouped by where they strike.
//! `tests/catalogue.md` says for each of its lines which tests show it, and [`table`] that they exist. Lines about the
//! runtime and about plugins have their tests beside those of runtime and plugins.

mod access;
mod bombs;
mod clients;
mod disk;
mod floods;
mod hangs;
mod hostile;
mod labs;
mod leaks;
mod logs;
mod node_logs;
mod shells;
mod table;
mod unanswered;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;
use tokio_util::sync::CancellationToken;

pub(crate) use self::table::on_every_runtime;

use crate::harness::{Client, Server, eventually};

/// Somebody else, who goes on working while others misbehave: asks again and again, and has to be answered each time.
struct Bystander {
    answers: Arc<AtomicU64>,
    stop: CancellationToken,
    work: tokio::task::JoinHandle<()>,
}

impl Bystander {
    /// Begins to ask about `lab`, over a connection of their own.
    async fn start(server: &Server, token: &str, lab: &str) -> Self {
        let client = Client::connect(server, token).await;
        let (answers, stop) = (Arc::new(AtomicU64::new(0)), CancellationToken::new());
        let work = {
            let (answers, stop, lab) = (Arc::clone(&answers), stop.clone(), lab.to_owned());
            tokio::spawn(async move {
                while !stop.is_cancelled() {
                    // Fails when there is an error, or no answer for a minute.
                    client.command(&lab, 5, json!({})).await.expect("somebody else noticed");
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let bystander = Self { answers, stop, work };
        bystander.gets_answers(1).await;
        bystander
    }

    /// How many answers they have got.
    fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Waits until they have got so many more.
    async fn gets_answers(&self, more: u64) {
        let wanted = self.answers() + more;
        eventually(async || match self.answers() {
            answers if answers >= wanted => Ok(()),
            answers => Err(format!("somebody else has got {answers} of {wanted} answers")),
        })
        .await;
    }

    /// Ends the work; every single question has been answered.
    async fn finish(self) -> u64 {
        self.gets_answers(1).await;
        self.stop.cancel();
        self.work.await.expect("somebody else was served all the while");
        self.answers.load(Ordering::Relaxed)
    }
}
