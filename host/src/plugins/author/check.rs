//! `plugin check`: would a server take it? It is loaded by the server's own loader, from nothing: shape, version, limits,
//! `configure`, snapshot, types, `describe`.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::plugins::config::{Entry, Hook};
use crate::plugins::engine::Engine;
use crate::plugins::error::{LoadError, LoadProblem};
use crate::plugins::loader;
use crate::plugins::plugin::PluginInfo;
use crate::plugins::shape::{self, Names};
use crate::plugins::snapshot::Snapshots;

/// A plugin that a server would take.
#[derive(Debug, Clone)]
pub struct Checked {
    /// What is known of it.
    pub info: PluginInfo,
    /// How long it took to compile, configure, snapshot and compile it again: what a server's first start takes.
    pub first: Duration,
    /// How long it takes when all of that is kept from before, as at a server's next start.
    pub again: Duration,
}

/// Why a server wouldn't take it.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// Something is wrong with it.
    #[error("{path} {problem}")]
    Problem {
        /// The component.
        path: String,
        /// What.
        problem: LoadProblem,
    },
    /// It fits no world.
    #[error("{0} is a component, but no plugin: it exports none of antimony:plugin/validator, policy and formatter")]
    NoPlugin(String),
    /// The engine doesn't start on this machine.
    #[error(transparent)]
    Engine(#[from] LoadError),
}

/// Loads the component of `entry` as a server would. Without `hook`, the first that it exports something for. Paths are
/// relative to the working directory.
///
/// # Errors
/// [`CheckError`], in the words of the server.
pub async fn check(hook: Option<Hook>, entry: &Entry) -> Result<Checked, CheckError> {
    let problem = |problem| CheckError::Problem { path: entry.path.clone(), problem };
    let here = Path::new("");
    let bytes = super::read(Path::new(&entry.path)).await.map_err(problem)?;
    let names = Names::read(&bytes).map_err(problem)?;
    let hook = hook.or_else(|| hook_of(&names)).ok_or_else(|| CheckError::NoPlugin(entry.path.clone()))?;

    let dir = super::scratch().map_err(|error| problem(LoadProblem::Host(error.to_string())))?;
    let engine = Engine::start(dir.path())?;
    let snapshots = Snapshots::new(dir.path());
    let load = async || {
        let began = Instant::now();
        let plugin = loader::prepare(&engine, &snapshots, here, hook, entry).await.map_err(problem)?;
        Ok::<_, CheckError>((plugin, began.elapsed()))
    };
    let (plugin, first) = load().await?;
    let info = plugin.info.clone();
    // Twice the same entry would be too much for the pool in a server. Here the second follows the first.
    drop(plugin);
    let (_, again) = load().await?;
    Ok(Checked { info, first, again })
}

/// What a component was made for: the first hook that it exports the interface of, in whichever version.
pub(super) fn hook_of(names: &Names) -> Option<Hook> {
    let exported = |hook: &Hook| {
        let mut exports = names.exports.iter().filter_map(|name| shape::interface(name));
        exports.any(|(base, _)| base == hook.interface())
    };
    Hook::ALL.into_iter().find(exported)
}
