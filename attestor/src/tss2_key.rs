//! Identity keys as "TSS2 PRIVATE KEY" files, the form that OpenSSL's TPM providers read.
//!
//! ```text
//! TPMKey ::= SEQUENCE {
//!   type        OBJECT IDENTIFIER,             -- 2.23.133.10.1.3, a loadable key
//!   emptyAuth   [0] EXPLICIT BOOLEAN TRUE,     -- without it OpenSSL asks for a pass phrase
//!   parent      INTEGER,                       -- persistent handle, positive
//!   pubkey      OCTET STRING,                  -- TPM2B_PUBLIC
//!   privkey     OCTET STRING }                 -- TPM2B_PRIVATE
//! ```
//! Source: "ASN.1 Specification for TPM 2.0 Key Files" (J. Bottomley). Its optional fields (policy, secret,
//! authPolicy, description) are neither written nor read: a key that needs them is not one of ours.

use pem::Pem;
use x509_cert::der::{
    self, Any, Decode, Encode, Reader, SliceReader, TagMode, TagNumber,
    asn1::{ContextSpecific, ObjectIdentifier, OctetStringRef, UintRef},
};

use crate::tpm::{IdentityKeyBlob, KeyBlobError, ManufacturerKey, PERSISTENT_HANDLES};

/// The PEM label.
pub(crate) const LABEL: &str = "TSS2 PRIVATE KEY";
/// id-loadablekey: the private half can be loaded under its parent.
const LOADABLE_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.10.1.3");
/// Longest file read. One of ours takes about 500 bytes.
const MAX_FILE: usize = 16 * 1024;

/// The text is no key file of ours.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseKeyError {
    /// Longer than any key file.
    #[error("the key file is longer than {MAX_FILE} bytes: it is no TSS2 key")]
    TooLong,
    /// Not PEM, or PEM of something else.
    #[error("the key file holds no TSS2 PRIVATE KEY in PEM")]
    NotPem,
    /// The DER inside is damaged or has fields that ours do not have.
    #[error("the key file is damaged or was made by another program: make the key anew")]
    Der(#[source] der::Error),
    /// It is a sealed or importable object.
    #[error("the key file holds an object of type {0}, not a loadable key")]
    Type(ObjectIdentifier),
    /// The key wants a password.
    #[error("the key in the file has a password, which keys of ours never have")]
    PasswordSet,
    /// Its storage key is not kept in the TPM.
    #[error(
        "the key lies under {0:#x}, which is no persistent handle; have the manufacturer persist its storage key"
    )]
    Parent(u32),
    /// The halves of the key are not those of an identity key.
    #[error("the key file holds another kind of key")]
    Key(#[source] KeyBlobError),
}

/// The key could not be written as DER: it is longer than DER can say.
#[derive(Debug, thiserror::Error)]
#[error("the identity key cannot be encoded: make the key anew")]
pub struct WriteKeyError(#[source] der::Error);

/// Writes a key file. Its reader needs access to the same TPM; the file alone is worth nothing elsewhere.
pub fn write(key: &IdentityKeyBlob) -> Result<String, WriteKeyError> {
    let der = encode(key).map_err(WriteKeyError)?;
    Ok(pem::encode_config(
        &Pem::new(LABEL, der),
        pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF),
    ))
}

/// Reads a key file that [`write()`] wrote.
pub fn parse(text: &str) -> Result<IdentityKeyBlob, ParseKeyError> {
    let file = read(text)?;
    IdentityKeyBlob::parse(file.public, file.private, file.parent).map_err(ParseKeyError::Key)
}

/// Reads a file with a key of any kind under a persistent storage key, as the manufacturer of a device provides it.
pub fn parse_any(text: &str) -> Result<ManufacturerKey, ParseKeyError> {
    let KeyFile { public, private, parent, .. } = read(text)?;
    if !PERSISTENT_HANDLES.contains(&parent) {
        return Err(ParseKeyError::Parent(parent));
    }
    // Both have their size before them.
    let content = |sized: &[u8]| sized.get(2..).unwrap_or_default().to_vec();
    Ok(ManufacturerKey::Loadable { public: content(&public), private: content(&private), parent })
}

fn read(text: &str) -> Result<KeyFile, ParseKeyError> {
    if text.len() > MAX_FILE {
        return Err(ParseKeyError::TooLong);
    }
    let pem = pem::parse(text).map_err(|_| ParseKeyError::NotPem)?;
    if pem.tag() != LABEL {
        return Err(ParseKeyError::NotPem);
    }
    let file = KeyFile::decode(pem.contents()).map_err(ParseKeyError::Der)?;
    if file.kind != LOADABLE_KEY {
        return Err(ParseKeyError::Type(file.kind));
    }
    if file.empty_auth != Some(true) {
        return Err(ParseKeyError::PasswordSet);
    }
    Ok(file)
}

fn encode(key: &IdentityKeyBlob) -> der::Result<Vec<u8>> {
    let empty_auth = ContextSpecific { tag_number: TagNumber(0), tag_mode: TagMode::Explicit, value: true };
    vec![
        Any::encode_from(&LOADABLE_KEY)?,
        Any::encode_from(&empty_auth)?,
        // UintRef puts a zero before the handle's top bit. tpm2-openssl 1.1.1 would read a negative number as well.
        Any::encode_from(&UintRef::new(&key.parent().to_be_bytes())?)?,
        Any::encode_from(&OctetStringRef::new(key.public())?)?,
        Any::encode_from(&OctetStringRef::new(key.private())?)?,
    ]
    .to_der()
}

/// The fields as they stand in the file.
struct KeyFile {
    kind: ObjectIdentifier,
    empty_auth: Option<bool>,
    parent: u32,
    public: Vec<u8>,
    private: Vec<u8>,
}

impl KeyFile {
    fn decode(bytes: &[u8]) -> der::Result<Self> {
        let mut reader = SliceReader::new(bytes)?;
        let file = reader.sequence(|fields| {
            der::Result::Ok(Self {
                kind: ObjectIdentifier::decode(fields)?,
                empty_auth: fields.context_specific(TagNumber(0), TagMode::Explicit)?,
                parent: u32::decode(fields)?,
                public: <&OctetStringRef>::decode(fields)?.as_bytes().to_vec(),
                private: <&OctetStringRef>::decode(fields)?.as_bytes().to_vec(),
            })
        })?;
        reader.finish()?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key of tpm2_create in the template of ours, as its file was put together by hand and read by openssl.
    const FILE: &str = "-----BEGIN TSS2 PRIVATE KEY-----\n\
MIHxBgZngQUKAQOgAwEB/wIFAIEAAAEEWABWACMACwAEBHIAAAAQABAAAwAQACCu\n\
x1bKc87xs+8FncpT/4NVgXuut3Vj8RESVl9hfy7dRQAgya0iE38rRk6mcjrR50Gk\n\
AX1MG9Iv1SXhko+7zgjNEGYEgYAAfgAg4DuG03XfrHWV6WlnSwafVq6JiXpXuaSG\n\
ua38T63DXSYAEGIIJ+6mpEO105a33VvIbQ40F5JwAhHGt2t4Kfis3wM4cVu+c0VJ\n\
8TDz8PZAHVo1jduPwIaLZowbSNhiHSaWT/FAFg7gk+FJsmRDHg83pSaKSdRZ67EY\n\
eakvqw==\n\
-----END TSS2 PRIVATE KEY-----\n\
";

    fn refused(der: &[u8]) -> ParseKeyError {
        parse(&pem::encode(&Pem::new(LABEL, der))).unwrap_err()
    }

    fn der() -> Vec<u8> {
        pem::parse(FILE).unwrap().contents().to_vec()
    }

    #[test]
    fn a_file_is_read_and_written_byte_for_byte() {
        let key = parse(FILE).unwrap();
        assert_eq!(key.parent(), 0x8100_0001);
        assert_eq!(write(&key).unwrap(), FILE);
    }

    #[test]
    fn a_file_of_another_program_is_read_as_it_is() {
        let ManufacturerKey::Loadable { public, parent, .. } = parse_any(FILE).unwrap() else {
            panic!("two halves")
        };
        assert_eq!((public.as_slice(), parent), (parse(FILE).unwrap().public_area(), 0x8100_0001));
    }

    #[test]
    fn other_files_are_refused_with_their_reason() {
        assert!(matches!(parse(&" ".repeat(MAX_FILE + 1)), Err(ParseKeyError::TooLong)));
        assert!(matches!(parse("no key"), Err(ParseKeyError::NotPem)));
        assert!(matches!(parse(&FILE.replace("TSS2 PRIVATE", "PRIVATE")), Err(ParseKeyError::NotPem)));
    }

    #[test]
    fn damaged_fields_are_refused_with_their_reason() {
        assert!(matches!(refused(&[&der()[..], &[0]].concat()), ParseKeyError::Der(_)));
        assert!(matches!(refused(&der()[..40]), ParseKeyError::Der(_)));
        let with = |at: usize, byte: u8| {
            let mut bytes = der();
            bytes[at] = byte;
            refused(&bytes)
        };
        // The last arc of the type; the value of emptyAuth; the parent; the key's attributes.
        assert!(matches!(with(10, 5), ParseKeyError::Type(_)));
        assert!(matches!(with(15, 0x00), ParseKeyError::PasswordSet));
        assert!(matches!(with(20, 0x80), ParseKeyError::Key(KeyBlobError::Parent(0x8180_0001))));
        assert!(matches!(with(33, 0xff), ParseKeyError::Key(KeyBlobError::Public)));
    }
}
