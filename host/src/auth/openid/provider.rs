//! The provider: its addresses and keys, learned when they are first needed, and the requests to it.
//!
//! A provider that is down when the server starts is asked again, by a task and whenever somebody wants to log in. What was
//! learned is used for an hour and, while the provider doesn't answer, for longer; keys are learned anew as soon as a token
//! is signed with one that isn't known.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreClaimName, CoreClaimType, CoreClientAuthMethod, CoreErrorResponseType,
    CoreGenderClaim, CoreGrantType, CoreJsonWebKey, CoreJweContentEncryptionAlgorithm, CoreJweKeyManagementAlgorithm,
    CoreJwsSigningAlgorithm, CoreResponseMode, CoreResponseType, CoreRevocableToken, CoreRevocationErrorResponse,
    CoreSubjectIdentifierType, CoreTokenIntrospectionResponse, CoreTokenType,
};
use openidconnect::{
    AdditionalClaims, AdditionalProviderMetadata, AsyncHttpClient, AuthType, ClientId, ClientSecret,
    EmptyExtraTokenFields, EndpointMaybeSet, EndpointNotSet, EndpointSet, HttpRequest, HttpResponse, IdTokenFields,
    IssuerUrl, ProviderMetadata, RedirectUrl, StandardErrorResponse, StandardTokenResponse,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::OpenIdError;
use crate::auth::config::OpenIdSettings;

/// How long a request to the provider may take; people wait for it.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection to it may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest answer of it that is read, in bytes.
const MAX_ANSWER: usize = 1 << 20;
/// What was learned is learned anew after this.
const LEARN_EVERY: Duration = Duration::from_secs(3600);
/// So soon after it didn't answer, it isn't asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// Claims besides the standard ones, all of them: which names groups is up to the configuration.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct OtherClaims {
    #[serde(flatten)]
    pub(super) all: HashMap<String, Value>,
}

impl AdditionalClaims for OtherClaims {}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct OtherMetadata {
    revocation_endpoint: Option<String>,
}

impl AdditionalProviderMetadata for OtherMetadata {}

type Metadata = ProviderMetadata<
    OtherMetadata,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;

/// The claims of an ID token.
pub(super) type IdClaims = openidconnect::IdTokenClaims<OtherClaims, CoreGenderClaim>;
/// What the provider says of somebody when it is asked.
pub(super) type UserInfo = openidconnect::UserInfoClaims<OtherClaims, CoreGenderClaim>;
type TokenFields = IdTokenFields<
    OtherClaims,
    EmptyExtraTokenFields,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
>;
/// Tokens of the provider.
pub(super) type Tokens = StandardTokenResponse<TokenFields, CoreTokenType>;
/// Why the provider gave none.
pub(super) type TokenFailure =
    openidconnect::RequestTokenError<HttpError, StandardErrorResponse<CoreErrorResponseType>>;
type Client = openidconnect::Client<
    OtherClaims,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    Tokens,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// What was learned of the provider.
pub(super) struct Learned {
    pub(super) client: Client,
    /// Signatures that it makes and that say something: those that need no secret to be checked.
    pub(super) algorithms: Vec<CoreJwsSigningAlgorithm>,
    pub(super) has_user_info: bool,
    revocation: Option<String>,
    at: Instant,
}

/// The provider.
pub(super) struct Provider {
    pub(super) settings: OpenIdSettings,
    pub(super) http: Http,
    learned: ArcSwapOption<Learned>,
    /// One asks, and the others wait for what it learns.
    asking: tokio::sync::Mutex<()>,
    failed: Mutex<Option<(Instant, String)>>,
}

impl Provider {
    pub(super) fn new(settings: OpenIdSettings) -> Result<Self, reqwest::Error> {
        Ok(Self {
            settings,
            http: Http::new()?,
            learned: ArcSwapOption::empty(),
            asking: tokio::sync::Mutex::default(),
            failed: Mutex::default(),
        })
    }

    /// What is known of the provider, which is asked if need be.
    ///
    /// # Errors
    /// [`OpenIdError::Unreachable`].
    pub(super) async fn learned(&self) -> Result<Arc<Learned>, OpenIdError> {
        match self.learned.load_full() {
            Some(learned) if learned.at.elapsed() < LEARN_EVERY => Ok(learned),
            Some(stale) => Ok(self.learn(Some(&stale)).await.unwrap_or(stale)),
            None => self.learn(None).await,
        }
    }

    /// Asks the provider anew, unless something else than `known` has been learned meanwhile.
    pub(super) async fn learn(&self, known: Option<&Arc<Learned>>) -> Result<Arc<Learned>, OpenIdError> {
        let _asking = self.asking.lock().await;
        let news = self.learned.load_full().filter(|now| known.is_none_or(|known| !Arc::ptr_eq(known, now)));
        if let Some(news) = news {
            return Ok(news);
        }
        if let Some((at, why)) = &*self.failed.lock().unwrap_or_else(PoisonError::into_inner)
            && at.elapsed() < PAUSE
        {
            return Err(OpenIdError::Unreachable(why.clone()));
        }
        let result = self.ask().await;
        let failed = result.as_ref().err().map(|why| (Instant::now(), why.clone()));
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = failed;
        let learned = Arc::new(result.map_err(OpenIdError::Unreachable)?);
        self.learned.store(Some(Arc::clone(&learned)));
        Ok(learned)
    }

    async fn ask(&self) -> Result<Learned, String> {
        let settings = &self.settings;
        let issuer = IssuerUrl::new(settings.issuer.clone()).map_err(|error| error.to_string())?;
        let metadata = Metadata::discover_async(issuer, &self.http).await.map_err(|error| chain(&error))?;
        if metadata.token_endpoint().is_none() {
            return Err("it has no token endpoint".to_owned());
        }
        let methods = metadata.token_endpoint_auth_methods_supported();
        let by_body = methods.is_some_and(|methods| {
            !methods.contains(&CoreClientAuthMethod::ClientSecretBasic)
                && methods.contains(&CoreClientAuthMethod::ClientSecretPost)
        });
        let asymmetric = |algorithm: &&CoreJwsSigningAlgorithm| {
            use CoreJwsSigningAlgorithm as Alg;
            !matches!(algorithm, Alg::None | Alg::HmacSha256 | Alg::HmacSha384 | Alg::HmacSha512)
        };
        let algorithms = metadata.id_token_signing_alg_values_supported().iter().filter(asymmetric).cloned().collect();
        let has_user_info = metadata.userinfo_endpoint().is_some();
        let revocation = metadata.additional_metadata().revocation_endpoint.clone();
        let secret = settings.client_secret.as_ref().map(|secret| ClientSecret::new(secret.expose().to_owned()));
        let redirect = RedirectUrl::new(settings.redirect_url()).map_err(|error| error.to_string())?;
        let client = Client::from_provider_metadata(metadata, ClientId::new(settings.client_id.clone()), secret)
            .set_redirect_uri(redirect)
            .set_auth_type(if by_body { AuthType::RequestBody } else { AuthType::BasicAuth });
        Ok(Learned { client, algorithms, has_user_info, revocation, at: Instant::now() })
    }

    /// Tells the provider that a token isn't needed any more, where it can be told.
    pub(super) async fn revoke(&self, token: &str) -> Result<(), OpenIdError> {
        let learned = self.learned().await?;
        let Some(address) = &learned.revocation else { return Ok(()) };
        let settings = &self.settings;
        let mut form = vec![("token", token)];
        let mut request = self.http.0.post(address);
        match (&settings.client_secret, learned.client.auth_type()) {
            (Some(secret), AuthType::BasicAuth) => {
                // The standard has both encoded as in a form before they become part of the header.
                let encoded = |text: &str| -> String {
                    openidconnect::url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
                };
                request = request.basic_auth(encoded(&settings.client_id), Some(encoded(secret.expose())));
            }
            (Some(secret), _) => {
                form.extend([("client_id", settings.client_id.as_str()), ("client_secret", secret.expose())]);
            }
            (None, _) => form.push(("client_id", &settings.client_id)),
        }
        let body: String =
            openidconnect::url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = request.header(reqwest::header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(body);
        let answer = request.send().await.map_err(|error| OpenIdError::Unreachable(chain(&error)))?;
        if answer.status().is_success() {
            return Ok(());
        }
        Err(OpenIdError::Unreachable(format!("it doesn't revoke a token: {}", answer.status())))
    }
}

/// Speaks HTTP with the provider.
#[derive(Debug, Clone)]
pub(super) struct Http(reqwest::Client);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error(transparent)]
    Request(#[from] reqwest::Error),
    #[error("the answer is longer than {MAX_ANSWER} bytes")]
    TooLong,
    #[error(transparent)]
    Http(#[from] http::Error),
}

impl Http {
    fn new() -> Result<Self, reqwest::Error> {
        // Redirects are no part of these exchanges; followed, they could lead anywhere.
        let client = crate::client::http_builder().redirect(reqwest::redirect::Policy::none());
        Ok(Self(client.timeout(TIMEOUT).connect_timeout(CONNECT_TIMEOUT).build()?))
    }

    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let mut answer = self.0.execute(request.try_into()?).await?;
        let mut builder = http::Response::builder().status(answer.status());
        if let Some(headers) = builder.headers_mut() {
            headers.extend(answer.headers().clone());
        }
        let mut body = Vec::new();
        while let Some(part) = answer.chunk().await? {
            if body.len() + part.len() > MAX_ANSWER {
                return Err(HttpError::TooLong);
            }
            body.extend_from_slice(&part);
        }
        Ok(builder.body(body)?)
    }
}

impl<'c> AsyncHttpClient<'c> for Http {
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.exchange(request))
    }
}

/// An error with all that is behind it, in one line: those of HTTP clients say what matters last.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = error.source();
    }
    text.replace('\n', " ")
}
