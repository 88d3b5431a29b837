//! Logins by OpenID Connect: the code flow with PKCE, state and nonce.
//!
//! ```text
//!  browser             this server                provider
//!     │  login/openid      │                         │
//!     ├───────────────────>│ begin: state, nonce, verifier
//!     │<───────────────────┤ sealed, in a cookie     │
//!     ├──────────────────────────────────────────────> logs in
//!     │  login/success     │                         │
//!     ├───────────────────>│ finish: code, verifier  │
//!     │                    ├────────────────────────>│ tokens, who it is
//!     │<───────────────────┤ own tokens, and a session
//!     │  login/refresh     │                         │
//!     ├───────────────────>│ refresh                 │
//!     │                    ├────────────────────────>│ who it is now
//! ```
//!
//! `provider` knows the provider, `pending` keeps logins under way, `person` makes somebody of what the provider says.
//!
//! What the provider gives for asking it anew stays here, sealed, in the store. Providers that hand out another refresh token
//! each time take a second use of the last one for theft and end everything; so one request at a time asks for a session, and
//! whoever else wants to know meanwhile, as tabs of a browser do, has the same answer. Each refresh asks: a person who is gone
//! at the provider gets no other access token, and while the provider doesn't answer nobody does, but no session is lost.

mod pending;
mod person;
mod provider;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use openidconnect::core::{CoreErrorResponseType, CoreResponseType};
use openidconnect::{
    AccessTokenHash, AuthenticationFlow, AuthorizationCode, ClaimsVerificationError, CsrfToken, Nonce,
    OAuth2TokenResponse as _, PkceCodeChallenge, PkceCodeVerifier, RefreshToken, RequestTokenError, Scope,
    SignatureVerificationError, SubjectIdentifier, TokenResponse as _, UserInfoError,
};
use serde::{Deserialize, Serialize};

use self::pending::PendingLogins;
pub use self::pending::{COOKIE_PREFIX, LIFETIME as PENDING_LIFETIME, cookie_name};
use self::person::Said;
pub use self::person::user_id;
use self::provider::{IdClaims, Learned, Provider, TokenFailure, Tokens, UserInfo, chain};
use super::config::OpenIdSettings;
use super::seal::Sealer;
use super::{Bearer, REFRESH_LIFETIME, SigningKey};
use crate::store::{Store, StoreError};
use crate::telemetry::Seldom;

/// How long to wait before a provider that was down when the server started is asked again: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// So often at most the log is told why the provider can't be reached.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// What is said of logins that fail: anybody can begin some, and end them wrongly.
static LOGINS_FAILED: Seldom = Seldom::new();

/// Why nobody is logged in, or goes on being so.
#[derive(Debug, thiserror::Error)]
pub enum OpenIdError {
    /// The provider doesn't answer, or not as providers do. Trying again later may help. Why that is names machines of the
    /// operator's, and is for the log.
    #[error("the OpenID provider can't be reached at the moment")]
    Unreachable(String),
    /// The provider sent somebody back without having logged them in.
    #[error("the OpenID provider did not log you in: {0}")]
    Refused(String),
    /// There is no such login under way in this browser.
    #[error(
        "this login was not begun in this browser, was begun under another address than the one it ended at, has been \
         used already, or took longer than {} minutes: begin it again",
        PENDING_LIFETIME / 60
    )]
    NotPending,
    /// The provider doesn't take the code for which it should give tokens.
    #[error("the OpenID provider does not take the code that you came back with; it may have expired: log in again")]
    Code,
    /// What the provider says isn't to be believed, or not about this login.
    #[error("what the OpenID provider says is not valid: {0}")]
    Invalid(String),
    /// The session has ended: here, or at the provider.
    #[error("the session has ended")]
    Over,
    /// It can't be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OpenIdError {
    /// The same for somebody else who waits for it, where that is possible.
    fn shared(&self) -> Option<Self> {
        match self {
            Self::Unreachable(why) => Some(Self::Unreachable(why.clone())),
            Self::Invalid(why) => Some(Self::Invalid(why.clone())),
            Self::Over => Some(Self::Over),
            Self::Refused(_) | Self::NotPending | Self::Code | Self::Store(_) => None,
        }
    }
}

/// Where to send somebody who wants to log in, and the cookie for them to bring back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// The address at the provider.
    pub url: String,
    /// Name of the cookie.
    pub cookie: String,
    /// Its value.
    pub value: String,
}

/// Somebody who has logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Who it is.
    pub bearer: Bearer,
    /// The id of their session, for [`OpenId::refresh`].
    pub session: String,
    /// The page that they want to go to.
    pub return_to: String,
}

/// What somebody comes back from the provider with.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Callback {
    /// For the provider, to give tokens for.
    pub code: Option<String>,
    /// Which login it is.
    pub state: Option<String>,
    /// Which provider it was, if it says so.
    pub iss: Option<String>,
    /// Why there is no code.
    pub error: Option<String>,
    /// The same in more words.
    pub error_description: Option<String>,
}

/// What is kept of a session.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Session {
    subject: String,
    /// Whose it is; another provider's are worth nothing.
    issuer: String,
    client_id: String,
    refresh_token: Option<String>,
    access_token: String,
}

/// The last answer about a session, and when it was asked for.
type Answer = Arc<tokio::sync::Mutex<Option<(Instant, Result<Bearer, OpenIdError>)>>>;

/// Sessions that are being asked about: one asks at a time, and those who wait meanwhile have the next answer together.
#[derive(Default)]
struct Asking(Mutex<HashMap<String, Answer>>);

impl Asking {
    /// The answer of `ask`, or one that was asked for after this came. Failures as well: with a provider that hangs, each of
    /// those who wait would otherwise wait for all before them.
    async fn about(
        &self,
        session: &str,
        ask: impl Future<Output = Result<Bearer, OpenIdError>>,
    ) -> Result<Bearer, OpenIdError> {
        let arrived = Instant::now();
        let answer = self.all().entry(session.to_owned()).or_default().clone();
        let result = {
            let mut answer = answer.lock().await;
            match &*answer {
                // It was asked for after this came, so it is as new as can be.
                Some((asked, Ok(bearer))) if *asked >= arrived => Ok(bearer.clone()),
                Some((asked, Err(error)))
                    if *asked >= arrived
                        && let Some(error) = error.shared() =>
                {
                    Err(error)
                }
                _ => {
                    let asked = Instant::now();
                    let result = ask.await;
                    let shared = match &result {
                        Ok(bearer) => Some(Ok(bearer.clone())),
                        Err(error) => error.shared().map(Err),
                    };
                    *answer = shared.map(|result| (asked, result));
                    result
                }
            }
        };
        let mut asking = self.all();
        drop(answer);
        // The last one tidies up: nobody else has it, and nobody can get it meanwhile.
        if asking.get(session).is_some_and(|answer| Arc::strong_count(answer) == 1) {
            asking.remove(session);
        }
        result
    }

    fn all(&self) -> std::sync::MutexGuard<'_, HashMap<String, Answer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs people in by one provider. Cheap to clone.
#[derive(Clone)]
pub struct OpenId(Arc<Inner>);

struct Inner {
    provider: Provider,
    pending: PendingLogins,
    sealer: Sealer,
    store: Store,
    asking: Asking,
    /// When the log was last told why the provider can't be reached.
    told: Mutex<Option<Instant>>,
}

impl std::fmt::Debug for OpenId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenId").field("issuer", &self.settings().issuer).finish_non_exhaustive()
    }
}

impl OpenId {
    /// By the provider of these settings, which is asked from now on until it answers. Sessions are kept in `store`.
    ///
    /// # Errors
    /// [`OpenIdError::Unreachable`], where this machine can't make requests at all.
    pub fn new(settings: OpenIdSettings, key: &SigningKey, store: Store) -> Result<Self, OpenIdError> {
        let provider = Provider::new(settings).map_err(|error| {
            tracing::error!(error = chain(&error), "this machine can't make requests to the OpenID provider");
            OpenIdError::Unreachable(chain(&error))
        })?;
        let inner = Arc::new(Inner {
            provider,
            pending: PendingLogins::new(key),
            sealer: Sealer::new(key, "session of OpenID Connect"),
            store,
            asking: Asking::default(),
            told: Mutex::default(),
        });
        tokio::spawn(get_to_know(Arc::downgrade(&inner)));
        Ok(Self(inner))
    }

    /// What it was made with.
    pub fn settings(&self) -> &OpenIdSettings {
        &self.0.provider.settings
    }

    /// What is known of the provider.
    async fn learned(&self) -> Result<Arc<Learned>, OpenIdError> {
        self.0.provider.learned().await.inspect_err(|error| self.tell(error))
    }

    fn unreachable(&self, why: String) -> OpenIdError {
        let error = OpenIdError::Unreachable(why);
        self.tell(&error);
        error
    }

    /// Tells the log why the provider can't be reached, now and then: anybody can have it asked.
    fn tell(&self, error: &OpenIdError) {
        let OpenIdError::Unreachable(why) = error else { return };
        let mut told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
            *told = Some(Instant::now());
            tracing::warn!(error = why, "the OpenID provider can't be reached, or doesn't answer as providers do");
        }
    }

    /// Begins a login that is to end at the page `return_to`.
    ///
    /// # Errors
    /// [`OpenIdError::Unreachable`].
    pub async fn begin(&self, return_to: &str) -> Result<Begun, OpenIdError> {
        let learned = self.learned().await?;
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let flow = AuthenticationFlow::<CoreResponseType>::AuthorizationCode;
        let scopes = self.settings().scopes.iter().cloned().map(Scope::new);
        let request = learned.client.authorize_url(flow, CsrfToken::new_random, Nonce::new_random).add_scopes(scopes);
        let (url, state, nonce) = request.set_pkce_challenge(challenge).url();
        let state = state.secret();
        let value = self.0.pending.keep(state, nonce.secret(), verifier.secret(), return_to, Timestamp::now());
        Ok(Begun { url: url.into(), cookie: cookie_name(state), value })
    }

    /// Ends a login. `cookie` finds a cookie by its name.
    ///
    /// # Errors
    /// [`OpenIdError`]; the login is over in any case.
    pub async fn finish(
        &self,
        callback: Callback,
        cookie: impl FnOnce(&str) -> Option<String>,
    ) -> Result<Finished, OpenIdError> {
        let state = callback.state.ok_or(OpenIdError::NotPending)?;
        let cookie = cookie(&cookie_name(&state)).ok_or(OpenIdError::NotPending)?;
        let pending = self.0.pending.take(&state, &cookie, Timestamp::now()).ok_or(OpenIdError::NotPending)?;
        if callback.iss.is_some_and(|issuer| issuer != self.settings().issuer) {
            return Err(OpenIdError::Invalid("it came from another provider".to_owned()));
        }
        if let Some(error) = callback.error {
            let words = callback.error_description.unwrap_or_default();
            if let Some(left_out) = LOGINS_FAILED.turn() {
                tracing::info!(error, description = words, left_out, "the OpenID provider did not log somebody in");
            }
            return Err(OpenIdError::Refused(short(if words.is_empty() { &error } else { &words })));
        }
        let code = callback.code.ok_or(OpenIdError::NotPending)?;
        let learned = self.learned().await?;
        let request = learned.client.exchange_code(AuthorizationCode::new(code));
        let request = request.map_err(|error| self.unreachable(error.to_string()))?;
        let request = request.set_pkce_verifier(PkceCodeVerifier::new(pending.verifier));
        let tokens: Tokens = request.request_async(&self.0.provider.http).await.map_err(|error| {
            if !is_invalid_grant(&error) {
                return self.unreachable(chain(&error));
            }
            if let Some(left_out) = LOGINS_FAILED.turn() {
                tracing::warn!(error = chain(&error), left_out, "the OpenID provider gives no tokens for a code");
            }
            OpenIdError::Code
        })?;
        let nonce = Nonce::new(pending.nonce);
        let claims = self.claims(&learned, &tokens, Some(&nonce)).await?;
        let claims = claims.ok_or_else(|| OpenIdError::Invalid("it gives no ID token".to_owned()))?;
        let said = Said::by_token(&claims, self.settings());
        let subject = claims.subject().clone();
        let bearer = self.person(&learned, &tokens, &subject, said).await?;
        let session = uuid::Uuid::new_v4().to_string();
        let kept = Session {
            subject: subject.to_string(),
            issuer: self.settings().issuer.clone(),
            client_id: self.settings().client_id.clone(),
            refresh_token: tokens.refresh_token().map(|token| token.secret().clone()),
            access_token: tokens.access_token().secret().clone(),
        };
        let expires = Timestamp::now().saturating_add(REFRESH_LIFETIME).unwrap_or(Timestamp::MAX);
        self.0.store.insert_session(&session, &self.sealed(&session, &kept), expires).await?;
        Ok(Finished { bearer, session, return_to: pending.return_to })
    }

    /// Asks the provider anew who somebody is.
    ///
    /// # Errors
    /// [`OpenIdError::Over`]: they have to log in again; [`OpenIdError::Unreachable`]: it may help to try again.
    pub async fn refresh(&self, session: &str) -> Result<Bearer, OpenIdError> {
        self.0.asking.about(session, self.ask(session)).await
    }

    async fn ask(&self, id: &str) -> Result<Bearer, OpenIdError> {
        let sealed = self.0.store.session(id).await?.ok_or(OpenIdError::Over)?;
        let kept = self.0.sealer.open(&sealed, id).and_then(|text| serde_json::from_str::<Session>(&text).ok());
        let settings = self.settings();
        let kept = kept.filter(|kept| kept.issuer == settings.issuer && kept.client_id == settings.client_id);
        let Some(mut kept) = kept else { return self.over(id).await };
        let learned = self.learned().await?;
        let subject = SubjectIdentifier::new(kept.subject.clone());
        let mut said = Said::default();
        if let Some(token) = kept.refresh_token.clone() {
            let token = RefreshToken::new(token);
            let request = learned.client.exchange_refresh_token(&token);
            let request = request.map_err(|error| self.unreachable(error.to_string()))?;
            let tokens = match request.request_async(&self.0.provider.http).await {
                Ok(tokens) => tokens,
                Err(error) if is_invalid_grant(&error) => {
                    tracing::info!(subject = kept.subject, "the OpenID provider has ended somebody's session");
                    return self.over(id).await;
                }
                Err(error) => return Err(self.unreachable(chain(&error))),
            };
            // First of all: the one before may be worth nothing any more.
            kept.access_token.clone_from(tokens.access_token().secret());
            if let Some(token) = tokens.refresh_token() {
                kept.refresh_token = Some(token.secret().clone());
            }
            self.0.store.update_session(id, &self.sealed(id, &kept)).await?;
            if let Some(claims) = self.claims(&learned, &tokens, None).await? {
                if *claims.subject() != subject {
                    return Err(OpenIdError::Invalid("it speaks of somebody else".to_owned()));
                }
                said = Said::by_token(&claims, settings);
            }
        } else if !learned.has_user_info {
            return self.over(id).await;
        }
        match self.user_info(&learned, &kept.access_token, &subject).await {
            Err(OpenIdError::Over) => self.over(id).await,
            Err(error) => Err(error),
            Ok(info) => {
                let said = info.map_or_else(Said::default, |info| Said::by_provider(&info, settings)).or(said);
                Ok(said.bearer(&kept.subject, settings))
            }
        }
    }

    /// Forgets a session that has ended at the provider.
    async fn over(&self, id: &str) -> Result<Bearer, OpenIdError> {
        self.0.store.delete_session(id).await?;
        Err(OpenIdError::Over)
    }

    /// Ends a session, here at once, and at the provider as soon as it can be told.
    ///
    /// # Errors
    /// [`StoreError`]; then it goes on.
    pub async fn end(&self, id: &str) -> Result<(), StoreError> {
        let sealed = self.0.store.session(id).await?;
        self.0.store.delete_session(id).await?;
        let kept = sealed.and_then(|sealed| self.0.sealer.open(&sealed, id));
        let Some(kept) = kept.and_then(|text| serde_json::from_str::<Session>(&text).ok()) else { return Ok(()) };
        let inner = Arc::clone(&self.0);
        // Nobody waits for it: the browser has been told already.
        tokio::spawn(async move {
            let token = kept.refresh_token.unwrap_or(kept.access_token);
            if let Err(error) = inner.provider.revoke(&token).await {
                let error = match error {
                    OpenIdError::Unreachable(why) => why,
                    error => error.to_string(),
                };
                tracing::warn!(error, "the OpenID provider could not be told that somebody has logged out");
            }
        });
        Ok(())
    }

    fn sealed(&self, id: &str, session: &Session) -> String {
        let text = serde_json::to_string(session).expect("texts are always JSON");
        self.0.sealer.seal(&text, id)
    }

    /// The claims of the ID token, once it has been checked; `None`: there is no ID token. With another key than the ones
    /// that are known, the provider is asked for its keys anew.
    async fn claims(
        &self,
        learned: &Arc<Learned>,
        tokens: &Tokens,
        nonce: Option<&Nonce>,
    ) -> Result<Option<IdClaims>, OpenIdError> {
        match claims(learned, tokens, nonce) {
            Err(ClaimsVerificationError::SignatureVerification(
                SignatureVerificationError::NoMatchingKey
                | SignatureVerificationError::CryptoError(_)
                | SignatureVerificationError::AmbiguousKeyId(_),
            )) => {
                tracing::info!("the OpenID provider uses other keys; asking for them");
                let learned = self.0.provider.learn(Some(learned)).await.inspect_err(|error| self.tell(error))?;
                claims(&learned, tokens, nonce)
            }
            result => result,
        }
        .map_err(|error| {
            tracing::warn!(error = chain(&error), "an ID token is not valid");
            OpenIdError::Invalid(chain(&error))
        })
    }

    async fn person(
        &self,
        learned: &Learned,
        tokens: &Tokens,
        subject: &SubjectIdentifier,
        said: Said,
    ) -> Result<Bearer, OpenIdError> {
        let info = self.user_info(learned, tokens.access_token().secret(), subject).await;
        let info = info.map_err(|error| match error {
            OpenIdError::Over => OpenIdError::Invalid("it doesn't take the access token that it gave".to_owned()),
            error => error,
        })?;
        let settings = self.settings();
        let asked = info.map_or_else(Said::default, |info| Said::by_provider(&info, settings));
        Ok(asked.or(said).bearer(subject.as_str(), settings))
    }

    /// What the provider says of somebody; `None`: it can't be asked. [`OpenIdError::Over`]: it doesn't take the token.
    async fn user_info(
        &self,
        learned: &Learned,
        access_token: &str,
        subject: &SubjectIdentifier,
    ) -> Result<Option<UserInfo>, OpenIdError> {
        if !learned.has_user_info {
            return Ok(None);
        }
        let token = openidconnect::AccessToken::new(access_token.to_owned());
        let request = learned.client.user_info(token, Some(subject.clone()));
        let request = request.map_err(|error| self.unreachable(error.to_string()))?;
        let info = request.request_async(&self.0.provider.http).await;
        info.map(Some).map_err(|error| {
            let told = match &error {
                UserInfoError::Response(status, ..) if matches!(status.as_u16(), 401 | 403) => OpenIdError::Over,
                UserInfoError::ClaimsVerification(error) => OpenIdError::Invalid(chain(error)),
                error => return self.unreachable(chain(error)),
            };
            tracing::warn!(error = chain(&error), "the OpenID provider doesn't say who somebody is");
            told
        })
    }
}

/// The claims of the ID token, if there is one. A refreshed one needs no nonce.
fn claims(
    learned: &Learned,
    tokens: &Tokens,
    nonce: Option<&Nonce>,
) -> Result<Option<IdClaims>, ClaimsVerificationError> {
    let Some(token) = tokens.id_token() else { return Ok(None) };
    let verifier = learned.client.id_token_verifier().set_allowed_algs(learned.algorithms.clone());
    let claims = match nonce {
        Some(nonce) => token.claims(&verifier, nonce)?,
        None => token.claims(&verifier, |_: Option<&Nonce>| Ok(()))?,
    };
    if let Some(expected) = claims.access_token_hash() {
        let failed = ClaimsVerificationError::SignatureVerification;
        let (algorithm, key) = (token.signing_alg().map_err(failed)?, token.signing_key(&verifier).map_err(failed)?);
        let actual = AccessTokenHash::from_token(tokens.access_token(), algorithm, key);
        if actual.map_err(|error| ClaimsVerificationError::Other(error.to_string()))? != *expected {
            return Err(ClaimsVerificationError::Other("it came with another access token".to_owned()));
        }
    }
    Ok(Some(claims.clone()))
}

/// Whether the provider doesn't take the code, or refresh token, any more.
fn is_invalid_grant(error: &TokenFailure) -> bool {
    matches!(error, RequestTokenError::ServerResponse(said) if *said.error() == CoreErrorResponseType::InvalidGrant)
}

/// What somebody else's server or a link says, cut down to what can be shown.
fn short(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(200).collect()
}

/// Asks the provider until it has answered once. Logins don't wait for this: it is there to tell the operator.
async fn get_to_know(inner: Weak<Inner>) {
    let mut pause = RETRY.0;
    loop {
        let Some(strong) = inner.upgrade() else { return };
        let issuer = strong.provider.settings.issuer.clone();
        match strong.provider.learned().await {
            Ok(_) => {
                tracing::info!(
                    issuer,
                    redirect = strong.provider.settings.redirect_url(),
                    "people can log in by OpenID Connect"
                );
                return;
            }
            Err(OpenIdError::Unreachable(error)) => {
                tracing::warn!(issuer, error, "nobody can log in by OpenID Connect at the moment");
            }
            Err(error) => tracing::warn!(issuer, %error, "nobody can log in by OpenID Connect at the moment"),
        }
        drop(strong);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY.1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn those_who_wait_for_a_provider_that_hangs_wait_for_one_answer_together() {
        let (asking, asked) = (Asking::default(), AtomicU32::new(0));
        let refresh = async || {
            let ask = async {
                asked.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(200)).await;
                Err(OpenIdError::Unreachable("db.internal refuses".to_owned()))
            };
            asking.about("session", ask).await.expect_err("it hangs").to_string()
        };
        let answers = futures::future::join_all((0..6).map(|_| refresh())).await;
        // Once for the first, and once for all who came after that.
        let asked = asked.load(Ordering::Relaxed);
        assert!(asked <= 2, "{asked}");
        for answer in answers {
            assert_eq!(answer, "the OpenID provider can't be reached at the moment");
        }
        assert!(asking.all().is_empty(), "nothing is left");
    }
}
