//! MakeCredential in software, without its randomness (TPM 2.0 Part 1, 24; Part 3, 12.6).
//!
//! A credential is a secret that opens only in the TPM that holds the endorsement key, and there
//! only for the object with the given Name. The caller draws seed, secret and ephemeral key and does
//! the one public-key operation:
//!
//! - RSA: draw a seed of [`seed_len`] bytes and encrypt it with OAEP under the EK's hash (also for
//!   MGF1) and the label [`OAEP_LABEL`]; the ciphertext is the encrypted secret.
//! - ECC: agree with a fresh key on the EK's curve, [`ecc_seed`] makes the seed of the shared
//!   x-coordinate, [`ecc_encrypted_secret`] is the encrypted secret.
//!
//! In both cases [`id_object`] then makes the credential blob.

use std::fmt;

use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;

use super::alg::HashAlg;
use super::public::{Curve, EkPublic, Name, PublicKey};

/// OAEP label of a credential's seed, the terminating zero included (TPM 2.0 Part 1, B.10.4).
pub const OAEP_LABEL: &[u8] = b"IDENTITY\0";
/// Length of the secret in bytes: 256 bits, so attempts need not be counted.
pub const SECRET_LEN: usize = 32;

/// A credential cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The seed has not the EK's hash length.
    #[error("the seed has {found} bytes, this endorsement key takes {expected}; draw a seed of that length")]
    SeedLen {
        /// Length that the EK takes.
        expected: usize,
        /// Length of the seed.
        found: usize,
    },
    /// The ephemeral point or the shared coordinate is of another curve.
    #[error("the ephemeral key is not on the endorsement key's curve; draw it on that curve")]
    Curve,
    /// An RSA key where an ECC key is needed.
    #[error("the endorsement key is an RSA key; encrypt the seed with OAEP instead of agreeing on one")]
    NotEcc,
    /// The cryptographic library failed.
    #[error("the credential could not be encrypted; try again")]
    Backend,
}

/// The seed of a credential. It opens the secret, so it is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Seed(Vec<u8>);

impl Seed {
    /// A seed drawn for an RSA endorsement key.
    pub fn new(ek: &EkPublic, bytes: &[u8]) -> Result<Self, CredentialError> {
        let expected = seed_len(ek);
        if bytes.len() != expected {
            return Err(CredentialError::SeedLen { expected, found: bytes.len() });
        }
        Ok(Self(bytes.to_vec()))
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}

/// Length in bytes of the seed of a credential for this EK: that of its hash.
#[must_use]
pub const fn seed_len(ek: &EkPublic) -> usize {
    ek.hash().len()
}

/// The seed of a credential for an ECC endorsement key (TPM 2.0 Part 1, C.6.4).
///
/// `shared_x` is the x-coordinate that the key agreement of `ephemeral` and the EK gave; `ephemeral`
/// is the uncompressed public point of the fresh key. Coordinates are full length on both sides.
pub fn ecc_seed(ek: &EkPublic, shared_x: &[u8], ephemeral: &[u8]) -> Result<Seed, CredentialError> {
    let PublicKey::Ecc { curve, point } = ek.key() else {
        return Err(CredentialError::NotEcc);
    };
    let (ephemeral_x, _) = coordinates(*curve, ephemeral)?;
    let (ek_x, _) = coordinates(*curve, point)?;
    if shared_x.len() != curve.coordinate_len() {
        return Err(CredentialError::Curve);
    }
    Ok(Seed(kdfe(ek.hash(), shared_x, "IDENTITY", ephemeral_x, ek_x, ek.hash().len())))
}

/// The contents of `TPM2B_ENCRYPTED_SECRET` for an ECC endorsement key: the ephemeral point as
/// `TPMS_ECC_POINT`.
pub fn ecc_encrypted_secret(ek: &EkPublic, ephemeral: &[u8]) -> Result<Vec<u8>, CredentialError> {
    let PublicKey::Ecc { curve, .. } = ek.key() else {
        return Err(CredentialError::NotEcc);
    };
    let (x, y) = coordinates(*curve, ephemeral)?;
    Ok([tpm2b(x), tpm2b(y)].concat())
}

/// The contents of `TPM2B_ID_OBJECT`: integrity and encrypted secret for the object named `ak_name`
/// (TPM 2.0 Part 1, 24.4 and 24.5).
pub fn id_object(
    ek: &EkPublic,
    seed: &Seed,
    ak_name: &Name,
    secret: &[u8; SECRET_LEN],
) -> Result<Vec<u8>, CredentialError> {
    let (hash, name) = (ek.hash(), ak_name.to_bytes());
    let aes_key = kdfa(hash, &seed.0, "STORAGE", &name, &[], usize::from(ek.aes_bits() / 8));
    let mut identity = tpm2b(secret);
    encrypt(&aes_key, &mut identity)?;
    let mac_key = kdfa(hash, &seed.0, "INTEGRITY", &[], &[], hash.len());
    let mac = hmac_of(hash, &mac_key, &[&identity, &name]);
    let mut out = tpm2b(&mac);
    out.extend(identity);
    Ok(out)
}

/// KDFa: `len` bytes from `key` (TPM 2.0 Part 1, 11.4.10.2; SP 800-108 in counter mode, HMAC).
#[must_use]
pub fn kdfa(alg: HashAlg, key: &[u8], label: &str, u: &[u8], v: &[u8], len: usize) -> Vec<u8> {
    let bits = u32::try_from(len.saturating_mul(8)).unwrap_or(u32::MAX).to_be_bytes();
    blocks(len, |counter| hmac_of(alg, key, &[&counter, label.as_bytes(), &[0], u, v, &bits]))
}

/// KDFe: `len` bytes from the shared x-coordinate `z` (TPM 2.0 Part 1, 11.4.10.3; SP 800-56A).
/// `len` is a whole number of bytes, so no bits are masked.
#[must_use]
pub fn kdfe(alg: HashAlg, z: &[u8], label: &str, party_u: &[u8], party_v: &[u8], len: usize) -> Vec<u8> {
    blocks(len, |counter| {
        alg.hash(&[&counter, z, label.as_bytes(), &[0], party_u, party_v]).as_bytes().to_vec()
    })
}

/// The first `len` bytes of `block(1) ‖ block(2) ‖ …`.
fn blocks(len: usize, block: impl Fn([u8; 4]) -> Vec<u8>) -> Vec<u8> {
    (1_u32..).flat_map(|counter| block(counter.to_be_bytes())).take(len).collect()
}

fn hmac_of(alg: HashAlg, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let algorithm = match alg {
        HashAlg::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        HashAlg::Sha256 => hmac::HMAC_SHA256,
        HashAlg::Sha384 => hmac::HMAC_SHA384,
        HashAlg::Sha512 => hmac::HMAC_SHA512,
    };
    let mut context = hmac::Context::with_key(&hmac::Key::new(algorithm, key));
    for part in parts {
        context.update(part);
    }
    context.sign().as_ref().to_vec()
}

/// AES-CFB with a zero IV: the key is fresh for each credential (TPM 2.0 Part 1, 24.4).
fn encrypt(key: &[u8], in_out: &mut [u8]) -> Result<(), CredentialError> {
    let algorithm = if key.len() == 16 { &AES_128 } else { &AES_256 };
    let key = UnboundCipherKey::new(algorithm, key).map_err(|_| CredentialError::Backend)?;
    let key = EncryptingKey::cfb128(key).map_err(|_| CredentialError::Backend)?;
    let iv = EncryptionContext::Iv128(FixedLength::from(&[0; 16]));
    key.less_safe_encrypt(in_out, iv).map(drop).map_err(|_| CredentialError::Backend)
}

/// The coordinates of an uncompressed point.
fn coordinates(curve: Curve, point: &[u8]) -> Result<(&[u8], &[u8]), CredentialError> {
    let len = curve.coordinate_len();
    match point.split_first() {
        Some((4, rest)) if rest.len() == len.saturating_mul(2) => {
            rest.split_at_checked(len).ok_or(CredentialError::Curve)
        }
        _ => Err(CredentialError::Curve),
    }
}

/// Length and bytes; everything here is shorter than 64 KiB.
fn tpm2b(bytes: &[u8]) -> Vec<u8> {
    let mut out = u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes().to_vec();
    out.extend_from_slice(bytes);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector of wolfTPM's self-test (test_TPM2_KDFa).
    #[test]
    fn kdfa_gives_the_published_key() {
        let key = hex::decode("271fa08bbdc5060ec3dfa928ff9b73123a12da0c").unwrap();
        let u = hex::decode("ce244f395dca7391").unwrap();
        let v = hex::decode("da504031ddf12e83").unwrap();
        let derived = kdfa(HashAlg::Sha256, &key, "KDFSELFTESTLABEL", &u, &v, 20);
        assert_eq!(hex::encode(derived), "bb0259e1c8ba607e6a2cd704b69a902e9ade84c4");
    }

    #[test]
    fn derived_keys_span_blocks() {
        let long = kdfa(HashAlg::Sha256, b"k", "L", b"u", b"v", 48);
        assert_eq!(long.len(), 48);
        assert_eq!(
            kdfe(HashAlg::Sha256, b"z", "L", b"u", b"v", 48)[..32],
            kdfe(HashAlg::Sha256, b"z", "L", b"u", b"v", 32)
        );
    }

    #[test]
    fn a_seed_is_not_shown() {
        assert_eq!(format!("{:?}", Seed(vec![1; 32])), "Seed(..)");
    }
}
