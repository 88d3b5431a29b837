//! The logs of one lab: its own, which its deploys and destroys print into, and one per node of its instance.
//!
//! The lab's task writes and removes them here, `socket` reads them. They are kept in the [`Archive`]: the lab's own for as
//! long as the lab, those of nodes until the instance is destroyed. Each node is followed by a task of its own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{OnceCell, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::model::LabId;
use crate::history::archive::{Archive, Archived};
use crate::history::lines::{Line, Lines};
use crate::history::pace::Pace;
use crate::history::{History, Resume, Retention};
use crate::runtime::{LineSink, LogChunk, LogSink, RuntimeDriver, RuntimeError};

/// A log, line by line.
pub type LabLog = History<Line>;

/// How much is kept of each log, unless the operator says otherwise.
pub const RETENTION: Retention = Retention { first: 256 * 1024, latest: 768 * 1024, behind: 4 * 1024 * 1024 };

/// How many bytes the reader who is least behind may be behind before what prints has to wait.
const MAX_LAG: u64 = 1024 * 1024;
/// How long readers are waited for of whom none gets on.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes per second that the fastest reader has to take, or what prints goes on without them: whoever may look at a log
/// is not to hold up a deploy or a daemon by looking slowly.
const MIN_RATE: u64 = 256 * 1024;

/// How long it takes until a log is asked for again that the runtime couldn't follow, at first and later on.
const RETRIES: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(5)];
const LAST_RETRY: Duration = Duration::from_secs(15);

/// Where the lab's own log is, in the lab's folder of the archive.
const OWN: &str = "lab";
/// Where those of its nodes are.
const NODES: &str = "nodes";

/// The logs of a lab.
pub(super) struct LabLogs {
    lab: LabId,
    archive: Archive,
    /// Read from disk when somebody wants it.
    own: OnceCell<Archived>,
    /// Whether the lab's own log has ever had a line.
    has_own: AtomicBool,
    nodes: Mutex<BTreeMap<String, NodeLog>>,
}

/// The log of a node.
struct NodeLog {
    kept: Kept,
    /// Writes it, while there is a node.
    following: Option<Following>,
}

impl NodeLog {
    /// Follows it no more; done when nothing more is written.
    async fn leave(&mut self) {
        if let Some(following) = self.following.take() {
            following.end().await;
        }
    }
}

/// The task that writes a node's log.
struct Following {
    instance: String,
    task: JoinHandle<()>,
}

impl Following {
    /// Ends it. One that is at work this very moment writes what it has in hand first, and would write it among the lines
    /// of whoever follows next, under their name.
    async fn end(self) {
        self.task.abort();
        // However it ended, it has.
        let _ = self.task.await;
    }
}

/// A log that is kept, and read from disk when somebody wants it.
type Kept = Arc<OnceCell<Archived>>;

impl LabLogs {
    /// Those of this lab, as they are kept in `archive`.
    pub(super) fn new(lab: LabId, archive: Archive) -> Self {
        let has_own = archive.has(&[lab.as_str(), OWN]).into();
        Self { lab, archive, own: OnceCell::new(), has_own, nodes: Mutex::default() }
    }

    /// The lab's own.
    pub(super) async fn own(&self) -> Arc<LabLog> {
        let open = async || self.archive.open(&[self.lab.as_str(), OWN]).await;
        let kept = self.own.get_or_init(open).await;
        Arc::clone(kept.history())
    }

    /// Whether the lab's own log has ever had a line.
    pub(super) fn has_own(&self) -> bool {
        self.has_own.load(Ordering::Relaxed)
    }

    /// Takes lines of the lab's own log.
    pub(super) async fn sink(&self) -> LogSink {
        let log = self.own().await;
        self.has_own.store(true, Ordering::Relaxed);
        Arc::new(Writer { pace: tokio::sync::Mutex::new(pace(&log)), log })
    }

    /// The log of a node.
    pub(super) async fn node(&self, name: &str) -> Option<Arc<LabLog>> {
        let kept = self.nodes().get(name).map(|node| Arc::clone(&node.kept))?;
        Some(Arc::clone(self.open_node(name, &kept).await.history()))
    }

    /// Names of the nodes that have a log.
    pub(super) fn node_names(&self) -> Vec<String> {
        self.nodes().keys().cloned().collect()
    }

    /// Brings back the logs of nodes that another server has kept.
    pub(super) fn restore_nodes(&self) {
        for name in self.archive.names(&[self.lab.as_str(), NODES]) {
            self.know_node(&name);
        }
    }

    fn know_node(&self, name: &str) -> Kept {
        let mut nodes = self.nodes();
        let node = nodes.entry(name.to_owned()).or_insert_with(|| NodeLog { kept: Kept::default(), following: None });
        Arc::clone(&node.kept)
    }

    async fn open_node<'a>(&self, name: &str, kept: &'a Kept) -> &'a Archived {
        kept.get_or_init(async || self.archive.open(&[self.lab.as_str(), NODES, name]).await).await
    }

    /// Removes what is kept of a node that is known no more.
    async fn remove_node(&self, name: &str, node: &NodeLog) {
        // Opened if it wasn't: whoever is about to read it finds it closed.
        self.open_node(name, &node.kept).await.remove().await;
    }

    /// Follows these nodes of an instance; the logs of others stay. A node that was there before goes on with its log: of an
    /// instance that was followed before, also by another server, without a line missing or twice, if the runtime can
    /// tell. `closing` is cancelled when the server ends.
    pub(super) async fn follow_nodes(
        &self,
        driver: &Arc<dyn RuntimeDriver>,
        instance: &str,
        nodes: &[String],
        closing: &CancellationToken,
    ) {
        self.restore_nodes();
        for name in nodes {
            let kept = self.know_node(name);
            self.open_node(name, &kept).await;
            match self.followed(name) {
                Some(following) if following.instance == instance && !following.task.is_finished() => {
                    self.set_followed(name, following);
                    continue;
                }
                Some(other) => other.end().await,
                None => {}
            }
            let follower = NodeFollower {
                driver: Arc::clone(driver),
                instance: instance.to_owned(),
                node: name.clone(),
                kept,
                closing: closing.clone(),
            };
            let following = Following { instance: instance.to_owned(), task: tokio::spawn(follower.run()) };
            self.set_followed(name, following);
        }
    }

    /// Takes out who follows a node.
    fn followed(&self, name: &str) -> Option<Following> {
        self.nodes().get_mut(name).and_then(|node| node.following.take())
    }

    fn set_followed(&self, name: &str, following: Following) {
        if let Some(node) = self.nodes().get_mut(name) {
            node.following = Some(following);
        }
    }

    /// Removes the logs of all nodes but these: of an instance that is up, what isn't in its definition has gone for good.
    pub(super) async fn keep_nodes(&self, defined: &[String]) {
        self.restore_nodes();
        let gone: Vec<(String, NodeLog)> = self.nodes().extract_if(.., |name, _| !defined.contains(name)).collect();
        for (name, mut node) in gone {
            node.leave().await;
            self.remove_node(&name, &node).await;
        }
    }

    /// Removes the logs of all nodes.
    pub(super) async fn remove_nodes(&self) {
        let mut nodes = std::mem::take(&mut *self.nodes());
        for (name, node) in &mut nodes {
            node.leave().await;
            self.remove_node(name, node).await;
        }
        self.archive.remove(&[self.lab.as_str(), NODES]).await;
    }

    /// Closes all logs and removes what is kept of them. Nothing may be written any more.
    pub(super) async fn remove(&self) {
        self.remove_nodes().await;
        // Opened if it wasn't: whoever asks for it from now on finds it closed.
        self.own().await;
        if let Some(own) = self.own.get() {
            own.close().await;
        }
        self.archive.remove(&[self.lab.as_str()]).await;
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<String, NodeLog>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pace(log: &Arc<LabLog>) -> Pace<Line> {
    Pace::new(Arc::clone(log), MAX_LAG, PATIENCE).at_least(MIN_RATE)
}

/// Writes into a lab's own log.
struct Writer {
    log: Arc<LabLog>,
    pace: tokio::sync::Mutex<Pace<Line>>,
}

#[async_trait]
impl LineSink for Writer {
    fn line(&self, text: &str) {
        // Whatever it is made of, it is lines from here on.
        let mut lines = Lines::default();
        let append = |line: &str| self.log.append(Line::from(line));
        lines.push(text.as_bytes(), append);
        lines.push(b"\n", append);
    }

    async fn room(&self) {
        self.pace.lock().await.room().await;
    }
}

/// Writes what a node prints into its log until the instance has gone.
struct NodeFollower {
    driver: Arc<dyn RuntimeDriver>,
    instance: String,
    node: String,
    kept: Kept,
    /// The server ends: what the log ends with then may not be what the node has ended with.
    closing: CancellationToken,
}

impl NodeFollower {
    async fn run(self) {
        let Some(kept) = self.kept.get() else { return };
        let Some((chunks, resume)) = self.begin(kept).await else { return };
        self.pass_on(kept, chunks, resume).await;
    }

    /// Begins to follow, as soon as the runtime is able to.
    async fn begin(&self, kept: &Archived) -> Option<(mpsc::Receiver<LogChunk>, Resume)> {
        let mut waits = RETRIES.into_iter();
        let mut told = false;
        loop {
            let resume = kept.resume(&self.instance);
            let error = match self.driver.follow_log(&self.instance, &self.node, resume.after.clone()).await {
                Ok(chunks) => return Some((chunks, resume)),
                // It went as soon as it had come.
                Err(RuntimeError::NoInstance(_)) => return None,
                Err(error) => error,
            };
            if !std::mem::replace(&mut told, true) {
                tracing::error!(instance = self.instance, node = self.node, %error, "the log of a node can't be followed");
                let problem = error.to_string().replace('\n', " ");
                kept.insert(Line::from(&*format!("[the log can't be followed: {problem}]")));
            }
            if matches!(error, RuntimeError::NoNode(_) | RuntimeError::Unsupported(_)) {
                return None;
            }
            tokio::time::sleep(waits.next().unwrap_or(LAST_RETRY)).await;
        }
    }

    async fn pass_on(&self, kept: &Archived, mut chunks: mpsc::Receiver<LogChunk>, resume: Resume) {
        let log = kept.history();
        let (mut lines, mut pace) = (Lines::default(), pace(log));
        // Lines that are there already, and come once more.
        let mut known = resume.skip;
        let append = |line: &str, known: &mut u64| match known.checked_sub(1) {
            Some(rest) => *known = rest,
            None => log.append(Line::from(line)),
        };
        let mut goes_on = false;
        while let Some(LogChunk { data, position, elsewhere }) = chunks.recv().await {
            if elsewhere {
                // None of these lines has been there, and what was cut short before them isn't gone on with.
                known = 0;
                lines.finish(|line| append(line, &mut known));
                kept.begin_again();
            }
            lines.push(&data, |line| append(line, &mut known));
            goes_on = position.is_some();
            if let Some(position) = position.filter(|_| known == 0 && lines.is_complete()) {
                kept.reached(position);
            }
            pace.room().await;
        }
        // The rest of a line comes whole when the next server goes on with the log.
        if !(goes_on && self.closing.is_cancelled()) {
            lines.finish(|line| append(line, &mut known));
        }
    }
}
