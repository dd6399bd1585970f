//! Endorsement key certificates as manufacturers leave them in NV: padded, wrapped, or behind a header.
//!
//! Only the outer DER length is understood here; whether it is a certificate at all is the Verifier's question.

/// Tag, type and size of a stored certificate in the older TCG form (PC Client specification 1.2).
const STORED_CERTIFICATE: [u8; 3] = [0x10, 0x01, 0x00];
/// Tag that follows when the stored certificate is a full one.
const FULL_CERTIFICATE: [u8; 2] = [0x10, 0x02];
/// DER tag of a SEQUENCE, what every certificate starts with.
const SEQUENCE: u8 = 0x30;
/// DER tag of an OCTET STRING, which some manufacturers wrap the certificate in.
const OCTET_STRING: u8 = 0x04;

/// The NV content is no certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum CertificateError {
    #[error("it does not start with a DER certificate")]
    NotDer,
    #[error("the certificate is longer than what is stored")]
    CutShort,
    #[error("the certificate is followed by something other than padding")]
    TrailingData,
}

/// The certificate in an NV index, without header, wrapping and padding (all 00 or all FF).
pub(super) fn trim_certificate(stored: &[u8]) -> Result<Vec<u8>, CertificateError> {
    let (certificate, padding) = split_certificate(stored)?;
    if !is_padding(padding) {
        return Err(CertificateError::TrailingData);
    }
    Ok(certificate.to_vec())
}

/// The certificates of a chain, stored one after another (EK Credential Profile).
pub(super) fn split_chain(stored: &[u8]) -> Result<Vec<Vec<u8>>, CertificateError> {
    let mut chain = Vec::new();
    let mut rest = stored;
    while !is_padding(rest) {
        let (certificate, tail) = split_certificate(rest)?;
        chain.push(certificate.to_vec());
        rest = tail;
    }
    Ok(chain)
}

fn is_padding(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0x00) || bytes.iter().all(|&byte| byte == 0xff)
}

fn split_certificate(stored: &[u8]) -> Result<(&[u8], &[u8]), CertificateError> {
    let bare = strip_header(stored);
    let outer = split_der(bare)?;
    match outer.tag {
        SEQUENCE => Ok((outer.whole, outer.rest)),
        OCTET_STRING => match split_der(outer.content)? {
            Element { tag: SEQUENCE, whole, rest: [], .. } => Ok((whole, outer.rest)),
            _ => Err(CertificateError::NotDer),
        },
        _ => Err(CertificateError::NotDer),
    }
}

fn strip_header(stored: &[u8]) -> &[u8] {
    let Some(sized) = stored.strip_prefix(&STORED_CERTIFICATE) else { return stored };
    let body = sized.get(2..).unwrap_or_default();
    body.strip_prefix(&FULL_CERTIFICATE).unwrap_or(body)
}

/// A DER element and what follows it.
struct Element<'a> {
    tag: u8,
    whole: &'a [u8],
    content: &'a [u8],
    rest: &'a [u8],
}

fn split_der(bytes: &[u8]) -> Result<Element<'_>, CertificateError> {
    let (header, length) = match bytes {
        [_, length @ 0..=0x7f, ..] => (2, usize::from(*length)),
        [_, 0x81, length, ..] => (3, usize::from(*length)),
        // NV indices hold less than 64 KiB, so a longer form of the length cannot be true.
        [_, 0x82, high, low, ..] => (4, usize::from(u16::from_be_bytes([*high, *low]))),
        _ => return Err(CertificateError::NotDer),
    };
    let (whole, rest) = bytes.split_at_checked(header + length).ok_or(CertificateError::CutShort)?;
    let tag = *whole.first().ok_or(CertificateError::NotDer)?;
    Ok(Element { tag, whole, content: whole.get(header..).unwrap_or_default(), rest })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: [u8; 5] = [0x30, 0x03, 0x02, 0x01, 0x05];

    #[test]
    fn a_plain_certificate_is_kept() {
        assert_eq!(trim_certificate(&PLAIN), Ok(PLAIN.to_vec()));
    }

    #[test]
    fn padding_header_and_wrapping_are_removed() {
        let with = |before: &[u8], after: &[u8]| trim_certificate(&[before, &PLAIN, after].concat());
        let expected = Ok(PLAIN.to_vec());
        assert_eq!(with(&[], &[0xff; 40]), expected);
        assert_eq!(with(&[], &[0x00; 40]), expected);
        assert_eq!(with(&[0x10, 0x01, 0x00, 0x00, 0x05], &[]), expected);
        assert_eq!(with(&[0x10, 0x01, 0x00, 0x00, 0x07, 0x10, 0x02], &[0xff; 3]), expected);
        assert_eq!(with(&[0x04, 0x05], &[0x00]), expected);
    }

    #[test]
    fn long_lengths_are_read() {
        let certificate = [&[0x30, 0x82, 0x01, 0x00][..], &[7; 256]].concat();
        assert_eq!(trim_certificate(&certificate), Ok(certificate.clone()));
        let certificate = [&[0x30, 0x81, 0x80][..], &[7; 128]].concat();
        assert_eq!(trim_certificate(&certificate), Ok(certificate.clone()));
    }

    #[test]
    fn anything_else_is_refused_with_its_reason() {
        assert_eq!(trim_certificate(&[]), Err(CertificateError::NotDer));
        assert_eq!(trim_certificate(&[0xff; 64]), Err(CertificateError::NotDer));
        assert_eq!(trim_certificate(&PLAIN[..4]), Err(CertificateError::CutShort));
        assert_eq!(
            trim_certificate(&[&PLAIN[..], &[0x00, 0xff]].concat()),
            Err(CertificateError::TrailingData)
        );
        assert_eq!(trim_certificate(&[0x04, 0x03, 0x02, 0x01, 0x05]), Err(CertificateError::NotDer));
    }

    #[test]
    fn a_chain_is_split_at_each_certificate() {
        let stored = [&PLAIN[..], &PLAIN, &[0xff; 9]].concat();
        assert_eq!(split_chain(&stored), Ok(vec![PLAIN.to_vec(), PLAIN.to_vec()]));
        assert_eq!(split_chain(&[]), Ok(vec![]));
    }
}
