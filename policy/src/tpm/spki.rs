//! SubjectPublicKeyInfo of TPM keys (RFC 5280, section 4.1.2.7; RFC 3279; RFC 5480).
//!
//! One encoding for each key, whatever its scheme: an RSA key is always `rsaEncryption`, also where
//! a certificate says id-RSAES-OAEP or RSASSA-PSS, and a point is always uncompressed. So equal keys
//! have equal bytes, and a digest of these bytes names a key.

use super::public::{Curve, PublicKey};

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;

/// AlgorithmIdentifier rsaEncryption with NULL parameters (RFC 3279, section 2.3.1).
const RSA: [u8; 15] =
    [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
/// OID id-ecPublicKey (RFC 5480, section 2.1.1).
const EC: [u8; 9] = [0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// OID secp256r1 (RFC 5480, section 2.1.1.1).
const P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// OID secp384r1
const P384: [u8; 7] = [0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
/// OID secp521r1
const P521: [u8; 7] = [0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23];

/// The key's SubjectPublicKeyInfo in DER.
pub(super) fn encode(key: &PublicKey) -> Vec<u8> {
    match key {
        PublicKey::Rsa { modulus, exponent } => {
            let key = tlv(SEQUENCE, &[&integer(modulus), &integer(&exponent.to_be_bytes())]);
            tlv(SEQUENCE, &[&RSA, &tlv(BIT_STRING, &[&[0], &key])])
        }
        PublicKey::Ecc { curve, point } => {
            let curve: &[u8] = match curve {
                Curve::P256 => &P256,
                Curve::P384 => &P384,
                Curve::P521 => &P521,
            };
            tlv(SEQUENCE, &[&tlv(SEQUENCE, &[&EC, curve]), &tlv(BIT_STRING, &[&[0], point])])
        }
    }
}

/// An ECDSA-Sig-Value of two unsigned numbers (RFC 3279, section 2.2.3).
pub(crate) fn ecdsa_signature(r: &[u8], s: &[u8]) -> Vec<u8> {
    tlv(SEQUENCE, &[&integer(r), &integer(s)])
}

/// An INTEGER of an unsigned big-endian number (X.690, 8.3).
fn integer(number: &[u8]) -> Vec<u8> {
    let first = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    let digits = number.get(first..).unwrap_or_default();
    match digits.first() {
        Some(high) if high & 0x80 == 0 => tlv(INTEGER, &[digits]),
        _ => tlv(INTEGER, &[&[0], digits]),
    }
}

/// Tag, length, value (X.690, 8.1).
fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let digits: Vec<u8> = len.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
    let mut out = vec![tag];
    if len < 0x80 {
        out.push(len.to_le_bytes()[0]);
    } else {
        out.push(0x80 | digits.len().to_le_bytes()[0]);
        out.extend(digits);
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_unsigned_and_minimal() {
        assert_eq!(integer(&[0, 0, 1]), [2, 1, 1]);
        assert_eq!(integer(&[0x80]), [2, 2, 0, 0x80]);
        assert_eq!(integer(&[0, 0]), [2, 1, 0]);
    }

    #[test]
    fn long_lengths_take_a_length_of_length() {
        assert_eq!(&tlv(0x30, &[&[7; 127]])[..2], [0x30, 127]);
        assert_eq!(&tlv(0x30, &[&[7; 200]])[..3], [0x30, 0x81, 200]);
        assert_eq!(&tlv(0x30, &[&[7; 300]])[..4], [0x30, 0x82, 1, 44]);
    }
}
