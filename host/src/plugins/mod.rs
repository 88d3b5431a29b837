//! The plugin host: loads components, binds them through WIT, and asks them for decisions.
//!
//! Whether a command is valid, who somebody is and what they may do, and how an event is worded, is decided by
//! WebAssembly components; `socket`, `http` and `labs` ask for it through [`PluginHost`], in the types of [`decision`].
//! Nothing of WebAssembly or WIT is seen outside of this module, and no decision is made in it: what it adds is the order
//! of several plugins, and what happens when one fails.
//!
//! | file | its part |
//! |---|---|
//! | [`config`] | what an operator says: lists, settings, modes, budgets |
//! | `engine`, `clock`, `limits`, `state`, `host` | what guests run on, what that may cost, what they may call |
//! | `loader`, `shape`, `snapshot`, `builtin` | from a file to a configured plugin, and what can be wrong with it |
//! | `plugin`, `function`, `warm`, `chain`, `watch` | one call; the order of calls; plugins that are only watched |
//! | `metrics`, `breaker` | what came of calls, counted; plugins that keep failing |
//! | `bindings`, `convert` | `wit/` as Rust types, and from and to the server's own |
//! | [`decision_log`] | what was decided, line by line |
//! | [`record`] | decisions as data: kept, compared, asked again |
//! | [`reload`], [`golden`] | other plugins while the server runs; what they have to decide before they are put in force |
//! | `builder`, [`source`] | from source to a component |
//! | [`author`] | the commands for those who write plugins |

pub mod author;
mod bindings;
mod breaker;
mod builder;
mod builtin;
mod chain;
mod clock;
pub mod config;
mod convert;
pub mod decision;
pub mod decision_log;
mod engine;
mod error;
mod files;
mod function;
pub mod golden;
mod host;
mod limits;
mod loader;
mod metrics;
mod plugin;
pub mod record;
pub mod reload;
mod shape;
mod snapshot;
pub mod source;
mod state;
mod warm;
mod watch;
mod wording;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures::future::join_all;
use jiff::Timestamp;
use tokio::sync::watch as channel;

pub use self::breaker::BreakerReport;
pub use self::builder::{BuildError, Built, Install, Progress, build, build_with, can_build};
pub use self::config::PluginsConfig;
pub use self::decision_log::{DecisionLog, DecisionLogConfig};
pub use self::error::{LoadError, LoadProblem};
pub use self::metrics::{FunctionReport, Outcome, PluginCounts, PluginReport};
pub use self::plugin::PluginInfo;
pub use self::reload::{ReloadFailure, ReloadState, Reloader};
pub use self::watch::Compared;

use self::chain::Chains;
use self::config::{Hook, Mode, OnError};
use self::decision::{Action, Circumstances, Command, Event, Refusal, ShellInfo, Status};
use self::engine::Engine;
use self::plugin::Plugin;
use self::snapshot::Snapshots;
use crate::auth::{Claims, Identity};
use crate::labs::model::LabSnapshot;

/// Handle to all plugins. Cheap to clone. All methods may be called from any task, and dropping what they return
/// cancels the call.
#[derive(Clone)]
pub struct PluginHost {
    engine: Engine,
    snapshots: Snapshots,
    chains: Arc<ArcSwap<Chains>>,
    /// Counted on after the chains were swapped: whoever sees a generation asks its plugins, or later ones.
    generations: Arc<channel::Sender<u64>>,
    state: Arc<channel::Sender<ReloadState>>,
}

impl PluginHost {
    /// Loads the plugins of a configuration. Their paths are relative to `base_dir`, the configuration file's folder;
    /// what can be kept between two starts goes below `cache_dir`, which is made and closed to other users.
    ///
    /// Takes some milliseconds when everything is in the cache, and otherwise as long as compiling does. Needs the tokio
    /// runtime that the plugins will be asked from.
    ///
    /// # Errors
    /// [`LoadError`] for the first plugin that can't be used, naming it, its file and what is wrong.
    pub async fn load(config: &PluginsConfig, base_dir: &Path, cache_dir: &Path) -> Result<Self, LoadError> {
        let first = ReloadState { generation: 1, last_success: Timestamp::now(), rolled_back: false, last_error: None };
        let host = Self {
            engine: Engine::start(cache_dir)?,
            snapshots: Snapshots::new(cache_dir),
            chains: Arc::new(ArcSwap::from_pointee(Chains::new(Vec::new(), Vec::new(), Vec::new()))),
            generations: Arc::new(channel::Sender::new(first.generation)),
            state: Arc::new(channel::Sender::new(first)),
        };
        let chains = host.load_chains(config, base_dir, None).await?;
        host.chains.store(Arc::new(chains));
        Ok(host)
    }

    /// Loads the plugins of a configuration beside those in force, of which those are carried over that are the same.
    async fn load_chains(
        &self,
        config: &PluginsConfig,
        base_dir: &Path,
        in_force: Option<&Chains>,
    ) -> Result<Chains, LoadError> {
        if !config.auth_policy.iter().any(|entry| entry.mode == Mode::Enforce) {
            return Err(LoadError::NoPolicy);
        }
        let list = async |hook: Hook| -> Result<Vec<Arc<Plugin>>, LoadError> {
            let known = in_force.map(|chains| chains.of(hook)).unwrap_or_default();
            let loads = config.entries(hook).iter().enumerate().map(async |(index, entry)| {
                let origin = loader::Origin::of(base_dir, entry).await;
                match known.iter().find(|plugin| plugin.origin.is_same(&origin)) {
                    Some(same) => Ok(Arc::clone(same)),
                    None => loader::load(&self.engine, &self.snapshots, base_dir, hook, index + 1, entry)
                        .await
                        .map(Arc::new),
                }
            });
            // All of them, also when one has failed: what others are doing on their threads would panic when the program
            // ends for want of that one.
            let plugins: Vec<Arc<Plugin>> = join_all(loads).await.into_iter().collect::<Result<_, _>>()?;
            let mut names = HashSet::new();
            if let Some(twice) = plugins.iter().find(|plugin| !names.insert(plugin.name())) {
                return Err(LoadError::SameName { hook, name: twice.name().into() });
            }
            Ok(plugins)
        };
        let (validators, policies, formatters) =
            tokio::join!(list(Hook::CommandValidator), list(Hook::AuthPolicy), list(Hook::StatusFormatter));
        let chains = Chains::new(validators?, policies?, formatters?);
        let all = Hook::ALL.into_iter().flat_map(|hook| chains.of(hook).iter().enumerate());
        loader::check_pool(all.map(|(index, plugin)| (index + 1, &**plugin)))?;
        let is_known = |plugin: &Arc<Plugin>| {
            in_force.is_some_and(|known| known.of(plugin.info.hook).iter().any(|known| Arc::ptr_eq(known, plugin)))
        };
        let new = Hook::ALL.into_iter().flat_map(|hook| chains.of(hook)).filter(|&plugin| !is_known(plugin));
        for Plugin { info, .. } in new.map(|plugin| &**plugin) {
            tracing::info!(hook = %info.hook, plugin = info.name, version = info.version, path = info.path, "loaded a plugin");
            if info.on_error == OnError::DangerouslyAllow {
                tracing::warn!(hook = %info.hook, plugin = info.name, "whoever makes this plugin fail gets past it: on-error is dangerously-allow");
            }
        }
        Ok(chains)
    }

    /// Has these plugins asked from now on. Calls under way end on those that they began with.
    fn put_in_force(&self, chains: Arc<Chains>) {
        self.chains.store(chains);
        let mut generation = 0;
        self.generations.send_modify(|current| {
            *current += 1;
            generation = *current;
        });
        self.state.send_modify(|state| state.generation = generation);
    }

    /// Counts the sets of plugins that were put in force, from 1. A decision that was made before it was counted on may
    /// not be what the plugins in force would decide.
    pub fn generation(&self) -> u64 {
        *self.generations.borrow()
    }

    /// The same as it changes.
    pub fn generations(&self) -> channel::Receiver<u64> {
        self.generations.subscribe()
    }

    /// How the plugins in force came to be, and what went wrong since.
    pub fn reload_state(&self) -> ReloadState {
        self.state.borrow().clone()
    }

    /// The same as it changes.
    pub fn reload_states(&self) -> channel::Receiver<ReloadState> {
        self.state.subscribe()
    }

    /// Is this command valid, and what does it mean? What is to be authorized and carried out is the answer.
    ///
    /// # Errors
    /// [`Refusal::Rejected`] and [`Refusal::Failed`].
    pub async fn validate(
        &self,
        command: Command,
        user: &Identity,
        lab: &LabSnapshot,
        shell: Option<&ShellInfo>,
        circumstances: Circumstances,
    ) -> Result<Command, Refusal> {
        self.chains.load_full().validate(command, user, lab, shell, circumstances).await
    }

    /// Whose token is this?
    ///
    /// # Errors
    /// [`Refusal::Denied`], [`Refusal::Unrecognised`] and [`Refusal::Failed`].
    pub async fn identify(&self, claims: &Claims) -> Result<Identity, Refusal> {
        self.chains.load_full().identify(claims).await
    }

    /// May this user do that?
    ///
    /// # Errors
    /// [`Refusal::Denied`] and [`Refusal::Failed`].
    pub async fn authorize(
        &self,
        user: &Identity,
        action: Action<'_>,
        circumstances: Circumstances,
    ) -> Result<(), Refusal> {
        self.chains.load_full().authorize(user, action, circumstances).await
    }

    /// Words an event. When no plugin does, plain wording takes its place.
    pub async fn format(&self, event: &Event) -> Status {
        self.chains.load_full().format(event).await
    }

    /// Words an event plainly, without asking any plugin and without waiting.
    pub fn plain_wording(event: &Event) -> Status {
        wording::plain(event)
    }

    /// The plugins that are in use, by hook and in their order.
    pub fn loaded(&self) -> Vec<PluginInfo> {
        self.chains.load().infos()
    }

    /// The same plugins, with how often they were asked and what came of it.
    pub fn counts(&self) -> Vec<(PluginInfo, PluginCounts)> {
        self.reports().into_iter().map(|report| (report.info, report.counts)).collect()
    }

    /// The same plugins, with all that was counted of each since it was loaded.
    pub fn reports(&self) -> Vec<PluginReport> {
        let chains = self.chains.load();
        Hook::ALL.into_iter().flat_map(|hook| chains.of(hook)).map(|plugin| plugin.report()).collect()
    }

    /// Has everything that is decided from now on written down. To be called once, before anything is asked.
    pub fn log_decisions(&self, log: DecisionLog) {
        self.engine.log_decisions(log);
    }

    /// How the answers of watched plugins compare with what was decided, since they were loaded.
    pub fn compared(&self) -> Vec<(PluginInfo, Compared)> {
        self.chains.load().compared()
    }

    /// How many decisions are missing in the decision log.
    pub fn decisions_dropped(&self) -> u64 {
        self.engine.decision_log().map_or(0, DecisionLog::dropped)
    }

    /// How many components [`Self::load`] found compiled in the cache, and how many it had to compile.
    pub fn cache_use(&self) -> (usize, usize) {
        self.engine.cache_use()
    }
}
