//! Sealed texts: what leaves this server's memory, or goes through a browser, and is only for this server to read and make.
//!
//! `openid` seals the logins under way that a browser keeps in a cookie, and the tokens of the provider that the store
//! keeps. The key is derived from the signing key and the purpose, so that what was sealed for one purpose can't be
//! passed off as something of another, and a copy of the database alone opens nothing.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;

use super::SigningKey;

/// Seals and opens texts of one purpose.
pub(super) struct Sealer(LessSafeKey);

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(…)")
    }
}

impl Sealer {
    pub(super) fn new(key: &SigningKey, purpose: &str) -> Self {
        // Nothing else that is signed with this key holds a NUL but the digests of logins, which begin otherwise.
        let text = format!("sealed\0{purpose}");
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.bytes()), text.as_bytes());
        let key = UnboundKey::new(&CHACHA20_POLY1305, derived.as_ref()).expect("the digest is as long as a key");
        Self(LessSafeKey::new(key))
    }

    /// Seals `text`. It opens only together with the same `label`.
    pub(super) fn seal(&self, text: &str, label: &str) -> String {
        // Random, which is good for some 2^32 texts per key; a login and a refresh make one each.
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce[..]);
        let mut sealed = text.as_bytes().to_vec();
        let aad = Aad::from(label.as_bytes());
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed)
            .expect("it is far from being too long");
        BASE64.encode([&nonce[..], &sealed].concat())
    }

    /// What was sealed with this label; `None`: it wasn't, or has been changed.
    pub(super) fn open(&self, sealed: &str, label: &str) -> Option<String> {
        let bytes = BASE64.decode(sealed).ok()?;
        let (nonce, text) = bytes.split_at_checked(NONCE_LEN)?;
        let mut text = text.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let opened = self.0.open_in_place(nonce, Aad::from(label.as_bytes()), &mut text).ok()?;
        String::from_utf8(opened.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_text_opens_only_as_it_was_sealed() {
        let key = SigningKey::generate();
        let sealer = Sealer::new(&key, "test");
        let sealed = sealer.seal("a secret", "label");
        assert!(!sealed.contains("secret") && sealed != sealer.seal("a secret", "label"));
        assert_eq!(Sealer::new(&key, "test").open(&sealed, "label").as_deref(), Some("a secret"));
        assert_eq!(sealer.open(&sealed, "other"), None);
        assert_eq!(Sealer::new(&key, "other").open(&sealed, "label"), None);
        assert_eq!(Sealer::new(&SigningKey::generate(), "test").open(&sealed, "label"), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            // The last character may stand for bits that don't count; the decoder refuses those that it knows.
            assert_eq!(sealer.open(&changed, "label"), None, "{at}");
        }
        for nonsense in ["", "A", "AAAA", "ü", &"A".repeat(1000)] {
            assert_eq!(sealer.open(nonsense, "label"), None);
        }
    }
}
