//! Other plugins while the server runs: a candidate is loaded beside those in force, and takes their place in one step.
//!
//! One task owns what is needed for that: which files to look at, what was tried last, and the plugins that were in force
//! before. It hears of a reason to try again from [`Reloader`], which `http` and the signal handler hold, and by looking at
//! the files itself.
//!
//! ```text
//!            files have changed, SIGHUP, POST /plugins/reload
//!                              │
//!                   read the configuration ──── can't be read ────┐
//!                              │                                  │
//!  digest, shape, configure, describe, golden cases ── wrong ─────┤
//!                              │                                  ▼
//!              swap, next generation                 the old ones stay, and the
//!              (decisions are made anew)             state says what was wrong
//! ```
//!
//! Whoever is in a call holds the chains that it began with, so that it ends on them. A plugin whose entry and files are
//! what they were is carried over, with its counts and without being loaded again.
//!
//! Files are looked at by asking for their status twice a second, and by content only when that has changed and then stayed
//! the same for one turn. Notifications of the kernel would be sooner, but they belong to inodes and folders: editors that
//! replace files, links that are pointed elsewhere (as in mounted configuration maps), folders that don't exist yet and
//! network file systems each need a case of their own, and the last has none. A few calls of `stat` have no such cases.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use super::chain::Chains;
use super::config::{BUILTIN, Hook, PluginsConfig};
use super::{LoadError, PluginHost};

/// How often files are looked at. What has changed counts once it has stayed the same for as long.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Requests that may wait for their turn.
const QUEUE: usize = 16;

/// How the plugins in force came to be, and what went wrong since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReloadState {
    /// Counts from 1, with each set of plugins that was put in force.
    pub generation: u64,
    /// When that happened, or when it was last found that the files say what is in force.
    pub last_success: Timestamp,
    /// Whether what is in force was gone back to, so that it isn't what the files say.
    pub rolled_back: bool,
    /// Why what the files say is not in force; `None` as soon as it is, or has been gone back from.
    pub last_error: Option<ReloadFailure>,
}

/// Why plugins weren't put in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ReloadFailure {
    /// When it was tried.
    pub at: Timestamp,
    /// File, plugin, key and cause, for the operator.
    pub message: String,
    /// Which plugin, such as `auth-policy plugin 2`, unless it is about all of them.
    pub plugin: Option<String>,
    /// The file: of that plugin, or of the configuration.
    pub path: Option<PathBuf>,
}

/// Why it can't be gone back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RollbackError {
    /// Nothing was in force before, or it was gone back to already.
    #[error(
        "there is nothing to go back to: no other plugins were in force since the server's start or the last rollback"
    )]
    NothingBefore,
    /// The server is ending.
    #[error("the server is shutting down")]
    Closed,
}

/// What makes somebody try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// A file has changed.
    Files,
    /// SIGHUP.
    Signal,
    /// An administrator's request.
    Request,
}

/// Where plugins are read from.
pub struct Sources {
    /// The configuration file, if there is one.
    pub config_file: Option<PathBuf>,
    /// The folder that paths of plugins and golden cases are relative to.
    pub base_dir: PathBuf,
    /// Reads the configuration file again; the error names it. Blocks.
    pub read: Box<dyn Fn() -> Result<PluginsConfig, String> + Send + Sync>,
}

/// A look at the files before they are loaded, so that no change after it is missed.
pub struct Prepared {
    sources: Arc<Sources>,
    config: PluginsConfig,
    digests: Digests,
}

/// Looks at the files that a configuration names.
pub async fn prepare(sources: Sources, config: &PluginsConfig) -> Prepared {
    let files = files(&sources, [config]);
    Prepared { sources: Arc::new(sources), config: config.clone(), digests: digests(files).await }
}

impl Prepared {
    /// Begins to look after the plugins of `host`, which were loaded from this configuration. Goes on until the last
    /// [`Reloader`] is dropped.
    pub fn start(self, host: PluginHost) -> Reloader {
        let (commands, queue) = mpsc::channel(QUEUE);
        let Self { sources, config, digests } = self;
        let files = files(&sources, [&config]);
        let keeper =
            Keeper { host, sources, config, previous: None, files, tried: digests, stats: None, settled: false };
        tokio::spawn(keeper.run(queue));
        Reloader { commands }
    }
}

enum Command {
    Reload(Trigger, oneshot::Sender<Result<ReloadState, ReloadFailure>>),
    Rollback(oneshot::Sender<Result<ReloadState, RollbackError>>),
}

/// Asks for other plugins. Cheap to clone.
#[derive(Clone)]
pub struct Reloader {
    commands: mpsc::Sender<Command>,
}

impl Reloader {
    /// Reads the configuration again and puts its plugins in force, if they are as they should be. Where nothing has
    /// changed, nothing happens.
    ///
    /// # Errors
    /// [`ReloadFailure`]: everything stays as it was.
    pub async fn reload(&self, trigger: Trigger) -> Result<ReloadState, ReloadFailure> {
        let (reply, answer) = oneshot::channel();
        let closed = || ReloadFailure {
            at: Timestamp::now(),
            message: RollbackError::Closed.to_string(),
            plugin: None,
            path: None,
        };
        self.commands.send(Command::Reload(trigger, reply)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// Puts back in force what was before. The files don't count again until one of them changes, or somebody asks for
    /// [`Self::reload`].
    ///
    /// # Errors
    /// [`RollbackError`].
    pub async fn rollback(&self) -> Result<ReloadState, RollbackError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Rollback(reply)).await.map_err(|_| RollbackError::Closed)?;
        answer.await.map_err(|_| RollbackError::Closed)?
    }
}

/// The task's own.
struct Keeper {
    host: PluginHost,
    sources: Arc<Sources>,
    /// What is in force.
    config: PluginsConfig,
    /// What was before.
    previous: Option<(Arc<Chains>, PluginsConfig)>,
    files: BTreeSet<PathBuf>,
    /// The contents that were last tried. What is the same is not tried again because of a look at the files.
    tried: Digests,
    /// The files when they were last looked at.
    stats: Option<Stats>,
    /// Whether they were looked into since they last changed.
    settled: bool,
}

impl Keeper {
    async fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Whoever doesn't wait for the answer any more doesn't get it.
            tokio::select! {
                command = queue.recv() => match command {
                    Some(Command::Reload(trigger, reply)) => drop(reply.send(self.reload(trigger).await)),
                    Some(Command::Rollback(reply)) => drop(reply.send(self.roll_back())),
                    None => return,
                },
                _ = looks.tick() => self.look().await,
            }
        }
    }

    /// Looks at the files, and tries them when they have changed and then stayed the same since the last look.
    async fn look(&mut self) {
        let stats = Some(stats(self.files.clone()).await);
        if stats != self.stats {
            self.stats = stats;
            self.settled = false;
        } else if !self.settled {
            self.settled = true;
            if digests(self.files.clone()).await != self.tried {
                // Its outcome is in the log and in the state.
                let _ = self.reload(Trigger::Files).await;
            }
        }
    }

    async fn reload(&mut self, trigger: Trigger) -> Result<ReloadState, ReloadFailure> {
        tracing::info!(?trigger, "reading the plugins again");
        let (config, chains) = match self.candidate().await {
            Ok(candidate) => candidate,
            Err(failure) => {
                tracing::error!(
                    plugin = failure.plugin,
                    path = failure.path.as_ref().map(|path| path.display().to_string()),
                    error = failure.message,
                    "the plugins could not be reloaded, and those that are in force stay so"
                );
                self.host.state.send_modify(|state| state.last_error = Some(failure.clone()));
                return Err(failure);
            }
        };
        let before = self.host.chains.load_full();
        if before.is_same(&chains) {
            tracing::info!("the plugins are as they were");
            self.config = config;
            self.succeeded(false);
        } else {
            self.host.put_in_force(Arc::new(chains));
            self.previous = Some((before, std::mem::replace(&mut self.config, config)));
            let state = self.succeeded(false);
            tracing::info!(generation = state.generation, "the plugins were reloaded");
        }
        Ok(self.host.reload_state())
    }

    /// What the files say, loaded.
    async fn candidate(&mut self) -> Result<(PluginsConfig, Chains), ReloadFailure> {
        let at = Timestamp::now();
        // Each file is looked at before it is read, so that what changes in between counts as not tried.
        let mut tried = digests(self.sources.config_file.iter().cloned().collect()).await;
        let sources = Arc::clone(&self.sources);
        let read = tokio::task::spawn_blocking(move || (sources.read)()).await;
        let read = read.unwrap_or_else(|error| Err(error.to_string()));
        self.files = files(&self.sources, read.as_ref().ok().into_iter().chain([&self.config]));
        let others = self.files.iter().filter(|&file| Some(file) != self.sources.config_file.as_ref());
        tried.extend(digests(others.cloned().collect()).await);
        self.tried = tried;
        let config_file = self.sources.config_file.clone();
        let config = read.map_err(|message| ReloadFailure { at, message, plugin: None, path: config_file.clone() })?;
        let current = self.host.chains.load_full();
        let loaded = self.host.load_chains(&config, &self.sources.base_dir, Some(&current)).await;
        let chains = loaded.map_err(|error| {
            let file = config_file.as_ref().map(|file| format!("{}: ", file.display())).unwrap_or_default();
            let message = format!("{file}{error}");
            match error {
                LoadError::Plugin { hook, place, path, .. } => ReloadFailure {
                    at,
                    message,
                    plugin: Some(format!("{hook} plugin {place}")),
                    path: Some(path.into()),
                },
                _ => ReloadFailure { at, message, plugin: None, path: config_file },
            }
        })?;
        Ok((config, chains))
    }

    fn roll_back(&mut self) -> Result<ReloadState, RollbackError> {
        let (chains, config) = self.previous.take().ok_or(RollbackError::NothingBefore)?;
        self.host.put_in_force(chains);
        // The files of both are looked at: any change of them is a reason to try again.
        self.config = config;
        let state = self.succeeded(true);
        tracing::warn!(
            generation = state.generation,
            "the plugins that were in force before are so again; the files are as they were, and count again when one of \
             them changes, at the next reload, and at the next start"
        );
        Ok(state)
    }

    fn succeeded(&self, rolled_back: bool) -> ReloadState {
        self.host.state.send_modify(|state| {
            state.last_success = Timestamp::now();
            state.last_error = None;
            state.rolled_back = rolled_back;
        });
        self.host.reload_state()
    }
}

/// The files that these configurations name, and the configuration file.
fn files<'a>(sources: &Sources, configs: impl IntoIterator<Item = &'a PluginsConfig>) -> BTreeSet<PathBuf> {
    let entries = configs.into_iter().flat_map(|config| Hook::ALL.into_iter().flat_map(|hook| config.entries(hook)));
    let named = entries.flat_map(|entry| {
        let component = (!entry.path.starts_with(BUILTIN)).then_some(&entry.path);
        component.into_iter().chain(&entry.golden).map(|path| sources.base_dir.join(path))
    });
    named.chain(sources.config_file.clone()).collect()
}

/// What changes when a file is written or replaced. Links are followed.
#[derive(Debug, PartialEq)]
struct Stat {
    inode: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

type Stats = BTreeMap<PathBuf, Option<Stat>>;
type Digests = BTreeMap<PathBuf, Option<[u8; 32]>>;

async fn stats(files: BTreeSet<PathBuf>) -> Stats {
    let stat = |path: &Path| {
        let found = std::fs::metadata(path).ok()?;
        Some(Stat {
            inode: (found.dev(), found.ino()),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    };
    of_each(files, stat).await
}

async fn digests(files: BTreeSet<PathBuf>) -> Digests {
    // Not of anything but files: a pipe would never end.
    let digest = |path: &Path| {
        let is_file = std::fs::metadata(path).is_ok_and(|found| found.is_file());
        let content = is_file.then(|| std::fs::read(path).ok()).flatten()?;
        Some(Sha256::digest(content).into())
    };
    of_each(files, digest).await
}

/// Asks the file system, which may take its time.
async fn of_each<T: Send + 'static>(
    files: BTreeSet<PathBuf>,
    ask: impl Fn(&Path) -> Option<T> + Send + 'static,
) -> BTreeMap<PathBuf, Option<T>> {
    let each = move || files.into_iter().map(|path| (ask(&path), path)).map(|(found, path)| (path, found)).collect();
    tokio::task::spawn_blocking(each).await.unwrap_or_default()
}
