//! The configuration: a YAML file, the environment, and what the command line says, in rising order of weight.
//!
//! Every key has a default, so that no file is needed. Unknown keys are errors: most of them are misspelt known ones.
//! Documented keys that nothing uses yet are taken and named in a warning ([`Config::unused`]), so that the file of an
//! operator is good as it is.

use std::collections::{BTreeSet, HashMap};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::auth::AuthConfig;
use crate::history::Retention;
use crate::http::client_address::TrustedProxies;
use crate::labs::LOG_RETENTION;
use crate::plugins::{DecisionLogConfig, PluginsConfig};
use crate::runtime::choose::RuntimeChoice;
use crate::runtime::containerlab::ContainerlabConfig;
use crate::shells::{Commands, LoginCommands, ShellOptions};

/// Names the user that the native login accepts.
pub const ENV_USERNAME: &str = "SB_NATIVE_USERNAME";
/// Holds that user's password.
pub const ENV_PASSWORD: &str = "SB_NATIVE_PASSWORD";

/// Longest idle time of a shell, in seconds: 30 days.
pub const MAX_SHELL_TIMEOUT: u64 = 30 * 24 * 3600;

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
    #[error("{path}: {error}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Line, column, key and what is wrong.
        error: String,
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
    /// How people log in.
    pub auth: AuthConfig,
    /// Limits of shells.
    pub shell: ShellConfig,
    /// How much is kept of logs.
    pub logs: LogsConfig,
    /// The policy plugins, per hook.
    pub plugins: PluginsConfig,
    /// What runs labs: `containerlab`, which is the containerlab program with a container engine; `embedded`, which needs
    /// nothing but the kernel and runs nodes of kind `linux` only; or `auto`, which takes containerlab where both the
    /// program and the engine answer when the server starts, and the embedded one elsewhere.
    pub runtime: RuntimeChoice,
    /// How containerlab is found and run.
    pub containerlab: ContainerlabConfig,
    /// Where it is written down what they decide. Spelled as in `plugins`.
    #[serde(rename = "decision-log", alias = "decisionLog")]
    pub decision_log: DecisionLogConfig,
    general: GeneralConfig,
    database: DatabaseConfig,
    #[serde(alias = "filesystem")]
    file_system: FileSystemConfig,
    #[serde(skip)]
    source: Option<Source>,
}

/// Where a configuration was read from, and what stood there.
#[derive(Debug, Clone)]
struct Source {
    file: PathBuf,
    said: serde_json::Value,
}

/// What a key that nothing uses yet is set to: anything.
type Unused = Option<serde::de::IgnoredAny>;

/// A section of which nothing is used yet.
macro_rules! unused_section {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $key:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        struct $name {
            $(#[serde(rename = $key)] #[schemars(with = "serde_json::Value")] $field: Unused,)+
        }

        impl $name {
            /// The keys that are set.
            fn unused(&self) -> Vec<&'static str> {
                [$((&self.$field, $key)),+].into_iter().filter(|(value, _)| value.is_some()).map(|(_, key)| key).collect()
            }
        }
    };
}

unused_section! {
    /// `general:`
    GeneralConfig { provider: "provider" }
}

unused_section! {
    /// `database:`
    DatabaseConfig {
        host: "host",
        port: "port",
        database: "database",
        user: "user",
        password: "password",
        local_file: "localFile",
    }
}

unused_section! {
    /// `fileSystem:`, which is also spelled `filesystem:`.
    FileSystemConfig { storage: "storage", run: "run" }
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
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self { host: "127.0.0.1".to_owned(), port: 3000, trusted_proxies: TrustedProxies::default() }
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

impl Config {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`], [`ConfigError::Invalid`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error })?;
        let config = Self::parse(&text).map_err(|error| ConfigError::Invalid { path: path.to_owned(), error })?;
        // It has been read once without any mistake, so that nothing is lost by taking a mistake here for nothing.
        let said = serde_saphyr::from_str(&text).unwrap_or_default();
        Ok(Self { source: Some(Source { file: path.to_owned(), said }), ..config })
    }

    /// The file that it was read from.
    pub fn file(&self) -> Option<&Path> {
        self.source.as_ref().map(|source| source.file.as_path())
    }

    /// The keys, such as `server.port`, that say something else in another reading of the file and count only from the next
    /// start on: all but those of the plugins.
    pub fn needs_restart(&self, other: &Self) -> Vec<String> {
        let nothing = serde_json::Value::Null;
        let said = |config: &Self, section: &str, key: Option<&str>| {
            let section =
                config.source.as_ref().and_then(|source| source.said.get(section)).unwrap_or(&nothing).clone();
            key.map_or(section.clone(), |key| section.get(key).unwrap_or(&nothing).clone())
        };
        let keys = |value: &serde_json::Value| -> Vec<String> {
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

    /// The JSON schema of the file: what keys there are, what they mean, and what they can be.
    pub fn schema() -> serde_json::Value {
        let mut schema = schemars::schema_for!(Self);
        // The other spellings that are taken.
        if let Some(keys) = schema.get_mut("properties").and_then(serde_json::Value::as_object_mut) {
            for (key, alias) in [("fileSystem", "filesystem"), ("decision-log", "decisionLog")] {
                let section = keys.get(key).cloned().expect("it is a section");
                keys.insert(alias.to_owned(), section);
            }
        }
        schema.to_value()
    }

    /// Keys that are set although nothing uses them yet, such as `general.provider`.
    pub fn unused(&self) -> Vec<String> {
        let sections = [
            ("general", self.general.unused()),
            ("database", self.database.unused()),
            ("fileSystem", self.file_system.unused()),
        ];
        let dotted =
            |(section, keys): (&str, Vec<&str>)| keys.into_iter().map(|key| format!("{section}.{key}")).collect();
        sections.into_iter().flat_map::<Vec<String>, _>(dotted).collect()
    }

    fn parse(text: &str) -> Result<Self, String> {
        // The key is told apart from the error, which only knows the place.
        let mut key = String::new();
        // A file that holds comments only says nothing, which is fine.
        let read = serde_saphyr::with_deserializer_from_str(text, |deserializer| {
            serde_path_to_error::deserialize::<_, Option<Self>>(deserializer).map_err(|error| {
                key = error.path().to_string();
                error.into_inner()
            })
        });
        read.map(Option::unwrap_or_default)
            .map_err(|error| if key.is_empty() || key == "." { error.to_string() } else { format!("{key}: {error}") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_default() {
        for text in ["", "# nothing\n", "{}"] {
            let config = Config::parse(text).expect(text);
            assert_eq!(config.server.port, 3000);
            assert_eq!(config.shell.user_limit, 20);
        }
    }

    #[test]
    fn a_misspelt_key_is_named_with_its_line() {
        let error = Config::parse("server:\n  port: 3000\nshell:\n  userLimitt: 3\n").expect_err("misspelt");
        assert!(error.contains("userLimitt") && error.contains('4'), "{error}");
    }

    #[test]
    fn a_wrong_type_is_named_with_its_line() {
        let error = Config::parse("server:\n  port: many\n").expect_err("no number");
        assert!(error.contains('2'), "{error}");
    }

    #[test]
    fn documented_keys_that_nothing_uses_yet_are_taken_and_named() {
        let text = "general:\n  provider: containerlab\nserver:\n  host: localhost\n  port: 3000\nauth:\n  \
                    enableNative: true\n  enableOpenId: true\n  openIdIssuer: https://idp.example\n  openIdClientId: a\n  \
                    openIdRedirectHost: b\n  openIdAdminGroups: [c, d]\nshell:\n  userLimit: 20\n  timeout: 1800\n\
                    database:\n  host: db\n  port: 5432\n  database: antimony\n  user: u\n  localFile: ./test.db\n\
                    filesystem:\n  storage: ./storage\n  run: ./run\ncontainerlab:\n  schemaUrl: u\n  \
                    schemaFallback: f\n  deviceConfig: d\n";
        for text in [text.to_owned(), text.replace("filesystem", "fileSystem")] {
            let unused = Config::parse(&text).expect("is taken").unused();
            assert_eq!(unused.len(), 8, "{unused:?}");
            for key in ["general.provider", "fileSystem.run"] {
                assert!(unused.iter().any(|unused| unused == key), "{key}: {unused:?}");
            }
        }
        assert!(Config::default().unused().is_empty());
        for (text, key) in [("database:\n  hots: db\n", "hots"), ("auth:\n  openIdIsuer: x\n", "openIdIsuer")] {
            let error = Config::parse(text).expect_err("misspelt");
            assert!(error.contains(key) && error.contains('2'), "{error}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_plugin_is_named_with_its_key_and_place() {
        for (line, key) in [
            ("mod: monitor", "mod"),
            ("mode: monitr", "plugins.auth-policy[1].mode"),
            ("on-error: ignore", "plugins.auth-policy[1].on-error"),
            ("instance: hot", "plugins.auth-policy[1].instance"),
            ("grants: [files]", "plugins.auth-policy[1].grants[0]"),
            ("sha256: abc", "plugins.auth-policy[1].sha256"),
            ("budget: { time-ms: -1 }", "plugins.auth-policy[1].budget.time-ms"),
        ] {
            let text = format!("plugins:\n  auth-policy:\n    - path: a.wasm\n    - path: b.wasm\n      {line}\n");
            let error = Config::parse(&text).expect_err(line);
            assert!(error.contains(key) && error.contains('5'), "{line}: {error}");
        }
    }

    #[test]
    fn what_only_a_restart_changes_is_told_from_what_a_reload_does() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("antimony.yml");
        let read = |text: &str| {
            std::fs::write(&path, text).expect("written");
            Config::read(&path).expect("valid")
        };
        let before = read("server: { port: 1 }\nlogs: { firstBytes: 5 }\nplugins: {}\n");
        assert_eq!(before.file(), Some(path.as_path()));
        assert!(before.needs_restart(&read("logs: { firstBytes: 5 }\nserver: { port: 1 }\n")).is_empty());
        let after = "runtime: auto\nserver: { port: 2 }\nshell: { userLimit: 1 }\nplugins: { status-formatter: [] }\n";
        let after = read(after);
        assert_eq!(before.needs_restart(&after), ["logs.firstBytes", "runtime", "server.port", "shell.userLimit"]);
    }

    #[test]
    fn the_schema_takes_what_the_server_takes() {
        let schema = Config::schema();
        let mut schemas = boon::Schemas::new();
        let mut compiler = boon::Compiler::new();
        compiler.add_resource("antimony.json", schema).expect("a schema");
        let index = compiler.compile("antimony.json", &mut schemas).expect("a schema that compiles");
        let check = |text: &str| {
            let value: serde_json::Value = serde_saphyr::from_str(text).expect("YAML");
            schemas.validate(&value, index).map_err(|error| error.to_string())
        };
        let example = include_str!("../../examples/antimony.yml");
        Config::parse(example).expect("the example is valid");
        check(example).expect("the example fits the schema");
        for text in [
            "server: { port: 3000 }",
            "filesystem: { run: x }",
            "fileSystem: { run: x }",
            "auth: { openIdAdminGroups: [a], usersFile: users.yml, openIdScopes: [groups], openIdClientSecret: x }",
            "server: { trustedProxies: [10.0.0.0/8, '::1'] }",
            "runtime: embedded",
            "containerlab: { program: /opt/containerlab, stopTimeout: 5, schemaUrl: x }",
            "plugins: { auth-policy: [{ path: a, golden: b, grants: [wasi], instance: warm, on-error: refuse }] }",
            "plugins: { auth-policy: [{ path: a, golden: [b, c], settings: 5, budget: { wall-clock-ms: 7 } }] }",
        ] {
            Config::parse(text).expect(text);
            check(text).expect(text);
        }
        for text in [
            "server: { prot: 3000 }",
            "server: { port: many }",
            "server: { trustedProxies: 10 }",
            "auth: { enableOpenId: perhaps }",
            "server: { port: 70000 }",
            "runtime: docker",
            "containerlab: { stopTimeout: 0 }",
            "containerlab: { programm: x }",
            "shell: { timeout: 99999999 }",
            "plugins: { auth-policy: [{ name: a }] }",
            "plugins: { auth-policy: [{ path: a, sha256: b }] }",
            "plugins: { auth-policy: [{ path: a, grants: [files] }] }",
            "plugins: { auth-policy: [{ path: a, on-error: ignore }] }",
            "plugins: { auth-policies: [] }",
        ] {
            Config::parse(text).expect_err(text);
            check(text).expect_err(text);
        }
    }

    #[test]
    fn the_host_is_an_address_or_a_name() {
        let server = |host: &str| ServerConfig { host: host.to_owned(), port: 7, ..ServerConfig::default() };
        assert_eq!(server("localhost").address().expect("known").to_string(), "127.0.0.1:7");
        assert_eq!(server("0.0.0.0").address().expect("an address").to_string(), "0.0.0.0:7");
        assert_eq!(server("::1").address().expect("an address").to_string(), "[::1]:7");
        let error = server("no host").address().expect_err("nothing").to_string();
        assert!(error.contains("server.host") && error.contains("no host"), "{error}");
    }

    #[test]
    fn a_shell_may_be_idle_for_thirty_days_and_no_longer() {
        let read = |seconds: u64| Config::parse(&format!("shell:\n  timeout: {seconds}\n"));
        assert_eq!(read(MAX_SHELL_TIMEOUT).expect("is taken").shell.timeout, MAX_SHELL_TIMEOUT);
        for seconds in [MAX_SHELL_TIMEOUT + 1, u64::MAX] {
            let error = read(seconds).expect_err("too long");
            assert!(error.contains("shell.timeout") && error.contains("2592000") && error.contains('2'), "{error}");
        }
    }

    #[test]
    fn login_commands_are_command_lines_per_kind() {
        let config = Config::parse("shell:\n  commands:\n    linux: [sh -c 'exec ash']\n").expect("is taken");
        assert_eq!(config.shell.options().commands.of("linux"), &[["sh", "-c", "exec ash"]]);
        for (text, part) in [("[]", "at least one"), ("['']", "empty"), ("[\"sh '\"]", "sh '")] {
            let error = Config::parse(&format!("shell:\n  commands:\n    linux: {text}\n")).expect_err(text);
            assert!(error.contains("shell.commands.linux") && error.contains(part), "{error}");
        }
    }

    #[test]
    fn how_much_is_kept_of_logs_can_be_said() {
        let config = Config::parse("logs:\n  firstBytes: 10\n  latestBytes: 9000000\n").expect("is taken");
        assert_eq!(config.logs.retention(), Retention { first: 10, latest: 9_000_000, behind: 9_000_000 });
    }
}
