//! The native login: which user name and password the environment gives it, and where it may do without.

use std::net::SocketAddr;

use super::{AuthConfig, ConfigError, ENV_PASSWORD, ENV_USERNAME};

/// User name and password of the native login.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
    /// Whether it is the one that everybody knows, because none is configured.
    pub is_default: bool,
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
        (Some(username), Some(password)) => Ok(Some(Login { username, password, is_default: false })),
        (Some(_), None) => Err(ConfigError::HalfLogin { set: ENV_USERNAME, missing: ENV_PASSWORD }),
        (None, Some(_)) => Err(ConfigError::HalfLogin { set: ENV_PASSWORD, missing: ENV_USERNAME }),
        (None, None) if address.ip().is_loopback() => {
            Ok(Some(Login { username: "admin".into(), password: "admin".into(), is_default: true }))
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
    fn the_default_login_is_for_loopback_only() {
        let auth = AuthConfig::default();
        let nothing = |_: &str| None;
        let login = native_login(&auth, address("127.0.0.1:0"), nothing).expect("loopback").expect("enabled");
        assert_eq!((login.username.as_str(), login.password.as_str()), ("admin", "admin"));
        assert!(matches!(native_login(&auth, address("0.0.0.0:0"), nothing), Err(ConfigError::OpenToAll(_))));
        let mut off = AuthConfig::default();
        off.enable_native = false;
        assert_eq!(native_login(&off, address("0.0.0.0:0"), nothing).expect("no login"), None);
    }

    #[test]
    fn half_a_login_is_refused() {
        let half = |name: &str| (name == ENV_USERNAME).then(|| "me".to_owned());
        let error = native_login(&AuthConfig::default(), address("127.0.0.1:0"), half).expect_err("no password");
        assert!(error.to_string().contains(ENV_PASSWORD), "{error}");
    }
}
