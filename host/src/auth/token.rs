//! Access tokens and refresh tokens: JSON Web Tokens signed with HS256.
//!
//! Both carry the same claims, so that a refresh token is all it takes to issue an access token; the claim `typ` keeps
//! one from passing for the other.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use jsonwebtoken::crypto::sign;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{Bearer, Claims, SigningKey};

/// How long an access token is valid.
pub const ACCESS_LIFETIME: Duration = Duration::from_mins(30);

/// How long a refresh token is valid.
pub const REFRESH_LIFETIME: Duration = Duration::from_hours(30 * 24);

/// Longer tokens are refused unread. Ours are a tenth of it.
const MAX_BYTES: usize = 8 << 10;

/// How far the clock may have been set back since a token was issued. Nothing is added at the other end: a connection
/// is cut when its token expires, and must not be let in again with the same one.
const CLOCK_SLACK: Duration = Duration::from_secs(5);

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is no token, or lacks something that every token has.
    #[error("this is not a token of this server")]
    Malformed,
    /// It is signed with another key or algorithm.
    #[error("the token's signature is not valid")]
    Signature,
    /// It was valid once.
    #[error("the token has expired")]
    Expired,
    /// It will be valid later.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// It was issued for a login that is not in force any more.
    #[error("the login that the token was issued for has changed")]
    LoginChanged,
    /// Somebody has logged out, or in again so often that this session made room for others.
    #[error("the session has ended")]
    Over,
    /// It is a refresh token where an access token is wanted, or the reverse.
    #[error("this token serves another purpose")]
    WrongKind,
}

/// An access token that has been checked.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessToken {
    /// All that it claims.
    pub claims: Claims,
    /// When it stops being valid.
    pub expires: Timestamp,
}

/// A token that has just been issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The token.
    pub token: String,
    /// When it stops being valid.
    pub expires: Timestamp,
}

/// What a refresh token stands on: what has to be as it was for it to be worth anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground<'a> {
    /// A login by password.
    Password {
        /// Its credentials, as a text of which the token holds a digest.
        credentials: &'a str,
        /// The id of the session that begins with it, which the server keeps.
        session: &'a str,
    },
    /// A login by OpenID Connect: the id of its session, which the server keeps.
    OpenId(&'a str),
}

/// A refresh token that has been checked, as far as it can be by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefreshToken {
    /// Whom it was issued to, as they were then.
    pub bearer: Bearer,
    /// The id of the session that it stands on. Tokens of versions that kept no sessions for passwords have none.
    pub session: Option<String>,
    /// The digest of the credentials that it stands on, if it stands on some.
    login: Option<String>,
}

impl RefreshToken {
    /// Whether it is of a login by password.
    pub fn is_by_password(&self) -> bool {
        self.login.is_some()
    }
}

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Access,
    Refresh,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Refresh => "refresh",
        }
    }
}

/// Text of a payload that base64url writes without `-` and `_`, and without leaving out padding: clients in the field read
/// tokens with `atob`, which knows the other alphabet.
///
/// Four characters of base64 stand for three bytes, each for six bits of them. In ASCII the first three can't be 62 or
/// 63, which are those that differ: they hold the upper bits of a byte, one of which is 0. The fourth is the lower six
/// bits of the third byte, and 62 or 63 only where that is `>`, `?`, `~` or DEL.
fn atob_safe(payload: &Payload<'_>) -> Box<RawValue> {
    let json = serde_json::to_string(payload).expect("strings and numbers are always JSON");
    let mut safe = String::with_capacity(json.len() + 3);
    for character in json.chars() {
        if character.is_ascii() && !matches!(character, '>' | '?' | '~' | '\u{7f}') {
            safe.push(character);
        } else {
            // Only strings have such characters.
            for unit in character.encode_utf16(&mut [0; 2]) {
                safe.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    let end = safe.pop();
    debug_assert_eq!(end, Some('}'));
    while safe.len() % 3 != 2 {
        safe.push(' ');
    }
    safe.push('}');
    RawValue::from_string(safe).expect("escapes and space don't change what JSON says")
}

#[derive(Serialize)]
struct Payload<'a> {
    id: &'a str,
    name: &'a str,
    #[serde(rename = "isAdmin")]
    admin: bool,
    collections: &'a [String],
    typ: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    login: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
    iat: i64,
    nbf: i64,
    exp: i64,
}

/// Issues tokens and tells its own from others.
pub struct Authenticator {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator").finish_non_exhaustive()
    }
}

impl Authenticator {
    /// Signs with `key`.
    pub fn new(key: &SigningKey) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_required_spec_claims(&["exp", "nbf"]);
        validation.leeway = 0;
        // Checked below, with the slack that the other end doesn't get. Tokens of this server have no audience.
        validation.validate_nbf = false;
        validation.validate_aud = false;
        Self {
            encoding: EncodingKey::from_secret(key.bytes()),
            decoding: DecodingKey::from_secret(key.bytes()),
            validation,
        }
    }

    /// An access token, valid from now on for [`ACCESS_LIFETIME`].
    pub fn issue_access(&self, bearer: &Bearer) -> Issued {
        self.issue_access_for(bearer, ACCESS_LIFETIME)
    }

    /// An access token, valid from now on for `lifetime`, in whole seconds.
    pub fn issue_access_for(&self, bearer: &Bearer, lifetime: Duration) -> Issued {
        self.issue(Kind::Access, bearer, None, Timestamp::now(), lifetime)
    }

    /// A refresh token for somebody who has logged in, valid from now on for [`REFRESH_LIFETIME`], as long as what it stands
    /// on stays as it is.
    pub fn issue_refresh(&self, bearer: &Bearer, ground: Ground<'_>) -> Issued {
        self.issue(Kind::Refresh, bearer, Some(ground), Timestamp::now(), REFRESH_LIFETIME)
    }

    /// A digest of credentials that nobody can make, or check a guess against, without the key.
    fn digest_of(&self, credentials: &str) -> String {
        // Nothing else that is signed with this key holds a NUL, as these do.
        sign(credentials.as_bytes(), &self.encoding, Algorithm::HS256).expect("the key fits the algorithm")
    }

    /// Checks an access token: signature, kind, times.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn verify_access(&self, token: &str) -> Result<AccessToken, TokenError> {
        let claims = self.verify(Kind::Access, token, Timestamp::now())?;
        let expires = claims.time("exp").ok_or(TokenError::Malformed)?;
        Ok(AccessToken { claims, expires })
    }

    /// Checks a refresh token: signature, kind, times. Whether what it stands on is as it was is up to the caller:
    /// [`Self::stands_on`], and the session.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn verify_refresh(&self, token: &str) -> Result<RefreshToken, TokenError> {
        let claims = self.verify(Kind::Refresh, token, Timestamp::now())?.0;
        let text = |name: &str| claims.get(name).and_then(Value::as_str).map(str::to_owned);
        let collections = claims.get("collections").and_then(Value::as_array).into_iter().flatten();
        let bearer = Bearer {
            id: text("id").ok_or(TokenError::Malformed)?.into(),
            name: text("name").unwrap_or_default(),
            admin: claims.get("isAdmin").and_then(Value::as_bool).unwrap_or(false),
            collections: collections.filter_map(|name| name.as_str().map(str::to_owned)).collect(),
        };
        Ok(RefreshToken { bearer, session: text("session"), login: text("login") })
    }

    /// Whether a refresh token stands on these credentials.
    pub fn stands_on(&self, token: &RefreshToken, credentials: &str) -> bool {
        // Both are as good as signatures, and the token's own has been checked: how long it takes tells nothing.
        token.login.as_ref() == Some(&self.digest_of(credentials))
    }

    fn issue(
        &self,
        kind: Kind,
        bearer: &Bearer,
        ground: Option<Ground<'_>>,
        now: Timestamp,
        lifetime: Duration,
    ) -> Issued {
        let expires = now.saturating_add(lifetime).unwrap_or(Timestamp::MAX);
        let (login, session) = match ground {
            None => (None, None),
            Some(Ground::Password { credentials, session }) => (Some(self.digest_of(credentials)), Some(session)),
            Some(Ground::OpenId(session)) => (None, Some(session)),
        };
        // What a refresh token says beyond its id is asked for anew before it counts, and cookies have little room.
        let collections = if kind == Kind::Refresh { &[] } else { bearer.collections.as_slice() };
        let payload = Payload {
            id: bearer.id.as_str(),
            name: &bearer.name,
            admin: bearer.admin,
            collections,
            typ: kind.as_str(),
            login: login.as_deref(),
            session,
            iat: now.as_second(),
            nbf: now.as_second(),
            exp: expires.as_second(),
        };
        let token = encode(&Header::new(Algorithm::HS256), &atob_safe(&payload), &self.encoding)
            .expect("it is JSON already, and the key fits the algorithm");
        Issued { token, expires: Timestamp::from_second(expires.as_second()).unwrap_or(expires) }
    }

    fn verify(&self, kind: Kind, token: &str, now: Timestamp) -> Result<Claims, TokenError> {
        if token.len() > MAX_BYTES {
            return Err(TokenError::Malformed);
        }
        let claims = decode::<Map<String, Value>>(token, &self.decoding, &self.validation);
        let claims = claims.map(|data| Claims(data.claims)).map_err(|error| match error.kind() {
            ErrorKind::ExpiredSignature => TokenError::Expired,
            ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => TokenError::Signature,
            _ => TokenError::Malformed,
        })?;
        if claims.0.get("typ").and_then(Value::as_str) != Some(kind.as_str()) {
            return Err(TokenError::WrongKind);
        }
        // To the moment, and not to the end of that second: connections are cut at this moment.
        if claims.time("exp").ok_or(TokenError::Malformed)? <= now {
            return Err(TokenError::Expired);
        }
        let valid_from = claims.time("nbf").ok_or(TokenError::Malformed)?;
        if valid_from > now.saturating_add(CLOCK_SLACK).unwrap_or(Timestamp::MAX) {
            return Err(TokenError::NotYetValid);
        }
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
    use serde_json::json;

    use super::*;

    fn authenticator() -> Authenticator {
        Authenticator::new(&SigningKey::generate())
    }

    fn bearer() -> Bearer {
        Bearer { id: "u1".into(), name: "Ada".to_owned(), admin: false, collections: vec!["course".to_owned()] }
    }

    const LOGIN: Ground<'_> = Ground::Password { credentials: "name and password", session: "s1" };

    fn in_seconds(seconds: i64) -> i64 {
        Timestamp::now().as_second() + seconds
    }

    /// A token of any claims, rightly signed.
    fn signed(authenticator: &Authenticator, claims: &Value) -> String {
        encode(&Header::new(Algorithm::HS256), claims, &authenticator.encoding).expect("signs")
    }

    #[test]
    fn an_access_token_says_who_bears_it_and_until_when() {
        let authenticator = authenticator();
        let issued = authenticator.issue_access(&bearer());
        let token = authenticator.verify_access(&issued.token).expect("valid");
        assert_eq!(token.expires, issued.expires);
        let left = token.expires.as_second() - Timestamp::now().as_second();
        assert!((1_790..=1_800).contains(&left), "{left}");
        for (claim, value) in [
            ("id", json!("u1")),
            ("name", json!("Ada")),
            ("isAdmin", json!(false)),
            ("collections", json!(["course"])),
            ("exp", json!(token.expires.as_second())),
            ("nbf", json!(token.expires.as_second() - 1_800)),
            ("iat", json!(token.expires.as_second() - 1_800)),
        ] {
            assert_eq!(token.claims.0.get(claim), Some(&value), "{claim}");
        }
        assert_eq!(token.claims.name(), Some("Ada"));
    }

    #[test]
    fn a_refresh_token_gives_its_bearer_back() {
        let authenticator = authenticator();
        let issued = authenticator.issue_refresh(&bearer(), LOGIN);
        let token = authenticator.verify_refresh(&issued.token).expect("valid");
        assert_eq!((&token.bearer.id, &token.bearer.name), (&bearer().id, &bearer().name));
        assert!(token.bearer.collections.is_empty(), "they are asked for anew");
        let days = (issued.expires.as_second() - Timestamp::now().as_second() + 60) / 86_400;
        assert_eq!(days, 30);
    }

    #[test]
    fn a_refresh_token_stands_on_the_credentials_that_it_was_got_with() {
        let authenticator = authenticator();
        let token = authenticator.issue_refresh(&bearer(), LOGIN).token;
        assert!(!token.contains("password"));
        let token = authenticator.verify_refresh(&token).expect("valid");
        assert!(authenticator.stands_on(&token, "name and password"));
        assert_eq!((token.session.as_deref(), token.is_by_password()), (Some("s1"), true));
        assert!(!authenticator.stands_on(&token, "name and another") && !authenticator.stands_on(&token, ""));
        let claims = json!({"id": "u", "typ": "refresh", "exp": in_seconds(60), "nbf": in_seconds(0)});
        let of_before = authenticator.verify_refresh(&signed(&authenticator, &claims)).expect("valid");
        assert!(!authenticator.stands_on(&of_before, "name and password") && !authenticator.stands_on(&of_before, ""));
    }

    #[test]
    fn a_refresh_token_of_openid_connect_names_its_session_and_stands_on_no_credentials() {
        let authenticator = authenticator();
        let issued = authenticator.issue_refresh(&bearer(), Ground::OpenId("s1"));
        let token = authenticator.verify_refresh(&issued.token).expect("valid");
        assert_eq!((token.session.as_deref(), token.bearer.id.as_str()), (Some("s1"), "u1"));
        assert!(!token.is_by_password());
        assert!(!authenticator.stands_on(&token, "name and password") && !authenticator.stands_on(&token, ""));
    }

    #[test]
    fn the_payload_is_read_by_the_base64_of_browsers() {
        let authenticator = authenticator();
        let mut names: Vec<String> =
            ["", "Ada", "a>b?c~d\u{7f}", "\u{0}\n\"\\", "Zoë Ødegård", "日本語", "🦀🦀", "ÿÿÿÿÿÿ", "~~~~>>>>????"]
                .map(str::to_owned)
                .into();
        // Every character of one byte, in every place that three bytes have, and many of more.
        names.extend((0..0x80_u8).map(|byte| char::from(byte).to_string().repeat(3)));
        names.extend((0x80..0x3000_u32).step_by(7).filter_map(char::from_u32).map(|other| format!("{other}x{other}")));
        for (shift, name) in names.iter().enumerate() {
            let id = "i".repeat(1 + shift % 3);
            let bearer =
                Bearer { id: id.as_str().into(), name: name.clone(), admin: true, collections: vec![name.clone()] };
            let token = authenticator.issue_access(&bearer).token;
            let middle = token.split('.').nth(1).expect("three parts");
            // The standard alphabet, with all padding in place: stricter than atob.
            let json = base64::prelude::BASE64_STANDARD.decode(middle).expect("standard base64");
            assert!(json.is_ascii(), "atob makes one character of each byte");
            let claims: Value = serde_json::from_slice(&json).expect("JSON");
            assert_eq!((&claims["name"], &claims["collections"]), (&json!(name), &json!([name])));
            assert_eq!(authenticator.verify_access(&token).expect("valid").claims.0["name"], json!(name));
        }
    }

    #[test]
    fn neither_kind_passes_for_the_other() {
        let authenticator = authenticator();
        let (access, refresh) = (authenticator.issue_access(&bearer()), authenticator.issue_refresh(&bearer(), LOGIN));
        assert_eq!(authenticator.verify_access(&refresh.token), Err(TokenError::WrongKind));
        assert_eq!(authenticator.verify_refresh(&access.token), Err(TokenError::WrongKind));
        let neither = signed(&authenticator, &json!({"id": "u1", "exp": in_seconds(60), "nbf": in_seconds(0)}));
        assert_eq!(authenticator.verify_access(&neither), Err(TokenError::WrongKind));
        assert_eq!(authenticator.verify_refresh(&neither), Err(TokenError::WrongKind));
    }

    #[test]
    fn times_are_kept() {
        let authenticator = authenticator();
        let at = |nbf: i64, exp: i64| {
            let claims = json!({"id": "u", "typ": "access", "nbf": in_seconds(nbf), "exp": in_seconds(exp)});
            authenticator.verify_access(&signed(&authenticator, &claims)).err()
        };
        assert_eq!(at(0, 60), None);
        assert_eq!(at(-60, -1), Some(TokenError::Expired));
        assert_eq!(at(60, 120), Some(TokenError::NotYetValid));
        assert_eq!(at(2, 120), None, "within the slack");
        let over = authenticator.issue_access_for(&bearer(), Duration::ZERO);
        assert_eq!(authenticator.verify_access(&over.token), Err(TokenError::Expired));
    }

    #[test]
    fn times_and_kind_have_to_be_there() {
        let authenticator = authenticator();
        for claims in [
            json!({"id": "u", "typ": "access", "nbf": 0}),
            json!({"id": "u", "typ": "access", "exp": in_seconds(60)}),
            json!({"id": "u", "typ": "access", "exp": "soon", "nbf": 0}),
            json!({"id": "u", "typ": "access", "exp": in_seconds(60), "nbf": null}),
            json!({"id": "u", "typ": ["access"], "exp": in_seconds(60), "nbf": 0}),
            json!([1, 2]),
            json!(null),
        ] {
            assert!(authenticator.verify_access(&signed(&authenticator, &claims)).is_err(), "{claims}");
        }
    }

    #[test]
    fn other_keys_and_algorithms_are_refused() {
        let authenticator = authenticator();
        let stranger = self::authenticator().issue_access(&bearer());
        assert_eq!(authenticator.verify_access(&stranger.token), Err(TokenError::Signature));

        let claims = json!({"id": "u", "typ": "access", "nbf": 0, "exp": in_seconds(60)});
        let part = |value: &Value| BASE64.encode(value.to_string());
        for header in [json!({"alg": "none"}), json!({"alg": "None", "typ": "JWT"}), json!({"alg": "HS999"}), json!({})]
        {
            for signature in ["", "AAAA"] {
                let token = format!("{}.{}.{signature}", part(&header), part(&claims));
                assert!(authenticator.verify_access(&token).is_err(), "{header} {signature:?}");
            }
        }
        for algorithm in [Algorithm::HS384, Algorithm::HS512] {
            let token = encode(&Header::new(algorithm), &claims, &authenticator.encoding).expect("signs");
            assert_eq!(authenticator.verify_access(&token), Err(TokenError::Signature), "{algorithm:?}");
        }
    }

    #[test]
    fn a_token_that_was_changed_is_refused() {
        let authenticator = authenticator();
        let token = authenticator.issue_access(&bearer()).token;
        let parts: Vec<&str> = token.split('.').collect();
        let claims = String::from_utf8(BASE64.decode(parts[1]).expect("base64")).expect("text");
        let forged = BASE64.encode(claims.replace("\"isAdmin\":false", "\"isAdmin\":true"));
        assert_ne!(forged, parts[1]);
        let forged = format!("{}.{forged}.{}", parts[0], parts[2]);
        assert_eq!(authenticator.verify_access(&forged), Err(TokenError::Signature));
    }

    #[test]
    fn garbage_and_huge_tokens_are_refused() {
        let authenticator = authenticator();
        let mut padded = bearer();
        padded.name = "x".repeat(2 * MAX_BYTES);
        let huge = authenticator.issue_access(&padded).token;
        for token in ["", ".", "..", "a.b.c", "Bearer x", "ü.ü.ü", "\0", &"A".repeat(10 << 20), &huge] {
            assert!(authenticator.verify_access(token).is_err());
            assert!(authenticator.verify_refresh(token).is_err());
        }
    }
}
