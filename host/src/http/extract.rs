//! What handlers take out of a request: who calls, and what the body says.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum_extra::extract::CookieJar;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;

use super::error::ApiError;
use super::{Api, cookies, words};
use crate::auth::{AccessToken, Identity};
use crate::edge::TooSlow;
use crate::labs::model::User;
use crate::plugins::decision::Circumstances;

/// Who sent the request, as the auth policy recognised them.
pub(super) struct Caller {
    pub(super) identity: Identity,
    /// The same as creators are shown.
    pub(super) user: User,
    /// How things stood for them when the request came.
    pub(super) circumstances: Circumstances,
    /// What they showed.
    pub(super) token: AccessToken,
}

impl FromRequestParts<Api> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let jar = CookieJar::from_headers(&parts.headers);
        let token = match bearer(parts) {
            Some(token) => token,
            None => jar.get(cookies::ACCESS).map_or("", |cookie| cookie.value()),
        };
        if token.is_empty() {
            // A client that has a refresh token can help itself; any other has to log in.
            let can_refresh = jar.get(cookies::REFRESH).is_some_and(|cookie| !cookie.value().is_empty());
            return Err(if can_refresh { ApiError::NoToken } else { ApiError::LogIn("no access token".to_owned()) });
        }
        let token = api.auth.verify_access(token).map_err(ApiError::Token)?;
        let identity = api.plugins.identify(&token.claims).await.map_err(ApiError::NotRecognised)?;
        let name = token.claims.name().unwrap_or(identity.id.as_str()).to_owned();
        let circumstances = api.circumstances(&identity);
        Ok(Self { user: User { id: identity.id.clone(), name }, identity, circumstances, token })
    }
}

/// The token of `Authorization: Bearer …`, which counts before any cookie.
fn bearer(parts: &Parts) -> Option<&str> {
    let (scheme, token) = parts.headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The id in the path.
#[derive(IntoParams)]
#[into_params(names("id"), parameter_in = Path)]
pub(super) struct Id(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let nowhere = || ApiError::NoRoute(parts.uri.path().to_owned());
        // Nothing can be wrong with it but that it isn't text, or text that no database can have; and no id is like that.
        let Ok(Path(id)) = Path::<String>::from_request_parts(&mut parts.clone(), state).await else {
            return Err(nowhere());
        };
        if id.contains('\0') { Err(nowhere()) } else { Ok(Self(id)) }
    }
}

/// The ids in the path, in order.
pub(super) struct Ids<const N: usize>(pub(super) [String; N]);

impl<S: Send + Sync, const N: usize> FromRequestParts<S> for Ids<N> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let nowhere = || ApiError::NoRoute(parts.uri.path().to_owned());
        let ids = Path::<Vec<String>>::from_request_parts(&mut parts.clone(), state).await;
        let ids = ids.ok().and_then(|Path(ids)| ids.try_into().ok());
        ids.filter(|ids: &[String; N]| !ids.iter().any(|id| id.contains('\0'))).map(Self).ok_or_else(nowhere)
    }
}

/// A body of JSON, which its content type has to say: other sites can make a browser send any body, but not this type
/// without having asked.
pub(super) struct Json<T>(pub(super) T);

impl<S, T> FromRequest<S> for Json<T>
where
    S: Send + Sync,
    T: DeserializeOwned,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let is_json = is_json(request.headers());
        let body = Bytes::from_request(request, state).await.map_err(|rejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                ApiError::TooLarge
            } else if let Some(slow) = TooSlow::within(&rejection) {
                ApiError::TooSlow(slow)
            } else {
                ApiError::Invalid("the body of the request could not be read".to_owned())
            }
        })?;
        if !is_json && !body.is_empty() {
            return Err(ApiError::NotJson);
        }
        read(&body).map(Json)
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// Reads JSON; the error names the field and the place.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    if body.trim_ascii().is_empty() {
        return Err(ApiError::Invalid("the request has no body; it should be a JSON object".to_owned()));
    }
    // An array of the values would be read as well otherwise.
    if !body.trim_ascii().starts_with(b"{") {
        return Err(ApiError::Invalid("the body should be a JSON object".to_owned()));
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader)
        .map_err(|error| ApiError::Invalid(words::problem(&error.path().to_string(), error.inner())))?;
    reader.end().map_err(|error| ApiError::Invalid(words::problem(".", &error)))?;
    Ok(value)
}

/// A name that somebody gives something: not blank, not too long, without control characters, as `openapi::Name` says it.
/// Answers it without the white space around it.
pub(super) fn checked_name(name: &str) -> Result<String, ApiError> {
    const LIMIT: usize = 100;
    let problem = if name.trim().is_empty() {
        "it must not be empty".to_owned()
    } else if name.chars().count() > LIMIT {
        format!("at most {LIMIT} characters are allowed")
    } else if name.chars().any(char::is_control) {
        "control characters are not allowed".to_owned()
    } else {
        return Ok(name.trim().to_owned());
    };
    Err(ApiError::Invalid(format!("name: {problem}")))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase")]
    #[expect(dead_code, reason = "read for the errors only")]
    struct Body {
        start_time: jiff::Timestamp,
        inner: Option<Vec<u8>>,
    }

    #[test]
    fn what_is_wrong_with_a_body_is_named_with_its_field_and_place() {
        for (body, expected) in [
            ("", "the request has no body"),
            ("  \n", "the request has no body"),
            ("{", "the body is no JSON: it ends too early"),
            ("{}", "startTime: it is missing"),
            ("[]", "the body should be a JSON object"),
            (r#"["2030-01-01T00:00:00Z"]"#, "the body should be a JSON object"),
            (r#"{"startTime": 5}"#, "startTime: "),
            (r#"{"startTime": "2030"}"#, "startTime: "),
            (
                r#"{"startTime": "2030-01-01T00:00:00Z", "inner": [1, 300]}"#,
                "inner[1]: it should be a whole number from 0 to 255",
            ),
            (r#"{"startTime": "2030-01-01T00:00:00Z"} x"#, "there is more after its end at line 1, column 39"),
        ] {
            let refused = read::<Body>(body.as_bytes()).expect_err("refused").to_string();
            assert!(refused.contains(expected), "{body}: {refused}");
        }
        assert!(read::<Body>(br#"{"startTime": "2030-01-01T00:00:00+02:00", "more": {}}"#).is_ok());
        assert!(read::<Body>("[".repeat(100_000).as_bytes()).is_err());
        assert!(read::<serde_json::Value>("[".repeat(100_000).as_bytes()).is_err());
        assert!(read::<Body>(b"\xff\xfe").is_err());
    }

    #[test]
    fn names_are_trimmed_and_bounded() {
        assert_eq!(checked_name("  course 1 ").expect("valid"), "course 1");
        for name in ["", "   ", "a\nb", &"x".repeat(101)] {
            assert!(checked_name(name).is_err(), "{name:?}");
        }
    }
}
