//! Version 1 of signed files: `struct signature_hdr` of Linux (`include/linux/digsig.h`, `lib/digsig.c`), as
//! evmctl made it before Linux 3.7.
//!
//! It signs SHA-1(digest of the file ‖ header) by bare RSA: type 1 padding of PKCS #1 v1.5 (RFC 8017, section
//! 9.2) around a hash that nothing names. SHA-1 collides, so a key's version 1 signatures count only where a
//! release lists the key for them.

use num_bigint::BigUint;

use crate::reader::{ReadError, Reader};
use crate::tpm::alg::HashAlg;
use crate::x509::spki::SubjectKey;

/// `PUBKEY_ALGO_RSA`.
const RSA: u8 = 0;
/// Bytes of the header, which the signature covers.
const HEADER: usize = 16;
/// Longest signature in bytes: RSA 4096, twice.
const MAX_SIGNATURE: usize = 1024;
/// Fewest bytes of padding (RFC 8017, section 9.2).
const MIN_PADDING: usize = 8;

/// A key as version 1 signatures name and use it.
#[derive(Clone)]
pub(super) struct Version1Key {
    modulus: BigUint,
    exponent: BigUint,
    /// Bytes of the modulus.
    len: usize,
    id: [u8; 8],
}

impl Version1Key {
    /// The key, if it is RSA. Its numbers were validated before.
    pub(super) fn of(key: &SubjectKey) -> Option<Self> {
        let SubjectKey::Rsa { modulus, exponent } = key else { return None };
        let (n, e) = (BigUint::from_bytes_be(modulus), BigUint::from_bytes_be(exponent));
        // `struct pubkey_hdr`: version 1, no time, RSA, two numbers.
        let blob = [&[1, 0, 0, 0, 0, RSA, 2][..], &number(&n)?, &number(&e)?];
        let id = *HashAlg::Sha1.hash(&blob).as_bytes().last_chunk()?;
        Some(Self { modulus: n, exponent: e, len: modulus.len(), id })
    }

    /// Whether `signature` is of this key, over the digest of a file.
    pub(super) fn verify(&self, signature: &Version1<'_>, digest: &[u8]) -> bool {
        let number = BigUint::from_bytes_be(signature.bytes);
        if number >= self.modulus {
            return false;
        }
        let opened = number.modpow(&self.exponent, &self.modulus).to_bytes_be();
        let hash = HashAlg::Sha1.hash(&[digest, signature.header]);
        self.padded(hash.as_bytes()).is_some_and(|expected| expected == opened)
    }

    /// 01 FF … FF 00 hash: the leading zero byte of the padding is lost in the number.
    fn padded(&self, hash: &[u8]) -> Option<Vec<u8>> {
        let padding = self.len.checked_sub(hash.len().checked_add(3)?)?;
        let filled = vec![0xff; padding];
        (padding >= MIN_PADDING).then(|| [&[1][..], &filled, &[0], hash].concat())
    }

    /// Whether `signature` names this key.
    pub(super) fn is_named_by(&self, signature: &Version1<'_>) -> bool {
        self.id == signature.key
    }
}

/// A number as OpenPGP writes it (RFC 4880, section 3.2): its length in bits, then its bytes.
fn number(value: &BigUint) -> Option<Vec<u8>> {
    let bits = u16::try_from(value.bits()).ok()?;
    Some([&bits.to_be_bytes()[..], &value.to_bytes_be()].concat())
}

/// A version 1 signature.
pub(super) struct Version1<'a> {
    header: &'a [u8],
    /// Last bytes of the SHA-1 of the key.
    key: [u8; 8],
    bytes: &'a [u8],
}

impl<'a> Version1<'a> {
    /// Reads what follows the attribute's type.
    pub(super) fn parse(value: &'a [u8]) -> Result<Self, ReadError> {
        let mut reader = Reader::new(value);
        let header = reader.take(HEADER, "signature header")?;
        let bits = usize::from(reader.u16_be("bits of the signature")?);
        let len = bits.div_ceil(8).min(MAX_SIGNATURE);
        let bytes = reader.take(len, "signature")?;
        reader.finish("signature")?;
        let mut fields = Reader::new(header);
        fields.array::<5>("version and time")?;
        if fields.u8("algorithm")? != RSA {
            return Err(ReadError::Invalid { offset: fields.offset(), what: "the algorithm is not RSA" });
        }
        // Which hash the file's digest is of: Linux does not read it.
        fields.u8("hash")?;
        let key = fields.array("key id")?;
        if fields.u8("count of numbers")? != 1 {
            return Err(ReadError::Invalid { offset: fields.offset(), what: "a signature is one number" });
        }
        Ok(Self { header, key, bytes })
    }

    /// The end of the key's id, as other versions name keys.
    pub(super) const fn short_id(&self) -> u32 {
        let [_, _, _, _, a, b, c, d] = self.key;
        u32::from_be_bytes([a, b, c, d])
    }
}
