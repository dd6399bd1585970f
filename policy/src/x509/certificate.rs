//! A certificate (RFC 5280, section 4.1) as a view over its bytes.
//!
//! Promises: every slice is the one the issuer signed; the inner and outer signature algorithms are the same
//! bytes; no extension occurs twice; nothing is left over. Does not promise: that any value makes sense, that
//! the signature is right, or that the certificate is trusted by anybody.

use time::{Date, Month, PrimitiveDateTime, Time};

use super::der::{self, Der, DerError, Element};
use super::name;
use crate::reader::ReadError;
use crate::time::{UnixTime, Validity};

/// Largest certificate: manufacturers' have up to 2 KiB, a TPM's NV index holds little more. It also bounds
/// every loop over the parts of a certificate.
pub const MAX_CERTIFICATE: usize = 16 * 1024;
/// Most extensions: the most seen in a manufacturer's certificate is 12.
pub const MAX_EXTENSIONS: usize = 32;
/// Longest serial number in octets: RFC 5280 says 20, some issuers say more.
pub const MAX_SERIAL: usize = 64;

/// Tag of `[0] version`, `[1]` and `[2]` unique identifiers, `[3] extensions`.
const VERSION: u8 = 0xa0;
const ISSUER_UNIQUE_ID: u8 = 0x81;
const SUBJECT_UNIQUE_ID: u8 = 0x82;
const EXTENSIONS: u8 = 0xa3;

/// One extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extension<'a> {
    /// The contents of its object identifier.
    pub oid: &'a [u8],
    /// Whether who does not understand it must refuse the certificate.
    pub critical: bool,
    /// The contents of its `OCTET STRING`: DER of the extension's own type.
    pub value: &'a [u8],
}

/// A certificate as a view over borrowed bytes.
#[derive(Debug, Clone)]
pub struct Certificate<'a> {
    der: &'a [u8],
    tbs: &'a [u8],
    fields: Fields<'a>,
    signature_algorithm: &'a [u8],
    signature: &'a [u8],
}

/// The fields of TBSCertificate that anything here reads.
#[derive(Debug, Clone)]
struct Fields<'a> {
    version: u32,
    serial: &'a [u8],
    algorithm: &'a [u8],
    issuer: &'a [u8],
    validity: Validity,
    subject: &'a [u8],
    spki: &'a [u8],
    extensions: Vec<Extension<'a>>,
}

impl<'a> Certificate<'a> {
    /// Reads one DER certificate; bytes after it are refused.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DerError> {
        if bytes.len() > MAX_CERTIFICATE {
            return Err(too_large("certificate", bytes.len(), MAX_CERTIFICATE));
        }
        let mut outer = Der::new(bytes);
        let certificate = outer.expect(der::SEQUENCE, "certificate")?;
        outer.finish("certificate")?;

        let mut inside = certificate.inside();
        let tbs = inside.expect(der::SEQUENCE, "tbsCertificate")?;
        let algorithm = inside.expect(der::SEQUENCE, "signatureAlgorithm")?;
        let signature = inside.expect(der::BIT_STRING, "signatureValue")?.octets()?;
        inside.finish("signatureValue")?;

        let fields = Fields::parse(&tbs)?;
        if fields.algorithm != algorithm.raw() {
            return Err(algorithm.invalid("signatureAlgorithm differs from the signed one"));
        }
        Ok(Self { der: bytes, tbs: tbs.raw(), fields, signature_algorithm: algorithm.raw(), signature })
    }

    /// The whole certificate.
    #[must_use]
    pub const fn der(&self) -> &'a [u8] {
        self.der
    }

    /// TBSCertificate as it was signed.
    #[must_use]
    pub const fn tbs(&self) -> &'a [u8] {
        self.tbs
    }

    /// The version as people count it: 3 for X.509v3.
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.fields.version.saturating_add(1)
    }

    /// The contents of the serial number, as received.
    #[must_use]
    pub const fn serial(&self) -> &'a [u8] {
        self.fields.serial
    }

    /// The issuer's name, as received.
    #[must_use]
    pub const fn issuer(&self) -> &'a [u8] {
        self.fields.issuer
    }

    /// The subject's name, as received; a TPM's is often empty.
    #[must_use]
    pub const fn subject(&self) -> &'a [u8] {
        self.fields.subject
    }

    /// The validity period; times before 1970 count as 1970.
    #[must_use]
    pub const fn validity(&self) -> Validity {
        self.fields.validity
    }

    /// SubjectPublicKeyInfo, as received.
    #[must_use]
    pub const fn spki(&self) -> &'a [u8] {
        self.fields.spki
    }

    /// The extensions in their order.
    #[must_use]
    pub fn extensions(&self) -> &[Extension<'a>] {
        &self.fields.extensions
    }

    /// The extension with this object identifier.
    #[must_use]
    pub fn extension(&self, oid: &[u8]) -> Option<&Extension<'a>> {
        self.fields.extensions.iter().find(|extension| extension.oid == oid)
    }

    /// AlgorithmIdentifier of the signature, as received.
    #[must_use]
    pub const fn signature_algorithm(&self) -> &'a [u8] {
        self.signature_algorithm
    }

    /// The signature's octets.
    #[must_use]
    pub const fn signature(&self) -> &'a [u8] {
        self.signature
    }

    /// The serial number in hex.
    #[must_use]
    pub fn serial_text(&self) -> String {
        hex::encode(self.fields.serial)
    }

    /// What messages call this certificate: its subject, or its serial number where the subject is empty.
    #[must_use]
    pub fn label(&self) -> String {
        match name::text(self.fields.subject) {
            subject if subject.is_empty() => format!("serial {}", self.serial_text()),
            subject => subject,
        }
    }
}

impl<'a> Fields<'a> {
    fn parse(tbs: &Element<'a>) -> Result<Self, DerError> {
        let mut inside = tbs.inside();
        let version = match inside.optional(VERSION, "version")? {
            Some(explicit) => parse_version(&explicit)?,
            None => 0,
        };
        let serial = inside.expect(der::INTEGER, "serialNumber")?.bytes();
        if serial.len() > MAX_SERIAL {
            return Err(too_large("serialNumber", serial.len(), MAX_SERIAL));
        }
        let algorithm = inside.expect(der::SEQUENCE, "signature")?.raw();
        let issuer = inside.expect(der::SEQUENCE, "issuer")?.raw();
        let validity = parse_validity(&inside.expect(der::SEQUENCE, "validity")?)?;
        let subject = inside.expect(der::SEQUENCE, "subject")?.raw();
        let spki = inside.expect(der::SEQUENCE, "subjectPublicKeyInfo")?.raw();
        inside.optional(ISSUER_UNIQUE_ID, "issuerUniqueID")?;
        inside.optional(SUBJECT_UNIQUE_ID, "subjectUniqueID")?;
        let extensions = match inside.optional(EXTENSIONS, "extensions")? {
            Some(explicit) => parse_extensions(&explicit)?,
            None => Vec::new(),
        };
        inside.finish("tbsCertificate")?;
        Ok(Self { version, serial, algorithm, issuer, validity, subject, spki, extensions })
    }
}

fn parse_version(explicit: &Element<'_>) -> Result<u32, DerError> {
    let mut inside = explicit.inside();
    let version = inside.expect(der::INTEGER, "version")?.number()?;
    inside.finish("version")?;
    if version > 2 {
        return Err(explicit.invalid("version is above 3"));
    }
    Ok(version)
}

fn parse_extensions<'a>(explicit: &Element<'a>) -> Result<Vec<Extension<'a>>, DerError> {
    let mut wrapper = explicit.inside();
    let mut list = wrapper.expect(der::SEQUENCE, "extensions")?.inside();
    wrapper.finish("extensions")?;
    let mut extensions: Vec<Extension<'a>> = Vec::new();
    while !list.is_empty() {
        let element = list.expect(der::SEQUENCE, "extension")?;
        let extension = parse_extension(&element)?;
        if extensions.len() == MAX_EXTENSIONS {
            return Err(too_large("number of extensions", MAX_EXTENSIONS.saturating_add(1), MAX_EXTENSIONS));
        }
        if extensions.iter().any(|earlier| earlier.oid == extension.oid) {
            return Err(element.invalid("an extension occurs twice"));
        }
        extensions.push(extension);
    }
    Ok(extensions)
}

fn parse_extension<'a>(element: &Element<'a>) -> Result<Extension<'a>, DerError> {
    let mut inside = element.inside();
    let oid = inside.expect(der::OBJECT_IDENTIFIER, "extnID")?.bytes();
    let critical = match inside.optional(der::BOOLEAN, "critical")? {
        Some(flag) => parse_boolean(&flag)?,
        None => false,
    };
    let value = inside.expect(der::OCTET_STRING, "extnValue")?.bytes();
    inside.finish("extension")?;
    Ok(Extension { oid, critical, value })
}

/// A `BOOLEAN`; an explicit FALSE is taken although DER leaves defaults out, as some issuers write it.
pub(super) fn parse_boolean(flag: &Element<'_>) -> Result<bool, DerError> {
    match flag.bytes() {
        [0] => Ok(false),
        [0xff] => Ok(true),
        _ => Err(flag.invalid("a BOOLEAN is neither 00 nor ff")),
    }
}

fn parse_validity(element: &Element<'_>) -> Result<Validity, DerError> {
    let mut inside = element.inside();
    let not_before = parse_time(&inside.any("notBefore")?)?;
    let not_after = parse_time(&inside.any("notAfter")?)?;
    inside.finish("validity")?;
    Ok(Validity { not_before, not_after })
}

/// A time (RFC 5280, section 4.1.2.5): UTCTime `YYMMDDhhmmssZ` or GeneralizedTime `YYYYMMDDhhmmssZ`.
fn parse_time(element: &Element<'_>) -> Result<UnixTime, DerError> {
    let refuse = || element.invalid("a time is not written as RFC 5280 asks");
    let text = element.bytes();
    let (century, year_digits) = match (element.tag(), text.len()) {
        (der::UTC_TIME, 13) => (None, 2),
        (der::GENERALIZED_TIME, 15) => (Some(0), 4),
        _ => return Err(refuse()),
    };
    let (year, rest) = text.split_at_checked(year_digits).ok_or_else(refuse)?;
    let year = decimal(year).ok_or_else(refuse)?;
    // RFC 5280, section 4.1.2.5.1: 50 to 99 is 19xx, 00 to 49 is 20xx.
    let century = century.unwrap_or(if year >= 50 { 1900 } else { 2000 });
    parse_moment(century + year, rest).ok_or_else(refuse)
}

fn parse_moment(year: u16, rest: &[u8]) -> Option<UnixTime> {
    let digits = rest.strip_suffix(b"Z")?;
    let mut pairs = digits.chunks(2).map(|pair| decimal(pair).and_then(|number| u8::try_from(number).ok()));
    let mut pair = || pairs.next().flatten();
    let month = Month::try_from(pair()?).ok()?;
    let date = Date::from_calendar_date(i32::from(year), month, pair()?).ok()?;
    let time = Time::from_hms(pair()?, pair()?, pair()?).ok()?;
    let seconds = PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp();
    Some(UnixTime(u64::try_from(seconds).unwrap_or(0)))
}

/// The number that at most four ASCII digits spell.
fn decimal(digits: &[u8]) -> Option<u16> {
    digits.iter().try_fold(0_u16, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u16::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

fn too_large(what: &'static str, found: usize, limit: usize) -> DerError {
    let wide = |number| u64::try_from(number).unwrap_or(u64::MAX);
    DerError::Read(ReadError::TooLarge { offset: 0, what, found: wide(found), limit: wide(limit) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time_of(tag: u8, text: &str) -> Result<String, DerError> {
        let bytes = der::encode(tag, &[text.as_bytes()]);
        parse_time(&Der::new(&bytes).any("time").unwrap()).map(|time| time.to_string())
    }

    #[test]
    fn both_forms_of_time_are_read() {
        assert_eq!(time_of(der::UTC_TIME, "491231235959Z").unwrap(), "2049-12-31T23:59:59Z");
        assert_eq!(time_of(der::UTC_TIME, "500101000000Z").unwrap(), "1970-01-01T00:00:00Z");
        assert_eq!(time_of(der::GENERALIZED_TIME, "99991231235959Z").unwrap(), "9999-12-31T23:59:59Z");
        assert_eq!(time_of(der::GENERALIZED_TIME, "20240229000000Z").unwrap(), "2024-02-29T00:00:00Z");
    }

    #[test]
    fn other_times_are_refused() {
        for (tag, text) in [
            (der::UTC_TIME, "4912312359Z"),
            (der::UTC_TIME, "491231235959+"),
            (der::UTC_TIME, "491331235959Z"),
            (der::GENERALIZED_TIME, "20230229000000Z"),
            (der::GENERALIZED_TIME, "2023010100000:Z"),
        ] {
            let error = time_of(tag, text).unwrap_err().to_string();
            assert_eq!(error, "offset 2: a time is not written as RFC 5280 asks", "{text}");
        }
    }

    #[test]
    fn a_certificate_above_its_bound_is_refused_before_it_is_read() {
        let error = Certificate::parse(&vec![0x30; MAX_CERTIFICATE + 1]).unwrap_err();
        assert_eq!(error.to_string(), "offset 0: certificate is 16385, at most 16384 is accepted");
    }
}
