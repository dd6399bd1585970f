//! The certificate of a device's key: what it must say, and what it says of the box.

use super::error::DevIdError;
use crate::digest::Digest;
use crate::evidence::endorsement::path::{self, Rules};
use crate::evidence::endorsement::profile::{self, When};
use crate::evidence::endorsement::{EndorsementError, RootStore, ValidityPolicy};
use crate::time::{UnixTime, Validity};
use crate::x509::der::{self, Der, DerError};
use crate::x509::extension::{self, KeyUsage};
use crate::x509::name::{self, MAX_NAME_TEXT};
use crate::x509::{Certificate, SubjectKey, oid, readout};

/// Longest serial number of a box in characters (RFC 5280, appendix A.1, ub-serial-number).
pub const MAX_SERIAL_NUMBER: usize = 64;
/// Longest identifier of a box, in bytes; a SHA-256 digest in hex has 64.
const MAX_IDENTIFIER: usize = 256;
/// Most identifiers that are handed on.
const MAX_IDENTIFIERS: usize = 8;

/// hardwareModuleName (RFC 4108, section 5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HardwareModule {
    /// The type's object identifier, dotted.
    pub kind: String,
    /// `hwSerialNum`.
    pub serial: Vec<u8>,
}

/// permanentIdentifier (RFC 4043, section 2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PermanentIdentifier {
    /// The identifier, if it is not the subject's.
    pub value: Option<String>,
    /// Who assigned it: an object identifier, dotted.
    pub assigner: Option<String>,
}

/// A device's certificate below a root of its manufacturer's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevIdCertificate {
    label: String,
    key: SubjectKey,
    digest: Digest,
    serial_number: String,
    model: Option<String>,
    manufacturer: Option<String>,
    hardware_module: Option<HardwareModule>,
    permanent_identifiers: Vec<PermanentIdentifier>,
    policies: Vec<Vec<u8>>,
    validity: Validity,
    root_subject: String,
    root_digest: Digest,
    root_label: String,
}

impl DevIdCertificate {
    /// What messages call it: its subject.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The certified key.
    #[must_use]
    pub const fn key(&self) -> &SubjectKey {
        &self.key
    }

    /// SHA-256 of the certificate.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Names the box in registers, where a TPM is named by the digest of its EK. No EK has the same: no
    /// SubjectPublicKeyInfo begins like this, so who holds the key cannot pose as a TPM that was registered.
    #[must_use]
    pub fn box_digest(&self) -> Digest {
        box_digest(&self.key)
    }

    /// The box's serial number in the subject: unique for its manufacturer.
    #[must_use]
    pub fn serial_number(&self) -> &str {
        &self.serial_number
    }

    /// What the manufacturer calls the box: the subject's common name, if it has one that can be printed.
    #[must_use]
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// The manufacturer as it names itself: the subject's organization, or else the root's subject.
    #[must_use]
    pub fn manufacturer(&self) -> &str {
        self.manufacturer.as_deref().unwrap_or(&self.root_subject)
    }

    /// The module that holds the key, as the manufacturer numbers it.
    #[must_use]
    pub const fn hardware_module(&self) -> Option<&HardwareModule> {
        self.hardware_module.as_ref()
    }

    /// Other identifiers of the box.
    #[must_use]
    pub fn permanent_identifiers(&self) -> &[PermanentIdentifier] {
        &self.permanent_identifiers
    }

    /// Its validity; an IDevID often ends with the year 9999, which means never (802.1AR-2018, section 8.7).
    #[must_use]
    pub const fn validity(&self) -> Validity {
        self.validity
    }

    /// The subject of the root that it ends at.
    #[must_use]
    pub fn root_subject(&self) -> &str {
        &self.root_subject
    }

    /// SHA-256 of the root's certificate.
    #[must_use]
    pub const fn root_digest(&self) -> Digest {
        self.root_digest
    }

    /// The label under which the root was added.
    #[must_use]
    pub fn root_label(&self) -> &str {
        &self.root_label
    }

    /// Walks from `certificate`, which messages call `what`, to a root.
    pub(super) fn verify(
        what: &'static str,
        certificate: &[u8],
        intermediates: &[&[u8]],
        roots: &RootStore,
        (now, policy): (UnixTime, ValidityPolicy),
    ) -> Result<Self, DevIdError> {
        let der = readout::certificate_in(certificate).map_err(|e| DevIdError::Readout(what, e))?;
        let leaf = Certificate::parse(&der).map_err(|e| DevIdError::Parse(what, e))?;
        let chain = |error| DevIdError::Chain(what, error);
        let (serial_number, key) = of_a_box(what, &leaf)?;
        let alive_at = match policy {
            ValidityPolicy::AtTime => now,
            ValidityPolicy::AtLeafNotBefore => leaf.validity().not_before,
        };
        let extras = path::unwrap_extras(intermediates).map_err(chain)?;
        let rules = Rules { purpose: None, manufacturer: None };
        let found = path::walk(&leaf, rules, &extras, roots, When { now, alive_at }).map_err(chain)?;
        let read = |e: DerError| DevIdError::Parse(what, e);
        let (hardware_module, permanent_identifiers) = alternative_names(&leaf).map_err(read)?;
        Ok(Self {
            label: leaf.label(),
            key,
            digest: Digest::of(&der),
            serial_number,
            model: printable(&leaf, oid::COMMON_NAME),
            manufacturer: printable(&leaf, oid::ORGANISATION),
            hardware_module,
            permanent_identifiers,
            policies: policies(&leaf).map_err(read)?,
            validity: leaf.validity(),
            root_subject: name::text(found.root.subject()),
            root_digest: Digest::of(found.root.der()),
            root_label: found.root_label,
        })
    }

    /// The first of these that the issuer does not say it verified of the key.
    pub(super) fn unverified(&self, demanded: &[TpmPolicy]) -> Option<&'static str> {
        let missing = |(oid, _): &&TpmPolicy| !self.policies.iter().any(|policy| policy == oid);
        demanded.iter().find(missing).map(|(_, name)| *name)
    }
}

/// What an issuer says that it verified of a key, by its policy's object identifier, and how messages call it.
pub(super) type TpmPolicy = (&'static [u8], &'static str);
/// The key lives in a TPM and is fixed there.
pub(super) const IN_TPM: [TpmPolicy; 2] = [
    (oid::TCG_VERIFIED_RESIDENCY, "tcg-cap-verifiedTPMResidency (2.23.133.11.1.1)"),
    (oid::TCG_VERIFIED_FIXED, "tcg-cap-verifiedTPMFixed (2.23.133.11.1.2)"),
];
/// It signs only what the TPM made, too.
pub(super) const RESTRICTED: TpmPolicy =
    (oid::TCG_VERIFIED_RESTRICTED, "tcg-cap-verifiedTPMRestricted (2.23.133.11.1.3)");

/// What an IDevID certificate says, whoever issued it: for its holder, who need not be told who made the box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// [`DevIdCertificate::box_digest`]
    pub box_digest: Digest,
    /// Its subject.
    pub subject: String,
    /// The box's serial number.
    pub serial_number: String,
    /// When it holds.
    pub validity: Validity,
    /// SHA-256 of the certified key's SubjectPublicKeyInfo.
    pub key: Digest,
    /// Whether the issuer says that the key lives in a TPM.
    pub in_tpm: bool,
}

/// Reads an IDevID certificate (DER, PEM or NV readout) without asking who issued it.
pub fn describe(certificate: &[u8]) -> Result<Described, DevIdError> {
    const WHAT: &str = "IDevID";
    let der = readout::certificate_in(certificate).map_err(|e| DevIdError::Readout(WHAT, e))?;
    let leaf = Certificate::parse(&der).map_err(|e| DevIdError::Parse(WHAT, e))?;
    let (serial_number, key) = of_a_box(WHAT, &leaf)?;
    let policies = policies(&leaf).map_err(|e| DevIdError::Parse(WHAT, e))?;
    Ok(Described {
        box_digest: box_digest(&key),
        subject: leaf.label(),
        serial_number,
        validity: leaf.validity(),
        key: key.digest(),
        in_tpm: IN_TPM.iter().all(|(oid, _)| policies.iter().any(|policy| policy == oid)),
    })
}

fn box_digest(key: &SubjectKey) -> Digest {
    Digest::of_parts(&[b"touchstone/v1/idevid ", &key.digest().0])
}

/// The serial number and the key of a certificate that may be a box's.
fn of_a_box(what: &'static str, leaf: &Certificate<'_>) -> Result<(String, SubjectKey), DevIdError> {
    let chain = |error| DevIdError::Chain(what, error);
    verify_leaf(leaf).map_err(chain)?;
    if is_authority(leaf).map_err(chain)? {
        return Err(DevIdError::IsAuthority(leaf.label()));
    }
    Ok((serial_number(leaf)?, verified_key(leaf).map_err(chain)?))
}

fn verify_leaf(leaf: &Certificate<'_>) -> Result<(), EndorsementError> {
    profile::verify_extensions(leaf)?;
    if profile::key_usage(leaf)?.is_some_and(|usage| !usage.digital_signature()) {
        let wanted = "digitalSignature, which a device's key has";
        return Err(EndorsementError::KeyUsage { certificate: leaf.label(), wanted });
    }
    Ok(())
}

fn is_authority(leaf: &Certificate<'_>) -> Result<bool, EndorsementError> {
    let ca = profile::basic_constraints(leaf)?.is_some_and(|constraints| constraints.ca);
    Ok(ca || profile::key_usage(leaf)?.is_some_and(KeyUsage::key_cert_sign))
}

fn verified_key(leaf: &Certificate<'_>) -> Result<SubjectKey, EndorsementError> {
    let unusable = |source| EndorsementError::Key { certificate: leaf.label(), source };
    let key = SubjectKey::parse(leaf.spki()).map_err(unusable)?;
    key.validate().map_err(unusable)?;
    Ok(key)
}

/// The one serialNumber of the subject.
fn serial_number(leaf: &Certificate<'_>) -> Result<String, DevIdError> {
    let refuse = |problem| DevIdError::SerialNumber { certificate: leaf.label(), problem };
    let attributes = name::attributes(leaf.subject()).map_err(|_| refuse("has a malformed"))?;
    let mut found = attributes.iter().filter(|attribute| attribute.oid == oid::SERIAL_NUMBER);
    let value = found.next().ok_or_else(|| refuse("lacks"))?.value;
    if found.next().is_some() {
        return Err(refuse("repeats"));
    }
    let text = std::str::from_utf8(value).map_err(|_| refuse("has a malformed"))?;
    let fit = (1..=MAX_SERIAL_NUMBER).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    fit.then(|| text.to_owned()).ok_or_else(|| refuse("has a malformed"))
}

/// The first attribute of this kind in the subject, if it can be printed.
fn printable(leaf: &Certificate<'_>, kind: &[u8]) -> Option<String> {
    let attributes = name::attributes(leaf.subject()).ok()?;
    let value = attributes.iter().find(|attribute| attribute.oid == kind)?.value;
    let text = std::str::from_utf8(value).ok()?;
    let fits = !text.is_empty() && text.len() <= MAX_NAME_TEXT && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned())
}

fn policies(leaf: &Certificate<'_>) -> Result<Vec<Vec<u8>>, DerError> {
    let Some(found) = leaf.extension(oid::CERTIFICATE_POLICIES) else { return Ok(Vec::new()) };
    let policies = extension::parse_policies(found.value)?;
    Ok(policies.into_iter().map(<[u8]>::to_vec).collect())
}

type Names = (Option<HardwareModule>, Vec<PermanentIdentifier>);

fn alternative_names(leaf: &Certificate<'_>) -> Result<Names, DerError> {
    let Some(found) = leaf.extension(oid::SUBJECT_ALT_NAME) else { return Ok((None, Vec::new())) };
    let (mut module, mut identifiers) = (None, Vec::new());
    for other in extension::parse_other_names(found.value)? {
        match other.oid {
            oid::HARDWARE_MODULE_NAME if module.is_none() => module = Some(hardware_module(other.value)?),
            oid::PERMANENT_IDENTIFIER if identifiers.len() < MAX_IDENTIFIERS => {
                identifiers.push(permanent_identifier(other.value)?);
            }
            _ => {}
        }
    }
    Ok((module, identifiers))
}

fn hardware_module(mut value: Der<'_>) -> Result<HardwareModule, DerError> {
    let mut inside = value.expect(der::SEQUENCE, "hardwareModuleName")?.inside();
    let kind = inside.expect(der::OBJECT_IDENTIFIER, "hwType")?;
    let serial = inside.expect(der::OCTET_STRING, "hwSerialNum")?;
    inside.finish("hardwareModuleName")?;
    if serial.bytes().len() > MAX_IDENTIFIER {
        return Err(serial.invalid("hwSerialNum is longer than 256 bytes"));
    }
    Ok(HardwareModule { kind: oid::text(kind.bytes()), serial: serial.bytes().to_vec() })
}

fn permanent_identifier(mut value: Der<'_>) -> Result<PermanentIdentifier, DerError> {
    const UTF8_STRING: u8 = 0x0c;
    let mut inside = value.expect(der::SEQUENCE, "permanentIdentifier")?.inside();
    let text = match inside.optional(UTF8_STRING, "identifierValue")? {
        Some(text) if text.bytes().len() > MAX_IDENTIFIER => {
            return Err(text.invalid("identifierValue is longer than 256 bytes"));
        }
        Some(text) => {
            Some(std::str::from_utf8(text.bytes()).map_err(|_| text.invalid("identifierValue is no UTF-8"))?)
        }
        None => None,
    };
    let assigner = inside.optional(der::OBJECT_IDENTIFIER, "assigner")?;
    inside.finish("permanentIdentifier")?;
    Ok(PermanentIdentifier {
        value: text.map(str::to_owned),
        assigner: assigner.map(|assigner| oid::text(assigner.bytes())),
    })
}
