//! The certificate that a peer showed, as software passes it on.

use percent_encoding::percent_decode;

/// Longest text of a certificate in bytes: one of ours takes 1 KiB as PEM, and nginx escapes some of it.
pub const MAX_SHOWN: usize = 32 * 1024;

/// The certificate in a file: one PEM block, or DER. None if it is neither. Of a chain the first is the peer's.
#[must_use]
pub fn certificate(bytes: &[u8]) -> Option<Vec<u8>> {
    if bytes.len() > MAX_SHOWN {
        return None;
    }
    match bytes.first() {
        // SEQUENCE: whether it is a certificate is for whoever reads it.
        Some(0x30) => Some(bytes.to_vec()),
        _ => {
            let blocks = pem::parse_many(bytes).ok()?;
            let first = blocks.into_iter().next().filter(|block| block.tag() == "CERTIFICATE")?;
            Some(first.into_contents())
        }
    }
}

/// The certificate in a header, percent-encoded PEM (nginx: `$ssl_client_escaped_cert`).
#[must_use]
pub fn escaped(header: &[u8]) -> Option<Vec<u8>> {
    if header.len() > MAX_SHOWN {
        return None;
    }
    certificate(&percent_decode(header).collect::<Vec<u8>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_read_in_every_form_that_it_is_passed_on_in() {
        let key = rcgen::KeyPair::generate().unwrap();
        let made = rcgen::CertificateParams::default().self_signed(&key).unwrap();
        let (der, pem) = (made.der().to_vec(), made.pem());
        let header =
            percent_encoding::utf8_percent_encode(&pem, percent_encoding::NON_ALPHANUMERIC).to_string();
        assert_eq!(certificate(&der), Some(der.clone()));
        assert_eq!(certificate(pem.repeat(2).as_bytes()), Some(der.clone()), "the leaf of a chain");
        assert_eq!(escaped(header.as_bytes()), Some(der));
        assert_eq!(certificate(key.serialize_pem().as_bytes()), None, "a key is no certificate");
        for nothing in ["", "-", "%2d%2d", "%", "-----BEGIN CERTIFICATE-----"] {
            assert_eq!(escaped(nothing.as_bytes()), None, "{nothing}");
        }
        assert_eq!(escaped("a".repeat(MAX_SHOWN + 1).as_bytes()), None);
    }
}
