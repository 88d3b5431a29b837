//! How a request can fail, as the OpenAPI document tells it.
//!
//! A handler names in its `#[utoipa::path]` what is particular to it: `responses(…, Fails<(Refused, NameTaken)>)`. What
//! every request with a token, a body or an id in its path can fail with is added by [`complete`], since it is the
//! extractors that fail there and no handler could forget them. That the statuses and codes are those of `error`, and that
//! none is missing, is held by tests against all traffic of the end-to-end tests.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use serde::Serialize;
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::schema::{AllOfBuilder, ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{ContentBuilder, OpenApi, PathItem, Ref, RefOr, Response, ResponseBuilder, Schema};
use utoipa::{IntoResponses, ToSchema};

/// What every failure says.
#[derive(Serialize, ToSchema)]
#[schema(as = Failure)]
pub(in crate::http) struct FailureJson {
    /// What went wrong, for programs. Each answer lists the codes it may have.
    #[schema(minimum = 1000, maximum = 5999)]
    pub(in crate::http) code: u16,
    /// What went wrong and what to do about it, a sentence for people.
    pub(in crate::http) message: String,
}

/// One way to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) struct Failure {
    /// The HTTP status.
    pub(in crate::http) status: u16,
    /// The code in the body.
    pub(in crate::http) code: u16,
    /// When this happens; a sentence.
    when: &'static str,
}

/// A type that stands for one way to fail.
pub(in crate::http) trait Kind {
    /// That way.
    const FAILURE: Failure;
}

macro_rules! failures {
    ($($name:ident: $status:literal, $code:literal, $when:literal;)*) => {
        $(
            #[doc = $when]
            pub(in crate::http) enum $name {}

            impl Kind for $name {
                const FAILURE: Failure = Failure { status: $status, code: $code, when: $when };
            }
        )*
    };
}

failures! {
    Credentials: 400, 1001, "The user name or the password is wrong.";
    NoNativeLogin: 400, 5000, "This server has no login by user name and password.";
    NoOpenId: 400, 5000, "This server has no login by OpenID Connect, or the login failed; the message says why.";
    OpenIdFailed: 400, 5000, "The provider of the login by OpenID Connect answers what makes no sense.";
    CollectionNameTaken: 400, 2001, "Another collection has that name.";
    TopologyNameTaken: 400, 3001, "Another topology of that collection has the name that the definition gives.";
    Definition: 400, 3003, "The definition can't be used; the message says where and why.";
    FilePathTaken: 400, 4001, "Another file of that topology has that path.";
    BadFilePath: 400, 4002, "A bind file can't have this path; the message says why.";
    InUse: 400, 5000, "Something depends on it as it is: what is in it, or a lab that runs.";
    NoInstance: 400, 5003, "The lab has no instance: it is to be deployed first.";
    NotNow: 400, 5000, "It runs, and nothing but its end can be changed; or what it would take is not free at its time, and the message says what is in the way.";
    NoRoom: 400, 5000, "What it would take is not free at its time; the message says what is in the way, and what would fit.";
    NotDone: 400, 5000, "It can't be done as things stand, or has failed; the message says why.";
    NotReloaded: 400, 5000, "The plugins can't be put in force; those before stay. The message says why.";
    LabNotRunning: 400, 5003, "The lab is not running.";
    NodeNotRunning: 400, 5004, "The node is not running.";
    NoCapture: 400, 5000, "Nothing can be captured there; the message says why.";
    NoSuchNode: 404, 5006, "The lab has no such node; the message names those that it has.";
    CaptureLimit: 429, 5000, "As many captures go on as may.";
    NoRuntime: 500, 5001, "The runtime failed; the message says how.";
    RuntimeGone: 503, 5001, "What runs the labs can't be reached at the moment, or the server is shutting down.";
    LogIn: 401, 5000, "There is no token, or the policy does not recognise its bearer: log in.";
    Refused: 403, 5403, "The policy refuses it; the message says which rule, and why.";
    NotAdmin: 403, 5403, "This is for administrators.";
    OtherSite: 403, 5403, "A page of another site asks for it.";
    NotFound: 404, 5005, "There is no such thing, or none that the caller may know of.";
    TooLarge: 413, 5422, "The body is longer than the server takes.";
    NotJson: 415, 5422, "The body is not said to be JSON by its content type.";
    Invalid: 422, 5422, "Something about the request is wrong; the message names the field.";
    TooManyLogins: 429, 5000, "Too many logins have failed, or too many try at once; `Retry-After` says when to try again.";
    Token: 498, 5000, "The access token has expired or is no access token: refresh it, and ask again.";
    Mistake: 500, 5000, "The server, its database or a plugin failed; the server's log says more.";
    DatabaseGone: 503, 5000, "The server's database can't be reached at the moment, or too many change the same at once, and nothing was done: try again.";
    RuntimeSilent: 503, 5001, "The runtime does not say it at the moment: try again.";
    StillLoggedIn: 503, 5000, "The server's database can't be reached: the cookies are cleared, but whoever has kept the refresh token can go on with it. Try again with that token.";
    ProviderGone: 503, 5000, "The provider of the login by OpenID Connect does not answer; `Retry-After` says when to try again.";
}

/// The failures of a handler: a tuple of types that each stand for one.
pub(in crate::http) struct Fails<T>(PhantomData<T>);

/// A tuple of [`Kind`]s.
pub(in crate::http) trait Several {
    /// All of them.
    fn all() -> Vec<Failure>;
}

macro_rules! several {
    ($($name:ident),+) => {
        impl<$($name: Kind),+> Several for ($($name,)+) {
            fn all() -> Vec<Failure> {
                vec![$($name::FAILURE),+]
            }
        }
    };
}

several!(A);
several!(A, B);
several!(A, B, C);
several!(A, B, C, D);
several!(A, B, C, D, E);
several!(A, B, C, D, E, F);
several!(A, B, C, D, E, F, G, H, I, J, K, L);

impl<T: Several> IntoResponses for Fails<T> {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut by_status = BTreeMap::<u16, Vec<Failure>>::new();
        for failure in T::all() {
            by_status.entry(failure.status).or_default().push(failure);
        }
        by_status.into_iter().map(|(status, failures)| (status.to_string(), response(&failures).into())).collect()
    }
}

/// What a status is answered with.
fn response(failures: &[Failure]) -> Response {
    let sentences = failures.iter().map(|failure| format!("`{}`: {}", failure.code, failure.when));
    let codes = failures.iter().map(|failure| failure.code);
    let code = ObjectBuilder::new().schema_type(SchemaType::Type(Type::Integer)).enum_values(Some(codes));
    let schema = AllOfBuilder::new()
        .item(Ref::from_schema_name(FailureJson::name()))
        .item(ObjectBuilder::new().schema_type(SchemaType::AnyValue).property("code", code));
    ResponseBuilder::new()
        .description(sentences.collect::<Vec<_>>().join("\n\n"))
        .content("application/json", ContentBuilder::new().schema(Some(Schema::from(schema.build()))).build())
        .build()
}

/// Adds to each operation what its extractors can fail with. What a handler says itself stays.
pub(super) fn complete(document: &mut OpenApi) {
    for operation in document.paths.paths.values_mut().flat_map(operations_mut) {
        let mut failures = vec![Mistake::FAILURE];
        // Without a word about it, a token is needed.
        if operation.security.is_none() {
            failures.extend([LogIn::FAILURE, Token::FAILURE]);
        }
        // Whoever asks is looked up, and so is what they ask for. What describes the server, or says how it is, needs no database.
        let is_user = operation.tags.iter().flatten().any(|tag| tag == "users");
        if operation.security.is_none() || is_user {
            failures.push(DatabaseGone::FAILURE);
        }
        if operation.request_body.is_some() {
            failures.extend([TooLarge::FAILURE, NotJson::FAILURE, Invalid::FAILURE]);
        }
        if has_id(operation) {
            failures.push(NotFound::FAILURE);
        }
        let responses = &mut operation.responses.responses;
        for failure in failures {
            responses.entry(failure.status.to_string()).or_insert_with(|| response(&[failure]).into());
        }
    }
}

fn has_id(operation: &Operation) -> bool {
    operation.parameters.iter().flatten().any(|parameter| match parameter {
        RefOr::T(parameter) => parameter.parameter_in == ParameterIn::Path,
        RefOr::Ref(_) => false,
    })
}

fn operations_mut(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    [get, put, post, delete, patch].into_iter().flatten()
}
