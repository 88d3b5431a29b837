//! The OpenAPI document of the REST API, put together from the handlers' own annotations, and the page that shows it.
//!
//! Every route is added to the router by `routes!`, which takes its path, method and description from the handler, so
//! that no route can be missing here. `http` builds the router and asks for the document; the command line prints it.
//! `failures` says how requests fail, `page` is for reading and trying in a browser.

mod envelopes;
mod failures;
pub(super) mod page;
mod values;

use std::sync::LazyLock;

use axum::http::header;
use axum::response::IntoResponse;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, ServerBuilder};
use utoipa::{PartialSchema, ToSchema};

pub(super) use self::failures::*;
pub(super) use self::values::*;
use super::cookies;

/// The document, as JSON for people to read as well.
pub static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    let mut document = super::routes().into_openapi();
    failures::complete(&mut document);
    envelopes::share(&mut document);
    document.to_pretty_json().expect("a document of texts and numbers is JSON")
});

/// What the document says of all routes.
const ABOUT: &str = "\
Collections hold topologies, and labs are topologies that run: with this API they are created, changed and read. What \
happens to labs and in them (deploying, destroying, logs, terminals) goes over Socket.IO, which `/asyncapi.yaml` describes.

**Answers.** A success is `{\"payload\": …}`, a failure `{\"code\": …, \"message\": …}` with the status of the failure. Every \
route answers at `/…` and at `/api/…`. A path that means nothing is 404 with code 5005, a method that a path doesn't have \
405 with code 5000. A body that doesn't come in time is 408, a path that is too long 414, both with code 5422. 504 is \
never sent. As long as a server has its default login, it answers requests to this machine's \
own names alone; all others are 403 with code 5403, and so are requests for a change from pages of other sites.

**Tokens.** An access token comes from a login, as the cookie `accessToken`, and is sent as that cookie or as \
`Authorization: Bearer …`. It is valid for 30 minutes. When a request answers 498, get another one from \
`/users/login/refresh`, with the cookie `authToken`; when that or any other request answers 401, log in again.

**Who may do what** is decided by the policy of the server. Lists hold what the caller may see; what they may not see \
answers like what isn't there.

**Texts** are UTF-8 without the character NUL. **Times** are those of RFC 3339, kept to the millisecond. Ids are texts \
without any meaning. Fields that a server doesn't know are passed over.";

/// Names of the groups of routes, and what they are about.
const TAGS: [(&str, &str); 6] = [
    ("users", "Logging in and out."),
    ("collections", "What topologies are gathered in, and who may add to it."),
    ("topologies", "Networks to be run, as containerlab describes them."),
    ("labs", "Topologies with a time to run at."),
    ("operators", "Health, figures and plugins of the server."),
    ("descriptions", "What this server understands, for programs."),
];

/// The document without any route.
pub(super) fn preamble() -> OpenApi {
    let license = LicenseBuilder::new().name(env!("CARGO_PKG_LICENSE")).identifier(Some(env!("CARGO_PKG_LICENSE")));
    let info = InfoBuilder::new()
        .title("antimony-host")
        .version(env!("CARGO_PKG_VERSION"))
        .license(Some(license.build()))
        .description(Some(ABOUT));
    let bearer = Http::builder()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some("An access token."))
        .build();
    let cookie = |name: &str, about: &str| {
        SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::with_description(name.to_owned(), about.to_owned())))
    };
    let components = ComponentsBuilder::new()
        .schema(FailureJson::name(), FailureJson::schema())
        .security_scheme("bearer", SecurityScheme::Http(bearer))
        .security_scheme("accessToken", cookie(cookies::ACCESS, "An access token, as a login sets it."))
        .security_scheme("refreshToken", cookie(cookies::REFRESH, "A refresh token, as a login sets it."));
    let either = ["bearer", "accessToken"].map(|scheme| SecurityRequirement::new(scheme, [] as [&str; 0]));
    // The first is what the page tries, and works behind a proxy that has a web client at the root.
    let servers = [("/api", "This server"), ("/", "The same")];
    OpenApiBuilder::new()
        .info(info)
        .servers(Some(servers.map(|(url, about)| ServerBuilder::new().url(url).description(Some(about)).build())))
        .tags(Some(TAGS.map(|(name, about)| TagBuilder::new().name(name).description(Some(about)).build())))
        .components(Some(components.build()))
        .security(Some(either))
        .build()
}

/// This document
///
/// OpenAPI 3.1, made from the program itself. `/docs` shows it for reading and trying.
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "openapi", tag = "descriptions", security(()),
    responses((status = 200, description = "The document.", content_type = "application/json", body = Object)),
)]
pub(super) async fn show() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str())
}
