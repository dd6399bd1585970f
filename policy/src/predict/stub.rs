//! What is known of systemd-stub, by its version.
//!
//! Source: `src/fundamental/uki.h`, `src/boot/stub.c` and `src/boot/cpio.c` of systemd, and boots with the stubs of
//! systemd 252 and 257 that were measured. Between these two versions the year of a change is not relied on: what may
//! or may not be measured there is optional in the rules, and the image's own hash in PCR 4 holds all of it.

/// The oldest stub whose measurements are known here; older ones measured sections elsewhere or not at all.
pub const OLDEST: u32 = 252;
/// From here on everything is as in the newest stub that was measured.
const SETTLED: u32 = 257;
/// Later stubs put more into the initrd that they hand over, some of it new at each boot.
const LAST_KNOWN_INITRD: u32 = 257;
/// What stands in the section `.sdmagic` before the version.
const MARK: &str = "#### LoaderInfo: systemd-stub ";

/// The major version of systemd-stub, from the text of the section `.sdmagic`.
pub(super) fn version(magic: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(magic).ok()?.strip_prefix(MARK)?;
    let digits = text.find(|c: char| !c.is_ascii_digit()).map_or(text, |end| text.get(..end).unwrap_or(text));
    digits.parse().ok()
}

/// Whether a stub measures a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measured {
    /// Every one.
    Always,
    /// Those of this version; or the section is chosen by the hardware it runs on.
    Maybe,
    /// None.
    Never,
}

/// Whether the stub of `version` measures a section of this name into PCR 11.
pub(super) fn measures(version: u32, name: &str) -> Measured {
    match name {
        ".linux" | ".osrel" | ".cmdline" | ".initrd" | ".splash" | ".dtb" | ".pcrpkey" => Measured::Always,
        ".uname" | ".sbat" | ".ucode" | ".profile" | ".hwids" if version >= SETTLED => Measured::Always,
        ".uname" | ".sbat" | ".ucode" | ".profile" | ".hwids" if version > OLDEST => Measured::Maybe,
        // One of several, by the device tree or the identifiers of the machine; efifw since 258.
        ".dtbauto" | ".efifw" if version > OLDEST => Measured::Maybe,
        _ => Measured::Never,
    }
}

/// Which texts the stub of `version` puts beside the initrd for user space, beside signature and key of PCR policies:
/// `None` if that is not known, else whether it may put none, and whether it may put some.
pub(super) const fn adds_texts(version: u32) -> Option<(bool, bool)> {
    if version > LAST_KNOWN_INITRD {
        return None;
    }
    Some((version < LAST_KNOWN_INITRD, version > OLDEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_number_behind_the_name() {
        assert_eq!(version(b"#### LoaderInfo: systemd-stub 252.39-1~deb12u2 ####\0"), Some(252));
        assert_eq!(version(b"#### LoaderInfo: systemd-stub 257-rc1 ####"), Some(257));
        assert_eq!(version(b"#### LoaderInfo: systemd-boot 257 ####"), None);
        assert_eq!(version(b"#### LoaderInfo: systemd-stub main ####"), None);
    }
}
