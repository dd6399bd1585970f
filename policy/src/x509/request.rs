//! Certificate requests (PKCS#10, RFC 2986), read as they were signed.
//!
//! A request gives a key and proves who has it. What its certificate names, and what it is good for, whoever signs it
//! writes by their own records: a request that asks for something is refused, so that nobody believes they got that.

use super::der::{self, Der, DerError};

/// Tag of `[0] attributes`.
const ATTRIBUTES: u8 = 0xa0;

/// A request asks for more than its key certified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Asks {
    /// It names a subject.
    #[error("the request states a subject, and the broker writes all names itself: leave the subject empty")]
    Subject,
    /// It has attributes: alternative names, other extensions, a password.
    #[error(
        "the request asks for alternative names or other extensions, and the broker writes these itself: make it without \
         attributes"
    )]
    Attributes,
}

/// The parts of a CertificationRequest (RFC 2986, section 4.2).
#[derive(Debug)]
pub struct Request<'a> {
    /// CertificationRequestInfo as it was signed.
    pub info: &'a [u8],
    /// SubjectPublicKeyInfo.
    pub spki: &'a [u8],
    /// Object identifier of the signature algorithm.
    pub algorithm: &'a [u8],
    /// The signature.
    pub signature: &'a [u8],
    /// What it asks for.
    asks: Option<Asks>,
}

impl<'a> Request<'a> {
    /// Reads a request; nothing of it is verified.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DerError> {
        let mut outer = Der::new(bytes);
        let mut inside = outer.expect(der::SEQUENCE, "certificationRequest")?.inside();
        outer.finish("certificationRequest")?;
        let info = inside.expect(der::SEQUENCE, "certificationRequestInfo")?;
        let mut identifier = inside.expect(der::SEQUENCE, "signatureAlgorithm")?.inside();
        let algorithm = identifier.expect(der::OBJECT_IDENTIFIER, "algorithm")?.bytes();
        let signature = inside.expect(der::BIT_STRING, "signature")?.octets()?;
        inside.finish("signature")?;
        let mut fields = info.inside();
        let version = fields.expect(der::INTEGER, "version")?;
        if version.number()? != 0 {
            return Err(version.invalid("a certification request has version 0"));
        }
        let subject = fields.expect(der::SEQUENCE, "subject")?;
        let spki = fields.expect(der::SEQUENCE, "subjectPKInfo")?.raw();
        let attributes = fields.optional(ATTRIBUTES, "attributes")?;
        fields.finish("certificationRequestInfo")?;
        let asks = match (subject.bytes(), attributes.map(|attributes| attributes.bytes())) {
            ([], None | Some([])) => None,
            ([], Some(_)) => Some(Asks::Attributes),
            _ => Some(Asks::Subject),
        };
        Ok(Self { info: info.raw(), spki, algorithm, signature, asks })
    }

    /// Refuses a request for more than a certificate of its key.
    pub const fn only_for_its_key(&self) -> Result<(), Asks> {
        match self.asks {
            Some(asks) => Err(asks),
            None => Ok(()),
        }
    }
}
