//! `/docs`: Swagger UI, which is a part of the program, on this server's own document.
//!
//! For everybody, as the document is. The page may load from this server alone and talk to nobody else.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use utoipa_swagger_ui::{Config, serve};

/// Relative, so that the page asks for it where it is itself: at the root, below `/api`, or behind a proxy.
const DOCUMENT: &str = "../openapi.json";
/// Scripts and requests are for this server alone. Its style sheets have pictures within, and its elements styles.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// For those who don't follow by themselves.
const MOVED: &str =
    "<!doctype html>\n<title>The REST API</title>\n<p>It is described at <a href=\"docs/\">docs/</a>.\n";

static CONFIG: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| {
    // Otherwise it would have a validator in the internet look at the document.
    let config = Config::new([DOCUMENT]).validator_url("none");
    Arc::new(config.deep_linking(true).display_request_duration(true).default_models_expand_depth(0).use_base_layout())
});

/// The page and its files, at `/docs/` and `/api/docs/`.
pub(in crate::http) fn routes() -> Router {
    let page = Router::new()
        // What the page loads is named beside it, so that its address has to end with a slash.
        .route("/docs", get(|| async { (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, "docs/")], Html(MOVED)) }))
        .route("/docs/", get(|| async { file("") }))
        .route("/docs/{*file}", get(|Path(name): Path<String>| async move { file(&name) }));
    Router::new().merge(page.clone()).nest("/api", page)
}

fn file(name: &str) -> Response {
    match serve(name, Arc::clone(&CONFIG)) {
        Ok(Some(file)) => {
            let headers: [(HeaderName, &str); 4] = [
                (header::CONTENT_TYPE, &file.content_type),
                (header::CACHE_CONTROL, "no-cache"),
                (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            ];
            (headers, file.bytes.into_owned()).into_response()
        }
        Ok(None) => super::super::ApiError::NoRoute(format!("/docs/{name}")).into_response(),
        Err(error) => {
            tracing::error!(%error, name, "the page of the API can't be shown");
            super::super::ApiError::Internal.into_response()
        }
    }
}
