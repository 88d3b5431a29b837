//! Who somebody is, as far as that can be told without a policy: tokens, and the identity that a policy made of one.
//!
//! Keys and passwords stay in here; claims leave it, and identities come back from the auth policy. Nothing here decides who
//! may do what: [`Authenticator`] says whether a token is one of ours, for which purpose and until when, [`Logins`] whether
//! somebody knows a password (the configured one, or that of a user in the file that [`users`] reads), and [`OpenId`] what an
//! OpenID provider says of somebody. Of the server it knows the store, in which sessions are kept.

pub mod config;
mod key;
mod logins;
mod native;
pub mod openid;
mod seal;
mod throttle;
mod token;
pub mod users;

use jiff::Timestamp;
use serde_json::Value;

pub use self::config::{AuthConfig, Login, OpenIdSettings, native_login};
pub use self::key::{KeyError, SigningKey};
pub use self::logins::{LoggedIn, LoginError, Logins, seconds};
pub use self::native::NativeLogin;
pub use self::openid::{OpenId, OpenIdError};
pub use self::token::{
    ACCESS_LIFETIME, AccessToken, Authenticator, Ground, Issued, REFRESH_LIFETIME, RefreshToken, TokenError,
};
pub use self::users::LocalUsers;
use crate::labs::model::UserId;

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
