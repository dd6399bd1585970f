//! What an EK certificate says about its TPM (TCG EK Credential Profile): manufacturer,
//! model and firmware version, three attributes of a directoryName in subjectAltName.
//!
//! These are the manufacturer's words at the time of manufacture. They are as good as the chain above them.

use std::fmt;

use super::error::EndorsementError;
use crate::x509::{Certificate, extension, name, oid};

/// Longest model name in bytes; TCG's profile says 16, some models need more.
const MAX_MODEL: usize = 64;

/// A TPM manufacturer by its four bytes in the TCG Vendor ID Registry (`TPM_PT_MANUFACTURER`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Manufacturer(pub [u8; 4]);

/// Names of the TCG TPM Vendor ID Registry, and of software TPMs.
const NAMES: [(Manufacturer, &str); 25] = [
    (Manufacturer::AMD, "AMD"),
    (Manufacturer(*b"ANT\0"), "Ant Group"),
    (Manufacturer::ATMEL, "Atmel"),
    (Manufacturer(*b"BRCM"), "Broadcom"),
    (Manufacturer(*b"CSCO"), "Cisco"),
    (Manufacturer(*b"FLYS"), "Flyslice Technologies"),
    (Manufacturer::GOOGLE, "Google"),
    (Manufacturer(*b"HPI\0"), "HPI"),
    (Manufacturer(*b"HPE\0"), "HPE"),
    (Manufacturer(*b"HISI"), "Huawei"),
    (Manufacturer(*b"IBM\0"), "IBM"),
    // swtpm's default: the PCI vendor number of IBM.
    (Manufacturer([0, 0, 0x10, 0x14]), "IBM (software TPM)"),
    (Manufacturer::INFINEON, "Infineon"),
    (Manufacturer::INTEL, "Intel"),
    (Manufacturer(*b"LEN\0"), "Lenovo"),
    (Manufacturer::MICROSOFT, "Microsoft"),
    (Manufacturer::NSING, "NSING"),
    (Manufacturer(*b"NSM "), "National Semiconductor"),
    (Manufacturer::NATIONZ, "Nationz"),
    (Manufacturer::NUVOTON, "Nuvoton"),
    (Manufacturer::QUALCOMM, "Qualcomm"),
    (Manufacturer(*b"SMSN"), "Samsung"),
    (Manufacturer(*b"SECE"), "SecEdge"),
    (Manufacturer(*b"SNS\0"), "Sinosun"),
    (Manufacturer::STMICRO, "STMicroelectronics"),
];

impl Manufacturer {
    /// AMD.
    pub const AMD: Self = Self(*b"AMD\0");
    /// Atmel.
    pub const ATMEL: Self = Self(*b"ATML");
    /// Google.
    pub const GOOGLE: Self = Self(*b"GOOG");
    /// Infineon.
    pub const INFINEON: Self = Self(*b"IFX\0");
    /// Intel.
    pub const INTEL: Self = Self(*b"INTC");
    /// Microsoft.
    pub const MICROSOFT: Self = Self(*b"MSFT");
    /// Nationz.
    pub const NATIONZ: Self = Self(*b"NTZ\0");
    /// NSING.
    pub const NSING: Self = Self(*b"NSG\0");
    /// Nuvoton.
    pub const NUVOTON: Self = Self(*b"NTC\0");
    /// Qualcomm.
    pub const QUALCOMM: Self = Self(*b"QCOM");
    /// STMicroelectronics.
    pub const STMICRO: Self = Self(*b"STM ");

    /// The bytes as text where they are text, else in hex: `STM`, `00001014`.
    #[must_use]
    pub fn code(&self) -> String {
        let text = self.0.trim_ascii_end();
        let text = text.strip_suffix(&[0]).unwrap_or(text);
        match std::str::from_utf8(text) {
            Ok(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) => {
                text.to_owned()
            }
            _ => hex::encode_upper(self.0),
        }
    }

    /// The manufacturer with this code, in whatever case: `IFX`, `stm`; none that is not known here.
    #[must_use]
    pub fn of_code(code: &str) -> Option<Self> {
        NAMES.iter().map(|(id, _)| *id).find(|id| id.code().eq_ignore_ascii_case(code))
    }

    /// The name in the TCG Vendor ID Registry, if it is known here.
    #[must_use]
    pub fn name(&self) -> Option<&'static str> {
        NAMES.iter().find(|(id, _)| id == self).map(|(_, name)| *name)
    }

    /// Reads `id:` and eight hex digits.
    fn parse(value: &[u8]) -> Option<Self> {
        let mut id = [0; 4];
        hex::decode_to_slice(value.strip_prefix(b"id:")?, &mut id).ok()?;
        Some(Self(id))
    }
}

impl fmt::Display for Manufacturer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => f.pad(&self.code()),
        }
    }
}

/// A firmware version as major and minor number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FirmwareVersion {
    /// The major number: 7 of 7.62.
    pub major: u16,
    /// The minor number: 62 of 7.62.
    pub minor: u16,
}

impl FirmwareVersion {
    /// The version in the upper half of `firmwareVersion` of a quote, which is
    /// `TPM_PT_FIRMWARE_VERSION_1` (TPM 2.0 Part 2, TPMS_ATTEST). It is obfuscated unless the signing key is in
    /// the endorsement or platform hierarchy.
    #[must_use]
    pub const fn from_attest(firmware_version: u64) -> Self {
        let [a, b, c, d, ..] = firmware_version.to_be_bytes();
        Self { major: u16::from_be_bytes([a, b]), minor: u16::from_be_bytes([c, d]) }
    }

    /// Reads `id:` and hex digits, half of them for each number: `id:053E` is 5.62, `id:00070002` is 7.2.
    fn parse(value: &[u8]) -> Option<Self> {
        let digits = std::str::from_utf8(value.strip_prefix(b"id:")?).ok()?;
        let hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let (major, minor) = digits.split_at_checked(digits.len() / 2)?;
        if !hex || !matches!(digits.len(), 4 | 8) {
            return None;
        }
        let number = |digits| u16::from_str_radix(digits, 16).ok();
        Some(Self { major: number(major)?, minor: number(minor)? })
    }
}

impl fmt::Display for FirmwareVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// All four numbers of a firmware version, as TPMs report them and people write them: 7.2.4.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FirmwareBuild(pub [u16; 4]);

impl FirmwareBuild {
    /// The version in `firmwareVersion` of a quote: `TPM_PT_FIRMWARE_VERSION_1` and `_2` (TPM 2.0 Part 2,
    /// TPMS_ATTEST). See [`FirmwareVersion::from_attest`] for when it can be believed.
    #[must_use]
    pub const fn from_attest(firmware_version: u64) -> Self {
        let [a, b, c, d, e, f, g, h] = firmware_version.to_be_bytes();
        Self([
            u16::from_be_bytes([a, b]),
            u16::from_be_bytes([c, d]),
            u16::from_be_bytes([e, f]),
            u16::from_be_bytes([g, h]),
        ])
    }

    /// The first two numbers, which are all that a certificate tells.
    #[must_use]
    pub const fn version(self) -> FirmwareVersion {
        let Self([major, minor, ..]) = self;
        FirmwareVersion { major, minor }
    }
}

impl fmt::Display for FirmwareBuild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self([major, minor, build, revision]) = self;
        write!(f, "{major}.{minor}.{build}.{revision}")
    }
}

/// The text is no firmware version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no firmware version; write two to four numbers, for example 7.62 or 7.2.4.0")]
pub struct ParseFirmwareError(String);

impl std::str::FromStr for FirmwareBuild {
    type Err = ParseFirmwareError;

    /// Numbers that are left out are 0.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || ParseFirmwareError(text.chars().take(40).collect());
        let mut numbers = [0; 4];
        let mut written = text.split('.');
        for (number, place) in (0..).zip(&mut numbers) {
            match written.next() {
                Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => {
                    *place = digits.parse().map_err(|_| refuse())?;
                }
                None if number >= 2 => {}
                _ => return Err(refuse()),
            }
        }
        if written.next().is_some() { Err(refuse()) } else { Ok(Self(numbers)) }
    }
}

/// The three TCG attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TpmIdentity {
    pub(super) manufacturer: Manufacturer,
    pub(super) model: String,
    pub(super) version: FirmwareVersion,
}

impl TpmIdentity {
    /// Reads the attributes from the subjectAltName of an EK certificate; each must be there once.
    pub(super) fn parse(certificate: &Certificate<'_>) -> Result<Self, EndorsementError> {
        let malformed = |source| EndorsementError::Extension {
            certificate: certificate.label(),
            extension: oid::text(oid::SUBJECT_ALT_NAME),
            source,
        };
        let names = match certificate.extension(oid::SUBJECT_ALT_NAME) {
            Some(found) => extension::parse_directory_names(found.value).map_err(malformed)?,
            None => Vec::new(),
        };
        let mut attributes = Vec::new();
        for name in names {
            attributes.extend(name::attributes(name).map_err(malformed)?);
        }
        let read = Attributes { certificate, attributes };
        Ok(Self {
            manufacturer: read.one(
                oid::TCG_TPM_MANUFACTURER,
                "tcg-at-tpmManufacturer",
                Manufacturer::parse,
            )?,
            model: read.one(oid::TCG_TPM_MODEL, "tcg-at-tpmModel", parse_model)?,
            version: read.one(oid::TCG_TPM_VERSION, "tcg-at-tpmVersion", FirmwareVersion::parse)?,
        })
    }
}

struct Attributes<'c, 'a> {
    certificate: &'c Certificate<'a>,
    attributes: Vec<name::Attribute<'a>>,
}

impl Attributes<'_, '_> {
    /// The attribute that must be there once.
    fn one<T>(
        &self,
        oid: &[u8],
        attribute: &'static str,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<T, EndorsementError> {
        let refuse = |problem| EndorsementError::TpmAttribute {
            certificate: self.certificate.label(),
            attribute,
            problem,
        };
        let mut values = self.attributes.iter().filter(|found| found.oid == oid);
        let value = values.next().ok_or_else(|| refuse("lacks"))?.value;
        if values.next().is_some() {
            return Err(refuse("repeats"));
        }
        parse(value).ok_or_else(|| refuse("has a malformed"))
    }
}

/// A model name fit for tables and logs: short, without control characters.
fn parse_model(value: &[u8]) -> Option<String> {
    let model = std::str::from_utf8(value).ok()?.trim();
    let fit = !model.is_empty() && model.len() <= MAX_MODEL && !model.chars().any(char::is_control);
    fit.then(|| model.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manufacturers_have_codes_and_names() {
        let of = |text: &str| {
            let id = Manufacturer::parse(text.as_bytes()).unwrap();
            (id.code(), id.to_string())
        };
        assert_eq!(of("id:53544D20"), ("STM".into(), "STMicroelectronics".into()));
        assert_eq!(of("id:49465800"), ("IFX".into(), "Infineon".into()));
        assert_eq!(of("id:4e544300"), ("NTC".into(), "Nuvoton".into()));
        assert_eq!(of("id:00001014"), ("00001014".into(), "IBM (software TPM)".into()));
        assert_eq!(of("id:58595A00"), ("XYZ".into(), "XYZ".into()));
        assert_eq!(Manufacturer::parse(b"id:53544D2"), None);
        assert_eq!(Manufacturer::parse(b"53544D20"), None);
    }

    #[test]
    fn builds_are_read_as_people_write_them() {
        let of = |text: &str| text.parse::<FirmwareBuild>().map(|build| build.to_string());
        assert_eq!(of("7.62").as_deref(), Ok("7.62.0.0"));
        assert_eq!(of("1.3.2.8").as_deref(), Ok("1.3.2.8"));
        for wrong in ["", "7", "7.", "7.x", "7.+2", "1.2.3.4.5", "7.65536"] {
            assert_eq!(of(wrong), Err(ParseFirmwareError(wrong.to_owned())), "{wrong}");
        }
        // Four numbers of 16 bits, as Windows shows those of Intel and others.
        assert_eq!(FirmwareBuild::from_attest(0x0001_0003_0002_0008).to_string(), "1.3.2.8");
        assert_eq!(FirmwareBuild::from_attest(0x0007_003e_0c36_0000).version().to_string(), "7.62");
    }

    #[test]
    fn versions_are_read_in_both_widths() {
        let of = |text: &str| FirmwareVersion::parse(text.as_bytes()).map(|version| version.to_string());
        assert_eq!(of("id:053E").as_deref(), Some("5.62"));
        assert_eq!(of("id:00070002").as_deref(), Some("7.2"));
        assert_eq!(of("id:00010102").as_deref(), Some("1.258"));
        for wrong in ["053E", "id:", "id:05+3", "id:053", "id:\u{e9}\u{e9}"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
        assert_eq!(FirmwareVersion::from_attest(0x0007_003e_0c36_0000).to_string(), "7.62");
    }
}
