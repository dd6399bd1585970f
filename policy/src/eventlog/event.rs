//! Event types and what an event says about itself.
//!
//! Descriptions are decoration: nothing binds an event's data unless its digest is the data's hash,
//! so a description is shown to people and never decides anything.

use std::fmt;

use crate::budget::MAX_DESCRIPTION;
use crate::eventlog::tcg::Event;
use crate::eventlog::typed::image::ImageLoad;
use crate::eventlog::typed::tagged::Tagged;
use crate::eventlog::typed::text;
use crate::eventlog::typed::variable::Variable;
use crate::reader::Reader;

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

/// What the event says about itself, for people: a file, a variable, a text. Decoration only.
#[must_use]
pub fn describe(event: &Event<'_>) -> Option<String> {
    let text = match event.event_type {
        EventType::EFI_VARIABLE_DRIVER_CONFIG
        | EventType::EFI_VARIABLE_BOOT
        | EventType::EFI_VARIABLE_BOOT2
        | EventType::EFI_VARIABLE_AUTHORITY => Variable::name_of(event.data),
        EventType::EFI_BOOT_SERVICES_APPLICATION
        | EventType::EFI_BOOT_SERVICES_DRIVER
        | EventType::EFI_RUNTIME_SERVICES_DRIVER => ImageLoad::parse(event.data).ok()?.file(),
        EventType::SEPARATOR => Some(hex::encode(event.data.get(..4).unwrap_or(event.data))),
        EventType::EFI_PLATFORM_FIRMWARE_BLOB2 | EventType::EFI_HANDOFF_TABLES2 => counted(event.data),
        EventType::EVENT_TAG => {
            let tagged = Tagged::parse(event.data).ok()?;
            Some(tagged.description().unwrap_or_else(|| tagged.tag.to_string()))
        }
        EventType::NO_ACTION => text::ascii(event.data.get(..15).unwrap_or(event.data)),
        _ => text::text(event.data),
    };
    let mut text = text?;
    if let Some((end, _)) = text.char_indices().nth(MAX_DESCRIPTION) {
        text.truncate(end);
    }
    Some(text)
}

/// A description with its length in front (clause 10.4.2.3).
fn counted(data: &[u8]) -> Option<String> {
    let mut reader = Reader::new(data);
    let len = reader.u8("length of a description").ok()?;
    text::ascii(reader.take(len.into(), "description").ok()?)
}
