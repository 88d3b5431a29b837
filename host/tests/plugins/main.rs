//! The plugin host with real components: the bundled ones, and hostile ones that are built from source here.

#![allow(clippy::unwrap_used, reason = "tests")]

mod bundled;
mod sample;

use antimony_host::plugins::{PluginHost, PluginsConfig};

/// Loads a configuration with a cache of its own.
async fn load(config: &PluginsConfig) -> PluginHost {
    let cache = tempfile::tempdir().unwrap();
    PluginHost::load(config, cache.path(), cache.path()).await.unwrap()
}
