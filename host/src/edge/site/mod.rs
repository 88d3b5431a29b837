//! What browsers get at `/`: a web client of others, or the page that the program carries.
//!
//! REST and the web client share one space of paths: the client's router has pages such as `/labs/…`, and so has REST,
//! whose routes answer at `/…` as well as at `/api/…`. Who asks decides:
//!
//! | request | answered by |
//! |---|---|
//! | `/api/…`, `/socket.io/…`, whoever asks | REST, the sockets; never a page |
//! | a browser goes to a page (`Sec-Fetch-Mode: navigate`, or else `Accept` names `text/html`) at a path of a resource that the client may have pages of ([`crate::http::RESOURCES`]) | the web client |
//! | any other path of REST | REST |
//! | the rest, if there is such a file | the file |
//! | the rest, if a browser goes to a page there and the last part of the path has no dot | the web client |
//! | what is left, such as a script that isn't there | 404 |
//!
//! So browsers get pages, programs get JSON, and a missing script is never answered with a page. Paths that browsers are
//! sent to on purpose (`/users/login/…`) and those for operators stay REST's. The program's own page has its routes in the
//! fragment, so that none of this concerns it: it is at `/`, where programs that ask for no HTML are told where things are.

mod cache;
mod confined;
mod embedded;
mod files;
mod folder;
mod policy;

use std::path::Path;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;

use self::embedded::Embedded;
use self::folder::Folder;
pub use self::folder::UiError;
use super::config::UiConfig;
use crate::http::{RESOURCES, refusals};

/// Says whether a browser goes to a page, fetches a script, or something else.
const FETCH_MODE: &str = "sec-fetch-mode";

/// Answers what REST and the sockets don't. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Site(Arc<Source>);

#[derive(Debug)]
enum Source {
    Folder(Folder),
    Embedded(Embedded),
}

impl Site {
    /// The web client in the folder that `config` names, relative to `base_dir`, or what the program has itself.
    ///
    /// # Errors
    /// [`UiError`], which says what is wrong with the folder.
    pub fn open(config: &UiConfig, base_dir: &Path) -> Result<Self, UiError> {
        let source = match &config.dir {
            Some(dir) => Source::Folder(Folder::open(base_dir.join(dir))?),
            None => Source::Embedded(Embedded::open()),
        };
        Ok(Self(Arc::new(source)))
    }

    /// The answer to a request; `None`: there is nothing at that path.
    async fn answer(&self, method: &Method, path: &str, headers: &HeaderMap) -> Option<Response> {
        if method != Method::GET && method != Method::HEAD {
            return None;
        }
        match &*self.0 {
            Source::Folder(folder) if path == "/" => folder.index(method, headers).await,
            Source::Folder(folder) => match folder.file(method, path, headers).await {
                Some(answer) => Some(answer),
                None if is_navigation(headers) && may_be_a_page(path) => folder.index(method, headers).await,
                None => None,
            },
            Source::Embedded(_) if path == "/" && !wants_html(headers) => Some(embedded::about()),
            Source::Embedded(page) => page.file(method, path, headers).await,
        }
    }
}

/// Whether a browser goes to a page, by its own words or, where it says nothing, as without TLS, by what it would like.
fn is_navigation(headers: &HeaderMap) -> bool {
    match headers.get(FETCH_MODE) {
        Some(mode) => mode == "navigate",
        None => wants_html(headers),
    }
}

/// Whether HTML is named among what the client would like. `*/*` doesn't count: any program says that.
fn wants_html(headers: &HeaderMap) -> bool {
    let kinds = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    kinds.flat_map(|kinds| kinds.split(',')).any(|kind| {
        let mut parts = kind.split(';').map(str::trim);
        parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("text/html")) && !parts.any(|part| part == "q=0")
    })
}

/// Whether a path is none of a file, as far as one can see.
fn may_be_a_page(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|last| !last.contains('.'))
}

/// Whether REST has this path for resources that the web client may have pages of as well.
fn is_of_resource(path: &str) -> bool {
    path.trim_start_matches('/').split('/').next().is_some_and(|first| RESOURCES.contains(&first))
}

/// Answers what no route does. To be the fallback of all of them.
pub(super) async fn fallback(State(site): State<Site>, request: Request) -> Response {
    // Without its body, which nobody may look at from two threads.
    let (head, _) = request.into_parts();
    let path = head.uri.path();
    let is_for_programs = path == "/api" || path.starts_with("/api/");
    if !is_for_programs && let Some(answer) = site.answer(&head.method, path, &head.headers).await {
        return answer;
    }
    refusals::no_route(path)
}

/// Gives browsers pages where REST has something for programs. To be put around the routes.
pub(super) async fn pages_for_browsers(State(site): State<Site>, request: Request, next: Next) -> Response {
    let is_page = matches!(*site.0, Source::Folder(_))
        && (request.method() == Method::GET || request.method() == Method::HEAD)
        && is_of_resource(request.uri().path())
        && is_navigation(request.headers());
    if !is_page {
        return next.run(request).await;
    }
    let (head, body) = request.into_parts();
    match site.answer(&head.method, head.uri.path(), &head.headers).await {
        Some(mut answer) => {
            // The same path has another answer for programs.
            answer.headers_mut().append(header::VARY, HeaderValue::from_static("accept, sec-fetch-mode"));
            answer
        }
        None => next.run(Request::from_parts(head, body)).await,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    #[test]
    fn browsers_that_go_to_a_page_are_told_from_everybody_else() {
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
        for (mode, accept, expected) in [
            (Some("navigate"), browser, true),
            (None, browser, true),
            (None, "application/json, TEXT/HTML;q=0.5", true),
            (Some("cors"), browser, false),
            (Some("no-cors"), "*/*", false),
            (None, "*/*", false),
            (None, "application/json", false),
            (None, "text/html;q=0", false),
            (None, "", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().expect("a value"));
            if let Some(mode) = mode {
                headers.insert(HeaderName::from_static(FETCH_MODE), mode.parse().expect("a value"));
            }
            assert_eq!(is_navigation(&headers), expected, "{mode:?} {accept}");
        }
    }

    #[test]
    fn paths_of_resources_and_of_pages_are_known() {
        assert!(is_of_resource("/labs") && is_of_resource("/topologies/7") && is_of_resource("/labs/"));
        assert!(!is_of_resource("/users/login/openid") && !is_of_resource("/labsx") && !is_of_resource("/"));
        assert!(!is_of_resource("/metrics") && !is_of_resource("/api/labs"));
        assert!(may_be_a_page("/editor") && may_be_a_page("/a.b/c") && !may_be_a_page("/assets/x.js"));
    }
}
