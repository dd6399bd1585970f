//! An IDevID key in a PKCS#8 file, and its signatures in the form of a TPM's.

use policy::digest::Digest;
use policy::tpm::alg::HashAlg;
use policy::x509::der::{self, Der, DerError};
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, PublicKeyData, SigningKey,
};
use rustls::pki_types::PrivatePkcs8KeyDer;

/// TPM_ALG_ID of the signatures (TPM 2.0 part 2, section 6.3).
const ALG_RSASSA: u16 = 0x0014;
const ALG_ECDSA: u16 = 0x0018;

/// The key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileKeyError {
    /// Not PKCS#8, or damaged.
    #[error("it holds no private key in PKCS#8")]
    Parse(#[source] rcgen::Error),
    /// Of a kind that IDevIDs do not have.
    #[error("its key is none of P-256, P-384 or RSA")]
    Kind,
    /// The library refused to sign.
    #[error("its key does not sign")]
    Sign(#[source] rcgen::Error),
    /// The library gave something else than a signature.
    #[error("its key does not sign")]
    Signature(#[source] DerError),
}

/// A key in memory. It signs as 802.1AR-2018, section 9, asks: ECDSA with the hash of the curve's size, or RSASSA with SHA-256.
pub(super) struct FileKey {
    pair: KeyPair,
    hash: HashAlg,
    algorithm: u16,
}

impl std::fmt::Debug for FileKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FileKey(..)")
    }
}

impl FileKey {
    pub(super) fn parse(pkcs8: &[u8]) -> Result<Self, FileKeyError> {
        let pair = KeyPair::try_from(&PrivatePkcs8KeyDer::from(pkcs8)).map_err(FileKeyError::Parse)?;
        let kinds = [
            (&PKCS_ECDSA_P256_SHA256, HashAlg::Sha256, ALG_ECDSA),
            (&PKCS_ECDSA_P384_SHA384, HashAlg::Sha384, ALG_ECDSA),
            (&PKCS_RSA_SHA256, HashAlg::Sha256, ALG_RSASSA),
        ];
        let kind = kinds.into_iter().find(|(kind, ..)| *kind == pair.algorithm());
        let (_, hash, algorithm) = kind.ok_or(FileKeyError::Kind)?;
        Ok(Self { pair, hash, algorithm })
    }

    /// SHA-256 of its SubjectPublicKeyInfo.
    pub(super) fn digest(&self) -> Digest {
        Digest::of(&self.pair.subject_public_key_info())
    }

    /// TPMT_SIGNATURE over `message`.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, FileKeyError> {
        let signature = self.pair.sign(message).map_err(FileKeyError::Sign)?;
        let parts = match self.algorithm {
            ALG_ECDSA => numbers(&signature).map_err(FileKeyError::Signature)?,
            _ => vec![signature],
        };
        let mut out = [self.algorithm.to_be_bytes(), self.hash.id().to_be_bytes()].concat();
        for part in parts {
            // No signature has 64 KiB.
            out.extend(u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes());
            out.extend(part);
        }
        Ok(out)
    }
}

/// r and s of an Ecdsa-Sig-Value (RFC 3279, section 2.2.3), without what keeps them positive.
fn numbers(signature: &[u8]) -> Result<Vec<Vec<u8>>, DerError> {
    let mut inside = Der::new(signature).expect(der::SEQUENCE, "signature")?.inside();
    let mut number = |name| -> Result<Vec<u8>, DerError> {
        let bytes = inside.expect(der::INTEGER, name)?.bytes();
        Ok(bytes.strip_prefix(&[0]).unwrap_or(bytes).to_vec())
    };
    Ok(vec![number("r")?, number("s")?])
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P384_SHA384_ASN1, UnparsedPublicKey};
    use policy::tpm::signature::Signature;

    use super::*;

    #[test]
    fn signatures_are_those_of_a_tpm_with_the_same_key() {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        let key = FileKey::parse(&pair.serialize_der()).unwrap();
        assert_eq!(key.digest(), Digest::of(&pair.subject_public_key_info()));
        for _ in 0..20 {
            let signed = key.sign(b"session").unwrap();
            let Signature::Ecdsa { hash: HashAlg::Sha384, r, s } = Signature::parse(&signed).unwrap() else {
                panic!("ECDSA with the hash of the curve's size")
            };
            let [r, s] = [r, s].map(der::encode_unsigned);
            let asn1 = der::encode(der::SEQUENCE, &[&r, &s]);
            let public = UnparsedPublicKey::new(&ECDSA_P384_SHA384_ASN1, pair.der_bytes());
            public.verify(b"session", &asn1).unwrap();
        }
    }

    #[test]
    fn a_key_of_another_kind_is_refused() {
        let other = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        assert!(matches!(FileKey::parse(&other.serialize_der()), Err(FileKeyError::Kind)));
        assert!(matches!(FileKey::parse(b"no key"), Err(FileKeyError::Parse(_))));
    }
}
