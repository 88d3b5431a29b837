//! The edge of the server: everything between the network and the routes.
//!
//! | file | owns |
//! |---|---|
//! | `config` | what can be said about it in the configuration |
//! | `serve` | accepting connections, limits of time and size on them |
//! | `admission` | how many connections there may be |
//! | `tls` | the certificate, and exchanging it |
//! | `origins` | pages of other sites: CORS, and sockets |
//! | `headers` | header fields that tell browsers to be careful |
//! | `bodies` | paths that are too long, bodies that come too slowly |
//! | `compress` | which answers are compressed |
//! | `site` | the web client, or a page of our own |
//!
//! `server` opens it, puts the routes in, and stops it. Nothing here knows what a route does, or who somebody is.
//!
//! A request passes, from the outside: header fields, length of the path and time of the body, CORS, sockets of other
//! sites, then what `server` puts in (sockets among it), compression, pages for browsers, the routes.

mod admission;
mod bodies;
mod compress;
pub mod config;
mod headers;
mod origins;
mod redirect;
mod serve;
mod site;
mod tls;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use self::admission::{Admission, Full};
pub use self::bodies::TooSlow;
use self::config::{LimitsConfig, UiConfig};
use self::headers::Headers;
pub use self::origins::{Origin, Origins};
use self::serve::Terms;
pub use self::site::{Site, UiError};
pub use self::tls::{CertificateReloader, Tls, TlsError, TlsReport};
use crate::config::ServerConfig;

/// Why the edge can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// The certificate or its key can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The folder of the web client can't be served.
    #[error(transparent)]
    Ui(#[from] UiError),
}

/// The edge of one server, before anybody is let in.
pub struct Edge {
    limits: LimitsConfig,
    headers: Headers,
    origins: Origins,
    site: Site,
    admission: Admission,
    tls: Option<Tls>,
    certificate: Option<CertificateReloader>,
}

/// Figures of the edge, for operators. Cheap to clone.
#[derive(Clone)]
pub struct EdgeFigures {
    /// Connections.
    pub admission: Admission,
    /// TLS, if it is spoken.
    pub tls: Option<Tls>,
}

impl Edge {
    /// Reads what it needs: certificate, key, web client. `base_dir` is what relative paths start from, and addresses that
    /// are `exempt` may have any number of connections.
    ///
    /// # Errors
    /// [`EdgeError`].
    pub fn open(
        server: &ServerConfig,
        ui: &UiConfig,
        base_dir: &Path,
        exempt: impl Fn(IpAddr) -> bool + Send + Sync + 'static,
    ) -> Result<Self, EdgeError> {
        let opened = server.tls.as_ref().map(|tls| Tls::open(tls, base_dir)).transpose()?;
        let (tls, certificate) = opened.unzip();
        let hsts_seconds = server.tls.as_ref().map_or(0, |tls| tls.hsts_seconds);
        Ok(Self {
            limits: server.limits.clone(),
            headers: Headers::new(&server.headers, hsts_seconds),
            origins: Origins::new(&server.cors.origins),
            site: Site::open(ui, base_dir)?,
            admission: Admission::new(&server.limits, exempt),
            tls,
            certificate,
        })
    }

    /// Whether TLS is spoken.
    pub fn speaks_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Has certificate and key read again; `None`: there are none.
    pub fn certificate(&self) -> Option<CertificateReloader> {
        self.certificate.clone()
    }

    /// What operators may want to know.
    pub fn figures(&self) -> EdgeFigures {
        EdgeFigures { admission: self.admission.clone(), tls: self.tls.clone() }
    }

    /// The routes with what belongs right around them: the web client and compression. Sockets go around that.
    pub fn around_routes(&self, routes: Router) -> Router {
        routes
            .fallback_service(axum::routing::any(site::fallback).with_state(self.site.clone()))
            .layer(from_fn_with_state(self.site.clone(), site::pages_for_browsers))
            .layer(compress::layer())
            .layer(from_fn(compress::spare_secrets))
    }

    /// Everything that is served with what belongs around all of it.
    pub fn around_all(&self, app: Router) -> Router {
        let app = app.layer(from_fn_with_state(self.origins.clone(), origins::guard_sockets));
        let app = match self.origins.cors() {
            Some(cors) => app.layer(cors),
            None => app,
        };
        app.layer(from_fn_with_state(self.limits.clone(), bodies::bound))
            .layer(from_fn_with_state(self.headers.clone(), headers::add))
    }

    /// Serves until `stop` is cancelled, and returns when the last connection has ended. Whoever comes to `redirected`,
    /// without TLS, is sent to where `listener` listens.
    pub async fn serve(
        self,
        listener: TcpListener,
        redirected: Option<TcpListener>,
        app: Router,
        stop: CancellationToken,
    ) {
        let port = listener.local_addr().map_or(443, |address: SocketAddr| address.port());
        let terms = Terms { limits: self.limits, admission: self.admission, tls: self.tls, stop };
        let plain = Terms { tls: None, ..terms.clone() };
        let redirecting = async {
            if let Some(listener) = redirected {
                serve::serve(listener, plain, redirect::ToTls { port }).await;
            }
        };
        tokio::join!(serve::serve(listener, terms, app), redirecting);
    }
}

/// What is in the configuration about the edge is used when the server starts, and only then; files that it names are
/// looked at again.
impl std::fmt::Debug for Edge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Edge").field("limits", &self.limits).field("site", &self.site).finish_non_exhaustive()
    }
}
