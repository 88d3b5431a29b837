//! Who somebody is, as far as that can be told without a policy: tokens, and the identity that a policy made of one.
//!
//! A leaf. Keys and passwords stay in here; claims leave it, and identities come back from the auth policy.

use crate::labs::model::UserId;

/// A user as the auth policy recognised them.
#[derive(Debug, Clone, PartialEq, Eq)]
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
