//! Logins under way: what this server has to remember between sending somebody to the provider and their coming back.
//!
//! The browser keeps it, sealed, in a cookie of its own for each login, so that a login is bound to the browser that it
//! began in, tabs don't get in each other's way, and nobody can fill the server's memory by beginning logins. What can be
//! done with such a cookie can be done once: those that have been used are remembered for as long as they would be valid.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::auth::SigningKey;
use crate::auth::seal::Sealer;

/// How long somebody may take to log in at the provider, in seconds.
pub const LIFETIME: i64 = 600;
/// What names of such cookies begin with.
pub const COOKIE_PREFIX: &str = "oidcLogin-";
/// So many characters of the state are part of the name.
const NAME_CHARACTERS: usize = 8;
/// So many logins that have been used are remembered, even where all of them are recent.
const USED: usize = 10_000;

/// A login under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pending {
    pub(super) nonce: String,
    pub(super) verifier: String,
    /// The page to go to when it is done.
    pub(super) return_to: String,
    expires: i64,
}

/// Keeps logins in browsers.
#[derive(Debug)]
pub(super) struct PendingLogins {
    sealer: Sealer,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    states: HashSet<String>,
    order: VecDeque<(i64, String)>,
}

/// The name of the cookie that keeps the login with this state.
pub fn cookie_name(state: &str) -> String {
    let allowed = |character: &char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_');
    let part: String = state.chars().filter(allowed).take(NAME_CHARACTERS).collect();
    format!("{COOKIE_PREFIX}{part}")
}

impl PendingLogins {
    pub(super) fn new(key: &SigningKey) -> Self {
        Self { sealer: Sealer::new(key, "login by OpenID Connect"), used: Mutex::default() }
    }

    /// The value of the cookie for a login.
    pub(super) fn keep(&self, state: &str, nonce: &str, verifier: &str, return_to: &str, now: Timestamp) -> String {
        let pending = Pending {
            nonce: nonce.to_owned(),
            verifier: verifier.to_owned(),
            return_to: return_to.to_owned(),
            expires: now.as_second().saturating_add(LIFETIME),
        };
        let text = serde_json::to_string(&pending).expect("texts and a number are always JSON");
        self.sealer.seal(&text, state)
    }

    /// The login with this state, by the value of its cookie, once. `None`: there is none, it has expired, or has been
    /// taken before.
    pub(super) fn take(&self, state: &str, cookie: &str, now: Timestamp) -> Option<Pending> {
        let pending: Pending = serde_json::from_str(&self.sealer.open(cookie, state)?).ok()?;
        if pending.expires <= now.as_second() {
            return None;
        }
        self.used.lock().unwrap_or_else(PoisonError::into_inner).add(state, &pending, now).then_some(pending)
    }
}

impl Used {
    /// Remembers a login; whether it wasn't already.
    fn add(&mut self, state: &str, pending: &Pending, now: Timestamp) -> bool {
        let over = now.as_second();
        while self.order.front().is_some_and(|(expires, _)| *expires <= over) || self.order.len() > USED {
            if let Some((_, state)) = self.order.pop_front() {
                self.states.remove(&state);
            }
        }
        let new = self.states.insert(state.to_owned());
        if new {
            self.order.push_back((pending.expires, state.to_owned()));
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    #[test]
    fn a_login_is_taken_once_by_its_state_and_in_time() {
        let key = SigningKey::generate();
        let logins = PendingLogins::new(&key);
        let cookie = logins.keep("state-1", "nonce", "verifier", "https://labs.example/", at(1000));
        assert!(!cookie.contains("verifier"));
        assert_eq!(logins.take("state-2", &cookie, at(1001)), None, "another state");
        assert_eq!(PendingLogins::new(&SigningKey::generate()).take("state-1", &cookie, at(1001)), None);
        assert_eq!(logins.take("state-1", &cookie, at(1000 + LIFETIME)), None, "too late");
        let pending = logins.take("state-1", &cookie, at(1000 + LIFETIME - 1)).expect("taken");
        assert_eq!((pending.nonce.as_str(), pending.return_to.as_str()), ("nonce", "https://labs.example/"));
        assert_eq!(logins.take("state-1", &cookie, at(1001)), None, "a second time");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let logins = PendingLogins::new(&SigningKey::generate());
        for index in 0..20 {
            let state = format!("state-{index}");
            let cookie = logins.keep(&state, "n", "v", "/", at(1000 * index));
            logins.take(&state, &cookie, at(1000 * index)).expect("taken");
        }
        // Those that have expired are forgotten.
        assert_eq!(logins.used.lock().unwrap().order.len(), 1);
        assert_eq!(logins.used.lock().unwrap().states.len(), 1);
    }

    #[test]
    fn names_of_cookies_are_names_of_cookies() {
        assert_eq!(cookie_name("AB-c_d12345"), "oidcLogin-AB-c_d12");
        assert_eq!(cookie_name("a;b=c\r\nüd"), "oidcLogin-abcd");
        assert_eq!(cookie_name(""), "oidcLogin-");
    }
}
