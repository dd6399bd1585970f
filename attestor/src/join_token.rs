//! Join tokens: proof that somebody who may admit devices gave this one a secret, without sending the secret.

use std::fmt;
use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use crate::durable;

/// Longest token file in bytes; a token takes 101 and a line end.
const MAX_FILE: u64 = 1024;
/// Bytes of the public part.
const ID: usize = 16;
/// Bytes of the secret.
const SECRET: usize = 32;

/// A join token: `ts1.<id, 16 bytes hex>.<secret, 32 bytes hex>`.
pub struct JoinToken {
    id: String,
    secret: Zeroizing<[u8; SECRET]>,
}

/// The join token cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JoinTokenError {
    /// The file cannot be read.
    #[error(
        "the join token {} cannot be read: {source}; put one there from `touchstone token create`, or remove \
         join_token_file from the configuration", file.display()
    )]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// It is no token.
    #[error(
        "{} holds no join token (ts1.<32 hex digits>.<64 hex digits>); copy it whole from `touchstone token create`",
        file.display()
    )]
    Malformed {
        /// The file.
        file: PathBuf,
    },
}

impl JoinToken {
    /// Reads a token from a file.
    pub fn load(file: &Path) -> Result<Self, JoinTokenError> {
        let bytes = durable::read_bounded(file, MAX_FILE)
            .map(Zeroizing::new)
            .map_err(|source| JoinTokenError::Unreadable { file: file.to_owned(), source })?;
        std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| Self::parse(text.trim()))
            .ok_or_else(|| JoinTokenError::Malformed { file: file.to_owned() })
    }

    fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix("ts1.")?.split_once('.')?;
        let mut bytes = [0; ID];
        hex::decode_to_slice(id, &mut bytes).ok()?;
        let mut token = Self { id: hex::encode(bytes), secret: Zeroizing::new([0; SECRET]) };
        hex::decode_to_slice(secret, token.secret.as_mut()).ok()?;
        Some(token)
    }

    /// The public part, by which the broker finds the token.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// HMAC-SHA-256(secret, sealed challenge ‖ EK Name ‖ AK Name): worth nothing for another challenge or TPM.
    #[must_use]
    pub fn prove(&self, sealed: &[u8], ek_name: &[u8], ak_name: &[u8]) -> Vec<u8> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_ref());
        let mut context = hmac::Context::with_key(&key);
        for part in [sealed, ek_name, ak_name] {
            context.update(part);
        }
        context.sign().as_ref().to_vec()
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken {{ id: {} }}", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(content: &str) -> Result<JoinToken, JoinTokenError> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, content).unwrap();
        JoinToken::load(&file)
    }

    #[test]
    fn a_token_is_read_and_its_secret_is_not_shown() {
        let token = load(&format!("ts1.{}.{}\n", "a1".repeat(16), "b2".repeat(32))).unwrap();
        assert_eq!(token.id(), "a1".repeat(16));
        assert!(!format!("{token:?}").contains("b2"));
    }

    #[test]
    fn the_proof_is_the_hmac_of_challenge_and_names() {
        let token = load(&format!("ts1.{}.{}", "00".repeat(16), "0b".repeat(32))).unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &[0x0b; 32]);
        assert_eq!(token.prove(b"se", b"al", b"ed"), hmac::sign(&key, b"sealed").as_ref());
    }

    #[test]
    fn anything_else_is_refused_with_what_to_do() {
        let secret = "b2".repeat(32);
        let cases = [
            String::new(),
            "ts1.a1.b2".into(),
            format!("ts2.{}.{secret}", "a1".repeat(16)),
            "x".repeat(2000),
        ];
        for content in cases {
            assert!(load(&content).unwrap_err().to_string().contains("touchstone token create"));
        }
    }
}
