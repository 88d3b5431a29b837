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
//! | `plugin`, `warm`, `chain`, `watch` | one call; the order of calls; plugins that are only watched |
//! | `bindings`, `convert` | `wit/` as Rust types, and from and to the server's own |
//! | `builder`, [`source`] | from source to a component |

mod bindings;
mod builder;
mod builtin;
mod chain;
mod clock;
pub mod config;
mod convert;
pub mod decision;
mod engine;
mod error;
mod files;
mod host;
mod limits;
mod loader;
mod plugin;
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

pub use self::builder::{BuildError, Built, Install, Progress, build, build_with, can_build};
pub use self::config::PluginsConfig;
pub use self::error::{LoadError, LoadProblem};
pub use self::plugin::{PluginCounts, PluginInfo};

use self::chain::Chains;
use self::config::{Hook, Mode};
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
    chains: Arc<ArcSwap<Chains>>,
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
        if !config.auth_policy.iter().any(|entry| entry.mode == Mode::Enforce) {
            return Err(LoadError::NoPolicy);
        }
        let engine = Engine::start(cache_dir)?;
        let snapshots = Snapshots::new(cache_dir);
        let list = async |hook: Hook| -> Result<Vec<Arc<Plugin>>, LoadError> {
            let entries = config.entries(hook).iter().enumerate();
            let loads =
                entries.map(|(index, entry)| loader::load(&engine, &snapshots, base_dir, hook, index + 1, entry));
            // All of them, also when one has failed: what others are doing on their threads would panic when the program
            // ends for want of that one.
            let plugins: Vec<Plugin> = join_all(loads).await.into_iter().collect::<Result<_, _>>()?;
            let mut names = HashSet::new();
            if let Some(twice) = plugins.iter().find(|plugin| !names.insert(plugin.name())) {
                return Err(LoadError::SameName { hook, name: twice.name().into() });
            }
            Ok(plugins.into_iter().map(Arc::new).collect())
        };
        let (validators, policies, formatters) =
            tokio::join!(list(Hook::CommandValidator), list(Hook::AuthPolicy), list(Hook::StatusFormatter));
        let chains = Chains::new(validators?, policies?, formatters?);
        let all = Hook::ALL.into_iter().flat_map(|hook| chains.of(hook).iter().enumerate());
        loader::check_pool(all.map(|(index, plugin)| (index + 1, &**plugin)))?;
        for info in chains.infos() {
            tracing::info!(hook = %info.hook, plugin = info.name, version = info.version, path = info.path, "loaded a plugin");
        }
        Ok(Self { engine, chains: Arc::new(ArcSwap::from_pointee(chains)) })
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
        let chains = self.chains.load();
        let plugins = Hook::ALL.into_iter().flat_map(|hook| chains.of(hook));
        plugins.map(|plugin| (plugin.info.clone(), plugin.counts.now())).collect()
    }

    /// How many components [`Self::load`] found compiled in the cache, and how many it had to compile.
    pub fn cache_use(&self) -> (usize, usize) {
        self.engine.cache_use()
    }
}
