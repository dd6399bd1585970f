//! The extensions that decide about a manufacturer's certificate, read from their DER values.

use super::certificate::parse_boolean;
use super::der::{self, Der, DerError};

/// Tag of a directoryName among GeneralNames (RFC 5280, section 4.2.1.6); explicit, as Name is a CHOICE.
const DIRECTORY_NAME: u8 = 0xa4;
/// Tag of an otherName among GeneralNames, implicit, and of its value, explicit.
const OTHER_NAME: u8 = 0xa0;
const EXPLICIT: u8 = 0xa0;
/// Tag of a uniformResourceIdentifier among GeneralNames, implicit.
const URI: u8 = 0x86;
/// Tag of keyIdentifier in AuthorityKeyIdentifier (RFC 5280, section 4.2.1.1).
const KEY_IDENTIFIER: u8 = 0x80;

/// basicConstraints (RFC 5280, section 4.2.1.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BasicConstraints {
    /// Whether the subject is a certification authority.
    pub ca: bool,
    /// How many authorities may stand between this one and the leaf.
    pub path_len: Option<u32>,
}

/// keyUsage (RFC 5280, section 4.2.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyUsage(u8);

impl KeyUsage {
    /// The key may sign certificates.
    #[must_use]
    pub const fn key_cert_sign(self) -> bool {
        self.0 & 0x04 != 0
    }

    /// The key may sign what is no certificate.
    #[must_use]
    pub const fn digital_signature(self) -> bool {
        self.0 & 0x80 != 0
    }

    /// The key may encrypt keys (RSA EKs).
    #[must_use]
    pub const fn key_encipherment(self) -> bool {
        self.0 & 0x20 != 0
    }

    /// The key may take part in key agreement (ECC EKs).
    #[must_use]
    pub const fn key_agreement(self) -> bool {
        self.0 & 0x08 != 0
    }
}

/// Reads basicConstraints.
pub fn parse_basic_constraints(value: &[u8]) -> Result<BasicConstraints, DerError> {
    let mut inside = sequence(value, "basicConstraints")?;
    let ca = match inside.optional(der::BOOLEAN, "cA")? {
        Some(flag) => parse_boolean(&flag)?,
        None => false,
    };
    let path_len = match inside.optional(der::INTEGER, "pathLenConstraint")? {
        Some(number) => Some(number.number()?),
        None => None,
    };
    inside.finish("basicConstraints")?;
    Ok(BasicConstraints { ca, path_len })
}

/// Reads keyUsage. Only the first octet of bits is kept; the second holds decipherOnly alone.
pub fn parse_key_usage(value: &[u8]) -> Result<KeyUsage, DerError> {
    let mut outer = Der::new(value);
    let bits = outer.expect(der::BIT_STRING, "keyUsage")?;
    outer.finish("keyUsage")?;
    match bits.bytes() {
        [0..=7, first] | [0..=7, first, _] => Ok(KeyUsage(*first)),
        _ => Err(bits.invalid("keyUsage is no string of up to 9 bits")),
    }
}

/// Reads extKeyUsage: the contents of each purpose's object identifier.
pub fn parse_purposes(value: &[u8]) -> Result<Vec<&[u8]>, DerError> {
    let mut inside = sequence(value, "extKeyUsage")?;
    let mut purposes = Vec::new();
    while !inside.is_empty() {
        purposes.push(inside.expect(der::OBJECT_IDENTIFIER, "key purpose")?.bytes());
    }
    Ok(purposes)
}

/// Reads subjectKeyIdentifier.
pub fn parse_subject_key_id(value: &[u8]) -> Result<&[u8], DerError> {
    let mut outer = Der::new(value);
    let id = outer.expect(der::OCTET_STRING, "subjectKeyIdentifier")?.bytes();
    outer.finish("subjectKeyIdentifier")?;
    Ok(id)
}

/// Reads the key identifier of authorityKeyIdentifier, if it has one.
pub fn parse_authority_key_id(value: &[u8]) -> Result<Option<&[u8]>, DerError> {
    let mut inside = sequence(value, "authorityKeyIdentifier")?;
    let id = inside.optional(KEY_IDENTIFIER, "keyIdentifier")?;
    Ok(id.map(|id| id.bytes()))
}

/// Reads the directory names of subjectAltName, each as a DER name.
pub fn parse_directory_names(value: &[u8]) -> Result<Vec<&[u8]>, DerError> {
    let mut inside = sequence(value, "subjectAltName")?;
    let mut names = Vec::new();
    while !inside.is_empty() {
        let name = inside.any("general name")?;
        if name.tag() == DIRECTORY_NAME {
            names.push(name.bytes());
        }
    }
    Ok(names)
}

/// Reads the URIs of subjectAltName, each as its octets.
pub fn parse_uris(value: &[u8]) -> Result<Vec<&[u8]>, DerError> {
    let mut inside = sequence(value, "subjectAltName")?;
    let mut uris = Vec::new();
    while !inside.is_empty() {
        let name = inside.any("general name")?;
        if name.tag() == URI {
            uris.push(name.bytes());
        }
    }
    Ok(uris)
}

/// Reads certificatePolicies: the contents of each policy's object identifier; qualifiers are not read.
pub fn parse_policies(value: &[u8]) -> Result<Vec<&[u8]>, DerError> {
    let mut inside = sequence(value, "certificatePolicies")?;
    let mut policies = Vec::new();
    while !inside.is_empty() {
        let mut policy = inside.expect(der::SEQUENCE, "policyInformation")?.inside();
        policies.push(policy.expect(der::OBJECT_IDENTIFIER, "policyIdentifier")?.bytes());
    }
    Ok(policies)
}

/// A name of another type among GeneralNames (RFC 5280, section 4.2.1.6).
#[derive(Debug, Clone)]
pub struct OtherName<'a> {
    /// The contents of its object identifier.
    pub oid: &'a [u8],
    /// Its value, without the explicit tag.
    pub value: Der<'a>,
}

/// Reads the names of other types of subjectAltName.
pub fn parse_other_names(value: &[u8]) -> Result<Vec<OtherName<'_>>, DerError> {
    let mut inside = sequence(value, "subjectAltName")?;
    let mut names = Vec::new();
    while !inside.is_empty() {
        let name = inside.any("general name")?;
        if name.tag() != OTHER_NAME {
            continue;
        }
        let mut parts = name.inside();
        let oid = parts.expect(der::OBJECT_IDENTIFIER, "type of a name")?.bytes();
        let value = parts.expect(EXPLICIT, "value of a name")?.inside();
        parts.finish("otherName")?;
        names.push(OtherName { oid, value });
    }
    Ok(names)
}

/// The inside of the one SEQUENCE that `value` is.
fn sequence<'a>(value: &'a [u8], what: &'static str) -> Result<Der<'a>, DerError> {
    let mut outer = Der::new(value);
    let inside = outer.expect(der::SEQUENCE, what)?.inside();
    outer.finish(what)?;
    Ok(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_usage_bits_are_read() {
        let encipherment = parse_key_usage(&[3, 2, 5, 0x20]).unwrap();
        assert!(encipherment.key_encipherment() && !encipherment.key_agreement());
        assert!(parse_key_usage(&[3, 2, 3, 0x08]).unwrap().key_agreement());
        assert!(parse_key_usage(&[3, 2, 1, 0x06]).unwrap().key_cert_sign());
        assert!(parse_key_usage(&[3, 1, 0]).is_err());
    }

    #[test]
    fn basic_constraints_are_read() {
        let of = |value: &[u8]| parse_basic_constraints(value).unwrap();
        assert_eq!(of(&[0x30, 0]), BasicConstraints { ca: false, path_len: None });
        assert_eq!(of(&[0x30, 6, 1, 1, 0xff, 2, 1, 3]), BasicConstraints { ca: true, path_len: Some(3) });
        let error = parse_basic_constraints(&[0x30, 3, 1, 1, 1]).unwrap_err();
        assert_eq!(error.to_string(), "offset 4: a BOOLEAN is neither 00 nor ff");
    }
}
