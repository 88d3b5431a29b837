//! Header fields that tell browsers to be careful, on every answer.
//!
//! There are two policies for pages. One is made for the web client as it is built (Vite, React, an editor whose workers
//! come from files or blobs): its own scripts and workers, styles in place, pictures and fonts in place, and connections to
//! this server alone. Scripts that a page has in place are let through one by one, by their hash (`site::policy`). The other
//! is for the page that the program carries, and begins with nothing: whatever that page needs is named.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;

use super::config::HeadersConfig;
use super::serve::OverTls;

const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");

/// The policy of the program's own page, up to who may show it in a frame. Its scripts can't make markup out of text, since
/// no policy for that is allowed. Styles in place are what its terminals need: xterm.js measures the font and then writes
/// `style` elements for it and for the colours, and `style` attributes for those that a program mixed itself.
const OWN_PAGE: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self'; \
                        font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
                        require-trusted-types-for 'script'; trusted-types 'none'";

/// What the page of an answer is, where its policy depends on that. An extension of answers.
#[derive(Debug, Clone)]
pub(super) enum Page {
    /// The one that the program carries.
    Own,
    /// A web client's, with the hashes of what scripts it has in place, as sources of a policy.
    Client { inline_scripts: Vec<String> },
}

/// What is put on answers. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Headers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: HeadersConfig,
    /// Sources of `frame-ancestors`.
    ancestors: String,
    hsts: Option<HeaderValue>,
}

impl Headers {
    /// As configured; `hsts_seconds` is for how long browsers shall come back by TLS only.
    pub(super) fn new(config: &HeadersConfig, hsts_seconds: u64) -> Self {
        let ancestors: Vec<_> = config.frame_ancestors.iter().map(ToString::to_string).collect();
        let ancestors = if ancestors.is_empty() { "'none'".to_owned() } else { ancestors.join(" ") };
        let hsts = (hsts_seconds > 0).then(|| HeaderValue::from_str(&format!("max-age={hsts_seconds}")).ok()).flatten();
        Self(Arc::new(Inner { config: config.clone(), ancestors, hsts }))
    }

    /// The policy of a page; `None`: there is none.
    fn policy(&self, page: Option<&Page>) -> Option<String> {
        match self.0.config.content_security_policy.as_deref() {
            Some("") => return None,
            Some(own) => return Some(own.to_owned()),
            None => {}
        }
        let sources = match page {
            Some(Page::Own) => OWN_PAGE.to_owned(),
            Some(Page::Client { inline_scripts }) => client_policy(inline_scripts),
            None => client_policy(&[]),
        };
        Some(format!("{sources}; frame-ancestors {}", self.0.ancestors))
    }

    fn put(&self, answer: &mut Response, tls: bool) {
        if tls && let Some(hsts) = &self.0.hsts {
            set(answer.headers_mut(), header::STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
        if !self.0.config.security {
            return;
        }
        let page = answer.extensions().get::<Page>();
        let policy = if is_page(answer.headers()) { self.policy(page) } else { None };
        let headers = answer.headers_mut();
        if let Some(policy) = policy.and_then(|policy| HeaderValue::from_str(&policy).ok()) {
            set(headers, header::CONTENT_SECURITY_POLICY, policy);
        }
        for (name, value) in [
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "same-origin"),
            (OPENER_POLICY, "same-origin"),
            (RESOURCE_POLICY, "same-origin"),
            (PERMISSIONS_POLICY, "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
        ] {
            set(headers, name, HeaderValue::from_static(value));
        }
        // It can't name sites; where some are named, only the policy can say so.
        if self.0.config.frame_ancestors.is_empty() {
            set(headers, header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        }
    }
}

/// The policy of a web client with these scripts in place, up to who may show it in a frame.
fn client_policy(inline_scripts: &[String]) -> String {
    let mut script = "'self'".to_owned();
    if !inline_scripts.is_empty() {
        // Without the first of these, hashes don't count for handlers of events, such as `onload="…"`.
        script.push_str(" 'unsafe-hashes'");
    }
    for hash in inline_scripts {
        script.push(' ');
        script.push_str(hash);
    }
    format!(
        "default-src 'self'; script-src {script}; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src \
         'self' data:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'"
    )
}

/// What an answer says already is left as it is.
fn set(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    headers.entry(name).or_insert(value);
}

/// Whether a browser would run scripts of it if it were shown by itself.
fn is_page(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    ["text/html", "image/svg+xml", "application/xhtml+xml"].iter().any(|page| kind.starts_with(page))
}

/// Puts them on each answer. To be put around everything.
pub(super) async fn add(State(headers): State<Headers>, request: Request, next: Next) -> Response {
    let tls = request.extensions().get::<OverTls>().is_some();
    let mut answer = next.run(request).await;
    headers.put(&mut answer, tls);
    answer
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn answer(kind: &'static str, config: &HeadersConfig, tls: bool) -> HeaderMap {
        let mut answer = Response::new(Body::empty());
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        answer.extensions_mut().insert(Page::Client { inline_scripts: vec!["'sha256-x'".to_owned()] });
        Headers::new(config, 5).put(&mut answer, tls);
        answer.headers().clone()
    }

    #[test]
    fn pages_have_a_policy_and_the_rest_does_not_need_one() {
        let config = HeadersConfig::default();
        let page = answer("text/html; charset=utf-8", &config, true);
        let policy = page[header::CONTENT_SECURITY_POLICY].to_str().expect("text");
        assert!(policy.contains("script-src 'self' 'unsafe-hashes' 'sha256-x';"), "{policy}");
        assert!(policy.ends_with("frame-ancestors 'none'"), "{policy}");
        assert_eq!(page[header::STRICT_TRANSPORT_SECURITY], "max-age=5");
        let json = answer("application/json", &config, false);
        assert!(!json.contains_key(header::CONTENT_SECURITY_POLICY));
        assert!(!json.contains_key(header::STRICT_TRANSPORT_SECURITY), "only over our own TLS");
        for headers in [page, json] {
            assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
            assert_eq!(headers[header::X_FRAME_OPTIONS], "DENY");
            assert_eq!(headers[OPENER_POLICY], "same-origin");
        }
    }

    #[test]
    fn the_policy_and_all_of_it_can_be_changed_and_left_out() {
        let own = HeadersConfig { content_security_policy: Some("img-src *".to_owned()), ..HeadersConfig::default() };
        assert_eq!(answer("text/html", &own, false)[header::CONTENT_SECURITY_POLICY], "img-src *");
        let none = HeadersConfig { content_security_policy: Some(String::new()), ..HeadersConfig::default() };
        assert!(!answer("text/html", &none, false).contains_key(header::CONTENT_SECURITY_POLICY));
        let off = HeadersConfig { security: false, ..HeadersConfig::default() };
        assert_eq!(answer("text/html", &off, false).len(), 1, "the content type");
        let text = "frameAncestors: ['https://portal.example']";
        let framed: HeadersConfig = serde_saphyr::from_str(text).expect("is taken");
        let headers = answer("text/html", &framed, false);
        assert!(!headers.contains_key(header::X_FRAME_OPTIONS));
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().expect("text");
        assert!(policy.ends_with("frame-ancestors https://portal.example"), "{policy}");
    }
}
