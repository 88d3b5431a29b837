//! Files for browsers, wherever they lie: what a folder and the program's own page have in common.
//!
//! The file service of tower-http does ranges, conditions and files that are there compressed (`x.js.br`, `x.js.gz`); what
//! is added here is how long they may be kept, and what that service leaves open. Where they come from is its [`Backend`].

use std::io;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use axum::response::Response;
use tower_http::services::ServeDir;
use tower_http::services::fs::{Backend, DefaultServeDirFallback};

use super::cache;

/// The page that everything begins with.
pub(super) const INDEX: &str = "index.html";
/// The path that it is asked for by.
pub(super) const INDEX_PATH: &str = "/index.html";

/// The files of one source.
#[derive(Debug)]
pub(super) struct Files<B>(ServeDir<DefaultServeDirFallback, B>);

impl<B: Backend> Files<B> {
    pub(super) fn new(source: B) -> Self {
        let service = ServeDir::with_backend("", source)
            .append_index_html_on_directories(false)
            .precompressed_br()
            .precompressed_gzip();
        Self(service)
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
        Some(answer)
    }

    async fn ask(&self, method: &Method, path: &str, headers: &HeaderMap) -> Option<Response> {
        let mut request = Request::new(Body::empty());
        *request.method_mut() = method.clone();
        *request.uri_mut() = Uri::builder().path_and_query(path).build().ok()?;
        *request.headers_mut() = headers.clone();
        match self.0.clone().try_call(request).await {
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
