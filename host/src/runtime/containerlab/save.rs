//! Saving configurations with `containerlab save`, and having a deploy take them up.
//!
//! Containerlab asks each node for its configuration, in the way of its kind, and keeps it in the node's folder of the lab
//! folder, where the next deploy that finds it starts from it. What is saved of a node is what is in that folder, but for
//! images and keys. A container can write to parts of it, as root and for whatever purpose: it is read accordingly.

use std::fs::{self, File};
use std::io::{self, Seek as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use tar::Builder;
use tokio_util::sync::CancellationToken;

use super::driver::{Shared, failed, words};
use super::program::Run;
use super::runs::topology_file;
use crate::labs::model::NodeStatus;
use crate::runtime::saved::{
    Baseline, NodeSaved, SaveLimits, SaveOutcome, SavedFiles, Wanted, collect, keep_or_cut, list, unpack,
};
use crate::runtime::{InstanceSpec, LineSink, LogSink, RuntimeError};

/// How long asking all nodes may take. Some kinds are asked over connections that take their time.
const LIMIT: Duration = Duration::from_secs(300);
/// Ends of the names of images and keys, and beginnings of such names.
const IMAGES_AND_KEYS: [&str; 16] = [
    ".qcow2", ".img", ".iso", ".vmdk", ".vdi", ".swi", ".ova", ".bin", ".key", ".pem", ".p12", ".pfx", ".jks", ".lic",
    "_rsa", "_ed25519",
];
const KEYS: [&str; 4] = ["license", "ssh_host_", "id_rsa", "authorized_keys"];
/// Folders with nothing else in them.
const FOLDERS_OF_KEYS: [&str; 4] = [".ssh", "tls", ".tls", ".ca"];

impl Shared {
    /// Saves all nodes of an instance into an archive.
    pub(super) async fn save(
        &self,
        instance: &str,
        dir: &Path,
        archive: File,
        limits: SaveLimits,
        log: &LogSink,
        cancel: &CancellationToken,
    ) -> Result<Vec<NodeSaved>, RuntimeError> {
        let life = self.life(instance);
        // Either ends it.
        let ended = life.over.child_token();
        let saving = async {
            let _gone = ended.clone().drop_guard();
            tokio::select! {
                saved = self.save_alive(instance, dir, archive, limits, log, &ended) => saved,
                never = async { cancel.cancelled().await; ended.cancel(); std::future::pending().await } => never,
            }
        };
        match life.meanwhile(saving).await {
            Some(_) | None if cancel.is_cancelled() || life.over.is_cancelled() => Err(RuntimeError::Cancelled),
            Some(saved) => saved,
            None => Err(RuntimeError::Cancelled),
        }
    }

    async fn save_alive(
        &self,
        instance: &str,
        dir: &Path,
        archive: File,
        limits: SaveLimits,
        log: &LogSink,
        cancel: &CancellationToken,
    ) -> Result<Vec<NodeSaved>, RuntimeError> {
        let nodes = self.nodes(instance).await?;
        if nodes.is_empty() {
            return Err(RuntimeError::NoInstance(instance.to_owned()));
        }
        let broken = |what: &str, error: io::Error| RuntimeError::Failed(format!("{what}: {error}"));
        let dir = tokio::fs::canonicalize(dir).await.map_err(|error| broken("the run folder can't be used", error))?;
        let file = dir.join(topology_file(instance));
        let heard = Arc::new(Heard { log: Arc::clone(log), failures: Mutex::default() });
        let sink: LogSink = Arc::clone(&heard) as LogSink;
        let arguments = words(["save".as_ref(), "--topo".as_ref(), file.as_os_str()]);
        let run = Run { arguments, dir: &dir, log: &sink, cancel, limit: Some(LIMIT) };
        self.program.run(run).await.map_err(failed)?;
        let failures = std::mem::take(&mut *heard.failures.lock().unwrap_or_else(PoisonError::into_inner));
        let folder = self.lab_folder(instance, &dir);
        let gathering = move || gather(&folder, &nodes, &failures, limits, archive);
        let saved = tokio::task::spawn_blocking(gathering).await.map_err(io::Error::other).flatten();
        let saved = saved.map_err(|error| broken("what was saved can't be kept", error))?;
        for node in &saved {
            log.line(&node.in_words());
        }
        Ok(saved)
    }

    /// Lays out what was saved where the deploy that follows finds it.
    pub(super) async fn lay_out_saved(
        &self,
        spec: &InstanceSpec,
        dir: &Path,
        log: &LogSink,
    ) -> Result<(), RuntimeError> {
        let Some(saved) = spec.saved.clone() else { return Ok(()) };
        let folder = self.lab_folder(&spec.name, dir);
        let nodes: Vec<String> = spec.topology.nodes.iter().map(|node| node.name.clone()).collect();
        let laid_out = {
            let folder = folder.clone();
            tokio::task::spawn_blocking(move || lay_out(&folder, &nodes, &saved)).await
        };
        match laid_out.map_err(io::Error::other).flatten() {
            Ok(nodes) => {
                for (node, files) in nodes {
                    log.line(&format!("Node {node} starts from {files} saved files"));
                }
                Ok(())
            }
            Err(error) => {
                let _ = tokio::fs::remove_dir_all(&folder).await;
                Err(RuntimeError::Failed(format!("the saved files can't be laid out: {error}")))
            }
        }
    }

    /// Where containerlab keeps what belongs to an instance.
    fn lab_folder(&self, instance: &str, dir: &Path) -> PathBuf {
        let base = self.config.environment.get("CLAB_LABDIR_BASE").filter(|base| !base.is_empty());
        base.map_or(dir, |base| Path::new(base)).join(format!("clab-{instance}"))
    }
}

/// Passes lines on, and notes which nodes containerlab says it could not save: it reports success all the same.
struct Heard {
    log: LogSink,
    failures: Mutex<Vec<(String, String)>>,
}

#[async_trait]
impl LineSink for Heard {
    fn line(&self, text: &str) {
        if let Some(failure) = failure(text) {
            self.failures.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
        }
        self.log.line(text);
    }

    async fn room(&self) {
        self.log.room().await;
    }
}

/// Node and reason, if a line says that a node could not be saved.
fn failure(line: &str) -> Option<(String, String)> {
    let (_, rest) = line.split_once(" node \"")?;
    let (node, reason) = rest.split_once("\" save failed: ")?;
    Some((node.to_owned(), format!("containerlab could not save it: {}", reason.trim())))
}

/// Writes what is in the folders of the nodes into the archive.
fn gather(
    folder: &Path,
    nodes: &[NodeStatus],
    failures: &[(String, String)],
    limits: SaveLimits,
    archive: File,
) -> io::Result<Vec<NodeSaved>> {
    let mut archive = Builder::new(archive);
    let mut all = Vec::new();
    for NodeStatus { name, kind, .. } in nodes {
        let failure = failures.iter().find(|(node, _)| node == name).map(|(_, reason)| reason.clone());
        let outcome = match failure {
            Some(reason) => SaveOutcome::Failed(reason),
            None => gather_node(folder, name, kind, limits, &mut archive)?,
        };
        all.push(NodeSaved { node: name.clone(), outcome });
    }
    archive.into_inner()?;
    Ok(all)
}

fn gather_node(
    folder: &Path,
    node: &str,
    kind: &str,
    limits: SaveLimits,
    archive: &mut Builder<File>,
) -> io::Result<SaveOutcome> {
    let nothing = || SaveOutcome::Nothing(format!("containerlab keeps no configuration of nodes of kind {kind}"));
    if Path::new(node).components().count() != 1 {
        return Ok(nothing());
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let root = match open(&folder.join(node), flags, Mode::empty()) {
        Ok(root) => root,
        Err(Errno::ENOENT) => return Ok(nothing()),
        Err(error) => return Ok(SaveOutcome::Failed(format!("its folder can't be read: {error}"))),
    };
    let start = archive.get_mut().stream_position()?;
    if let Some(full) = limits.full(start) {
        return Ok(full);
    }
    // Containerlab would follow a link that a node has put there, wherever it leads on the host.
    let wanted = Wanted { leave_out: &is_left_out, links: false, baseline: &Baseline::default(), limits };
    let outcome = match collect(root, node, &wanted, archive) {
        // The folder itself is one.
        Ok(copied) if copied.bytes == 0 && copied.files <= 1 => nothing(),
        Ok(copied) => SaveOutcome::Saved { files: copied.files, bytes: copied.bytes },
        Err(error) => SaveOutcome::Failed(error.to_string()),
    };
    keep_or_cut(archive, start, &outcome)?;
    Ok(outcome)
}

/// Whether it is an image or a key.
fn is_left_out(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    let lower = name.to_ascii_lowercase();
    IMAGES_AND_KEYS.iter().any(|end| lower.ends_with(end))
        || KEYS.iter().any(|start| lower.starts_with(start))
        || FOLDERS_OF_KEYS.contains(&lower.as_str())
}

/// Makes the folders of those nodes of which something is saved; answers how many files each has. Nothing of the instance runs
/// yet.
fn lay_out(folder: &Path, nodes: &[String], saved: &SavedFiles) -> io::Result<Vec<(String, usize)>> {
    let files = list(saved)?;
    let mut done = Vec::new();
    for node in nodes {
        let count = files.iter().filter(|file| file.node == *node).count();
        if count == 0 || Path::new(node).components().count() != 1 {
            continue;
        }
        let place = folder.join(node);
        fs::create_dir_all(&place)?;
        for folder in [folder, &place] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
        }
        unpack(File::open(&place)?.into(), node, false, saved.reader())?;
        done.push((node.clone(), count));
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_containerlab_could_not_save_is_told_by_its_node() {
        let line = "19:00:01 ERRO node \"leaf-1\" save failed: leaf-1: failed to execute cmd: timeout";
        let expected = "containerlab could not save it: leaf-1: failed to execute cmd: timeout";
        assert_eq!(failure(line), Some(("leaf-1".to_owned(), expected.to_owned())));
        assert_eq!(failure("19:00:01 INFO saved SR Linux configuration from leaf-1 node"), None);
    }

    #[test]
    fn images_and_keys_stay_where_they_are() {
        for name in ["config/disk.qcow2", "license.key", "flash/EOS.swi", "config/.ssh", "ssh_host_rsa_key", "tls"] {
            assert!(is_left_out(Path::new(name)), "{name}");
        }
        for name in ["config/config.json", "flash/startup-config", "config", "frr/daemons"] {
            assert!(!is_left_out(Path::new(name)), "{name}");
        }
    }
}
