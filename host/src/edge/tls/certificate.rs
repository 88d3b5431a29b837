//! Reading a certificate and its key from PEM files, and saying plainly what is wrong with them.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use sha2::{Digest, Sha256};

use super::validity::Validity;

/// Longest file that is read, in bytes. A chain with its key has some thousand.
const MOST: u64 = 1 << 20;

/// Why a certificate and its key can't be used. Names the file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("server.tls: {path} can't be read: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It is no file that anybody would keep a certificate in.
    #[error("server.tls: {0} is longer than {MOST} bytes, which is no certificate and no key")]
    TooLong(PathBuf),
    /// There is no certificate in it.
    #[error(
        "server.tls.certificate: {path} holds no certificate: {problem}; it should be a PEM file with the server's \
             certificate first, and those between it and the authority's own after it"
    )]
    NoCertificate {
        /// The file.
        path: PathBuf,
        /// What is there instead.
        problem: String,
    },
    /// There is no key in it.
    #[error(
        "server.tls.key: {path} holds no private key that can be used: {problem}; it should be a PEM file with a key \
             in PKCS#8, SEC1 or PKCS#1"
    )]
    NoKey {
        /// The file.
        path: PathBuf,
        /// What is there instead.
        problem: String,
    },
    /// The key is protected by a passphrase, which nobody is there to say.
    #[error(
        "server.tls.key: the key in {0} is encrypted: decrypt it, as `openssl pkey -in {0} -out key.pem` does, and \
             keep it from other users"
    )]
    Encrypted(PathBuf),
    /// The key is another certificate's.
    #[error(
        "server.tls: the key in {key} is not that of the first certificate in {certificate}: either the files \
             belong to different certificates, or the server's own certificate isn't the first of its chain"
    )]
    Mismatch {
        /// The file with the certificate.
        certificate: PathBuf,
        /// The file with the key.
        key: PathBuf,
    },
}

/// Where certificate and key are.
#[derive(Debug, Clone)]
pub(super) struct Files {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// A certificate and its key, ready for use.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) not_after: Timestamp,
    not_before: Timestamp,
    /// Of what the files hold.
    pub(super) digest: [u8; 32],
    /// The file with the key, if others than its owner may read it.
    open_to_others: Option<PathBuf>,
}

impl Files {
    /// Reads both.
    pub(super) fn read(&self, provider: &CryptoProvider) -> Result<Pair, TlsError> {
        let (certificate, key) = (read(&self.certificate)?, read(&self.key)?);
        let chain = self.chain(&certificate)?;
        let first = chain.first().expect("there is at least one");
        let no_certificate = |problem: String| TlsError::NoCertificate { path: self.certificate.clone(), problem };
        let validity = Validity::of(first).ok_or_else(|| no_certificate("the first one can't be read".to_owned()))?;
        let private = self.private_key(&key)?;
        let certified = CertifiedKey::from_der(chain, private, provider).map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                TlsError::Mismatch { certificate: self.certificate.clone(), key: self.key.clone() }
            }
            Error::InvalidCertificate(error) => no_certificate(format!("the first one can't be used: {error:?}")),
            error => TlsError::NoKey { path: self.key.clone(), problem: error.to_string() },
        })?;
        let mode = fs::metadata(&self.key).map_or(0, |metadata| metadata.permissions().mode());
        Ok(Pair {
            key: Arc::new(certified),
            not_after: validity.not_after,
            not_before: validity.not_before,
            digest: digest(&certificate, &key),
            open_to_others: (mode & 0o004 != 0).then(|| self.key.clone()),
        })
    }

    /// What the files hold, without looking into it; `None`: one of them can't be read.
    pub(super) fn digest(&self) -> Option<[u8; 32]> {
        Some(digest(&read(&self.certificate).ok()?, &read(&self.key).ok()?))
    }

    fn chain(&self, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let problem = |problem: String| TlsError::NoCertificate { path: self.certificate.clone(), problem };
        let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|error| problem(format!("it is no proper PEM ({error})")))?;
        if chain.is_empty() {
            return Err(problem(what_is_there(pem)));
        }
        Ok(chain)
    }

    fn private_key(&self, pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
        if contains(pem, b"BEGIN ENCRYPTED PRIVATE KEY") || contains(pem, b"Proc-Type: 4,ENCRYPTED") {
            return Err(TlsError::Encrypted(self.key.clone()));
        }
        PrivateKeyDer::from_pem_slice(pem)
            .map_err(|_| TlsError::NoKey { path: self.key.clone(), problem: what_is_there(pem) })
    }
}

impl Pair {
    /// Says in the log what somebody should look at, although it works.
    pub(super) fn warn(&self) {
        let now = Timestamp::now();
        if let Some(key) = &self.open_to_others {
            tracing::warn!(key = %key.display(), "every user of this machine may read the key of TLS: `chmod o-r` it");
        }
        if self.not_after <= now {
            tracing::error!(not_after = %self.not_after, "the certificate of TLS has expired: clients will refuse it");
        } else if self.not_before > now {
            tracing::warn!(not_before = %self.not_before, "the certificate of TLS doesn't count yet: clients will refuse it");
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable = |error| TlsError::Unreadable { path: path.to_owned(), error };
    if fs::metadata(path).map_err(unreadable)?.len() > MOST {
        return Err(TlsError::TooLong(path.to_owned()));
    }
    fs::read(path).map_err(unreadable)
}

fn digest(certificate: &[u8], key: &[u8]) -> [u8; 32] {
    let part = |bytes: &[u8]| Sha256::digest(bytes);
    Sha256::new().chain_update(part(certificate)).chain_update(part(key)).finalize().into()
}

/// In words, without anything of what is in it.
fn what_is_there(pem: &[u8]) -> String {
    if pem.trim_ascii().is_empty() {
        return "it is empty".to_owned();
    }
    let text = String::from_utf8_lossy(pem);
    let label = |line: &str| Some(line.trim().strip_prefix("-----BEGIN ")?.strip_suffix("-----")?.to_owned());
    match text.lines().find_map(label) {
        Some(label) if label.len() < 40 => format!("what it holds is {label}"),
        _ => "it isn't in PEM form".to_owned(),
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place {
        dir: tempfile::TempDir,
        files: Files,
    }

    fn place(certificate: &str, key: &str) -> Place {
        let dir = tempfile::tempdir().expect("a folder");
        let files = Files { certificate: dir.path().join("cert.pem"), key: dir.path().join("key.pem") };
        fs::write(&files.certificate, certificate).expect("written");
        fs::write(&files.key, key).expect("written");
        fs::set_permissions(&files.key, fs::Permissions::from_mode(0o600)).expect("chmod");
        Place { dir, files }
    }

    fn generated() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn read(place: &Place) -> Result<Pair, String> {
        place.files.read(&super::super::provider()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_certificate_and_its_key_are_taken_with_the_time_that_they_count_for() {
        let (certificate, key) = generated();
        let place = place(&format!("a comment\n{certificate}{certificate}"), &key);
        let pair = read(&place).expect("they belong together");
        assert_eq!(pair.key.cert.len(), 2);
        // What the generator writes unless told otherwise.
        assert_eq!(pair.not_after.to_string(), "4096-01-01T00:00:00Z");
        assert_eq!(pair.open_to_others, None);
        assert_eq!(Some(pair.digest), place.files.digest());
        fs::set_permissions(&place.files.key, fs::Permissions::from_mode(0o644)).expect("chmod");
        assert!(read(&place).expect("it works").open_to_others.is_some());
        drop(place.dir);
    }

    #[test]
    fn what_is_wrong_is_said_with_the_file_and_without_its_secrets() {
        let (certificate, key) = generated();
        let (_, other) = generated();
        let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        let broken = certificate.replace("MII", "!!!");
        for (certificate, key, file, words) in [
            (certificate.as_str(), other.as_str(), "key.pem", "is not that of the first certificate"),
            (&certificate, &encrypted, "key.pem", "encrypted"),
            (&certificate, "", "key.pem", "it is empty"),
            (&certificate, &certificate, "key.pem", "what it holds is CERTIFICATE"),
            (&certificate, "nonsense", "key.pem", "it isn't in PEM form"),
            (&key, &key, "cert.pem", "what it holds is PRIVATE KEY"),
            (&broken, &key, "cert.pem", "holds no certificate"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &key, "cert.pem", "can't be read"),
        ] {
            let error = read(&place(certificate, key)).expect_err(words);
            assert!(error.contains(file) && error.contains(words) && error.contains("server.tls"), "{words}: {error}");
            assert!(!error.contains("MI"), "{error}");
        }
        let gone = place(&certificate, &key);
        fs::remove_file(&gone.files.key).expect("removed");
        let error = read(&gone).expect_err("no key");
        assert!(error.contains("key.pem") && error.contains("No such file"), "{error}");
        assert_eq!(gone.files.digest(), None);
    }
}
