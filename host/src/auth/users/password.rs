//! Hashes of passwords: argon2id, in the usual form (`$argon2id$v=19$m=…,t=…,p=…$salt$hash`).
//!
//! Blocks for as long as hashing takes, which is meant to be long: callers see to it that it isn't done on a thread that
//! others wait for, nor too often at once (`super::super::logins`).

use std::fmt;

use argon2::password_hash::phc::PasswordHash as Phc;
use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _};

/// The shortest password that is taken, in characters.
pub const MIN_CHARACTERS: usize = 8;
/// The longest, in bytes: longer ones are a mistake, and would only cost time.
pub const MAX_BYTES: usize = 1024;

/// The most memory that checking one password may take, in KiB. Whoever writes the file doesn't mean to take the server
/// down by it.
const MAX_MEMORY: u32 = 1 << 20;
/// The most rounds over it.
const MAX_ROUNDS: u32 = 64;
/// The most lanes.
const MAX_LANES: u32 = 64;

/// Why a password isn't taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordProblem {
    /// It can be guessed.
    #[error("a password needs at least {MIN_CHARACTERS} characters")]
    TooShort,
    /// It is no password.
    #[error("a password has at most {MAX_BYTES} bytes")]
    TooLong,
}

/// The hash of a password. `Debug` doesn't show it.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

impl PasswordHash {
    /// Hashes a password, with a salt of its own.
    ///
    /// # Errors
    /// [`PasswordProblem`].
    pub fn of(password: &str) -> Result<Self, PasswordProblem> {
        if password.chars().count() < MIN_CHARACTERS {
            return Err(PasswordProblem::TooShort);
        }
        if password.len() > MAX_BYTES {
            return Err(PasswordProblem::TooLong);
        }
        // The crate's own figures: 19 MiB, twice over, which is what is recommended for servers.
        let hash = Argon2::default().hash_password(password.as_bytes());
        Ok(Self(hash.expect("the parameters are right, and the system has random numbers").to_string()))
    }

    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence.
    pub fn read(text: &str) -> Result<Self, String> {
        let remedy = "`antimony-host user set-password` writes a right one";
        // What is said is never the text: it may well be the password itself.
        let hash = Phc::new(text).map_err(|_| format!("this is no hash of a password; {remedy}"))?;
        if hash.algorithm.as_str() != Algorithm::Argon2id.as_str() || hash.salt.is_none() || hash.hash.is_none() {
            return Err(format!("only whole hashes by argon2id are taken; {remedy}"));
        }
        let params = Params::try_from(&hash).map_err(|error| format!("the hash has wrong parameters: {error}"))?;
        if params.m_cost() > MAX_MEMORY || params.t_cost() > MAX_ROUNDS || params.p_cost() > MAX_LANES {
            let most = format!("m={MAX_MEMORY},t={MAX_ROUNDS},p={MAX_LANES}");
            return Err(format!("the hash would take too much memory or time to check; at most {most} is possible"));
        }
        Ok(Self(text.to_owned()))
    }

    /// Whether it is that of this password.
    pub fn is_of(&self, password: &str) -> bool {
        // Of a longer one there is no hash; the time is taken all the same.
        let end = password.floor_char_boundary(MAX_BYTES);
        let hash = Phc::new(&self.0).expect("it was read before");
        Argon2::default().verify_password(&password.as_bytes()[..end], &hash).is_ok() && end == password.len()
    }

    /// As it is written down.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_of_one_password_alone() {
        let hash = PasswordHash::of("correct horse").expect("hashed");
        assert!(hash.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.as_str());
        let read = PasswordHash::read(hash.as_str()).expect("read");
        assert!(read.is_of("correct horse"));
        for wrong in ["", "correct horse ", "Correct horse", &"x".repeat(5000)] {
            assert!(!read.is_of(wrong));
        }
        assert_ne!(hash, PasswordHash::of("correct horse").expect("hashed"), "each has a salt of its own");
        assert_eq!(format!("{hash:?}"), "PasswordHash(…)");
    }

    #[test]
    fn passwords_that_are_too_short_or_too_long_are_refused() {
        assert_eq!(PasswordHash::of("sevench"), Err(PasswordProblem::TooShort));
        assert_eq!(PasswordHash::of(&"x".repeat(MAX_BYTES + 1)), Err(PasswordProblem::TooLong));
        let longest = "x".repeat(MAX_BYTES);
        let hash = PasswordHash::of(&longest).expect("hashed");
        assert!(hash.is_of(&longest) && !hash.is_of(&format!("{longest}y")));
    }

    #[test]
    fn what_is_no_hash_or_would_cost_too_much_is_refused_without_repeating_it() {
        let good = PasswordHash::of("correct horse").expect("hashed").as_str().to_owned();
        for bad in [
            "hunter2hunter2".to_owned(),
            String::new(),
            "$2b$12$EixZaYVK1fsbw1ZfbX3OXePaWxn96p36WQoeG6Lruj3vjPGga31lW".to_owned(),
            good.replace("argon2id", "argon2i"),
            good.replace("m=19456", "m=4000000"),
            good.replace("t=2", "t=1000"),
            good.rsplit_once('$').expect("parts").0.to_owned(),
        ] {
            let refused = PasswordHash::read(&bad).expect_err(&bad);
            assert!(!refused.contains("hunter2") && !refused.is_empty(), "{refused}");
        }
    }
}
