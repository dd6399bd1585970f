//! PEM armour around certificates (RFC 7468), as bundles of manufacturers' roots have it.
//!
//! Text between the blocks is ignored: bundles carry comments. A block of another kind is refused by name,
//! so that a private key or a CRL is not passed over in silence.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::der::SEQUENCE;

/// Most certificates in one bundle: all known TPM manufacturers together have fewer than 300.
pub const MAX_BUNDLE_CERTIFICATES: usize = 2048;

const BEGIN: &str = "-----BEGIN ";
const DASHES: &str = "-----";
const LABEL: &str = "CERTIFICATE";

/// Why a PEM file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// Not text.
    #[error("the PEM file is no UTF-8 text")]
    NotText,
    /// There is no block.
    #[error("there is no block `-----BEGIN CERTIFICATE-----`")]
    Empty,
    /// There is no public key.
    #[error("there is no block `-----BEGIN PUBLIC KEY-----`")]
    NoPublicKey,
    /// A block of another kind.
    #[error("PEM block {number} is a `{label}`; only CERTIFICATE blocks belong here")]
    Label {
        /// Which block, counted from 1.
        number: usize,
        /// Its label, cut to 40 characters.
        label: String,
    },
    /// A block without end, or whose contents are not base64.
    #[error("PEM block {number} is cut or not base64")]
    Block {
        /// Which block, counted from 1.
        number: usize,
    },
    /// Too many blocks.
    #[error("the PEM file has more than {MAX_BUNDLE_CERTIFICATES} blocks; split it")]
    TooMany,
}

/// The DER of each certificate of a PEM file, in order; at least one.
pub fn certificates(pem: &[u8]) -> Result<Vec<Vec<u8>>, PemError> {
    let mut rest = std::str::from_utf8(pem).map_err(|_| PemError::NotText)?;
    let mut found = Vec::new();
    while let Some((_, block)) = rest.split_once(BEGIN) {
        let number = found.len().saturating_add(1);
        if number > MAX_BUNDLE_CERTIFICATES {
            return Err(PemError::TooMany);
        }
        let (label, body) = block.split_once(DASHES).ok_or(PemError::Block { number })?;
        if label != LABEL {
            return Err(PemError::Label { number, label: label.chars().take(40).collect() });
        }
        let end = body.split_once("-----END CERTIFICATE-----").ok_or(PemError::Block { number })?;
        let digits: String = end.0.split_ascii_whitespace().collect();
        found.push(STANDARD.decode(digits).map_err(|_| PemError::Block { number })?);
        rest = end.1;
    }
    if found.is_empty() { Err(PemError::Empty) } else { Ok(found) }
}

/// The contents of a PEM file that holds one public key, as `openssl pkey -pubout` writes it.
pub fn public_key(pem: &[u8]) -> Result<Vec<u8>, PemError> {
    const END: &str = "-----END PUBLIC KEY-----";
    let text = std::str::from_utf8(pem).map_err(|_| PemError::NotText)?;
    let (_, block) = text.split_once("-----BEGIN PUBLIC KEY-----").ok_or(PemError::NoPublicKey)?;
    let (body, _) = block.split_once(END).ok_or(PemError::Block { number: 1 })?;
    let digits: String = body.split_ascii_whitespace().collect();
    STANDARD.decode(digits).map_err(|_| PemError::Block { number: 1 })
}

/// Whether the bytes look like PEM rather than DER, in whose text a PEM block could be quoted.
#[must_use]
pub fn is_pem(bytes: &[u8]) -> bool {
    bytes.first() != Some(&SEQUENCE) && bytes.windows(BEGIN.len()).any(|window| window == BEGIN.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_between_blocks_are_ignored() {
        let text = "# a\n-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n# b\r\n\
                    -----BEGIN CERTIFICATE-----\r\nMAMC\r\nAQE=\r\n-----END CERTIFICATE-----\r\n";
        assert_eq!(certificates(text.as_bytes()).unwrap(), [vec![0x30, 0], vec![0x30, 3, 2, 1, 1]]);
    }

    #[test]
    fn other_blocks_are_refused_by_name() {
        let refusal = |text: &str| certificates(text.as_bytes()).unwrap_err();
        let label = "PRIVATE KEY".to_owned();
        assert_eq!(refusal("-----BEGIN PRIVATE KEY-----\n"), PemError::Label { number: 1, label });
        assert_eq!(refusal("-----BEGIN CERTIFICATE-----\nMAA=\n"), PemError::Block { number: 1 });
        let body = "-----BEGIN CERTIFICATE-----\nM!A=\n-----END CERTIFICATE-----";
        assert_eq!(refusal(body), PemError::Block { number: 1 });
        assert_eq!(refusal("hello"), PemError::Empty);
    }
}
