//! Loaded images: `EFI_IMAGE_LOAD_EVENT` (TCG PC Client Platform Firmware Profile 1.06, clause 10.4.2.2).
//!
//! The digest is the image's Authenticode hash. Where it was loaded from is a hint that nothing covers.

use super::guid::Guid;
use super::text;
use crate::reader::{ReadError, Reader};

/// Where an image was loaded from and to, as the log says. No digest covers any of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageLoad<'a> {
    /// Its address in memory.
    pub location: u64,
    /// Its length in memory.
    pub len: u64,
    /// The address that it was linked for.
    pub link_time_address: u64,
    /// The device path that it came from; empty for an image from memory, as a kernel that GRUB starts.
    pub device_path: &'a [u8],
}

impl<'a> ImageLoad<'a> {
    /// Parses the event's data, whole.
    pub fn parse(data: &'a [u8]) -> Result<Self, ReadError> {
        let mut reader = Reader::new(data);
        let location = reader.u64_le("image location")?;
        let len = reader.u64_le("image length")?;
        let link_time_address = reader.u64_le("image link time address")?;
        let path_len = reader.u64_le("length of a device path")?;
        let device_path = reader.bounded(path_len, data.len(), "device path")?;
        reader.finish("image load event")?;
        Ok(Self { location, len, link_time_address, device_path })
    }

    /// The last file path or firmware file of the device path, for people.
    #[must_use]
    pub fn file(&self) -> Option<String> {
        last_file(self.device_path)
    }
}

/// The last file path or firmware file of a device path (UEFI 2.10, 10.3).
fn last_file(path: &[u8]) -> Option<String> {
    const NODE_HEADER: usize = 4;
    let mut reader = Reader::new(path);
    let mut found = None;
    while let Ok([kind, sub_kind]) = reader.array("device path node") {
        let len = usize::from(reader.u16_le("length of a device path node").ok()?);
        let body = reader.take(len.checked_sub(NODE_HEADER)?, "device path node").ok()?;
        match (kind, sub_kind) {
            (0x04, 0x04) => found = text::utf16(body),
            (0x04, 0x06) => found = Some(format!("firmware file {}", Guid(body.try_into().ok()?))),
            (0x7f, _) => break,
            _ => {}
        }
    }
    found
}
