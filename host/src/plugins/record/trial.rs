//! A plugin that is loaded to be tried out, outside of any server.

use std::path::Path;

use super::ask::ask;
use super::input::Input;
use super::outcome::Answer;
use crate::plugins::config::{BreakerConfig, Entry, Hook};
use crate::plugins::engine::Engine;
use crate::plugins::error::LoadError;
use crate::plugins::loader;
use crate::plugins::plugin::{Plugin, PluginInfo};
use crate::plugins::snapshot::Snapshots;

/// Where plugins are loaded to be tried out.
pub struct Trials {
    engine: Engine,
    snapshots: Snapshots,
}

impl Trials {
    /// What was compiled is kept below `cache_dir`. Needs the tokio runtime that plugins will be asked from.
    ///
    /// # Errors
    /// [`LoadError::Engine`].
    pub fn start(cache_dir: &Path) -> Result<Self, LoadError> {
        Ok(Self { engine: Engine::start(cache_dir)?, snapshots: Snapshots::new(cache_dir) })
    }

    /// Loads the component of an entry, as a server does. `place` is its place in the list, from 1; its path is relative
    /// to `base_dir`.
    ///
    /// # Errors
    /// [`LoadError`]: what a server would say.
    pub async fn load(&self, base_dir: &Path, hook: Hook, place: usize, entry: &Entry) -> Result<Trial, LoadError> {
        // Each question for itself, also after many that failed.
        let entry = Entry { breaker: BreakerConfig { failures: 0, ..entry.breaker }, ..entry.clone() };
        let plugin = loader::load(&self.engine, &self.snapshots, base_dir, hook, place, &entry).await?;
        Ok(Trial { plugin })
    }
}

/// A loaded plugin, asked under the budget of its entry, as a server would.
pub struct Trial {
    plugin: Plugin,
}

impl Trial {
    /// What is known of it.
    pub fn info(&self) -> &PluginInfo {
        &self.plugin.info
    }

    /// Asks it. The input has to be of a function of its hook, else the answer is a failure.
    pub async fn ask(&self, input: &Input) -> Answer {
        ask(&self.plugin, input).await
    }
}
