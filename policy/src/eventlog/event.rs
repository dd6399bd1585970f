//! Event types and what an event says about itself.
//!
//! Descriptions are decoration: nothing binds an event's data unless its digest is the data's hash,
//! so a description is shown to people and never decides anything.

use std::fmt;

use crate::budget::MAX_DESCRIPTION;
use crate::eventlog::tcg::Event;
use crate::reader::{ReadError, Reader};

/// The type of an event; unknown ones are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventType(pub u32);

macro_rules! event_types {
    ($($constant:ident = $value:literal, $name:literal;)*) => {
        impl EventType {
            $(#[doc = concat!("`", $name, "`")]
            pub const $constant: Self = Self($value);)*

            /// The name that the TCG gave it, if it is one of the Platform Firmware Profile.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some($name),)*
                    _ => None,
                }
            }
        }
    };
}

// TCG PC Client Platform Firmware Profile 1.06, clause 10.4.1.
event_types! {
    PREBOOT_CERT = 0x0000_0000, "EV_PREBOOT_CERT";
    POST_CODE = 0x0000_0001, "EV_POST_CODE";
    UNUSED = 0x0000_0002, "EV_UNUSED";
    NO_ACTION = 0x0000_0003, "EV_NO_ACTION";
    SEPARATOR = 0x0000_0004, "EV_SEPARATOR";
    ACTION = 0x0000_0005, "EV_ACTION";
    EVENT_TAG = 0x0000_0006, "EV_EVENT_TAG";
    S_CRTM_CONTENTS = 0x0000_0007, "EV_S_CRTM_CONTENTS";
    S_CRTM_VERSION = 0x0000_0008, "EV_S_CRTM_VERSION";
    CPU_MICROCODE = 0x0000_0009, "EV_CPU_MICROCODE";
    PLATFORM_CONFIG_FLAGS = 0x0000_000a, "EV_PLATFORM_CONFIG_FLAGS";
    TABLE_OF_DEVICES = 0x0000_000b, "EV_TABLE_OF_DEVICES";
    COMPACT_HASH = 0x0000_000c, "EV_COMPACT_HASH";
    IPL = 0x0000_000d, "EV_IPL";
    IPL_PARTITION_DATA = 0x0000_000e, "EV_IPL_PARTITION_DATA";
    NONHOST_CODE = 0x0000_000f, "EV_NONHOST_CODE";
    NONHOST_CONFIG = 0x0000_0010, "EV_NONHOST_CONFIG";
    NONHOST_INFO = 0x0000_0011, "EV_NONHOST_INFO";
    OMIT_BOOT_DEVICE_EVENTS = 0x0000_0012, "EV_OMIT_BOOT_DEVICE_EVENTS";
    POST_CODE2 = 0x0000_0013, "EV_POST_CODE2";
    EFI_VARIABLE_DRIVER_CONFIG = 0x8000_0001, "EV_EFI_VARIABLE_DRIVER_CONFIG";
    EFI_VARIABLE_BOOT = 0x8000_0002, "EV_EFI_VARIABLE_BOOT";
    EFI_BOOT_SERVICES_APPLICATION = 0x8000_0003, "EV_EFI_BOOT_SERVICES_APPLICATION";
    EFI_BOOT_SERVICES_DRIVER = 0x8000_0004, "EV_EFI_BOOT_SERVICES_DRIVER";
    EFI_RUNTIME_SERVICES_DRIVER = 0x8000_0005, "EV_EFI_RUNTIME_SERVICES_DRIVER";
    EFI_GPT_EVENT = 0x8000_0006, "EV_EFI_GPT_EVENT";
    EFI_ACTION = 0x8000_0007, "EV_EFI_ACTION";
    EFI_PLATFORM_FIRMWARE_BLOB = 0x8000_0008, "EV_EFI_PLATFORM_FIRMWARE_BLOB";
    EFI_HANDOFF_TABLES = 0x8000_0009, "EV_EFI_HANDOFF_TABLES";
    EFI_PLATFORM_FIRMWARE_BLOB2 = 0x8000_000a, "EV_EFI_PLATFORM_FIRMWARE_BLOB2";
    EFI_HANDOFF_TABLES2 = 0x8000_000b, "EV_EFI_HANDOFF_TABLES2";
    EFI_VARIABLE_BOOT2 = 0x8000_000c, "EV_EFI_VARIABLE_BOOT2";
    EFI_GPT_EVENT2 = 0x8000_000d, "EV_EFI_GPT_EVENT2";
    EFI_HCRTM_EVENT = 0x8000_0010, "EV_EFI_HCRTM_EVENT";
    EFI_VARIABLE_AUTHORITY = 0x8000_00e0, "EV_EFI_VARIABLE_AUTHORITY";
    EFI_SPDM_FIRMWARE_BLOB = 0x8000_00e1, "EV_EFI_SPDM_FIRMWARE_BLOB";
    EFI_SPDM_FIRMWARE_CONFIG = 0x8000_00e2, "EV_EFI_SPDM_FIRMWARE_CONFIG";
    EFI_SPDM_DEVICE_POLICY = 0x8000_00e3, "EV_EFI_SPDM_DEVICE_POLICY";
    EFI_SPDM_DEVICE_AUTHORITY = 0x8000_00e4, "EV_EFI_SPDM_DEVICE_AUTHORITY";
    // Not of the profile: events of other logs, so that manifests can name them. No TCG number is near.
    SYSTEMD = 0xfffe_0001, "SYSTEMD";
    IMAGE = 0xfffe_0002, "TOUCHSTONE_IMAGE";
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => write!(f, "{:#010x}", self.0),
        }
    }
}

/// An EFI variable as an event's data spells it: `UEFI_VARIABLE_DATA` (clause 10.4.2.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable<'a> {
    /// Vendor GUID, in its byte order.
    pub guid: [u8; 16],
    /// Name, with what is not UTF-16 replaced.
    pub name: String,
    /// Contents; empty for a variable that does not exist.
    pub value: &'a [u8],
}

impl<'a> Variable<'a> {
    /// Parses a variable, whole.
    pub fn parse(data: &'a [u8]) -> Result<Self, ReadError> {
        let mut reader = Reader::new(data);
        let guid = reader.array("variable GUID")?;
        let characters = reader.u64_le("length of a variable's name")?;
        let len = reader.u64_le("length of a variable")?;
        let name = reader.bounded(characters.saturating_mul(2), data.len(), "variable name")?;
        let value = reader.bounded(len, data.len(), "variable")?;
        reader.finish("variable")?;
        Ok(Self { guid, name: utf16(name).unwrap_or_default(), value })
    }
}

/// What the event says about itself, for people: a file, a variable, a text. Decoration only.
#[must_use]
pub fn describe(event: &Event<'_>) -> Option<String> {
    let text = match event.event_type {
        EventType::EFI_VARIABLE_DRIVER_CONFIG
        | EventType::EFI_VARIABLE_BOOT
        | EventType::EFI_VARIABLE_BOOT2
        | EventType::EFI_VARIABLE_AUTHORITY => variable(event.data),
        EventType::EFI_BOOT_SERVICES_APPLICATION
        | EventType::EFI_BOOT_SERVICES_DRIVER
        | EventType::EFI_RUNTIME_SERVICES_DRIVER => image(event.data),
        EventType::SEPARATOR => Some(hex::encode(event.data.get(..4).unwrap_or(event.data))),
        EventType::EFI_PLATFORM_FIRMWARE_BLOB2 | EventType::EFI_HANDOFF_TABLES2 => counted(event.data),
        EventType::EVENT_TAG => tagged(event.data),
        EventType::NO_ACTION => ascii(event.data.get(..15).unwrap_or(event.data)),
        _ => text(event.data),
    };
    text.map(|text| text.chars().take(MAX_DESCRIPTION).collect())
}

/// The name, also where surplus bytes follow as in shim's authorities.
fn variable(data: &[u8]) -> Option<String> {
    let mut reader = Reader::new(data);
    reader.take(16, "variable GUID").ok()?;
    let characters = reader.u64_le("length of a variable's name").ok()?;
    reader.u64_le("length of a variable").ok()?;
    utf16(reader.bounded(characters.saturating_mul(2), data.len(), "variable name").ok()?)
}

/// The file path in an `EFI_IMAGE_LOAD_EVENT` (clause 10.4.2.2).
fn image(data: &[u8]) -> Option<String> {
    // imageLocationInMemory, imageLengthInMemory, imageLinkTimeAddress.
    const BEFORE_PATH_LEN: usize = 24;
    let mut reader = Reader::new(data);
    reader.take(BEFORE_PATH_LEN, "image location").ok()?;
    let len = reader.u64_le("length of a device path").ok()?;
    device_path(reader.bounded(len, data.len(), "device path").ok()?)
}

/// The last file path or firmware file of a device path (UEFI 2.10, 10.3).
fn device_path(path: &[u8]) -> Option<String> {
    const NODE_HEADER: usize = 4;
    let mut reader = Reader::new(path);
    let mut found = None;
    while let Ok([kind, sub_kind]) = reader.array("device path node") {
        let len = usize::from(reader.u16_le("length of a device path node").ok()?);
        let body = reader.take(len.checked_sub(NODE_HEADER)?, "device path node").ok()?;
        match (kind, sub_kind) {
            (0x04, 0x04) => found = utf16(body),
            (0x04, 0x06) => found = Some(format!("firmware file {}", guid(body)?)),
            (0x7f, _) => break,
            _ => {}
        }
    }
    found
}

/// The mixed-endian text form of a GUID (UEFI 2.10, appendix A).
fn guid(bytes: &[u8]) -> Option<String> {
    let mut reader = Reader::new(bytes);
    let first = reader.u32_le("GUID").ok()?;
    let (second, third) = (reader.u16_le("GUID").ok()?, reader.u16_le("GUID").ok()?);
    let fourth: [u8; 2] = reader.array("GUID").ok()?;
    let fifth: [u8; 6] = reader.array("GUID").ok()?;
    Some(format!("{first:08x}-{second:04x}-{third:04x}-{}-{}", hex::encode(fourth), hex::encode(fifth)))
}

/// A description with its length in front (clause 10.4.2.3).
fn counted(data: &[u8]) -> Option<String> {
    let mut reader = Reader::new(data);
    let len = reader.u8("length of a description").ok()?;
    ascii(reader.take(len.into(), "description").ok()?)
}

/// A `TCG_PCClientTaggedEvent`: the text behind its tag and length, or the tag (clause 10.4.2.7).
fn tagged(data: &[u8]) -> Option<String> {
    let mut reader = Reader::new(data);
    let tag = reader.u32_le("tag").ok()?;
    let len = reader.u32_le("length of a tagged event").ok()?;
    let body = reader.bounded(len.into(), data.len(), "tagged event").ok()?;
    Some(text(body).unwrap_or_else(|| format!("tag {tag:#010x}")))
}

/// ASCII or UTF-16 text, with or without terminating zeros.
fn text(data: &[u8]) -> Option<String> {
    ascii(data).or_else(|| utf16(data))
}

fn ascii(data: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(data).ok()?.trim_end_matches('\0');
    printable(text.to_owned())
}

fn utf16(data: &[u8]) -> Option<String> {
    if !data.len().is_multiple_of(2) {
        return None;
    }
    let units = data.chunks_exact(2).filter_map(|unit| unit.try_into().ok().map(u16::from_le_bytes));
    let text: String = char::decode_utf16(units.take(MAX_DESCRIPTION))
        .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect();
    printable(text.trim_end_matches('\0').to_owned())
}

/// Text that may reach a terminal: no control characters, not empty.
fn printable(text: String) -> Option<String> {
    let shown = !text.is_empty() && !text.chars().any(|c| c.is_control() || c == char::REPLACEMENT_CHARACTER);
    shown.then_some(text)
}
