//! The web client's built files, from a folder.
//!
//! `confined` opens them, the file service of tower-http does ranges, conditions and files that are there compressed
//! (`x.js.br`, `x.js.gz`); what is added here is how long they may be kept, and the policy that fits the page.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use axum::response::Response;
use tower_http::services::ServeDir;

use super::super::headers::InlineScripts;
use super::cache;
use super::confined::Confined;
use super::policy;

/// The page that everything begins with.
const INDEX: &str = "index.html";
/// Longest page that is looked through for scripts, in bytes.
const LONGEST_PAGE: u64 = 1 << 20;

/// Why the folder can't be served.
#[derive(Debug, thiserror::Error)]
pub enum UiError {
    /// There is no such folder, or no way into it.
    #[error("ui.dir: {path} can't be used: {error}; it should be the folder with the built files of the web client")]
    Unusable {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It has no page to begin with.
    #[error(
        "ui.dir: {path} has no {INDEX} that can be read ({error}): it should be the folder that the web client was \
             built into, such as its build or dist, not that of its sources"
    )]
    NoIndex {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

/// A folder with the files of a web client.
#[derive(Debug)]
pub(super) struct Folder {
    confined: Confined,
    files: ServeDir<tower_http::services::fs::DefaultServeDirFallback, Confined>,
}

impl Folder {
    /// Looks whether the folder is one that can be served.
    pub(super) fn open(path: PathBuf) -> Result<Self, UiError> {
        if let Err(error) = std::fs::read_dir(&path) {
            return Err(UiError::Unusable { path, error });
        }
        let confined = Confined::new(path.clone());
        if let Err(error) = confined.open_now(Path::new(INDEX)) {
            return Err(UiError::NoIndex { path, error });
        }
        let files = ServeDir::with_backend("", confined.clone())
            .append_index_html_on_directories(false)
            .precompressed_br()
            .precompressed_gzip();
        Ok(Self { confined, files })
    }

    /// The page that everything begins with, also for paths that only the client's router knows.
    pub(super) async fn index(&self, method: &Method, headers: &HeaderMap) -> Option<Response> {
        self.file(method, "/index.html", headers).await
    }

    /// The file at a path; `None`: there is none.
    pub(super) async fn file(&self, method: &Method, path: &str, headers: &HeaderMap) -> Option<Response> {
        let mut answer = self.ask(method, path, headers).await?;
        if !holds_if_range(headers, answer.headers()) {
            let mut whole = headers.clone();
            whole.remove(header::RANGE);
            answer = self.ask(method, path, &whole).await?;
        }
        answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(cache::control(path)));
        name_the_charset(answer.headers_mut());
        if path.trim_start_matches('/') == INDEX {
            answer.extensions_mut().insert(InlineScripts(self.scripts().await));
        }
        Some(answer)
    }

    async fn ask(&self, method: &Method, path: &str, headers: &HeaderMap) -> Option<Response> {
        let mut request = Request::new(Body::empty());
        *request.method_mut() = method.clone();
        *request.uri_mut() = Uri::builder().path_and_query(path).build().ok()?;
        *request.headers_mut() = headers.clone();
        match self.files.clone().try_call(request).await {
            Ok(answer) if answer.status() == StatusCode::NOT_FOUND => None,
            Ok(answer) => Some(answer.map(Body::new)),
            Err(error) => {
                if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::IsADirectory) {
                    tracing::warn!(path, %error, "a file of the web client can't be read");
                }
                None
            }
        }
    }

    /// What the page has in place, read anew each time: it may have been exchanged.
    async fn scripts(&self) -> Vec<String> {
        let confined = self.confined.clone();
        let read = tokio::task::spawn_blocking(move || {
            let mut page = String::new();
            confined.open_now(Path::new(INDEX))?.take(LONGEST_PAGE).read_to_string(&mut page)?;
            io::Result::Ok(policy::inline_scripts(&page))
        });
        read.await.ok().and_then(Result::ok).unwrap_or_default()
    }
}

/// Whether a part may be sent: `If-Range` asks for one only of the file that the client has the rest of.
fn holds_if_range(asked: &HeaderMap, answer: &HeaderMap) -> bool {
    let Some(condition) = asked.get(header::IF_RANGE) else { return true };
    let is_weak = condition.as_bytes().starts_with(b"W/");
    !is_weak && (answer.get(header::ETAG) == Some(condition) || answer.get(header::LAST_MODIFIED) == Some(condition))
}

/// All that builders write is UTF-8.
fn name_the_charset(headers: &mut HeaderMap) {
    let Some(kind) = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()) else { return };
    if kind.starts_with("text/") && !kind.contains("charset") {
        let named = HeaderValue::from_str(&format!("{kind}; charset=utf-8"));
        if let Ok(named) = named {
            headers.insert(header::CONTENT_TYPE, named);
        }
    }
}
