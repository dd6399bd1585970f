//! Object identifiers as the bytes they have on the wire, and their dotted text for messages.
//!
//! They are compared as bytes: a decoder that gets an arc above 127 wrong would then spoil a message only.

use x509_cert::der::asn1::ObjectIdentifier;

/// rsaEncryption, 1.2.840.113549.1.1.1 (RFC 8017, appendix A.1)
pub const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// sha1WithRSAEncryption, 1.2.840.113549.1.1.5
pub const SHA1_WITH_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05];
/// id-RSAES-OAEP, 1.2.840.113549.1.1.7 (RFC 4055, section 4.1): on EKs of STMicroelectronics
pub const RSAES_OAEP: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x07];
/// id-mgf1, 1.2.840.113549.1.1.8
pub const MGF1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08];
/// id-RSASSA-PSS, 1.2.840.113549.1.1.10 (RFC 4055, section 3.1)
pub const RSASSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];
/// sha256WithRSAEncryption, 1.2.840.113549.1.1.11
pub const SHA256_WITH_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
/// sha384WithRSAEncryption, 1.2.840.113549.1.1.12
pub const SHA384_WITH_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c];
/// sha512WithRSAEncryption, 1.2.840.113549.1.1.13
pub const SHA512_WITH_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d];

/// id-ecPublicKey, 1.2.840.10045.2.1 (RFC 5480, section 2.1.1)
pub const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// secp256r1, 1.2.840.10045.3.1.7
pub const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// secp384r1, 1.3.132.0.34
pub const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
/// secp521r1, 1.3.132.0.35
pub const P521: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23];
/// ecdsa-with-SHA1, 1.2.840.10045.4.1
pub const ECDSA_WITH_SHA1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01];
/// ecdsa-with-SHA256, 1.2.840.10045.4.3.2 (RFC 5758, section 3.2)
pub const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
/// ecdsa-with-SHA384, 1.2.840.10045.4.3.3
pub const ECDSA_WITH_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];
/// ecdsa-with-SHA512, 1.2.840.10045.4.3.4
pub const ECDSA_WITH_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04];

/// id-sha256, 2.16.840.1.101.3.4.2.1 (RFC 4055, section 2.1)
pub const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
/// id-sha384, 2.16.840.1.101.3.4.2.2
pub const SHA384: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02];
/// id-sha512, 2.16.840.1.101.3.4.2.3
pub const SHA512: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03];

/// id-at-commonName, 2.5.4.3 (RFC 5280, appendix A.1)
pub const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// id-at-organizationName, 2.5.4.10 (RFC 5280, appendix A.1)
pub const ORGANISATION: &[u8] = &[0x55, 0x04, 0x0a];
/// id-at-serialNumber, 2.5.4.5 (RFC 5280, appendix A.1)
pub const SERIAL_NUMBER: &[u8] = &[0x55, 0x04, 0x05];

/// subjectKeyIdentifier, 2.5.29.14 (RFC 5280, section 4.2.1.2)
pub const SUBJECT_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x0e];
/// keyUsage, 2.5.29.15 (RFC 5280, section 4.2.1.3)
pub const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
/// subjectAltName, 2.5.29.17 (RFC 5280, section 4.2.1.6)
pub const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// basicConstraints, 2.5.29.19 (RFC 5280, section 4.2.1.9)
pub const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
/// nameConstraints, 2.5.29.30 (RFC 5280, section 4.2.1.10)
pub const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x1e];
/// certificatePolicies, 2.5.29.32 (RFC 5280, section 4.2.1.4)
pub const CERTIFICATE_POLICIES: &[u8] = &[0x55, 0x1d, 0x20];
/// authorityKeyIdentifier, 2.5.29.35 (RFC 5280, section 4.2.1.1)
pub const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x23];
/// extKeyUsage, 2.5.29.37 (RFC 5280, section 4.2.1.12)
pub const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];

/// tcg-kp-EKCertificate, 2.23.133.8.1 (TCG EK Credential Profile, extended key usage)
pub const TCG_EK_CERTIFICATE: &[u8] = &[0x67, 0x81, 0x05, 0x08, 0x01];
/// tcg-at-tpmManufacturer, 2.23.133.2.1 (TCG EK Credential Profile, subject alternative name)
pub const TCG_TPM_MANUFACTURER: &[u8] = &[0x67, 0x81, 0x05, 0x02, 0x01];
/// tcg-at-tpmModel, 2.23.133.2.2
pub const TCG_TPM_MODEL: &[u8] = &[0x67, 0x81, 0x05, 0x02, 0x02];
/// tcg-at-tpmVersion, 2.23.133.2.3
pub const TCG_TPM_VERSION: &[u8] = &[0x67, 0x81, 0x05, 0x02, 0x03];

/// tcg-cap-verifiedTPMResidency, 2.23.133.11.1.1 (TCG TPM 2.0 Keys for Device Identity and Attestation)
pub const TCG_VERIFIED_RESIDENCY: &[u8] = &[0x67, 0x81, 0x05, 0x0b, 0x01, 0x01];
/// tcg-cap-verifiedTPMFixed, 2.23.133.11.1.2
pub const TCG_VERIFIED_FIXED: &[u8] = &[0x67, 0x81, 0x05, 0x0b, 0x01, 0x02];
/// tcg-cap-verifiedTPMRestricted, 2.23.133.11.1.3
pub const TCG_VERIFIED_RESTRICTED: &[u8] = &[0x67, 0x81, 0x05, 0x0b, 0x01, 0x03];
/// id-on-permanentIdentifier, 1.3.6.1.5.5.7.8.3 (RFC 4043, section 2)
pub const PERMANENT_IDENTIFIER: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x08, 0x03];
/// id-on-hardwareModuleName, 1.3.6.1.5.5.7.8.4 (RFC 4108, section 5)
pub const HARDWARE_MODULE_NAME: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x08, 0x04];

/// The text of an object identifier for messages: dotted, with a name where this module has one.
#[must_use]
pub fn text(oid: &[u8]) -> String {
    let name = match oid {
        NAME_CONSTRAINTS => " (nameConstraints)",
        KEY_USAGE => " (keyUsage)",
        SUBJECT_ALT_NAME => " (subjectAltName)",
        BASIC_CONSTRAINTS => " (basicConstraints)",
        EXTENDED_KEY_USAGE => " (extKeyUsage)",
        AUTHORITY_KEY_IDENTIFIER => " (authorityKeyIdentifier)",
        SUBJECT_KEY_IDENTIFIER => " (subjectKeyIdentifier)",
        _ => "",
    };
    match ObjectIdentifier::from_bytes(oid) {
        Ok(dotted) => format!("{dotted}{name}"),
        Err(_) => format!("{} in hex", hex::encode(oid)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arcs_above_127_are_spelled_right() {
        assert_eq!(text(TCG_EK_CERTIFICATE), "2.23.133.8.1");
        assert_eq!(text(NAME_CONSTRAINTS), "2.5.29.30 (nameConstraints)");
        assert_eq!(text(RSAES_OAEP), "1.2.840.113549.1.1.7");
        assert_eq!(text(&[0x80]), "80 in hex");
    }
}
