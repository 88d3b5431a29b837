//! Wires the parts together, in an order that lets nobody in before everything is there, and takes them apart again.
//!
//! Start: port, data folder, keys, store, plugins, runtime, labs (which take up what still runs), shells, edges.
//! End: no new connections and commands, shells, then whatever the runtime runs that can't outlive the server, the store,
//! and at last the data folder.

use std::fs::{File, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, Request};
use axum::middleware::{from_fn, from_fn_with_state, map_request};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::auth::users::UsersError;
use crate::auth::{
    Authenticator, KeyError, LocalUsers, Login, Logins, NativeLogin, OpenId, OpenIdError, SigningKey, native_login,
};
use crate::captures::{Captures, CommandLine, Place};
use crate::config::{Config, ConfigError, Folders};
use crate::edge::{CertificateReloader, Edge, EdgeError};
use crate::guide::Guide;
use crate::history::archive::Archive;
use crate::http::client_address::Peer;
use crate::http::{self, Api, Observed};
use crate::labs::publisher::Publisher;
use crate::labs::{Labs, Planning};
use crate::metrics::CommandCounts;
use crate::plugins::reload::{self, Sources};
use crate::plugins::{DecisionLog, LoadError, PluginHost, Reloader};
use crate::runtime::RuntimeDriver;
use crate::runtime::choose::{self, NoRuntime};
use crate::runtime::embedded::EmbeddedOptions;
use crate::shells::Shells;
use crate::socket;
use crate::socket::transport::{self, Connection, Transports};
use crate::stats::Stats;
use crate::store::config::DatabaseConfigError;
use crate::store::{Store, StoreError};

/// The file in the data folder that holds the key which tokens are signed with.
pub const SIGNING_KEY: &str = "signing.key";
/// How long connections may take to end when the server does.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Why the server can't start. Says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration can't be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address can't be listened on.
    #[error("can't listen on {address}: {}", listen_remedy(.error))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// The certificate or the web client can't be used.
    #[error(transparent)]
    Edge(#[from] EdgeError),
    /// The data folder can't be used.
    #[error("the data folder {path} can't be used: {error}")]
    Data {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Another server uses the data folder.
    #[error("the data folder {0} is in use by another server: end that one, or choose another folder with --data")]
    InUse(PathBuf),
    /// The key that tokens are signed with can't be had.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The local users can't be read.
    #[error(transparent)]
    Users(#[from] UsersError),
    /// Nobody could log in by OpenID Connect, ever.
    #[error(transparent)]
    OpenId(#[from] OpenIdError),
    /// The configuration says nothing sensible about the database.
    #[error(transparent)]
    Database(#[from] DatabaseConfigError),
    /// The store can't be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A plugin can't be loaded.
    #[error("{}{error}", .config.as_ref().map(|file| format!("{}: ", file.display())).unwrap_or_default())]
    Plugin {
        /// The configuration file.
        config: Option<PathBuf>,
        /// Which plugin, and what is wrong.
        error: LoadError,
    },
    /// No runtime works here.
    #[error(transparent)]
    Runtime(#[from] NoRuntime),
}

fn listen_remedy(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program listens there: end it, or choose another port with --listen".into()
        }
        io::ErrorKind::PermissionDenied => "ports below 1024 need privileges: choose another with --listen".into(),
        _ => error.to_string(),
    }
}

/// What a server is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; port 0: any free one.
    pub listen: SocketAddr,
    /// Where everything is kept.
    pub folders: Folders,
    /// The configuration.
    pub config: Config,
    /// The folder that relative paths in the configuration start from.
    pub config_dir: PathBuf,
}

/// A running server.
pub struct Server {
    address: SocketAddr,
    login: Option<Login>,
    auth: Arc<Authenticator>,
    reloader: Reloader,
    labs: Labs,
    shells: Shells,
    driver: Arc<dyn RuntimeDriver>,
    store: Store,
    archive: Archive,
    decisions: Option<DecisionLog>,
    /// Cancelled first: from then on nobody gets in and no command is begun.
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
    speaks_tls: bool,
    certificate: Option<CertificateReloader>,
    /// Keeps others out of the data folder for as long as the server runs.
    lock: File,
}

impl Server {
    /// Starts a server. When this returns, it answers.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let Options { listen, folders: Folders { data, run }, config, config_dir } = options;
        allow_many_files();
        let environment = |name: &str| std::env::var(name).ok();
        let open_id = config.auth.open_id(environment)?;
        let users_source = config.auth.users(&config_dir, &data);
        let others = open_id.is_some() || users_source.is_used();
        let secrets = secret_files(&config, &config_dir, &users_source.path);
        let login = native_login(&config.auth, listen, others, environment)?;
        let trusted_proxies = Arc::new(config.server.trusted_proxies.clone());
        let believed = Arc::clone(&trusted_proxies);
        let edge = Edge::open(&config.server, &config.ui, &config_dir, move |address| {
            address.to_canonical().is_loopback() || believed.contains(address)
        })?;
        let (listener, address) = listen_on(listen).await?;
        let redirected = match config.server.tls.as_ref().and_then(|tls| tls.redirect_from) {
            Some(plain) => Some(listen_on(plain).await?.0),
            None => None,
        };
        let unusable = |error| StartError::Data { path: data.clone(), error };
        let lock = take_data_dir(&data)?;
        make_run_dir(&run).map_err(|error| StartError::Data { path: run.clone(), error })?;

        let key = SigningKey::load_or_create(&data.join(SIGNING_KEY))?;
        let auth = Arc::new(Authenticator::new(&key));
        let users = if config.auth.enable_native { LocalUsers::open(users_source)? } else { LocalUsers::none() };
        let database = config.database.choose(&data, &config_dir, environment).await?;
        for notice in &database.notices {
            tracing::warn!("{notice}");
        }
        let store = Store::open(&database.location).await?;
        let login_pages = open_id.iter().map(|settings| settings.api.origin().ascii_serialization());
        let other_sites = config.server.cors.origins.iter().map(|origin| origin.as_str().to_owned());
        let own_origins = login_pages.chain(other_sites).collect();
        let place_of_clients = match &open_id {
            Some(settings) => place(&settings.api),
            None => place_of_listener(address, edge.speaks_tls()),
        };
        let open_id = open_id.map(|settings| OpenId::new(settings, &key, store.clone())).transpose()?;
        let sources = reload::prepare(sources(config.clone(), config_dir.clone()), &config.plugins).await;
        let plugins = PluginHost::load(&config.plugins, &config_dir, &data.join("plugin-cache")).await;
        let plugins =
            plugins.map_err(|error| StartError::Plugin { config: config.file().map(Path::to_owned), error })?;
        let reloader = sources.start(plugins.clone());
        let decisions = DecisionLog::open(&config.decision_log, &data)
            .map_err(|error| StartError::Data { path: data.join(&config.decision_log.path), error })?;
        if let Some(log) = &decisions {
            plugins.log_decisions(log.clone());
        }
        // By its real name: the default is relative.
        let real = data.canonicalize().map_err(unusable)?;
        let real_run = run.canonicalize().map_err(|error| StartError::Data { path: run.clone(), error })?;
        // None of this is for the eyes of nodes.
        let mut hidden = if real_run.starts_with(&real) { vec![real.clone()] } else { vec![real.clone(), real_run] };
        hidden.extend(secrets.iter().filter_map(|file| file.canonicalize().ok()));
        let embedded = EmbeddedOptions { hidden, ..EmbeddedOptions::default() };
        let driver = choose::open(config.runtime, &config.containerlab, embedded, &real).await?;
        let publisher = Publisher::default();
        // Subscribed before the labs are opened: what became of them is news already.
        let notices = publisher.subscribe();
        let archive = Archive::new(data.join("logs"), config.logs.retention());
        let planning = Planning { capacity: config.capacity.clone(), warn_before: config.schedule.warn_before() };
        let checkpoints = (data.join("checkpoints"), config.checkpoints.options());
        let labs =
            Labs::open(store.clone(), Arc::clone(&driver), publisher, run, archive.clone(), planning, checkpoints)
                .await?;
        let shells = Shells::new(Arc::clone(&driver), labs.clone(), config.shell.options());

        let stats = Stats::new(labs.clone(), Arc::clone(&driver), config.stats.interval);

        let stop = CancellationToken::new();
        let captures = Captures::new(Arc::clone(&driver), config.capture.clone(), stop.clone());
        let capture_command = Arc::new(CommandLine::new(&config.capture, place_of_clients));
        let guide = Guide::open(&config.containerlab, &config_dir, &data, stop.clone());
        let transports = Transports::default();
        let commands = Arc::<CommandCounts>::default();
        let socket = socket::layer(
            Arc::clone(&auth),
            plugins.clone(),
            labs.clone(),
            shells.clone(),
            stats.clone(),
            notices,
            transports.clone(),
            Arc::clone(&commands),
            stop.clone(),
        );
        let open_shells = {
            let shells = shells.clone();
            Arc::new(move |user: &_| shells.count(user))
        };
        let native = login.as_ref().map_or_else(NativeLogin::disabled, |login| {
            NativeLogin::new(login.username.clone(), login.password.clone(), false).or_default(login.is_default)
        });
        let (all_shells, sessions) = (shells.clone(), transports.clone());
        let observed = Observed {
            commands,
            sessions: Arc::new(move || sessions.count()),
            shells: Arc::new(move || all_shells.total()),
            runtime: Arc::clone(&driver),
            edge: edge.figures(),
        };
        let api = Api {
            store: store.clone(),
            labs: labs.clone(),
            stats: stats.clone(),
            plugins,
            reloader: reloader.clone(),
            auth: Arc::clone(&auth),
            logins: Logins::new(native, users),
            open_id,
            trusted_proxies,
            own_origins,
            guide,
            captures,
            capture_command,
            open_shells,
            observed,
        };
        let routes = http::router(api, config.server.limits.body_bytes).merge(socket::contract::routes());
        let app = edge.around_routes(routes).layer(socket).layer(from_fn_with_state(transports, transport::watch));
        let app = app.layer(map_request(note_peer));
        let login_is_known = login.as_ref().is_some_and(|login| login.is_default);
        let app = if login_is_known { app.layer(from_fn(http::local::only)) } else { app };
        if login_is_known {
            tracing::info!(
                "nobody is configured to log in: whoever is on this machine can, as admin with password admin"
            );
        }
        let app = edge.around_all(app);
        let (speaks_tls, certificate) = (edge.speaks_tls(), edge.certificate());
        let serving = tokio::spawn(edge.serve(listener, redirected, app, stop.clone()));
        tracing::info!(%address, data = %data.display(), database = %database.location, runtime = driver.name(), "the server is up");
        Ok(Self {
            address,
            login,
            auth,
            reloader,
            labs,
            shells,
            driver,
            store,
            archive,
            decisions,
            stop,
            serving,
            speaks_tls,
            certificate,
            lock,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, as clients write it.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.speaks_tls { "https" } else { "http" }, self.address)
    }

    /// Has certificate and key read again; `None`: there are none.
    pub fn certificate(&self) -> Option<&CertificateReloader> {
        self.certificate.as_ref()
    }

    /// The native login, if there is one.
    pub fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    /// Keys of this server, for issuing tokens.
    pub fn auth(&self) -> &Authenticator {
        &self.auth
    }

    /// Puts other plugins in force.
    pub fn reloader(&self) -> &Reloader {
        &self.reloader
    }

    /// Ends the server and everything that can't outlive it.
    pub async fn shut_down(self) {
        tracing::info!("the server is shutting down");
        self.stop.cancel();
        // The labs are stored as they are now; the next server says what became of them.
        self.labs.close();
        self.shells.close_all().await;
        self.driver.shut_down().await;
        // Web sockets never end by themselves, and nobody needs them any more.
        let abort = self.serving.abort_handle();
        if tokio::time::timeout(DRAIN_TIMEOUT, self.serving).await.is_err() {
            abort.abort();
        }
        // What the runtime said at last is worth keeping too.
        self.archive.close().await;
        if let Some(log) = self.decisions {
            log.close().await;
        }
        self.store.close().await;
        // Last: whoever takes the folder next finds nobody at work in it.
        drop(self.lock);
    }
}

/// Where clients reach the REST API, as far as that is known: where logins are told to come back to.
fn place(api: &reqwest::Url) -> Place {
    Place { api: api.as_str().trim_end_matches('/').to_owned(), host: api.host_str().unwrap_or_default().to_owned() }
}

/// The same where nobody has said: the address that is listened on, or this machine's name if that is all of its addresses.
fn place_of_listener(address: SocketAddr, tls: bool) -> Place {
    let name = || nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let named = address.ip().is_unspecified().then(name).flatten();
    let (host, with_port) = match named {
        Some(name) => (name.clone(), format!("{name}:{}", address.port())),
        None => (address.ip().to_string(), address.to_string()),
    };
    Place { api: format!("{}://{with_port}/api", if tls { "https" } else { "http" }), host }
}

async fn listen_on(listen: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |error| StartError::Listen { address: listen, error };
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Tells the REST API, which knows nothing of connections, from which address a request came.
async fn note_peer(mut request: Request) -> Request {
    let connection = request.extensions().get::<ConnectInfo<Connection>>();
    if let Some(peer) = connection.and_then(|ConnectInfo(connection)| connection.peer()) {
        request.extensions_mut().insert(Peer(peer.ip()));
    }
    request
}

/// Lets this process have as many open files as it may. Each client is one, and services are often started with a soft
/// limit that is made for programs of another kind.
fn allow_many_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(soft, hard)| if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard) } else { Ok(()) });
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// The configuration file as far as plugins go, each time it is read again. Of the rest is said what needs a restart.
fn sources(running: Config, base_dir: PathBuf) -> Sources {
    let config_file = running.file().map(Path::to_owned);
    let read = move || {
        let Some(file) = running.file() else { return Ok(running.plugins.clone()) };
        let config = Config::read(file).map_err(|error| error.to_string())?;
        for key in running.needs_restart(&config) {
            tracing::warn!(file = %file.display(), key, "this change takes effect at the next start: only plugins are reloaded");
        }
        Ok(config.plugins)
    };
    Sources { config_file, base_dir, read: Box::new(read) }
}

/// The files that nodes have no business with, wherever the configuration has them; itself among them. They are
/// hidden as they are when the server starts: one that takes the place of another later on is seen where nodes see its folder.
fn secret_files(config: &Config, config_dir: &Path, users: &Path) -> Vec<PathBuf> {
    let tls = config.server.tls.iter().flat_map(|tls| [&tls.certificate, &tls.key]);
    let mut files: Vec<_> = tls.map(|file| config_dir.join(file)).collect();
    if let Some(database) = config.database.local_file.as_ref().filter(|file| !file.as_os_str().is_empty()) {
        // What SQLite has not put into the database yet is beside it.
        for end in ["", "-wal", "-shm", "-journal"] {
            let mut file = config_dir.join(database).into_os_string();
            file.push(end);
            files.push(file.into());
        }
    }
    files.extend(config.file().map(Path::to_owned));
    files.push(users.to_owned());
    files
}

/// Makes a folder that nobody else can read, unless it is there.
fn make_private(folder: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Makes the folder that labs are run from, which nobody else can read even if it was there: the files of topologies in it
/// are open to whoever gets as far. It is this server's alone, also where the configuration names one for several.
fn make_run_dir(run: &Path) -> io::Result<()> {
    make_private(run)?;
    let mode = std::fs::metadata(run)?.permissions().mode();
    if mode & 0o077 == 0 { Ok(()) } else { std::fs::set_permissions(run, Permissions::from_mode(0o700)) }
}

/// Makes the data folder, readable by nobody else, and keeps other servers out of it.
pub(crate) fn take_data_dir(data: &Path) -> Result<File, StartError> {
    let unusable = |error| StartError::Data { path: data.to_owned(), error };
    make_private(data).map_err(unusable)?;
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(data.join("lock"))
        .map_err(unusable)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(StartError::InUse(data.to_owned())),
        Err(std::fs::TryLockError::Error(error)) => Err(unusable(error)),
    }
}
