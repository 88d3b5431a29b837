//! The logs of one lab: its own, which its deploys and destroys print into, and one per node of its instance.
//!
//! The lab's task writes and removes them here, `socket` reads them. They are kept in the [`Archive`]: the lab's own for as
//! long as the lab, those of nodes until the instance is destroyed. Each node is followed by a task of its own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;

use super::model::LabId;
use crate::history::archive::{Archive, Archived};
use crate::history::lines::{Line, Lines};
use crate::history::pace::Pace;
use crate::history::{History, Retention};
use crate::runtime::{LineSink, LogSink, RuntimeDriver, RuntimeError};

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
    kept: Archived,
    /// Writes it, while there is a node.
    following: Option<JoinHandle<()>>,
}

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
    pub(super) fn node(&self, name: &str) -> Option<Arc<LabLog>> {
        self.nodes().get(name).map(|node| Arc::clone(node.kept.history()))
    }

    /// Names of the nodes that have a log.
    pub(super) fn node_names(&self) -> Vec<String> {
        self.nodes().keys().cloned().collect()
    }

    /// Brings back the logs of nodes that another server has kept.
    pub(super) async fn restore_nodes(&self) {
        for name in self.archive.names(&[self.lab.as_str(), NODES]) {
            self.open_node(&name).await;
        }
    }

    async fn open_node(&self, name: &str) -> Arc<LabLog> {
        if let Some(log) = self.node(name) {
            return log;
        }
        // Only the lab's task opens logs: nobody else does meanwhile.
        let kept = self.archive.open(&[self.lab.as_str(), NODES, name]).await;
        let log = Arc::clone(kept.history());
        self.nodes().insert(name.to_owned(), NodeLog { kept, following: None });
        log
    }

    /// Follows these nodes of an instance and no others. A node that was there before goes on with its log. What they
    /// print is passed on from now on.
    pub(super) async fn follow_nodes(&self, driver: &Arc<dyn RuntimeDriver>, instance: &str, nodes: &[String]) {
        self.leave_nodes();
        let gone: Vec<NodeLog> = {
            let mut logs = self.nodes();
            let names: Vec<String> = logs.keys().filter(|name| !nodes.contains(name)).cloned().collect();
            names.iter().filter_map(|name| logs.remove(name)).collect()
        };
        for node in gone {
            node.kept.remove().await;
        }
        for name in nodes {
            let log = self.open_node(name).await;
            let following = tokio::spawn(follow(Arc::clone(driver), instance.to_owned(), name.clone(), log));
            if let Some(node) = self.nodes().get_mut(name) {
                node.following = Some(following);
            }
        }
    }

    /// Follows no node any more.
    pub(super) fn leave_nodes(&self) {
        for node in self.nodes().values_mut() {
            if let Some(following) = node.following.take() {
                following.abort();
            }
        }
    }

    /// Removes the logs of all nodes.
    pub(super) async fn remove_nodes(&self) {
        self.leave_nodes();
        let nodes = std::mem::take(&mut *self.nodes());
        for node in nodes.into_values() {
            node.kept.remove().await;
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
async fn follow(driver: Arc<dyn RuntimeDriver>, instance: String, node: String, log: Arc<LabLog>) {
    let mut chunks = match driver.follow_log(&instance, &node, None).await {
        Ok(chunks) => chunks,
        // It went as soon as it had come.
        Err(RuntimeError::NoInstance(_)) => return,
        Err(error) => {
            tracing::error!(instance, node, %error, "the log of a node can't be followed");
            let problem = error.to_string().replace('\n', " ");
            log.append(Line::from(&*format!("[the log can't be followed: {problem}]")));
            return;
        }
    };
    let mut lines = Lines::default();
    let mut pace = pace(&log);
    let append = |line: &str| log.append(Line::from(line));
    while let Some(chunk) = chunks.recv().await {
        lines.push(&chunk.data, append);
        pace.room().await;
    }
    lines.finish(append);
}
