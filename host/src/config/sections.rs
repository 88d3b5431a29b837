//! The sections that no other part of the server owns: where it listens, where it keeps things, what runs labs in the words
//! of other Antimony servers, shells and logs. Plain data; `reading` makes it of a file.

use std::collections::HashMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use super::ConfigError;
use crate::edge::config::{CorsConfig, HeadersConfig, LimitsConfig, TlsConfig};
use crate::history::Retention;
use crate::http::client_address::TrustedProxies;
use crate::labs::LOG_RETENTION;
use crate::labs::checkpoints::CheckpointOptions;
use crate::runtime::choose::RuntimeChoice;
use crate::runtime::saved::SaveLimits;
use crate::shells::{Commands, LoginCommands, ShellOptions};
use crate::store::CheckpointLimits;

/// Longest idle time of a shell, in seconds: 30 days.
pub const MAX_SHELL_TIMEOUT: u64 = 30 * 24 * 3600;

/// Where everything is kept unless something else is said.
pub const DEFAULT_DATA: &str = "antimony-data";
/// What this server keeps in folders that are another Antimony server's as well is in a folder of this name there.
const OWN_FOLDER: &str = "antimony-host";

/// `general:` of the first Antimony servers, which is `deployment:` in later ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeploymentConfig {
    /// What runs labs, in the words of other Antimony servers: `containerlab` is `runtime: containerlab`, and `dummy`, which
    /// needs nothing, is `runtime: embedded`. `clabernetes`, which is labs on Kubernetes, is refused: this server has
    /// nothing like it. `runtime`, and `--runtime`, count more than this.
    pub provider: Option<Provider>,
}

/// What runs labs, in the words of other Antimony servers, in capital letters or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(rename_all = "lowercase")]
pub enum Provider {
    /// containerlab with a container engine.
    Containerlab,
    /// Kubernetes.
    Clabernetes,
    /// Nothing at all: labs are pretended.
    Dummy,
}

impl TryFrom<String> for Provider {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "containerlab" => Ok(Self::Containerlab),
            "clabernetes" => Ok(Self::Clabernetes),
            "dummy" => Ok(Self::Dummy),
            _ => Err(format!("{text:?} is none of containerlab, clabernetes, dummy")),
        }
    }
}

impl Provider {
    /// The runtime that does it.
    ///
    /// # Errors
    /// A sentence, where there is none.
    pub(super) fn runtime(self) -> Result<RuntimeChoice, &'static str> {
        match self {
            Self::Containerlab => Ok(RuntimeChoice::Containerlab),
            Self::Dummy => Ok(RuntimeChoice::Embedded),
            Self::Clabernetes => Err("this server runs no labs on Kubernetes: say `containerlab`, or say `runtime`"),
        }
    }
}

/// `fileSystem:`, which is also spelled `filesystem:`. Both folders may be those of another Antimony server, whose files are
/// left alone: what this server keeps is in a folder `antimony-host` in them. Relative paths start from the folder of the
/// configuration. `--data` counts more than both.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FileSystemConfig {
    /// Where everything is kept: database, keys, logs. Left out: in `antimony-data`.
    pub storage: Option<PathBuf>,
    /// Where labs are run from, one folder each. Left out: in the folder `run` of the data folder.
    pub run: Option<PathBuf>,
}

/// Where a server keeps things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folders {
    /// Everything but what is in `run`.
    pub data: PathBuf,
    /// One folder for each lab that runs.
    pub run: PathBuf,
}

impl Folders {
    /// Everything in one folder.
    pub fn within(data: impl Into<PathBuf>) -> Self {
        let data = data.into();
        Self { run: data.join("run"), data }
    }
}

impl FileSystemConfig {
    /// The folders that count; `data` is what the command line says, and `config_dir` where relative paths start from.
    pub fn folders(&self, data: Option<&Path>, config_dir: &Path) -> Folders {
        if let Some(data) = data {
            return Folders::within(data);
        }
        let own = |folder: &PathBuf| config_dir.join(folder).join(OWN_FOLDER);
        let folders = Folders::within(self.storage.as_ref().map_or_else(|| PathBuf::from(DEFAULT_DATA), own));
        Folders { run: self.run.as_ref().map_or(folders.run, own), ..folders }
    }
}

/// `server:`
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ServerConfig {
    /// Address or host name to listen on.
    pub host: String,
    /// Port to listen on; 0: any free one.
    pub port: u16,
    /// Addresses and networks of proxies that are believed about whose requests they pass on (`X-Forwarded-For`). Those on
    /// this machine unless it is set.
    pub trusted_proxies: TrustedProxies,
    /// TLS by a certificate of this server's own. Without it, a proxy in front has to speak TLS, if anybody.
    pub tls: Option<TlsConfig>,
    /// Pages of other sites that may use this server.
    pub cors: CorsConfig,
    /// Header fields that tell browsers to be careful.
    pub headers: HeadersConfig,
    /// How much a client may ask for.
    pub limits: LimitsConfig,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 3000,
            trusted_proxies: TrustedProxies::default(),
            tls: None,
            cors: CorsConfig::default(),
            headers: HeadersConfig::default(),
            limits: LimitsConfig::default(),
        }
    }
}

impl ServerConfig {
    /// The address to listen on. A name with several addresses stands for its first of IPv4, if there is one: that is
    /// what clients try that know no other.
    ///
    /// # Errors
    /// [`ConfigError::Host`].
    pub fn address(&self) -> Result<SocketAddr, ConfigError> {
        let name = self.host.trim_start_matches('[').trim_end_matches(']');
        let fail = |problem: String| ConfigError::Host { host: self.host.clone(), problem };
        let found: Vec<_> = (name, self.port).to_socket_addrs().map_err(|error| fail(error.to_string()))?.collect();
        let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
        first.copied().ok_or_else(|| fail("it has no address".to_owned()))
    }
}

/// `shell:`
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ShellConfig {
    /// How many shells a user may have open at once.
    pub user_limit: u32,
    /// After how many seconds without input or output a shell is closed. At most [`MAX_SHELL_TIMEOUT`].
    #[serde(deserialize_with = "shell_timeout")]
    #[schemars(range(max = MAX_SHELL_TIMEOUT))]
    pub timeout: u64,
    /// What is run in nodes of a kind, or in those of all others under `default`: command lines of which the first is taken
    /// that the node has. Kinds that are named nowhere have [`LoginCommands::default`]. With containers, `ssh` is run on the
    /// host if `{address}` is among its arguments, which stands for the node's management address: `ssh admin@{address}`.
    #[serde(deserialize_with = "shell_commands")]
    #[schemars(with = "HashMap<String, Vec<String>>")]
    pub commands: HashMap<String, Commands>,
}

fn shell_commands<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<HashMap<String, Commands>, D::Error> {
    let problem = |kind: &str, what: &str| serde::de::Error::custom(format!("shell.commands.{kind}: {what}"));
    let mut commands = HashMap::new();
    for (kind, lines) in HashMap::<String, Vec<String>>::deserialize(deserializer)? {
        let words = |line: &String| match shell_words::split(line) {
            Ok(words) if !words.is_empty() => Ok(words),
            Ok(_) => Err(problem(&kind, "a command line is empty")),
            Err(error) => Err(problem(&kind, &format!("{line}: {error}"))),
        };
        let those = lines.iter().map(words).collect::<Result<Commands, D::Error>>()?;
        if those.is_empty() {
            return Err(problem(&kind, "name at least one command line"));
        }
        commands.insert(kind, those);
    }
    Ok(commands)
}

fn shell_timeout<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let seconds = u64::deserialize(deserializer)?;
    if seconds > MAX_SHELL_TIMEOUT {
        let problem =
            format!("shell.timeout: {seconds} s is too long, at most {MAX_SHELL_TIMEOUT} s (30 days) are possible");
        return Err(serde::de::Error::custom(problem));
    }
    Ok(seconds)
}

impl Default for ShellConfig {
    fn default() -> Self {
        let options = ShellOptions::default();
        Self { user_limit: options.user_limit, timeout: options.idle_timeout.as_secs(), commands: HashMap::new() }
    }
}

impl ShellConfig {
    /// The same as the shells take it.
    pub fn options(&self) -> ShellOptions {
        ShellOptions {
            user_limit: self.user_limit,
            idle_timeout: Duration::from_secs(self.timeout),
            commands: LoginCommands::with(&self.commands),
            ..ShellOptions::default()
        }
    }
}

/// `logs:`
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LogsConfig {
    /// How many bytes of the beginning of each log are kept.
    pub first_bytes: usize,
    /// How many bytes of what came last in each log are kept.
    pub latest_bytes: usize,
}

impl Default for LogsConfig {
    fn default() -> Self {
        Self { first_bytes: LOG_RETENTION.first, latest_bytes: LOG_RETENTION.latest }
    }
}

impl LogsConfig {
    /// The same as histories take it.
    pub fn retention(&self) -> Retention {
        let (first, latest) = (self.first_bytes, self.latest_bytes);
        Retention { first, latest, behind: latest.max(LOG_RETENTION.behind) }
    }
}

/// Longest time before the end of a lab at which its users can be warned, in seconds: 30 days.
const LONGEST_WARNING: u64 = 30 * 24 * 3600;
/// Most times at which they can be.
const MOST_WARNINGS: usize = 10;

/// `schedule:`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ScheduleConfig {
    /// How many seconds before a lab is destroyed at its end time those who may see it are warned by a status message, once
    /// each. Empty: never.
    #[serde(deserialize_with = "warnings")]
    #[schemars(length(max = MOST_WARNINGS), inner(range(min = 1, max = LONGEST_WARNING)))]
    pub warn_before: Vec<u64>,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self { warn_before: vec![15 * 60, 5 * 60] }
    }
}

impl ScheduleConfig {
    /// The same as the schedule takes it.
    pub fn warn_before(&self) -> Vec<Duration> {
        self.warn_before.iter().map(|seconds| Duration::from_secs(*seconds)).collect()
    }
}

fn warnings<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
    let all = Vec::<u64>::deserialize(deserializer)?;
    if let Some(wrong) = all.iter().find(|seconds| !(1..=LONGEST_WARNING).contains(*seconds)) {
        let problem = format!("{wrong} s is not possible, 1 to {LONGEST_WARNING} s (30 days) are");
        return Err(de::Error::custom(problem));
    }
    if all.len() > MOST_WARNINGS {
        return Err(de::Error::custom(format!("at most {MOST_WARNINGS} times are possible")));
    }
    Ok(all)
}

/// `checkpoints:`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CheckpointsConfig {
    /// How many checkpoints a lab may have.
    pub per_lab: usize,
    /// How many bytes all checkpoints of a lab may take, and about as many what was last saved of it.
    pub lab_bytes: u64,
    /// How many bytes the files of one node may have that are saved.
    pub node_bytes: u64,
    /// How many files, links and folders may be saved of one node.
    pub node_files: u64,
}

impl Default for CheckpointsConfig {
    fn default() -> Self {
        let CheckpointOptions { node, lab } = CheckpointOptions::default();
        Self { per_lab: lab.count, lab_bytes: lab.bytes, node_bytes: node.bytes, node_files: node.files }
    }
}

impl CheckpointsConfig {
    /// The same as labs take it.
    pub fn options(&self) -> CheckpointOptions {
        CheckpointOptions {
            node: SaveLimits { bytes: self.node_bytes, files: self.node_files, before: self.lab_bytes },
            lab: CheckpointLimits { count: self.per_lab, bytes: self.lab_bytes },
        }
    }
}
