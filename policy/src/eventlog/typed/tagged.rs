//! Tagged events: `TCG_PCClientTaggedEvent` (TCG PC Client Platform Firmware Profile 1.06, clause 10.4.2.7).
//!
//! systemd-boot, systemd-stub and the EFI stub of Linux hash what a tag stands for and put a description into
//! the event; then tag and description are hints.

use std::fmt;

use super::text;
use crate::reader::{ReadError, Reader};

/// What a tagged event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag(pub u32);

impl Tag {
    /// systemd-boot: the contents of loader.conf, in PCR 5.
    pub const LOADER_CONF: Self = Self(0xf5bc_582a);
    /// systemd: SMBIOS structures of type 1, in PCR 1.
    pub const SMBIOS_TYPE_1: Self = Self(0xd5cb_7cbc);
    /// systemd: SMBIOS structures of type 2, in PCR 1.
    pub const SMBIOS_TYPE_2: Self = Self(0xe0d4_7bc8);
    /// systemd: SMBIOS structures of type 11, in PCR 1.
    pub const SMBIOS_TYPE_11: Self = Self(0xc0b3_bd23);
    /// systemd-stub: a device tree of an addon, in PCR 12.
    pub const DEVICE_TREE: Self = Self(0x6c46_f751);
    /// systemd-stub: an initrd of an addon, in PCR 12.
    pub const INITRD: Self = Self(0x49df_fe0f);
    /// systemd-stub: microcode of an addon, in PCR 12.
    pub const MICROCODE: Self = Self(0xdac0_8e1a);
    /// Linux: the initrds that it loaded itself, in PCR 9.
    pub const LINUX_INITRD: Self = Self(0x8f3b_22ec);
    /// Linux: its load options, in PCR 9.
    pub const LINUX_LOAD_OPTIONS: Self = Self(0x8f3b_22ed);

    /// What it stands for, if it is one of these.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::LOADER_CONF => "loader.conf",
            Self::SMBIOS_TYPE_1 => "SMBIOS type 1",
            Self::SMBIOS_TYPE_2 => "SMBIOS type 2",
            Self::SMBIOS_TYPE_11 => "SMBIOS type 11",
            Self::DEVICE_TREE => "device tree",
            Self::INITRD => "initrd",
            Self::MICROCODE => "microcode",
            Self::LINUX_INITRD => "Linux initrd",
            Self::LINUX_LOAD_OPTIONS => "Linux load options",
            _ => return None,
        })
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => write!(f, "tag {:#010x}", self.0),
        }
    }
}

/// A tag and what stands behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tagged<'a> {
    /// What it is about.
    pub tag: Tag,
    /// The rest: a description, as boot loaders write it.
    pub body: &'a [u8],
}

impl<'a> Tagged<'a> {
    /// Parses one tagged event, whole.
    pub fn parse(data: &'a [u8]) -> Result<Self, ReadError> {
        let mut reader = Reader::new(data);
        let tag = Tag(reader.u32_le("tag")?);
        let len = reader.u32_le("length of a tagged event")?;
        let body = reader.bounded(len.into(), data.len(), "tagged event")?;
        reader.finish("tagged event")?;
        Ok(Self { tag, body })
    }

    /// The description, if it is plain text.
    #[must_use]
    pub fn description(&self) -> Option<String> {
        text::text(self.body)
    }
}
