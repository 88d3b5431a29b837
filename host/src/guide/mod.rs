//! What helps people write topologies: the kinds of nodes that they are offered, and the JSON schema of topology files. Both
//! are the operator's, where the configuration names some, and the server's own elsewhere.
//!
//! `server` opens the [`Guide`], `http` shows it. Nothing that a server decides depends on it: a file that is missing or wrong
//! is a warning in the log, never a reason not to start.

mod devices;
mod schema;

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use self::schema::Schemas;
use crate::runtime::containerlab::ContainerlabConfig;
use crate::topology::devices::Device;

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
        let file = config.device_config.as_deref().filter(|path| !path.as_os_str().is_empty());
        let devices = file.and_then(|file| devices::read(&config_dir.join(file)));
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
