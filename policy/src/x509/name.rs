//! Distinguished names: their text for people (RFC 4514) and their attributes.
//!
//! Names are compared as bytes elsewhere; nothing here takes part in a decision about a chain.

use x509_cert::der::Decode;
use x509_cert::name::Name;

use super::der::{self, Der, DerError};

/// Longest name in a message, in characters; longer ones are cut.
pub const MAX_NAME_TEXT: usize = 256;

/// One attribute of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// The contents of its object identifier.
    pub oid: &'a [u8],
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

/// The attributes of a DER name in the order of the bytes, whatever the order of a SET should be.
pub fn attributes(name: &[u8]) -> Result<Vec<Attribute<'_>>, DerError> {
    let mut outer = Der::new(name);
    let mut rdns = outer.expect(der::SEQUENCE, "name")?.inside();
    outer.finish("name")?;
    let mut attributes = Vec::new();
    while !rdns.is_empty() {
        let mut set = rdns.expect(der::SET, "relative distinguished name")?.inside();
        while !set.is_empty() {
            let mut pair = set.expect(der::SEQUENCE, "attribute")?.inside();
            let oid = pair.expect(der::OBJECT_IDENTIFIER, "attribute type")?.bytes();
            let value = pair.any("attribute value")?.bytes();
            pair.finish("attribute")?;
            attributes.push(Attribute { oid, value });
        }
    }
    Ok(attributes)
}
