//! A way to an engine on which a test can have some questions fail, as they do with an engine that is overloaded or about to
//! restart. It passes everything else on, byte by byte, to the real one.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{UnixListener, UnixStream};

/// The way, until this is dropped.
pub(crate) struct Proxy {
    folder: TempDir,
    lists_fail: Arc<AtomicBool>,
    failed: Arc<AtomicU32>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// To the engine that answers there.
    pub(crate) fn to(docker_host: &str) -> Self {
        // The path of a socket has to be short.
        let folder = tempfile::Builder::new().prefix("antimony-proxy-").tempdir_in("/tmp").expect("a folder");
        let engine = PathBuf::from(docker_host.strip_prefix("unix://").expect("the engine listens on a socket"));
        let listener = UnixListener::bind(folder.path().join("docker.sock")).expect("a socket");
        let (lists_fail, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (fail, count) = (Arc::clone(&lists_fail), Arc::clone(&failed));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (engine, fail, count) = (engine.clone(), Arc::clone(&fail), Arc::clone(&count));
                tokio::spawn(async move { pass(client, engine, &fail, &count).await });
            }
        });
        Self { folder, lists_fail, failed, task }
    }

    /// Where it answers.
    pub(crate) fn docker_host(&self) -> String {
        format!("unix://{}/docker.sock", self.folder.path().display())
    }

    /// Whether questions for containers get no answer from now on.
    pub(crate) fn let_lists_fail(&self, fail: bool) {
        self.lists_fail.store(fail, Ordering::SeqCst);
    }

    /// How many questions have got none.
    pub(crate) fn failed(&self) -> u32 {
        self.failed.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection. Requests may follow each other on it, so each piece is looked at.
async fn pass(mut client: UnixStream, engine: PathBuf, fail: &AtomicBool, failed: &AtomicU32) {
    let Ok(mut engine) = UnixStream::connect(engine).await else { return };
    let mut piece = vec![0; 16 << 10];
    loop {
        tokio::select! {
            count = client.read(&mut piece) => {
                let Ok(count @ 1..) = count else { return };
                let text = String::from_utf8_lossy(&piece[..count]);
                let first = text.lines().next().unwrap_or_default();
                if fail.load(Ordering::SeqCst) && first.contains("/containers/json") {
                    failed.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                // What goes both ways from then on is no request any more.
                let both_ways = text.to_ascii_lowercase().contains("upgrade: tcp");
                if engine.write_all(&piece[..count]).await.is_err() {
                    return;
                }
                if both_ways {
                    let _ = copy_bidirectional(&mut client, &mut engine).await;
                    return;
                }
            }
            answer = answered(&mut engine) => {
                let Some(answer) = answer else { return };
                if client.write_all(&answer).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn answered(engine: &mut UnixStream) -> Option<Vec<u8>> {
    let mut piece = vec![0; 16 << 10];
    let count = engine.read(&mut piece).await.ok().filter(|count| *count > 0)?;
    piece.truncate(count);
    Some(piece)
}
