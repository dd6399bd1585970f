//! EK certificates as they come out of files and TPM NV indices, brought to plain DER.
//!
//! Seen in the field: DER, PEM, a 7-byte TCG header, an OCTET STRING around the certificate, and a fill up to
//! the size of the NV index. One wrapper is taken off, the certificate is cut at the length that its own DER
//! says, and what is left must be fill. Everything else is refused by name.

use std::borrow::Cow;

use super::certificate::MAX_CERTIFICATE;
use super::der::{self, Der, DerError};
use super::pem::{self, PemError};

/// Largest readout: a certificate of the largest size in PEM, with room for comments.
pub const MAX_READOUT: usize = 2 * MAX_CERTIFICATE;

/// Bytes that manufacturers fill an NV index with: erased flash, zeros, and 0x11 on Nuvoton NPCT6xx. A fill is
/// one of them, repeated.
pub const FILL: [u8; 3] = [0xff, 0x00, 0x11];

/// Tag TCG_TAG_PCCLIENT_STORED_CERT (TCG PC Client Specific Implementation Specification for Conventional
/// BIOS, TCG_PCCLIENT_STORED_CERT).
const STORED_CERT: [u8; 2] = [0x10, 0x01];
/// Type TCG_FULL_CERT in that header.
const FULL_CERT_TYPE: u8 = 0;
/// Tag TCG_TAG_PCCLIENT_FULL_CERT, which the header's length counts.
const FULL_CERT: [u8; 2] = [0x10, 0x02];

/// Why a readout holds no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadoutError {
    /// Nothing, or fill alone.
    #[error("the NV index is empty: the manufacturer stored no EK certificate there")]
    Empty,
    /// Larger than any certificate.
    #[error("the EK certificate has {0} bytes, at most {MAX_READOUT} are read")]
    TooLarge(usize),
    /// PEM that cannot be read.
    #[error("the EK certificate's PEM cannot be read")]
    Pem(#[source] PemError),
    /// A PEM file with several certificates.
    #[error(
        "the PEM file holds {0} certificates; give the EK certificate alone and the others as intermediates"
    )]
    SeveralCertificates(usize),
    /// A TCG header that says something else than one full certificate.
    #[error("the 7-byte TCG header of the NV index is not that of a full certificate of its length")]
    Header,
    /// Not DER.
    #[error("the EK certificate is no DER")]
    Der(#[source] DerError),
    /// Neither of the known forms.
    #[error("the EK certificate starts with byte {0:#04x}, which is neither DER, PEM nor a TCG NV header")]
    UnknownForm(u8),
    /// Something follows the certificate.
    #[error("{left} bytes follow the EK certificate and are no fill of ff or 00; the first is {first:#04x}")]
    TrailingBytes {
        /// How many.
        left: usize,
        /// The first of them.
        first: u8,
    },
}

/// The DER of the one certificate in `readout`.
pub fn certificate_in(readout: &[u8]) -> Result<Cow<'_, [u8]>, ReadoutError> {
    if readout.len() > MAX_READOUT {
        return Err(ReadoutError::TooLarge(readout.len()));
    }
    if is_fill(readout) {
        return Err(ReadoutError::Empty);
    }
    if !pem::is_pem(readout) {
        return unwrap(readout).map(Cow::Borrowed);
    }
    let mut certificates = pem::certificates(readout).map_err(ReadoutError::Pem)?;
    match (certificates.pop(), certificates.len()) {
        (Some(certificate), 0) => Ok(Cow::Owned(unwrap(&certificate)?.to_vec())),
        (_, others) => Err(ReadoutError::SeveralCertificates(others.saturating_add(1))),
    }
}

fn unwrap(bytes: &[u8]) -> Result<&[u8], ReadoutError> {
    match bytes {
        [der::SEQUENCE, ..] => cut(bytes, der::SEQUENCE),
        [0x10, ..] => cut(stored_certificate(bytes)?, der::SEQUENCE),
        [der::OCTET_STRING, ..] => {
            let wrapped = cut(bytes, der::OCTET_STRING)?;
            let inside = Der::new(wrapped).any("OCTET STRING").map_err(ReadoutError::Der)?.bytes();
            cut(inside, der::SEQUENCE)
        }
        [first, ..] => Err(ReadoutError::UnknownForm(*first)),
        [] => Err(ReadoutError::Empty),
    }
}

/// What the 7-byte header `10 01 00 <length> 10 02` encloses, length bytes without its own tag.
fn stored_certificate(bytes: &[u8]) -> Result<&[u8], ReadoutError> {
    let (header, rest) = bytes.split_at_checked(7).ok_or(ReadoutError::Header)?;
    let [a, b, kind, high, low, c, d] = header else { return Err(ReadoutError::Header) };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let enclosed = length.checked_sub(FULL_CERT.len()).and_then(|length| rest.split_at_checked(length));
    match enclosed {
        Some((certificate, left))
            if [*a, *b] == STORED_CERT && *kind == FULL_CERT_TYPE && [*c, *d] == FULL_CERT =>
        {
            refuse_surplus(left)?;
            Ok(certificate)
        }
        _ => Err(ReadoutError::Header),
    }
}

/// The element with tag `tag` at the start of `bytes`; what follows must be fill.
fn cut(bytes: &[u8], tag: u8) -> Result<&[u8], ReadoutError> {
    let mut cursor = Der::new(bytes);
    let element = cursor.expect(tag, "certificate").map_err(ReadoutError::Der)?;
    refuse_surplus(cursor.rest())?;
    Ok(element.raw())
}

fn refuse_surplus(left: &[u8]) -> Result<(), ReadoutError> {
    match left {
        [first, ..] if !is_fill(left) => Err(ReadoutError::TrailingBytes { left: left.len(), first: *first }),
        _ => Ok(()),
    }
}

fn is_fill(bytes: &[u8]) -> bool {
    FILL.iter().any(|fill| bytes.iter().all(|byte| byte == fill))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATE: [u8; 5] = [0x30, 3, 2, 1, 1];

    fn reading(parts: &[&[u8]]) -> Result<Vec<u8>, ReadoutError> {
        certificate_in(&parts.concat()).map(Cow::into_owned)
    }

    #[test]
    fn every_known_wrapping_is_taken_off() {
        let header = [0x10, 0x01, 0, 0, 7, 0x10, 0x02];
        for parts in [
            &[&CERTIFICATE[..]][..],
            &[&CERTIFICATE, &[0xff; 9]],
            &[&CERTIFICATE, &[0; 9]],
            &[&CERTIFICATE, &[0x11; 192]],
            &[&header, &CERTIFICATE],
            &[&header, &CERTIFICATE, &[0xff; 3]],
            &[&[4, 5], &CERTIFICATE],
            &[&[4, 5], &CERTIFICATE, &[0; 3]],
            &[b"-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n"],
        ] {
            assert_eq!(reading(parts).unwrap(), CERTIFICATE, "{parts:x?}");
        }
    }

    #[test]
    fn what_is_left_over_is_refused_by_name() {
        let left = |left, first| ReadoutError::TrailingBytes { left, first };
        assert_eq!(reading(&[&CERTIFICATE, &[0x41]]), Err(left(1, 0x41)));
        assert_eq!(reading(&[&CERTIFICATE, &[0xff, 0]]), Err(left(2, 0xff)));
        assert_eq!(reading(&[&CERTIFICATE, &CERTIFICATE]), Err(left(5, 0x30)));
        assert_eq!(reading(&[&[4, 6], &CERTIFICATE, &[7]]), Err(left(1, 7)));
        assert_eq!(reading(&[&[0x10, 1, 0, 0, 7, 0x10, 2], &CERTIFICATE, b"x"]), Err(left(1, 0x78)));
    }

    #[test]
    fn other_forms_are_refused_by_name() {
        assert_eq!(reading(&[]), Err(ReadoutError::Empty));
        assert_eq!(reading(&[&[0xff; 1600]]), Err(ReadoutError::Empty));
        assert_eq!(reading(&[b"hello"]), Err(ReadoutError::UnknownForm(b'h')));
        assert_eq!(reading(&[&[0x10, 1, 1, 0, 7, 0x10, 2], &CERTIFICATE]), Err(ReadoutError::Header));
        assert_eq!(reading(&[&[0x10, 1, 0, 0xff, 7, 0x10, 2], &CERTIFICATE]), Err(ReadoutError::Header));
        assert_eq!(reading(&[&[0x30; 2 * MAX_READOUT]]), Err(ReadoutError::TooLarge(2 * MAX_READOUT)));
        let pem = b"-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n";
        assert_eq!(reading(&[pem, pem]), Err(ReadoutError::SeveralCertificates(2)));
    }
}
