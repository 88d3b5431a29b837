//! Who somebody is, by what a provider says of them.

use serde_json::Value;

use super::provider::{IdClaims, UserInfo};
use crate::auth::Bearer;
use crate::auth::config::OpenIdSettings;
use crate::labs::model::UserId;

/// The id of the person whom the provider calls by this subject.
pub fn user_id(subject: &str) -> UserId {
    format!("openid:{subject}").into()
}

/// What an ID token or the provider itself says of somebody, as far as it matters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Said {
    email: Option<String>,
    username: Option<String>,
    name: Option<String>,
    groups: Option<Vec<String>>,
}

impl Said {
    pub(super) fn by_token(claims: &IdClaims, settings: &OpenIdSettings) -> Self {
        Self {
            email: claims.email().map(|email| email.as_str().to_owned()),
            username: claims.preferred_username().map(|name| name.as_str().to_owned()),
            name: claims.name().and_then(|name| name.get(None)).map(|name| name.as_str().to_owned()),
            groups: claims.additional_claims().all.get(&settings.groups_claim).and_then(groups),
        }
    }

    pub(super) fn by_provider(info: &UserInfo, settings: &OpenIdSettings) -> Self {
        Self {
            email: info.email().map(|email| email.as_str().to_owned()),
            username: info.preferred_username().map(|name| name.as_str().to_owned()),
            name: info.name().and_then(|name| name.get(None)).map(|name| name.as_str().to_owned()),
            groups: info.additional_claims().all.get(&settings.groups_claim).and_then(groups),
        }
    }

    /// This, and what `other` says of what isn't said here.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            email: self.email.or(other.email),
            username: self.username.or(other.username),
            name: self.name.or(other.name),
            groups: self.groups.or(other.groups),
        }
    }

    /// The person. Who is in no group belongs to no collection.
    pub(super) fn bearer(self, subject: &str, settings: &OpenIdSettings) -> Bearer {
        let groups = self.groups.unwrap_or_else(|| {
            tracing::warn!(subject, claim = settings.groups_claim, "the provider says nothing of somebody's groups");
            Vec::new()
        });
        let admin = settings.admin_groups.iter().any(|group| groups.contains(group));
        let names = [self.email, self.username, self.name];
        let name = names.into_iter().flatten().find(|name| !name.trim().is_empty());
        Bearer { id: user_id(subject), name: name.unwrap_or_else(|| subject.to_owned()), admin, collections: groups }
    }
}

/// The names of groups: a list of texts, or a single one. `None`: the claim is neither.
fn groups(claim: &Value) -> Option<Vec<String>> {
    match claim {
        Value::String(group) => Some(vec![group.clone()]),
        Value::Array(groups) => {
            let mut names: Vec<String> = groups.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            if names.len() < groups.len() {
                tracing::warn!("the provider names groups by something else than texts; these are left out");
            }
            names.sort();
            names.dedup();
            Some(names)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings() -> OpenIdSettings {
        OpenIdSettings {
            issuer: "https://id.example".to_owned(),
            client_id: "antimony".to_owned(),
            client_secret: None,
            api: "https://labs.example/api".parse().expect("an address"),
            admin_groups: vec!["staff".to_owned()],
            scopes: Vec::new(),
            groups_claim: "groups".to_owned(),
        }
    }

    fn said(info: Value) -> Said {
        let info = serde_json::to_vec(&info).expect("JSON");
        let info = UserInfo::from_json::<std::io::Error>(&info, None).expect("claims");
        Said::by_provider(&info, &settings())
    }

    #[test]
    fn groups_are_collections_and_some_make_administrators() {
        for (claim, collections, admin) in [
            (json!(["course", "staff"]), vec!["course", "staff"], true),
            (json!(["course", "course", 5, null]), vec!["course"], false),
            (json!("staff"), vec!["staff"], true),
            (json!([]), vec![], false),
            (json!({"staff": true}), vec![], false),
            (json!(null), vec![], false),
        ] {
            let bearer = said(json!({"sub": "u1", "groups": claim})).bearer("u1", &settings());
            assert_eq!((bearer.id.as_str(), bearer.admin), ("openid:u1", admin), "{claim}");
            assert_eq!(bearer.collections, collections, "{claim}");
        }
    }

    #[test]
    fn people_are_shown_by_what_they_are_known_by() {
        let name = |info: Value| said(info).bearer("u1", &settings()).name;
        let all = json!({"sub": "u1", "email": "a@b.c", "preferred_username": "ada", "name": "Ada"});
        assert_eq!(name(all), "a@b.c");
        assert_eq!(name(json!({"sub": "u1", "preferred_username": "ada", "name": "Ada"})), "ada");
        assert_eq!(name(json!({"sub": "u1", "email": " ", "name": "Ada"})), "Ada");
        assert_eq!(name(json!({"sub": "u1"})), "u1");
    }

    #[test]
    fn what_the_provider_says_counts_before_what_a_token_says() {
        let token = said(json!({"sub": "u1", "email": "token", "groups": ["staff"]}));
        let asked = said(json!({"sub": "u1", "name": "Ada", "groups": []}));
        let bearer = asked.or(token.clone()).bearer("u1", &settings());
        assert_eq!((bearer.admin, bearer.name.as_str()), (false, "token"));
        let bearer = said(json!({"sub": "u1"})).or(token).bearer("u1", &settings());
        assert!(bearer.admin);
    }
}
