//! The configuration: a YAML file, the environment, and what the command line says, in rising order of weight.
//!
//! Every key has a default, so that no file is needed. Unknown keys are errors: most of them are misspelt known ones.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::plugins::PluginsConfig;
use crate::shells::ShellOptions;

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
    #[error("{path}: {error}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Line, column, key and what is wrong.
        error: String,
    },
    /// Somebody could log in from elsewhere with the default password.
    #[error(
        "listening on {0}, which is reachable from other machines, needs a login of its own: set {ENV_USERNAME} and \
         {ENV_PASSWORD}, or set auth.enableNative to false"
    )]
    OpenToAll(SocketAddr),
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
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// Where the server listens.
    pub server: ServerConfig,
    /// How people log in.
    pub auth: AuthConfig,
    /// Limits of shells.
    pub shell: ShellConfig,
    /// The policy plugins, per hook.
    pub plugins: PluginsConfig,
}

/// `server:`
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ServerConfig {
    /// Address to listen on.
    pub host: IpAddr,
    /// Port to listen on; 0: any free one.
    pub port: u16,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self { host: IpAddr::from([127, 0, 0, 1]), port: 3000 }
    }
}

/// `auth:`
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AuthConfig {
    /// Whether one may log in with user name and password.
    pub enable_native: bool,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self { enable_native: true }
    }
}

/// `shell:`
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ShellConfig {
    /// How many shells a user may have open at once.
    pub user_limit: u32,
    /// After how many seconds without input or output a shell is closed.
    pub timeout: u64,
}

impl Default for ShellConfig {
    fn default() -> Self {
        let options = ShellOptions::default();
        Self { user_limit: options.user_limit, timeout: options.idle_timeout.as_secs() }
    }
}

impl ShellConfig {
    /// The same as the shells take it.
    pub fn options(&self) -> ShellOptions {
        ShellOptions {
            user_limit: self.user_limit,
            idle_timeout: Duration::from_secs(self.timeout),
            ..ShellOptions::default()
        }
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
        Self::parse(&text).map_err(|error| ConfigError::Invalid { path: path.to_owned(), error })
    }

    fn parse(text: &str) -> Result<Self, String> {
        // A file that holds comments only says nothing, which is fine.
        serde_saphyr::from_str::<Option<Self>>(text).map(Option::unwrap_or_default).map_err(|error| error.to_string())
    }
}

/// User name and password of the native login.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("username", &self.username).finish_non_exhaustive()
    }
}

/// The login that counts when listening on `address`: the configured one, or admin/admin where only this machine can
/// reach the server. `None`: there is no native login.
///
/// # Errors
/// [`ConfigError::OpenToAll`], [`ConfigError::HalfLogin`].
pub fn native_login(
    auth: &AuthConfig,
    address: SocketAddr,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Option<Login>, ConfigError> {
    if !auth.enable_native {
        return Ok(None);
    }
    let set = |name| environment(name).filter(|value| !value.is_empty());
    match (set(ENV_USERNAME), set(ENV_PASSWORD)) {
        (Some(username), Some(password)) => Ok(Some(Login { username, password })),
        (Some(_), None) => Err(ConfigError::HalfLogin { set: ENV_USERNAME, missing: ENV_PASSWORD }),
        (None, Some(_)) => Err(ConfigError::HalfLogin { set: ENV_PASSWORD, missing: ENV_USERNAME }),
        (None, None) if address.ip().is_loopback() => {
            Ok(Some(Login { username: "admin".into(), password: "admin".into() }))
        }
        (None, None) => Err(ConfigError::OpenToAll(address)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

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
    fn the_default_login_is_for_loopback_only() {
        let auth = AuthConfig::default();
        let nothing = |_: &str| None;
        let login = native_login(&auth, address("127.0.0.1:0"), nothing).expect("loopback").expect("enabled");
        assert_eq!((login.username.as_str(), login.password.as_str()), ("admin", "admin"));
        assert!(matches!(native_login(&auth, address("0.0.0.0:0"), nothing), Err(ConfigError::OpenToAll(_))));
        let off = AuthConfig { enable_native: false };
        assert_eq!(native_login(&off, address("0.0.0.0:0"), nothing).expect("no login"), None);
    }

    #[test]
    fn half_a_login_is_refused() {
        let half = |name: &str| (name == ENV_USERNAME).then(|| "me".to_owned());
        let error = native_login(&AuthConfig::default(), address("127.0.0.1:0"), half).expect_err("no password");
        assert!(error.to_string().contains(ENV_PASSWORD), "{error}");
    }
}
