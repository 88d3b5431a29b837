//! What helps people write topologies: the kinds of nodes that they are offered, and the JSON schema of topology files. Both
//! are the operator's, where the configuration names some, and the server's own elsewhere.
//!
//! `server` opens the [`Guide`], `http` shows it. Nothing that a server decides depends on it: a file that is missing or wrong
//! is a warning in the log, never a reason not to start.

mod devices;
mod schema;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use self::schema::Schemas;
use crate::runtime::containerlab::ContainerlabConfig;
use crate::topology::devices::Device;

/// What the configuration names and can't be used, by its key, and what there is instead. Asks nobody over the network.
pub fn problems(config: &ContainerlabConfig, config_dir: &Path) -> Vec<(&'static str, String)> {
    let named = |file: &Option<PathBuf>| {
        file.as_ref().filter(|path| !path.as_os_str().is_empty()).map(|path| config_dir.join(path))
    };
    let mut problems = Vec::new();
    let mut check = |key, file: Option<PathBuf>, read: &dyn Fn(&Path) -> Result<(), String>, instead: &str| {
        if let Some(file) = file
            && let Err(problem) = read(&file)
        {
            problems.push((key, format!("{}: {problem}; {instead}", file.display())));
        }
    };
    let kinds = "clients are offered the kinds that containerlab knows";
    check("containerlab.deviceConfig", named(&config.device_config), &|file| devices::read(file).map(drop), kinds);
    let own = "clients get the server's own schema instead";
    check(
        "containerlab.schemaFallback",
        named(&config.schema_fallback),
        &|file| schema::from_file(file).map(drop),
        own,
    );
    if let Some(url) = config.schema_url.as_deref().map(str::trim).filter(|url| !url.is_empty())
        && !schema::is_fetched(url)
    {
        problems.push(("containerlab.schemaUrl", format!("{url} is no address of http or https: nothing is fetched")));
    }
    problems
}

/// Handle to both. Cheap to clone.
#[derive(Clone)]
pub struct Guide {
    devices: Arc<[Device]>,
    schemas: Schemas,
}

impl Guide {
    /// Reads what the configuration names, and begins to fetch the schema if it is to be fetched. Relative paths start from
    /// `config_dir`; what was fetched is kept in `data`. Ends with `stop`.
    pub fn open(config: &ContainerlabConfig, config_dir: &Path, data: &Path, stop: CancellationToken) -> Self {
        for (key, problem) in problems(config, config_dir) {
            tracing::warn!("{key}: {problem}");
        }
        let file = config.device_config.as_deref().filter(|path| !path.as_os_str().is_empty());
        let devices = file.and_then(|file| devices::read(&config_dir.join(file)).ok());
        Self {
            devices: devices.unwrap_or_else(crate::topology::devices::known).into(),
            schemas: Schemas::open(config, config_dir, data, stop),
        }
    }

    /// The kinds of nodes that people are offered.
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// The JSON schema of topology files. While the first attempt to fetch it is under way, that is waited for, for some
    /// seconds.
    pub async fn schema(&self) -> Arc<Value> {
        self.schemas.current().await
    }
}
