//! What is at `/` when no folder of a web client is configured: a page that says what this is, and where to go on.
//!
//! Everything that the program carries for browsers is listed in [`FILES`]; a larger page goes there, each file with its
//! path.

use axum::body::Bytes;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// A file within the program.
struct File {
    path: &'static str,
    kind: &'static str,
    content: &'static [u8],
}

const FILES: &[File] =
    &[File { path: "/", kind: "text/html; charset=utf-8", content: include_bytes!("embedded/index.html") }];

/// The answer at a path; `None`: there is nothing. Programs get JSON at `/`.
pub(super) fn answer(path: &str, wants_html: bool) -> Option<Response> {
    let file = FILES.iter().find(|file| file.path == path)?;
    if path == "/" && !wants_html {
        let about = json!({ "payload": {
            "name": "antimony-host",
            "api": "/api",
            "sockets": "/socket.io",
            "contract": "/asyncapi.yaml",
            "ready": "/readyz",
        }});
        return Some(([(header::VARY, "accept")], axum::Json(about)).into_response());
    }
    let fields = [(header::CONTENT_TYPE, file.kind), (header::CACHE_CONTROL, "no-cache"), (header::VARY, "accept")];
    Some((fields, Bytes::from_static(file.content)).into_response())
}
