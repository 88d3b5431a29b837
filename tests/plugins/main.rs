//! The plugin host with real components: the bundled ones, and hostile ones that are built from source here.

#![allow(clippy::unwrap_used, reason = "tests")]

mod alone;
mod authoring;
mod building;
mod bundled;
mod chains;
mod contract;
mod crafted;
mod fuzzed;
mod guests;
mod hostile;
mod languages;
mod loading;
mod observed;
mod overruns;
mod recording;
mod reload;
mod sample;
mod warm;

use std::path::{Path, PathBuf};

use antimony_host::plugins::config::{Entry, Hook};
use antimony_host::plugins::{LoadError, PluginHost, PluginsConfig};

/// Loads a configuration, with a cache that all tests share: what is compiled once is compiled for all of them.
async fn load(config: &PluginsConfig) -> PluginHost {
    try_load(config).await.unwrap()
}

async fn try_load(config: &PluginsConfig) -> Result<PluginHost, LoadError> {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugin-cache");
    // The bundled plugins may stand in a folder instead, freshly built, to be tested like those in the binary.
    let mut config = config.clone();
    if let Some(dir) = std::env::var_os("ANTIMONY_BUNDLED_FROM").map(PathBuf::from) {
        for list in [&mut config.command_validator, &mut config.auth_policy, &mut config.status_formatter] {
            for entry in list {
                if let Some(name) = Hook::ALL.iter().find(|hook| entry.path == format!("builtin:{hook}")) {
                    entry.path = dir.join(format!("{name}.wasm")).to_str().unwrap().into();
                }
            }
        }
    }
    PluginHost::load(&config, &cache, &cache).await
}

/// The bundled plugins, with these policies after the bundled one.
fn with_policy(entry: Entry) -> PluginsConfig {
    let mut config = PluginsConfig::default();
    config.auth_policy.push(entry);
    config
}
