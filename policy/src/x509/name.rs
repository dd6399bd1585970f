//! Distinguished names: how they are compared, their attributes, and their text for people (RFC 4514).
//!
//! A name only says where to look for an issuer; that it is the issuer is proven by its signature.

use x509_cert::der::Decode;
use x509_cert::name::Name;

use super::der::{self, Der, DerError};

/// String types that a name is written in.
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;

/// Longest name in a message, in characters; longer ones are cut.
pub const MAX_NAME_TEXT: usize = 256;

/// One attribute of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// The contents of its object identifier.
    pub oid: &'a [u8],
    /// The tag of its value.
    pub tag: u8,
    /// The octets of its value, without tag and length.
    pub value: &'a [u8],
}

/// The text of a DER name (RFC 4514); hex digits where it cannot be read, empty for an empty name.
#[must_use]
pub fn text(name: &[u8]) -> String {
    let text = match Name::from_der(name) {
        Ok(name) => name.to_string(),
        Err(_) => format!("#{}", hex::encode(name)),
    };
    text.chars().take(MAX_NAME_TEXT).collect()
}

/// The form by which names are compared: the bytes, with one type for PrintableString and UTF8String.
///
/// STMicroelectronics' root spells its name in one type and its authorities spell it in the other (RFC 5280,
/// section 7.1 asks to see through that). Case, blanks and order are compared as they are. A name that cannot
/// be read is equal to itself only.
#[must_use]
pub fn comparable(name: &[u8]) -> Vec<u8> {
    fold_rdns(name).unwrap_or_else(|_| name.to_vec())
}

fn fold_rdns(name: &[u8]) -> Result<Vec<u8>, DerError> {
    let mut folded = Vec::new();
    for_each_rdn(name, |attributes| {
        let pairs: Vec<Vec<u8>> = attributes.iter().map(Attribute::folded).collect();
        folded.push(der::encode(der::SET, &pairs.iter().map(Vec::as_slice).collect::<Vec<_>>()));
    })?;
    Ok(der::encode(der::SEQUENCE, &folded.iter().map(Vec::as_slice).collect::<Vec<_>>()))
}

impl Attribute<'_> {
    fn folded(&self) -> Vec<u8> {
        let tag = if self.tag == PRINTABLE_STRING { UTF8_STRING } else { self.tag };
        let oid = der::encode(der::OBJECT_IDENTIFIER, &[self.oid]);
        der::encode(der::SEQUENCE, &[&oid, &der::encode(tag, &[self.value])])
    }
}

/// The attributes of a DER name in the order of the bytes, whatever the order of a SET should be.
pub fn attributes(name: &[u8]) -> Result<Vec<Attribute<'_>>, DerError> {
    let mut all = Vec::new();
    for_each_rdn(name, |attributes| all.extend(attributes))?;
    Ok(all)
}

fn for_each_rdn<'a>(name: &'a [u8], mut take: impl FnMut(Vec<Attribute<'a>>)) -> Result<(), DerError> {
    let mut outer = Der::new(name);
    let mut rdns = outer.expect(der::SEQUENCE, "name")?.inside();
    outer.finish("name")?;
    while !rdns.is_empty() {
        let mut set = rdns.expect(der::SET, "relative distinguished name")?.inside();
        let mut attributes = Vec::new();
        while !set.is_empty() {
            let mut pair = set.expect(der::SEQUENCE, "attribute")?.inside();
            let oid = pair.expect(der::OBJECT_IDENTIFIER, "attribute type")?.bytes();
            let value = pair.any("attribute value")?;
            pair.finish("attribute")?;
            attributes.push(Attribute { oid, tag: value.tag(), value: value.bytes() });
        }
        take(attributes);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(tag: u8, value: &str) -> Vec<u8> {
        let oid = der::encode(der::OBJECT_IDENTIFIER, &[&[0x55, 4, 3]]);
        let pair = der::encode(der::SEQUENCE, &[&oid, &der::encode(tag, &[value.as_bytes()])]);
        der::encode(der::SEQUENCE, &[&der::encode(der::SET, &[&pair])])
    }

    #[test]
    fn the_string_type_makes_no_difference_and_the_text_does() {
        let of = |tag, value| comparable(&name(tag, value));
        assert_eq!(of(PRINTABLE_STRING, "STM"), of(UTF8_STRING, "STM"));
        assert_ne!(of(PRINTABLE_STRING, "STM"), of(UTF8_STRING, "stm"));
        assert_eq!(of(UTF8_STRING, "STM"), name(UTF8_STRING, "STM"));
        assert_eq!(comparable(b"garbage"), b"garbage");
    }

    #[test]
    fn control_characters_do_not_reach_messages() {
        assert_eq!(text(&name(UTF8_STRING, "a\nb")), "CN=a\\0ab");
        assert_eq!(text(&name(UTF8_STRING, &"x".repeat(400))).len(), MAX_NAME_TEXT);
        assert_eq!(text(&[0x30, 0]), "");
    }
}
