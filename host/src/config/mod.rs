//! The configuration: a YAML file, the environment, and what the command line says, in rising order of weight.
//!
//! Every key has a default, so that no file is needed, and the `config.yml` of other Antimony servers is good as it is. What
//! each part of the server can be told is a type that it owns; the sections that are nobody's own are in `sections`.
//!
//! `reading` makes a [`Config`] of a text, and says of each mistake and each unknown key where it stands and what would be
//! right (`Finding`). Whether a key is known, and which known one is nearest, is asked of the JSON schema of those types
//! (`keys`), so that there is no second list of keys. The boundary between errors and warnings:
//!
//! - What is of a wrong type is an error, wherever it stands.
//! - In the sections that other Antimony servers have as well (`elsewhere::SHARED_SECTIONS`), and on the top level, an
//!   unknown key is a warning: it may be one of theirs, of whatever version.
//! - Unless the nearest known key is one without which more people could get in, or others could read along
//!   (`elsewhere::NOT_TO_BE_MISSED`): then it is an error.
//! - In sections that only this server has, an unknown key is an error, and so is an unknown key that resembles the name of
//!   such a section, wherever it stands. A misspelt `plugins`, `on-error` or `sha256` must not weaken a policy in silence.
//!
//! `effective` says what counts in the end, and where it comes from; `antimony-host config check` prints that.

mod effective;
mod elsewhere;
mod environment;
mod finding;
mod keys;
mod places;
mod reading;
mod sections;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

pub use self::effective::{Circumstances, Effective, Origin};
pub use self::environment::{ENV_FILE, environment_findings};
pub use self::finding::Finding;
pub use self::places::Place;
pub use self::reading::Reading;
pub use self::sections::{
    CheckpointsConfig, DEFAULT_DATA, DeploymentConfig, FileSystemConfig, Folders, LogsConfig, MAX_SHELL_TIMEOUT,
    Provider, ScheduleConfig, ServerConfig, ShellConfig,
};
pub use crate::auth::AuthConfig;
use crate::captures::CaptureConfig;
use crate::edge::config::UiConfig;
use crate::labs::capacity::config::CapacityConfig;
use crate::plugins::{DecisionLogConfig, PluginsConfig};
use crate::runtime::choose::RuntimeChoice;
use crate::runtime::containerlab::ContainerlabConfig;
use crate::stats::config::StatsConfig;
use crate::store::config::DatabaseConfig;

/// Names the user that the native login accepts.
pub const ENV_USERNAME: &str = "SB_NATIVE_USERNAME";
/// Holds that user's password.
pub const ENV_PASSWORD: &str = "SB_NATIVE_PASSWORD";

/// Why a configuration can't be used. Says where, and what would be right.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{path}: the configuration can't be read: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The file isn't what it should be.
    #[error("{}", .errors.iter().map(|error| error.in_file(.path)).collect::<Vec<_>>().join("\n"))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Everything that is wrong with it.
        errors: Vec<Finding>,
    },
    /// There is no such host.
    #[error("server.host: {host} is neither an address nor a host name of this machine: {problem}")]
    Host {
        /// What the configuration says.
        host: String,
        /// What the system says.
        problem: String,
    },
    /// Somebody could log in from elsewhere with the default password.
    #[error(
        "listening on {0}, which is reachable from other machines, needs a login of its own: set {ENV_USERNAME} and \
         {ENV_PASSWORD}, add users (antimony-host user add NAME), let people log in by OpenID Connect (auth.enableOpenId), or \
         set auth.enableNative to false"
    )]
    OpenToAll(SocketAddr),
    /// Something about how people log in is wrong.
    #[error("auth.{key}: {problem}")]
    Auth {
        /// Which key.
        key: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Half of the login is configured.
    #[error("{set} is set, but {missing} is not: set both, or neither")]
    HalfLogin {
        /// The variable that is set.
        set: &'static str,
        /// The one that isn't.
        missing: &'static str,
    },
}

/// The configuration file.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// Where the server listens.
    pub server: ServerConfig,
    /// The web client.
    pub ui: UiConfig,
    /// How people log in.
    pub auth: AuthConfig,
    /// Limits of shells.
    pub shell: ShellConfig,
    /// Captures of packets.
    pub capture: CaptureConfig,
    /// How much is kept of logs.
    pub logs: LogsConfig,
    /// How much labs may take at once, in all and by collection.
    pub capacity: CapacityConfig,
    /// What the schedule tells.
    pub schedule: ScheduleConfig,
    /// How much is kept of what labs' nodes save.
    pub checkpoints: CheckpointsConfig,
    /// The policy plugins, per hook.
    pub plugins: PluginsConfig,
    /// What runs labs: `containerlab`, which is the containerlab program with a container engine; `embedded`, which needs
    /// nothing but the kernel and runs nodes of kind `linux` only; or `auto`, which takes containerlab where both the
    /// program and the engine answer when the server starts, and the embedded one elsewhere.
    pub runtime: RuntimeChoice,
    /// How containerlab is found and run.
    pub containerlab: ContainerlabConfig,
    /// How what nodes use is looked at.
    pub stats: StatsConfig,
    /// Where it is written down what they decide. Spelled as in `plugins`.
    #[serde(rename = "decision-log", alias = "decisionLog")]
    pub decision_log: DecisionLogConfig,
    /// What runs labs, in the words of the first Antimony servers.
    pub general: DeploymentConfig,
    /// What runs labs, in the words of later Antimony servers.
    pub deployment: DeploymentConfig,
    /// Where things are kept.
    #[serde(alias = "filesystem")]
    pub file_system: FileSystemConfig,
    /// Which database everything is kept in.
    pub database: DatabaseConfig,
    #[serde(skip)]
    source: Option<Source>,
}

/// Where a configuration was read from, and what stood there.
#[derive(Debug, Clone)]
struct Source {
    file: PathBuf,
    /// All that counts of it.
    said: Value,
    /// What is to be said about it although it can be used.
    warnings: Vec<Finding>,
}

impl Config {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`], [`ConfigError::Invalid`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let Reading { config, errors, warnings, said, .. } = Reading::of_file(path)?;
        if !errors.is_empty() {
            return Err(ConfigError::Invalid { path: path.to_owned(), errors });
        }
        Ok(Self { source: Some(Source { file: path.to_owned(), said, warnings }), ..config })
    }

    /// What is to be said about the file although it can be used: keys that nobody knows, and those that mean nothing here.
    /// Each names the file, the place and the remedy.
    pub fn warnings(&self) -> Vec<String> {
        let of = |source: &Source| source.warnings.iter().map(|warning| warning.in_file(&source.file)).collect();
        self.source.as_ref().map(of).unwrap_or_default()
    }

    /// Where the server keeps things; `data` is the folder that the command line names, and `config_dir` where relative paths
    /// in the configuration start from.
    pub fn folders(&self, data: Option<&Path>, config_dir: &Path) -> Folders {
        self.file_system.folders(data, config_dir)
    }

    /// The file that it was read from.
    pub fn file(&self) -> Option<&Path> {
        self.source.as_ref().map(|source| source.file.as_path())
    }

    /// The keys, such as `server.port`, that say something else in another reading of the file and count only from the next
    /// start on: all but those of the plugins.
    pub fn needs_restart(&self, other: &Self) -> Vec<String> {
        let nothing = Value::Null;
        let said = |config: &Self, section: &str, key: Option<&str>| {
            let section =
                config.source.as_ref().and_then(|source| source.said.get(section)).unwrap_or(&nothing).clone();
            key.map_or(section.clone(), |key| section.get(key).unwrap_or(&nothing).clone())
        };
        let keys = |value: &Value| -> Vec<String> {
            value.as_object().map(|object| object.keys().cloned().collect()).unwrap_or_default()
        };
        let sections = [self, other].into_iter().filter_map(|config| config.source.as_ref());
        let sections: BTreeSet<String> = sections.flat_map(|source| keys(&source.said)).collect();
        let mut changed = BTreeSet::new();
        for section in sections.into_iter().filter(|section| section != "plugins") {
            let (before, after) = (said(self, &section, None), said(other, &section, None));
            let (keys_before, keys_after) = (keys(&before), keys(&after));
            if keys_before.is_empty() && keys_after.is_empty() && before != after {
                changed.insert(section.clone());
            }
            for key in [keys_before, keys_after].concat() {
                if said(self, &section, Some(&key)) != said(other, &section, Some(&key)) {
                    changed.insert(format!("{section}.{key}"));
                }
            }
        }
        changed.into_iter().collect()
    }

    /// The JSON schema of the file: what keys there are, what they mean, and what they can be. Keys of other servers that
    /// mean nothing here are in it as `deprecated`, with what there is instead.
    pub fn schema() -> Value {
        keys::schema(&schemars::schema_for!(Self).to_value())
    }
}
