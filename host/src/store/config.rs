//! `database:`: which database everything is kept in, and how it is reached.
//!
//! The keys are those of existing `config.yml` files, and a few of ours. Those files name both databases and leave it to
//! the command line which one counts; [`DatabaseConfig::choose`] says how that is decided here. `server` and `doctor`
//! call it; nothing in here connects to anything but to look whose file `localFile` is.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::sqlite;

/// Holds the password of the PostgreSQL user.
pub const ENV_DATABASE_PASSWORD: &str = "SB_DATABASE_PASSWORD";
/// The file in the data folder that everything is kept in, unless the configuration says otherwise.
pub const DATABASE_FILE: &str = "antimony.db";

/// Why `database:` can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseConfigError {
    /// PostgreSQL is asked for, but not where it is.
    #[error("database.host: database.kind is postgres, so name the host that it runs on, or the folder of its socket")]
    NoHost,
    /// A certificate is given that would not be looked at.
    #[error("database.sslMode: with {0} nobody looks at database.sslRootCert; say verify-full, or leave sslMode out")]
    UnusedCertificate(SslMode),
    /// It can't be told whose `localFile` is.
    #[error("database.localFile: {path}: {reason}", path = path.display())]
    LocalFile {
        /// The file.
        path: PathBuf,
        /// Why, and what helps.
        reason: String,
    },
    /// Something can't be part of what is sent to the database.
    #[error("database.{0}: it contains a null character")]
    Null(&'static str),
}

/// The two databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DatabaseKind {
    /// A file on this machine, which needs nothing else.
    Sqlite,
    /// A PostgreSQL server.
    Postgres,
}

impl DatabaseKind {
    /// As it is written in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }
}

/// How the connection to PostgreSQL is protected, in PostgreSQL's own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// Never encrypted.
    Disable,
    /// Encrypted if the database can do that. Anybody in between could still read along.
    Prefer,
    /// Encrypted, with whoever answers.
    Require,
    /// Encrypted, with somebody whose certificate is signed by an authority that is trusted here.
    VerifyCa,
    /// Encrypted, with the host that was asked for: its name is in the certificate, too.
    VerifyFull,
}

impl fmt::Display for SslMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        })
    }
}

/// `database:`
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DatabaseConfig {
    /// Which database is used. Without it: PostgreSQL where `host` is set, or else SQLite. Where both `host` and `localFile`
    /// are set, as in files of other Antimony servers: PostgreSQL if there is a password for it, or else SQLite.
    pub kind: Option<DatabaseKind>,
    /// Host that PostgreSQL runs on, or the folder of its socket if it begins with `/`.
    pub host: Option<String>,
    /// Port of PostgreSQL.
    pub port: u16,
    /// Name of the PostgreSQL database. All of this server is in its schema `antimony_host`.
    pub database: String,
    /// User of the PostgreSQL database.
    pub user: String,
    /// Their password. The environment variable `SB_DATABASE_PASSWORD` weighs more, and keeps it out of the file.
    pub password: Option<String>,
    /// The file of SQLite; a relative path starts from the folder of the configuration. Without it: `antimony.db` in the data
    /// folder.
    pub local_file: Option<PathBuf>,
    /// How the connection to PostgreSQL is protected: `prefer`, or `verify-full` where `sslRootCert` is given.
    pub ssl_mode: Option<SslMode>,
    /// File with the certificates of the authorities that may have signed that of PostgreSQL; a relative path starts from
    /// the folder of the configuration. Without it: those that this machine trusts.
    pub ssl_root_cert: Option<PathBuf>,
    /// For how many seconds a PostgreSQL that can't be reached is asked again when the server starts.
    #[schemars(range(max = 86400))]
    pub start_timeout: u32,
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self {
            kind: None,
            host: None,
            port: 5432,
            database: "antimony".to_owned(),
            user: "antimony".to_owned(),
            password: None,
            local_file: None,
            ssl_mode: None,
            ssl_root_cert: None,
            start_timeout: 30,
        }
    }
}

impl fmt::Debug for DatabaseConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseConfig")
            .field("kind", &self.kind)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("database", &self.database)
            .field("user", &self.user)
            .field("local_file", &self.local_file)
            .finish_non_exhaustive()
    }
}

/// How a PostgreSQL database is reached.
#[derive(Clone)]
pub struct Postgres {
    /// Host, or folder of the socket.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Name of the database.
    pub database: String,
    /// User.
    pub user: String,
    /// Password, if there is one.
    pub password: Option<String>,
    /// How the connection is protected.
    pub ssl_mode: SslMode,
    /// Whom to trust, unless it is those that this machine trusts.
    pub ssl_root_cert: Option<PathBuf>,
    /// For how long a database that can't be reached is asked again when it is opened.
    pub start_timeout: Duration,
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Postgres({self})")
    }
}

/// For messages: everything but the password.
impl fmt::Display for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, database, user, .. } = self;
        let host = if host.contains(':') { Cow::Owned(format!("[{host}]")) } else { Cow::Borrowed(host) };
        write!(f, "{database} at {host}:{port} (user {user})")
    }
}

/// Where everything is kept.
#[derive(Debug, Clone)]
pub enum Location {
    /// In this file.
    Sqlite(PathBuf),
    /// In this PostgreSQL database.
    Postgres(Box<Postgres>),
}

impl Location {
    /// Which of the two it is.
    pub fn kind(&self) -> DatabaseKind {
        match self {
            Self::Sqlite(_) => DatabaseKind::Sqlite,
            Self::Postgres(_) => DatabaseKind::Postgres,
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "{}", path.display()),
            Self::Postgres(postgres) => write!(f, "{postgres}"),
        }
    }
}

/// What the configuration comes to.
#[derive(Debug)]
pub struct Choice {
    /// Where everything is kept.
    pub location: Location,
    /// What an operator should know about it.
    pub notices: Vec<String>,
}

impl DatabaseConfig {
    /// Which database is meant. `data` is the data folder, `config_dir` where relative paths start from, `environment` looks
    /// up a variable.
    ///
    /// # Errors
    /// [`DatabaseConfigError`].
    pub async fn choose(
        &self,
        data: &Path,
        config_dir: &Path,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Choice, DatabaseConfigError> {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let password = given(environment(ENV_DATABASE_PASSWORD)).or_else(|| given(self.password.clone()));
        let host = given(self.host.clone());
        let local = self.local_file.as_ref().filter(|path| !path.as_os_str().is_empty());
        let mut notices = Vec::new();
        let kind = match (self.kind, &host, local) {
            (Some(kind), ..) => kind,
            (None, None, _) => DatabaseKind::Sqlite,
            (None, Some(_), None) => DatabaseKind::Postgres,
            (None, Some(_), Some(_)) if password.is_some() => DatabaseKind::Postgres,
            (None, Some(_), Some(_)) => {
                notices.push(format!(
                    "both database.host and database.localFile are set, and SQLite is used, as there is no password for \
                     PostgreSQL: set {ENV_DATABASE_PASSWORD}, or say in database.kind which of them is meant"
                ));
                DatabaseKind::Sqlite
            }
        };
        let location = match kind {
            DatabaseKind::Postgres => {
                let host = host.ok_or(DatabaseConfigError::NoHost)?;
                Location::Postgres(Box::new(self.postgres(host, password, config_dir)?))
            }
            DatabaseKind::Sqlite => {
                let own = data.join(DATABASE_FILE);
                let local = local.map(|path| config_dir.join(path));
                let is_foreign = match &local {
                    Some(path) => sqlite::belongs_to_another_program(path)
                        .await
                        .map_err(|reason| DatabaseConfigError::LocalFile { path: path.clone(), reason })?,
                    None => false,
                };
                match local {
                    Some(path) if is_foreign => {
                        notices.push(format!(
                            "database.localFile, {}, is the database of another Antimony server and stays as it is: this \
                             server keeps everything in {}; `antimony-host import` takes over what is in the other",
                            path.display(),
                            own.display()
                        ));
                        Location::Sqlite(own)
                    }
                    Some(path) => Location::Sqlite(path),
                    None => Location::Sqlite(own),
                }
            }
        };
        Ok(Choice { location, notices })
    }

    fn postgres(
        &self,
        host: String,
        password: Option<String>,
        config_dir: &Path,
    ) -> Result<Postgres, DatabaseConfigError> {
        let (database, user) = (self.database.clone(), self.user.clone());
        let texts = [("host", Some(&host)), ("database", Some(&database)), ("user", Some(&user))];
        for (key, text) in texts.into_iter().chain([("password", password.as_ref())]) {
            if text.is_some_and(|text| text.contains('\0')) {
                return Err(DatabaseConfigError::Null(key));
            }
        }
        let ssl_mode = match (self.ssl_mode, &self.ssl_root_cert) {
            (Some(mode @ (SslMode::Disable | SslMode::Prefer | SslMode::Require)), Some(_)) => {
                return Err(DatabaseConfigError::UnusedCertificate(mode));
            }
            (Some(mode), _) => mode,
            (None, Some(_)) => SslMode::VerifyFull,
            (None, None) => SslMode::Prefer,
        };
        Ok(Postgres {
            host,
            port: self.port,
            database,
            user,
            password,
            ssl_mode,
            ssl_root_cert: self.ssl_root_cert.as_ref().map(|path| config_dir.join(path)),
            start_timeout: Duration::from_secs(self.start_timeout.into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn choose(text: &str, password: Option<&str>) -> Result<Choice, DatabaseConfigError> {
        let config: DatabaseConfig = serde_saphyr::from_str(text).expect(text);
        let environment = |name: &str| password.filter(|_| name == ENV_DATABASE_PASSWORD).map(str::to_owned);
        config.choose(Path::new("/data"), Path::new("/etc/antimony"), environment).await
    }

    async fn location(text: &str, password: Option<&str>) -> String {
        choose(text, password).await.expect(text).location.to_string()
    }

    #[tokio::test]
    async fn the_keys_say_which_database_is_meant() {
        let both = "host: db\nport: 5432\ndatabase: antimony\nuser: antimony\nlocalFile: ./db/antimony.db\n";
        let postgres = "antimony at db:5432 (user antimony)";
        for (text, password, expected) in [
            ("{}", None, "/data/antimony.db"),
            ("{}", Some("secret"), "/data/antimony.db"),
            ("host: ''\nlocalFile: ''", None, "/data/antimony.db"),
            ("localFile: ./db/antimony.db", None, "/etc/antimony/./db/antimony.db"),
            ("localFile: /srv/a.db", Some("secret"), "/srv/a.db"),
            ("host: db", None, postgres),
            ("host: ::1\nport: 7\nuser: u", None, "antimony at [::1]:7 (user u)"),
            (both, None, "/etc/antimony/./db/antimony.db"),
            (both, Some(""), "/etc/antimony/./db/antimony.db"),
            (both, Some("secret"), postgres),
            (&format!("{both}password: secret"), None, postgres),
            (&format!("{both}kind: postgres"), None, postgres),
            (&format!("{both}kind: sqlite"), Some("secret"), "/etc/antimony/./db/antimony.db"),
        ] {
            assert_eq!(location(text, password).await, expected, "{text} {password:?}");
        }
        assert_eq!(choose(both, None).await.expect("chosen").notices.len(), 1, "a guess is told");
        assert_eq!(choose(both, Some("secret")).await.expect("chosen").notices.len(), 0);
        assert!(matches!(choose("kind: postgres", None).await, Err(DatabaseConfigError::NoHost)));
    }

    #[tokio::test]
    async fn a_certificate_that_nobody_would_look_at_is_an_error_and_one_that_is_given_is_looked_at() {
        let mode = async |text: &str| match choose(text, None).await?.location {
            Location::Postgres(postgres) => Ok::<_, DatabaseConfigError>((postgres.ssl_mode, postgres.ssl_root_cert)),
            Location::Sqlite(path) => panic!("{}", path.display()),
        };
        assert_eq!(mode("host: db").await.expect("fine"), (SslMode::Prefer, None));
        let certificate = Some(PathBuf::from("/etc/antimony/ca.pem"));
        assert_eq!(mode("host: db\nsslRootCert: ca.pem").await.expect("fine"), (SslMode::VerifyFull, certificate));
        let error = mode("host: db\nsslRootCert: ca.pem\nsslMode: require").await.expect_err("useless").to_string();
        assert!(error.contains("database.sslMode") && error.contains("require"), "{error}");
    }

    #[tokio::test]
    async fn a_password_is_never_shown() {
        let config: DatabaseConfig = serde_saphyr::from_str("host: db\npassword: hush").expect("valid");
        let choice = choose("host: db\npassword: hush", Some("hush-hush")).await.expect("chosen");
        for shown in [format!("{config:?}"), format!("{choice:?}"), choice.location.to_string()] {
            assert!(!shown.contains("hush"), "{shown}");
        }
        let Location::Postgres(postgres) = choice.location else { panic!("PostgreSQL is meant") };
        assert_eq!(postgres.password.as_deref(), Some("hush-hush"), "the environment weighs more");
    }
}
