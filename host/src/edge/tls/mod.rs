//! TLS with a certificate of this server's own, read from two files, and exchanged while the server runs.
//!
//! `certificate` reads the files and says what is wrong with them; `reload` looks whether they have changed. What is in
//! force is one pair, which each new connection takes: those that are open stay on the one that they began with.

mod certificate;
mod reload;
mod validity;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

pub use self::certificate::TlsError;
use self::certificate::{Files, Pair};
pub use self::reload::CertificateReloader;
use super::config::TlsConfig;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// TLS as this server speaks it. Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    pair: ArcSwap<Pair>,
    state: Mutex<State>,
    failures: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    reloads: u64,
    failed_at: Option<Timestamp>,
}

/// How things stand with the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsReport {
    /// From when on the certificate in force counts no more.
    pub not_after: Timestamp,
    /// How often another one was put in force.
    pub reloads: u64,
    /// When the files were found to hold something that can't be used; `None`: they hold what is in force.
    pub failed_at: Option<Timestamp>,
    /// Handshakes that failed or took too long.
    pub failures: u64,
}

impl TlsReport {
    /// How many days the certificate in force counts still; negative when it doesn't any more.
    pub fn days_left(&self) -> f64 {
        (self.not_after - Timestamp::now()).total(jiff::Unit::Second).unwrap_or_default() / 86_400.0
    }
}

impl Tls {
    /// Reads the files that `config` names, relative to `base_dir`. The second part exchanges them later on.
    ///
    /// # Errors
    /// [`TlsError`], which says what is wrong with which file.
    pub fn open(config: &TlsConfig, base_dir: &Path) -> Result<(Self, CertificateReloader), TlsError> {
        let provider = provider();
        let files = Files { certificate: base_dir.join(&config.certificate), key: base_dir.join(&config.key) };
        let pair = files.read(&provider)?;
        pair.warn();
        let shared = Arc::new(Shared {
            pair: ArcSwap::from_pointee(pair),
            state: Mutex::default(),
            failures: AtomicU64::new(0),
        });
        let resolver = Arc::new(Resolver(Arc::clone(&shared)));
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .expect("the provider has suites for both")
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        let tls = Self { acceptor: TlsAcceptor::from(Arc::new(server)), shared };
        let reloader = CertificateReloader::start(tls.clone(), files, provider);
        Ok((tls, reloader))
    }

    /// Begins TLS on a connection.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.acceptor.accept(stream).await
    }

    pub(super) fn count_failure(&self) {
        self.shared.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// How things stand.
    pub fn report(&self) -> TlsReport {
        let state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        TlsReport {
            not_after: self.shared.pair.load().not_after,
            reloads: state.reloads,
            failed_at: state.failed_at,
            failures: self.shared.failures.load(Ordering::Relaxed),
        }
    }

    fn put_in_force(&self, pair: Pair) {
        pair.warn();
        self.shared.pair.store(Arc::new(pair));
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.reloads += 1;
        state.failed_at = None;
    }

    fn found_unusable(&self, failed: bool) {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.failed_at = failed.then(Timestamp::now);
    }
}

/// Hands out the pair that is in force.
#[derive(Debug)]
struct Resolver(Arc<Shared>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.pair.load().key))
    }
}
