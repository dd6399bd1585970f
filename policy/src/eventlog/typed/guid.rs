//! GUIDs as UEFI writes them, and those that this crate knows.

use std::fmt;

/// A GUID in the byte order of UEFI: the first three fields least significant byte first (UEFI 2.10,
/// appendix A).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// A GUID from its text form's five fields.
    const fn of(first: u32, second: u16, third: u16, rest: [u8; 8]) -> Self {
        let [a, b, c, d] = first.to_le_bytes();
        let ([e, f], [g, h]) = (second.to_le_bytes(), third.to_le_bytes());
        let [i, j, k, l, m, n, o, p] = rest;
        Self([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
    }

    /// `EFI_GLOBAL_VARIABLE`: SecureBoot, PK, KEK and the modes (UEFI 2.10, 3.3).
    pub const GLOBAL_VARIABLE: Self =
        Self::of(0x8be4_df61, 0x93ca, 0x11d2, [0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c]);
    /// `EFI_IMAGE_SECURITY_DATABASE_GUID`: db, dbx, dbt and dbr (UEFI 2.10, 32.6.1).
    pub const IMAGE_SECURITY_DATABASE: Self =
        Self::of(0xd719_b2cb, 0x3d3a, 0x4596, [0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f]);
    /// `EFI_DEVICE_SECURITY_DATABASE_GUID`: devdb (UEFI 2.11, 32.8).
    pub const DEVICE_SECURITY_DATABASE: Self =
        Self::of(0xb9c2_b4f4, 0xbf5f, 0x462d, [0x8a, 0xdf, 0xc5, 0xc7, 0x0a, 0xc3, 0x5d, 0xad]);
    /// `SHIM_LOCK_GUID`: what shim measures of its own.
    pub const SHIM_LOCK: Self =
        Self::of(0x605d_ab50, 0xe046, 0x4300, [0xab, 0xb6, 0x3d, 0xd8, 0x10, 0xdd, 0x8b, 0x23]);
    /// `EFI_CERT_X509_GUID` (UEFI 2.10, 32.4.1).
    pub const CERT_X509: Self =
        Self::of(0xa5c0_59a1, 0x94e4, 0x4aa7, [0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72]);
    /// `EFI_CERT_SHA256_GUID` (UEFI 2.10, 32.4.1).
    pub const CERT_SHA256: Self =
        Self::of(0xc1c4_1626, 0x504c, 0x4092, [0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28]);
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g, h, i, j, k, rest @ ..] = self.0;
        let first = u32::from_le_bytes([a, b, c, d]);
        let (second, third) = (u16::from_le_bytes([e, g]), u16::from_le_bytes([h, i]));
        let text = format!("{first:08x}-{second:04x}-{third:04x}-{j:02x}{k:02x}-{}", hex::encode(rest));
        f.pad(&text)
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_is_mixed_endian() {
        assert_eq!(Guid::GLOBAL_VARIABLE.to_string(), "8be4df61-93ca-11d2-aa0d-00e098032b8c");
        assert_eq!(Guid::SHIM_LOCK.0[..4], [0x50, 0xab, 0x5d, 0x60]);
    }
}
