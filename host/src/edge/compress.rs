//! Which answers are compressed on their way out: those of REST and files of the web client that aren't there compressed.
//!
//! How much an answer shrinks tells something about what is in it. Where a secret is in it beside something that an
//! attacker may choose, that can be used to find it out letter by letter (BREACH). So what is under `/users`, where tokens
//! are given out, is never compressed, nor is anything that sets a cookie. Sockets aren't passed through here at all.

use std::path::Path;

use axum::extract::Request;
use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::Response;
use tower_http::CompressionLevel;
use tower_http::compression::predicate::{DefaultPredicate, Predicate, SizeAbove};
use tower_http::compression::{CompressionLayer, predicate};

/// Shortest answer that it pays for, in bytes: a shorter one is in one packet either way.
const WORTHWHILE: u64 = 1024;
/// Half of what the next level would save costs several times as much.
const LEVEL: i32 = 4;
/// Where tokens are given out.
const SECRETS: [&str; 2] = ["/users", "/api/users"];

/// What captures of packets are.
const CAPTURE: &str = crate::http::capture::CONTENT_TYPE;

type Rule = predicate::And<
    predicate::And<SizeAbove, DefaultPredicate>,
    fn(StatusCode, Version, &HeaderMap, &Extensions) -> bool,
>;

/// Compresses what is worth it and may be.
pub(super) fn layer() -> CompressionLayer<Rule> {
    let rule: fn(StatusCode, Version, &HeaderMap, &Extensions) -> bool = may_be_compressed;
    let rule = SizeAbove::new(WORTHWHILE).and(DefaultPredicate::new()).and(rule);
    CompressionLayer::new().quality(CompressionLevel::Precise(LEVEL)).compress_when(rule)
}

/// Endings of files that are compressed in themselves.
const PACKED_FILES: [&str; 7] = ["woff", "woff2", "png", "jpg", "webp", "gz", "br"];

/// Whether a file of so many bytes would be compressed on its way out, by the kind of it that its name tells.
pub(super) fn is_worthwhile(bytes: usize, path: &Path) -> bool {
    let is_packed = path.extension().is_some_and(|extension| PACKED_FILES.iter().any(|packed| extension == *packed));
    bytes as u64 > WORTHWHILE && !is_packed
}

fn may_be_compressed(_: StatusCode, _: Version, headers: &HeaderMap, _: &Extensions) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    // A capture is no file that is packed, but has to be there when it happens: compression would hold it back.
    let is_packed =
        ["font/woff", "application/zip", "application/gzip", "audio/", "video/", "application/octet-stream", CAPTURE]
            .iter()
            .any(|packed| kind.starts_with(packed));
    !is_packed && !headers.contains_key(header::SET_COOKIE)
}

/// Keeps answers that may hold secrets from [`layer`], and changes the tag of what that has compressed: it isn't the same
/// bytes any more. To be put around it.
pub(super) async fn spare_secrets(mut request: Request, next: Next) -> Response {
    let holds_secrets = SECRETS.iter().any(|path| {
        request.uri().path().strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    if holds_secrets {
        // Then there is nothing that the layer could choose.
        request.headers_mut().remove(header::ACCEPT_ENCODING);
    }
    let mut answer = next.run(request).await;
    let was_compressed = answer.headers().contains_key(header::CONTENT_ENCODING)
        && !answer.headers().contains_key(header::CONTENT_LENGTH);
    let tag = answer.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok());
    if was_compressed
        && let Some(weak) = tag.filter(|tag| !tag.starts_with("W/")).map(|tag| format!("W/{tag}"))
        && let Ok(weak) = HeaderValue::from_str(&weak)
    {
        answer.headers_mut().insert(header::ETAG, weak);
    }
    answer
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn;
    use axum::routing::get;

    use super::*;

    #[tokio::test]
    async fn what_may_hold_tokens_is_never_compressed() {
        let long = || async { "x".repeat(5000) };
        let with_cookie = || async { ([(header::SET_COOKIE, "a=b")], "x".repeat(5000)) };
        let packed = || async { ([(header::CONTENT_TYPE, "font/woff2"), (header::ETAG, "\"a\"")], "x".repeat(5000)) };
        let tagged = || async { ([(header::ETAG, "\"a\"")], "x".repeat(5000)) };
        let app = Router::new()
            .route("/labs", get(long))
            .route("/short", get(|| async { "x".repeat(500) }))
            .route("/usersx", get(tagged))
            .route("/users/login/refresh", get(long))
            .route("/api/users/login/refresh", get(long))
            .route("/cookie", get(with_cookie))
            .route("/font", get(packed))
            .route("/capture", get(|| async { ([(header::CONTENT_TYPE, CAPTURE)], "x".repeat(5000)) }))
            .layer(layer())
            .layer(from_fn(spare_secrets));
        for (path, expected) in [
            ("/labs", true),
            ("/usersx", true),
            ("/short", false),
            ("/users/login/refresh", false),
            ("/api/users/login/refresh", false),
            ("/cookie", false),
            ("/font", false),
            ("/capture", false),
        ] {
            let request = Request::builder().uri(path).header(header::ACCEPT_ENCODING, "gzip, br").body(Body::empty());
            let request = request.expect("a request");
            let answer = tower_service::Service::call(&mut app.clone(), request).await.expect("it can't fail");
            assert_eq!(answer.headers().contains_key(header::CONTENT_ENCODING), expected, "{path}");
            if let Some(tag) = answer.headers().get(header::ETAG) {
                assert_eq!(tag, if expected { "W/\"a\"" } else { "\"a\"" }, "{path}");
            }
        }
    }
}
