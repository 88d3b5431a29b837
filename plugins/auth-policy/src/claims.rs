//! From the claims of a token to a user.

use crate::bindings::antimony::plugin::types::Identity;
use crate::bindings::exports::antimony::plugin::policy::{Claim, ClaimValue, Denial};
use crate::deny;

/// Reads `id`, `isAdmin` and `collections`; other claims don't matter.
///
/// A token without `id` is none of ours and left to the next policy. A claim of the wrong type refuses the token: to
/// take a mistyped `isAdmin` for `false` would be harmless, but it would hide that something issues broken tokens.
pub(crate) fn identify(claims: Vec<Claim>) -> Result<Option<Identity>, Denial> {
    let mut id = None;
    let mut admin = false;
    let mut collections = Vec::new();
    for Claim { name, value } in claims {
        match (name.as_str(), value) {
            ("id", ClaimValue::Text(text)) if !text.is_empty() => id = Some(text),
            ("id", _) => return Err(malformed("id", "a text that is not empty")),
            ("isAdmin", ClaimValue::Boolean(value)) => admin = value,
            ("isAdmin", _) => return Err(malformed("isAdmin", "true or false")),
            ("collections", ClaimValue::Texts(names)) => collections = names,
            ("collections", _) => return Err(malformed("collections", "a list of names")),
            _ => {}
        }
    }
    Ok(id.map(|id| Identity { id, admin, collections }))
}

fn malformed(claim: &str, expected: &str) -> Denial {
    deny("claims-well-formed", format!("the token's claim `{claim}` is not {expected}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn claim(name: &str, value: ClaimValue) -> Claim {
        Claim { name: name.into(), value }
    }

    #[test]
    fn a_full_token_becomes_a_user() {
        let user = identify(vec![
            claim("id", ClaimValue::Text("ada".into())),
            claim("isAdmin", ClaimValue::Boolean(true)),
            claim("collections", ClaimValue::Texts(vec!["course".into()])),
            claim("exp", ClaimValue::Integer(1)),
        ]);
        let expected = Identity { id: "ada".into(), admin: true, collections: vec!["course".into()] };
        assert_eq!(user, Ok(Some(expected)));
    }

    #[test]
    fn nobody_is_an_admin_or_a_member_without_a_claim_that_says_so() {
        let user = identify(vec![claim("id", ClaimValue::Text("ada".into()))]).unwrap().unwrap();
        assert!(!user.admin && user.collections.is_empty());
    }

    #[test]
    fn a_token_without_id_is_left_to_the_next_policy() {
        assert_eq!(identify(vec![claim("sub", ClaimValue::Text("ada".into()))]), Ok(None));
    }

    #[test]
    fn claims_of_the_wrong_type_refuse_the_token() {
        let id = || claim("id", ClaimValue::Text("ada".into()));
        for wrong in [
            claim("id", ClaimValue::Text(String::new())),
            claim("id", ClaimValue::Integer(7)),
            claim("isAdmin", ClaimValue::Text("true".into())),
            claim("isAdmin", ClaimValue::Integer(1)),
            claim("collections", ClaimValue::Text("course".into())),
            claim("collections", ClaimValue::Json("[1]".into())),
        ] {
            let name = wrong.name.clone();
            let denial = identify(vec![id(), wrong]).unwrap_err();
            assert_eq!(denial.rule, "claims-well-formed");
            assert!(denial.message.contains(&name), "{}", denial.message);
        }
    }
}
