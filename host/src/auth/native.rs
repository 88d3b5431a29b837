//! Login with a name and password from the configuration: one administrator.

use std::fmt;

use sha2::{Digest, Sha256};

use super::{Bearer, native_user_id};

/// The configured login. `Debug` doesn't show the password.
#[derive(Clone, Default)]
pub struct NativeLogin {
    credentials: Option<(String, String)>,
    allow_empty: bool,
    /// Whether it is the one that everybody knows, which gives way to any other.
    is_default: bool,
}

impl fmt::Debug for NativeLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.credentials.as_ref().map(|(name, _)| name);
        f.debug_struct("NativeLogin")
            .field("name", &name)
            .field("allow_empty", &self.allow_empty)
            .finish_non_exhaustive()
    }
}

impl NativeLogin {
    /// Nobody can log in this way.
    pub fn disabled() -> Self {
        Self::default()
    }

    /// The administrator called `username` can log in with `password`, and, where `allow_empty`, without either.
    pub fn new(username: impl Into<String>, password: impl Into<String>, allow_empty: bool) -> Self {
        Self { credentials: Some((username.into(), password.into())), allow_empty, is_default: false }
    }

    /// The same login, as one that everybody knows if `is_default`: it counts only as long as there are no local users.
    #[must_use]
    pub fn or_default(self, is_default: bool) -> Self {
        Self { is_default, ..self }
    }

    /// Whether everybody knows it.
    pub(super) fn is_default(&self) -> bool {
        self.is_default
    }

    /// Whether anybody can log in this way.
    pub fn is_enabled(&self) -> bool {
        self.credentials.is_some()
    }

    /// Whether the administrator can log in with an empty name and password.
    pub fn allows_empty(&self) -> bool {
        self.is_enabled() && self.allow_empty
    }

    /// Whether this is the administrator's name.
    pub(super) fn is_called(&self, username: &str) -> bool {
        self.credentials.as_ref().is_some_and(|(name, _)| name == username)
    }

    /// The administrator, if this is their id, and what their refresh tokens stand on: name and password.
    pub(super) fn current(&self, id: &str) -> Option<(Bearer, String)> {
        let (name, password) = self.credentials.as_ref()?;
        let ground = format!("native login\0{}\0{name}\0{password}", name.len());
        Some((administrator(name), ground)).filter(|(bearer, _)| bearer.id.as_str() == id)
    }

    /// The administrator, if these are their name and password. How long it takes depends on neither.
    pub fn check(&self, username: &str, password: &str) -> Option<Bearer> {
        let (name, secret) = self.credentials.as_ref()?;
        // Both are compared whatever the first comparison says.
        let known = same(username, name) & same(password, secret);
        let empty = self.allow_empty && username.is_empty() && password.is_empty();
        (known || empty).then(|| administrator(name))
    }
}

fn administrator(name: &str) -> Bearer {
    Bearer { id: native_user_id(name), name: name.to_owned(), admin: true, collections: Vec::new() }
}

/// Compares digests, which are of one length and in which a common beginning says nothing about the texts.
fn same(left: &str, right: &str) -> bool {
    let (left, right) = (Sha256::digest(left), Sha256::digest(right));
    let difference = left.iter().zip(right.iter()).fold(0, |difference, (a, b)| difference | (a ^ b));
    std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_configured_name_and_password_are_let_in() {
        let login = NativeLogin::new("admin", "s3cret", false);
        let bearer = login.check("admin", "s3cret").expect("let in");
        assert_eq!((bearer.id.as_str(), bearer.name.as_str(), bearer.admin), ("native:admin", "admin", true));
        for (name, password) in [("admin", ""), ("", ""), ("", "s3cret"), ("admin", "s3cret "), ("Admin", "s3cret")] {
            assert_eq!(login.check(name, password), None, "{name}/{password}");
        }
        assert!(!format!("{login:?}").contains("s3cret"));
    }

    #[test]
    fn nothing_is_let_in_only_where_it_is_allowed() {
        let login = NativeLogin::new("admin", "s3cret", true);
        assert!(login.allows_empty());
        assert!(login.check("", "").is_some());
        assert_eq!(login.check("", "x"), None);
        assert_eq!(login.check("admin", ""), None);
        assert_eq!(NativeLogin::disabled().check("", ""), None);
        assert!(!NativeLogin::disabled().allows_empty());
    }
}
