//! Docker's engine, as far as the containerlab driver needs it: containers, their states, logs, and shells in them.
//!
//! This is no driver: `containerlab` deploys and destroys with its own program and asks here for everything that the
//! program can't do. Nodes are found by the labels that containerlab puts on containers, never by container names.
//!
//! | module | owns |
//! |---|---|
//! | [`containers`] | listing, and what can be done to one container |
//! | [`events`] | the task that follows what changes, and the view of all labs that it keeps |
//! | [`logs`], `entries` | following a node's log; how the engine writes logs down |
//! | [`exec`], `process` | terminals in nodes; ending what runs in them |
//! | [`ssh`] | terminals by a program on this host, such as `ssh` |
//! | [`stats`] | one reading of what a container uses |
//! | `raw` | requests whose answer is a stream of bytes |
//!
//! Requests with one answer go through bollard. Logs, events and terminals don't: its decoder of streams takes a byte
//! below 3 at the start of a read for the header of a multiplexed stream, which a terminal may well print, waits for
//! a line end however much comes before it, and knows whole seconds only. A line that no program ends must not fill the
//! memory, and a log is gone on with at a nanosecond.

pub mod containers;
mod entries;
pub mod events;
pub mod exec;
pub mod logs;
mod networks;
mod process;
mod raw;
pub mod ssh;
pub mod stats;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::containers::{Container, Details, Health, Phase};
pub use self::events::{Expected, View, Watch};
pub use self::networks::Removal;
pub(in crate::runtime) use self::process::is_in as is_process_of;
pub use self::stats::Stats;
use super::RuntimeError;

/// How long a request may take that only reads.
const LIMIT: Duration = Duration::from_secs(20);
/// How long the engine may take to answer the first request.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Where the engine listens unless somebody says something else.
const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";

/// Why the engine didn't do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DockerError {
    /// The address of the engine can't be used.
    #[error("{host} is no address of a Docker engine that can be used: {reason}")]
    Host {
        /// The address.
        host: String,
        /// Why not.
        reason: &'static str,
    },
    /// The engine doesn't answer there, or this process may not talk to it.
    #[error("the Docker engine at {host} can't be reached: {reason}")]
    Unreachable {
        /// Its address.
        host: String,
        /// What happened.
        reason: String,
    },
    /// There is no such container (or exec).
    #[error("the Docker engine knows nothing of it: {0}")]
    NotFound(String),
    /// It refused, for instance because of the state that a container is in.
    #[error("the Docker engine refused ({status}): {message}")]
    Refused {
        /// Status code of HTTP.
        status: u16,
        /// Its own words.
        message: String,
    },
    /// It didn't answer in time.
    #[error("the Docker engine did not finish {0} within {1:?}")]
    TimedOut(&'static str, Duration),
    /// Its answer, or the connection, broke off or made no sense.
    #[error("the connection to the Docker engine broke: {0}")]
    Broken(String),
}

impl From<DockerError> for RuntimeError {
    fn from(error: DockerError) -> Self {
        match error {
            DockerError::TimedOut(what, limit) => Self::TimedOut(what.to_owned(), limit),
            error => Self::Failed(error.to_string()),
        }
    }
}

impl From<bollard::errors::Error> for DockerError {
    fn from(error: bollard::errors::Error) -> Self {
        match error {
            bollard::errors::Error::DockerResponseServerError { status_code, message } => {
                Self::of_status(status_code, message)
            }
            error => Self::Broken(cause(&error)),
        }
    }
}

impl DockerError {
    fn of_status(status: u16, message: String) -> Self {
        if status == 404 { Self::NotFound(message) } else { Self::Refused { status, message } }
    }
}

/// An error's innermost cause, such as what the system says; the layers around it name libraries, which tells a user nothing.
fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

/// Where an engine listens.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    Unix(PathBuf),
    /// Name or address, and port.
    Tcp(String),
}

impl Address {
    fn parse(host: &str) -> Result<Self, DockerError> {
        let bad = |reason| DockerError::Host { host: host.to_owned(), reason };
        if let Some(path) = host.strip_prefix("unix://") {
            return if path.starts_with('/') {
                Ok(Self::Unix(path.into()))
            } else {
                Err(bad("the path of the socket has to be absolute"))
            };
        }
        if host.starts_with('/') {
            return Ok(Self::Unix(host.into()));
        }
        let Some(authority) = host.strip_prefix("tcp://").or_else(|| host.strip_prefix("http://")) else {
            return Err(bad("it has to begin with unix:// or tcp:// (TLS and ssh are not supported)"));
        };
        let authority = authority.trim_end_matches('/');
        if authority.is_empty() || authority.contains('/') {
            return Err(bad("a name and a port are expected after tcp://"));
        }
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        Ok(Self::Tcp(if has_port { authority.to_owned() } else { format!("{authority}:2375") }))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(authority) => write!(f, "tcp://{authority}"),
        }
    }
}

/// The one way in which an address of an engine is written (`unix:///path`, `tcp://name:port`), for whoever passes it on.
///
/// # Errors
/// [`DockerError::Host`].
pub fn normalized(host: &str) -> Result<String, DockerError> {
    Address::parse(host).map(|address| address.to_string())
}

/// Which engine it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineVersion {
    /// Its version, such as `20.10.24`.
    pub engine: String,
    /// Newest version of the API that it speaks, such as `1.41`.
    pub api: String,
    /// `Docker Engine - Community`, `Podman Engine` and so on, where it says so.
    pub platform: String,
}

impl fmt::Display for EngineVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (API {})", self.engine, self.api)
    }
}

/// A way to one engine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Docker {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    api: bollard::Docker,
    address: Address,
    /// Version of the API that both sides speak, `major.minor`.
    api_version: String,
    version: EngineVersion,
    /// Marks the shells of this server among all others; see [`exec`].
    owner: String,
    /// The tasks that own a shell each.
    shells: TaskTracker,
    /// Ends all of them.
    end_shells: CancellationToken,
}

impl Docker {
    /// Looks for the engine at `host` (`unix:///path`, `tcp://name:port`), or, where that is `None`, at what the
    /// environment variable `DOCKER_HOST` says, or else at Docker's own socket. Takes at most 5 s.
    ///
    /// # Errors
    /// [`DockerError::Host`], [`DockerError::Unreachable`].
    pub async fn connect(host: Option<&str>) -> Result<Self, DockerError> {
        let named = host.map(str::to_owned);
        let host = named
            .or_else(|| std::env::var("DOCKER_HOST").ok())
            .filter(|host| !host.is_empty())
            .unwrap_or_else(|| DEFAULT_HOST.to_owned());
        let address = Address::parse(&host)?;
        let unreachable = |reason: String| DockerError::Unreachable { host: address.to_string(), reason };
        let answer: raw::Version =
            raw::json(&address, "/version", CONNECT_LIMIT).await.map_err(|error| match error {
                DockerError::Unreachable { .. } => error,
                error => unreachable(error.to_string()),
            })?;
        let theirs = answer.api_version;
        let newest = bollard::API_DEFAULT_VERSION;
        let (major, minor) = parse_version(&theirs).ok_or_else(|| unreachable(format!("API version {theirs:?}")))?;
        let (major, minor) = (major, minor).min((newest.major_version, newest.minor_version));
        let both = bollard::ClientVersion { major_version: major, minor_version: minor };
        // Each request has a limit of its own, as some, such as stopping a container, may take long.
        let longest = 3600;
        let api = match &address {
            Address::Unix(path) => bollard::Docker::connect_with_unix(&path.to_string_lossy(), longest, &both),
            Address::Tcp(authority) => bollard::Docker::connect_with_http(authority, longest, &both),
        };
        let api = api.map_err(|error| unreachable(cause(&error)))?;
        let version = EngineVersion {
            engine: answer.version,
            api: theirs,
            platform: answer.platform.map(|platform| platform.name).unwrap_or_default(),
        };
        Ok(Self {
            inner: Arc::new(Inner {
                api,
                api_version: format!("{major}.{minor}"),
                address,
                version,
                owner: uuid::Uuid::new_v4().simple().to_string(),
                shells: TaskTracker::new(),
                end_shells: CancellationToken::new(),
            }),
        })
    }

    /// The same, for a server that is known as `owner` across its restarts: [`Docker::end_leftover_shells`] then finds
    /// the shells that an earlier run of it has left. Without this nothing is ever found. To be called before anything
    /// else; `owner` must be the same after a restart, another one for every other server, and of letters, digits
    /// and dashes.
    #[must_use]
    pub fn with_owner(self, owner: &str) -> Self {
        let inner = &self.inner;
        Self {
            inner: Arc::new(Inner {
                api: inner.api.clone(),
                address: inner.address.clone(),
                api_version: inner.api_version.clone(),
                version: inner.version.clone(),
                owner: owner.to_owned(),
                shells: TaskTracker::new(),
                end_shells: CancellationToken::new(),
            }),
        }
    }

    /// The engine as it introduced itself when it was looked for.
    pub fn version(&self) -> &EngineVersion {
        &self.inner.version
    }

    /// Its address, as `unix://` or `tcp://`.
    pub fn host(&self) -> String {
        self.inner.address.to_string()
    }

    /// Whether it answers now.
    ///
    /// # Errors
    /// [`DockerError::Unreachable`], [`DockerError::TimedOut`].
    pub async fn ping(&self) -> Result<(), DockerError> {
        raw::json::<raw::Version>(&self.inner.address, "/version", CONNECT_LIMIT).await.map(drop)
    }

    /// Waits for an answer, but no longer than `limit`.
    async fn limited<T>(
        &self,
        what: &'static str,
        limit: Duration,
        answer: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, DockerError> {
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(DockerError::TimedOut(what, limit)),
        }
    }
}

fn parse_version(text: &str) -> Option<(usize, usize)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_sockets_or_ports_and_nothing_else() {
        let read = |host: &str| Address::parse(host).map(|address| address.to_string());
        assert_eq!(read("unix:///run/docker.sock").expect("is one"), "unix:///run/docker.sock");
        assert_eq!(read("/run/docker.sock").expect("is one"), "unix:///run/docker.sock");
        assert_eq!(read("tcp://10.0.0.1:2376").expect("is one"), "tcp://10.0.0.1:2376");
        assert_eq!(read("tcp://engine/").expect("is one"), "tcp://engine:2375");
        assert_eq!(read("tcp://[::1]:99").expect("is one"), "tcp://[::1]:99");
        for host in ["ssh://me@there", "https://there", "docker.sock", "unix://docker.sock", "tcp://"] {
            let error = read(host).expect_err(host).to_string();
            assert!(error.contains(host), "{error}");
        }
    }

    #[tokio::test]
    async fn an_engine_that_is_not_there_is_named() {
        let error = Docker::connect(Some("unix:///nowhere/docker.sock")).await.expect_err("nothing is there");
        assert!(matches!(error, DockerError::Unreachable { .. }), "{error}");
        assert!(error.to_string().contains("/nowhere/docker.sock"), "{error}");
    }
}
