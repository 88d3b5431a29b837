//! Who somebody is, as far as that can be told without a policy: tokens, and the identity that a policy made of one.
//!
//! A leaf. Keys and passwords stay in here; claims leave it, and identities come back from the auth policy. Nothing here
//! decides who may do what: [`Authenticator`] says whether a token is one of ours, for which purpose and until when,
//! and [`NativeLogin`] whether somebody knows the configured password.

mod key;
mod native;
mod token;

use jiff::Timestamp;
use serde_json::Value;

pub use self::key::{KeyError, SigningKey};
pub use self::native::NativeLogin;
pub use self::token::{ACCESS_LIFETIME, AccessToken, Authenticator, Issued, REFRESH_LIFETIME, TokenError};
use crate::labs::model::UserId;

/// The id of whoever logs in natively by this name.
pub fn native_user_id(name: &str) -> UserId {
    format!("native:{name}").into()
}

/// The id of whom an OpenID provider calls by this subject.
pub fn openid_user_id(subject: &str) -> UserId {
    format!("openid:{subject}").into()
}

/// What a token says about its bearer. What that makes of them is up to the auth policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// Claim `id`.
    pub id: UserId,
    /// Claim `name`: the name to show.
    pub name: String,
    /// Claim `isAdmin`.
    pub admin: bool,
    /// Claim `collections`: names of collections.
    pub collections: Vec<String>,
}

/// A user as the auth policy recognised them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Stable id.
    pub id: UserId,
    /// Whether the policy regards them as an administrator.
    pub admin: bool,
    /// Names of the collections that they belong to.
    pub collections: Vec<String>,
}

/// The claims of an access token whose signature, kind and times have been checked, in the order of the token.
#[derive(Debug, Clone, PartialEq)]
pub struct Claims(pub serde_json::Map<String, serde_json::Value>);

impl Claims {
    /// Claim `name`, if it has one that is text and not empty.
    pub fn name(&self) -> Option<&str> {
        self.0.get("name").and_then(Value::as_str).filter(|name| !name.is_empty())
    }

    /// A claim that is a time: whole seconds since 1970.
    fn time(&self, name: &str) -> Option<Timestamp> {
        self.0.get(name).and_then(Value::as_i64).and_then(|seconds| Timestamp::from_second(seconds).ok())
    }
}
