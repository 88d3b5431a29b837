//! `auth:` of the configuration: by which ways people log in, and what is set in the environment for that.
//!
//! `config` reads it as a part of the file, `server` makes the logins of it, `doctor` says what would come of it. Secrets
//! are never shown by `Debug`.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use openidconnect::url::Url;
use schemars::JsonSchema;
use serde::Deserialize;

use super::users::{DEFAULT_USERS_FILE, UsersSource};
use crate::config::{ConfigError, ENV_PASSWORD, ENV_USERNAME};

/// Holds the secret that the OpenID provider knows this server by.
pub const ENV_OIDC_SECRET: &str = "SB_OIDC_SECRET";

/// What comes after `auth.openIdRedirectHost` in the address that a provider sends people back to, and has to know.
pub const REDIRECT_PATH: &str = "/users/login/success";

/// A text that `Debug` doesn't show.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "Secret()" } else { "Secret(…)" })
    }
}

impl Secret {
    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// `auth:`
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AuthConfig {
    /// Whether one may log in with user name and password: as the administrator that the environment names, or as one of
    /// the users in `usersFile`.
    pub enable_native: bool,
    /// The file of users, relative to this one; `antimony-host user` writes it. It has to be there if it is named. Unless it
    /// is: `users.yml` in the data folder, if that is there.
    pub users_file: Option<PathBuf>,
    /// Whether one may log in by OpenID Connect.
    pub enable_open_id: bool,
    /// The provider, spelled as it spells itself, such as `https://keycloak.example.org/realms/lab`.
    pub open_id_issuer: String,
    /// How the provider calls this server.
    pub open_id_client_id: String,
    /// The secret that the provider knows this server by. `SB_OIDC_SECRET` of the environment counts before it, and is the
    /// better place. None: this server is a public client, which proves itself by PKCE alone.
    pub open_id_client_secret: Secret,
    /// Where browsers reach this server's REST API, such as `https://labs.example.org/api`. The provider has to know this
    /// address with `/users/login/success` after it.
    pub open_id_redirect_host: String,
    /// Whoever is in one of these groups is an administrator.
    pub open_id_admin_groups: Vec<String>,
    /// What the provider is asked for besides `openid`, such as `groups` or `offline_access`.
    pub open_id_scopes: Vec<String>,
    /// The claim that names somebody's groups, which are the collections that they belong to.
    pub open_id_groups_claim: String,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            enable_native: true,
            users_file: None,
            enable_open_id: false,
            open_id_issuer: String::new(),
            open_id_client_id: String::new(),
            open_id_client_secret: Secret::default(),
            open_id_redirect_host: String::new(),
            open_id_admin_groups: Vec::new(),
            open_id_scopes: Vec::new(),
            open_id_groups_claim: "groups".to_owned(),
        }
    }
}

/// What is needed to log people in by OpenID Connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenIdSettings {
    /// The provider, as it spells itself.
    pub issuer: String,
    /// How the provider calls this server.
    pub client_id: String,
    /// The secret that both know, if there is one.
    pub client_secret: Option<Secret>,
    /// Where the REST API is, as browsers see it, without a slash at its end.
    pub api: Url,
    /// Groups of administrators.
    pub admin_groups: Vec<String>,
    /// Scopes besides `openid`.
    pub scopes: Vec<String>,
    /// The claim that names groups.
    pub groups_claim: String,
}

impl OpenIdSettings {
    /// Where the provider sends people back to.
    pub fn redirect_url(&self) -> String {
        format!("{}{REDIRECT_PATH}", self.api.as_str().trim_end_matches('/'))
    }
}

impl AuthConfig {
    /// How people log in by OpenID Connect; `None`: not at all. The secret may come from the environment.
    ///
    /// # Errors
    /// [`ConfigError::Auth`]: something is missing or no address.
    pub fn open_id(&self, environment: impl Fn(&str) -> Option<String>) -> Result<Option<OpenIdSettings>, ConfigError> {
        if !self.enable_open_id {
            return Ok(None);
        }
        let problem = |key: &'static str, problem: String| ConfigError::Auth { key, problem };
        let needed = |key, value: &str| match value.trim() {
            "" => Err(problem(key, "it has to be set where auth.enableOpenId is true".to_owned())),
            value => Ok(value.to_owned()),
        };
        let address = |key, value: &str| {
            let text = needed(key, value)?;
            let wrong = |what: &str| problem(key, format!("{text} is no address such as https://example.org: {what}"));
            let url = Url::parse(&text).map_err(|error| wrong(&error.to_string()))?;
            if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
                return Err(wrong("it has to begin with https:// or http://"));
            }
            if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
                return Err(wrong("it must have no query, fragment or user name"));
            }
            Ok((text, url))
        };
        let (issuer, _) = address("openIdIssuer", &self.open_id_issuer)?;
        let client_id = needed("openIdClientId", &self.open_id_client_id)?;
        let (_, api) = address("openIdRedirectHost", &self.open_id_redirect_host)?;
        let secret = environment(ENV_OIDC_SECRET).filter(|secret| !secret.is_empty()).map(Secret::from);
        let secret = secret.or_else(|| Some(self.open_id_client_secret.clone()));
        Ok(Some(OpenIdSettings {
            issuer,
            client_id,
            client_secret: secret.filter(|secret| !secret.expose().is_empty()),
            api,
            admin_groups: self.open_id_admin_groups.clone(),
            scopes: self.open_id_scopes.iter().filter(|&scope| scope != "openid").cloned().collect(),
            groups_claim: needed("openIdGroupsClaim", &self.open_id_groups_claim)?,
        }))
    }

    /// What is to be said about a login by OpenID Connect that would work as far as can be told.
    pub fn open_id_notice(&self, environment: impl Fn(&str) -> Option<String>) -> Option<String> {
        let settings = self.open_id(environment).ok()??;
        settings.client_secret.is_none().then(|| {
            format!(
                "{ENV_OIDC_SECRET} isn't set, so that the provider is told no secret: it has to know this server as a public \
                 client, or nobody can log in"
            )
        })
    }

    /// Where the file of users is: the one that is named, seen from `config_dir`, or the usual one in the data folder.
    pub fn users(&self, config_dir: &Path, data: &Path) -> UsersSource {
        match &self.users_file {
            Some(path) => UsersSource { path: config_dir.join(path), required: true },
            None => UsersSource { path: data.join(DEFAULT_USERS_FILE), required: false },
        }
    }
}

/// User name and password of the one administrator that the environment names, or of the default login.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
    /// Whether it is the one that everybody knows, because none is configured.
    pub is_default: bool,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("username", &self.username).finish_non_exhaustive()
    }
}

/// The login that counts when listening on `address`: the configured one, or admin/admin where only this machine can
/// reach the server and there is no other way to log in (`others`: OpenID Connect, or a file of users). With another way
/// the known password is never in force, wherever the server listens. `None`: there is no such login.
///
/// # Errors
/// [`ConfigError::OpenToAll`], [`ConfigError::HalfLogin`].
pub fn native_login(
    auth: &AuthConfig,
    address: SocketAddr,
    others: bool,
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
        (None, None) if others => Ok(None),
        (None, None) if address.ip().is_loopback() => {
            Ok(Some(Login { username: "admin".into(), password: "admin".into(), is_default: true }))
        }
        (None, None) => Err(ConfigError::OpenToAll(address)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing(_: &str) -> Option<String> {
        None
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_default_login_is_for_loopback_only() {
        let auth = AuthConfig::default();
        let login = native_login(&auth, address("127.0.0.1:0"), false, nothing).expect("loopback").expect("enabled");
        assert_eq!((login.username.as_str(), login.password.as_str()), ("admin", "admin"));
        assert!(matches!(native_login(&auth, address("0.0.0.0:0"), false, nothing), Err(ConfigError::OpenToAll(_))));
        let off = AuthConfig { enable_native: false, ..AuthConfig::default() };
        assert_eq!(native_login(&off, address("0.0.0.0:0"), false, nothing).expect("no login"), None);
    }

    #[test]
    fn where_people_log_in_otherwise_the_known_password_is_never_in_force() {
        for at in ["127.0.0.1:0", "0.0.0.0:0"] {
            let login = native_login(&AuthConfig::default(), address(at), true, nothing);
            assert_eq!(login.expect("fine"), None, "{at}");
        }
        let own = |name: &str| Some(if name == ENV_USERNAME { "me" } else { "secret" }.to_owned());
        let login = native_login(&AuthConfig::default(), address("0.0.0.0:0"), true, own).expect("fine");
        assert!(login.is_some_and(|login| login.username == "me" && !login.is_default));
    }

    #[test]
    fn half_a_login_is_refused() {
        for others in [false, true] {
            let half = |name: &str| (name == ENV_USERNAME).then(|| "me".to_owned());
            let error = native_login(&AuthConfig::default(), address("127.0.0.1:0"), others, half);
            assert!(error.expect_err("no password").to_string().contains(ENV_PASSWORD));
        }
    }

    fn open_id() -> AuthConfig {
        AuthConfig {
            enable_open_id: true,
            open_id_issuer: "https://id.example/realms/lab".to_owned(),
            open_id_client_id: "antimony".to_owned(),
            open_id_redirect_host: "https://labs.example/api".to_owned(),
            ..AuthConfig::default()
        }
    }

    #[test]
    fn the_provider_sends_people_back_to_the_address_that_it_knows() {
        for host in ["https://labs.example/api", "https://labs.example/api/"] {
            let config = AuthConfig { open_id_redirect_host: host.to_owned(), ..open_id() };
            let settings = config.open_id(nothing).expect("fine").expect("enabled");
            assert_eq!(settings.redirect_url(), "https://labs.example/api/users/login/success");
        }
        let config = AuthConfig { open_id_redirect_host: "http://localhost:3000".to_owned(), ..open_id() };
        let settings = config.open_id(nothing).expect("fine").expect("enabled");
        assert_eq!(settings.redirect_url(), "http://localhost:3000/users/login/success");
        assert_eq!(AuthConfig::default().open_id(nothing).expect("off"), None);
    }

    #[test]
    fn what_is_missing_for_open_id_is_named() {
        for (config, key) in [
            (AuthConfig { open_id_issuer: String::new(), ..open_id() }, "auth.openIdIssuer"),
            (AuthConfig { open_id_issuer: "id.example".to_owned(), ..open_id() }, "auth.openIdIssuer"),
            (AuthConfig { open_id_client_id: " ".to_owned(), ..open_id() }, "auth.openIdClientId"),
            (AuthConfig { open_id_redirect_host: String::new(), ..open_id() }, "auth.openIdRedirectHost"),
            (AuthConfig { open_id_redirect_host: "localhost:3000".to_owned(), ..open_id() }, "auth.openIdRedirectHost"),
        ] {
            let error = config.open_id(nothing).expect_err(key).to_string();
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn the_secret_of_the_environment_counts_first_and_is_never_shown() {
        let config = AuthConfig { open_id_client_secret: "of-the-file".to_owned().into(), ..open_id() };
        let secret = |config: &AuthConfig, value: &str| {
            let settings = config.open_id(|_| Some(value.to_owned())).expect("fine").expect("enabled");
            let shown = format!("{config:?} {settings:?}");
            assert!(!shown.contains("of-the-file") && !shown.contains("of-the-environment"), "{shown}");
            settings.client_secret.map(|secret| secret.expose().to_owned())
        };
        assert_eq!(secret(&config, "of-the-environment").as_deref(), Some("of-the-environment"));
        assert_eq!(secret(&config, "").as_deref(), Some("of-the-file"));
        assert_eq!(secret(&open_id(), ""), None);
        let notice = |config: &AuthConfig, value: &str| config.open_id_notice(|_| Some(value.to_owned()));
        assert!(notice(&open_id(), "").is_some_and(|notice| notice.starts_with(ENV_OIDC_SECRET)));
        assert_eq!(
            (notice(&open_id(), "x"), notice(&config, ""), notice(&AuthConfig::default(), "")),
            (None, None, None)
        );
    }
}
