//! What boot loaders measure as `EV_IPL`: shim, GRUB, systemd-boot and systemd-stub.
//!
//! No specification says what the digest is of; each loader has its habit, and each reading below says which
//! bytes it found covered.

use super::bound::{Bound, Data};
use super::text;
use crate::eventlog::tcg::Event;
use crate::tpm::alg::HashAlg;

/// Longest name of a section in a unified kernel image with its terminating zero: PE names have 8 bytes.
const MAX_SECTION: usize = 9;

/// An `EV_IPL` event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ipl {
    /// A command that GRUB executed: the digest is of the text behind `grub_cmd: ` without the last zero.
    GrubCommand(Data<String>),
    /// A kernel command line that GRUB passed on, hashed like a command.
    KernelCommandLine(Data<String>),
    /// A section of a unified kernel image. systemd-stub measures each twice under the same name: first the
    /// name in ASCII with its zero, then the contents, whose name is a hint.
    Section(Data<String>),
    /// A text that is hashed whole as it stands in the event: systemd's command line, in UTF-16.
    Text(Bound<String>),
    /// The name of something whose contents are hashed: a file of GRUB's, shim's MokList.
    Named(String),
    /// No text.
    Opaque,
}

impl Ipl {
    /// Reads an event of type `EV_IPL`.
    #[must_use]
    pub fn parse(event: &Event<'_>, bank: HashAlg) -> Self {
        if let Some(whole) = Bound::whole(event, bank) {
            let told = text::text(event.data).is_some();
            return if told { Self::Text(whole.map(shown)) } else { Self::Opaque };
        }
        if let Some(command) = event.data.strip_prefix(b"grub_cmd: ") {
            return Self::GrubCommand(without_zero(event, bank, command));
        }
        if let Some(command) = event.data.strip_prefix(b"kernel_cmdline: ") {
            return Self::KernelCommandLine(without_zero(event, bank, command));
        }
        match text::text(event.data) {
            Some(name) if is_section(&name) => Self::Section(section(event, bank, &name)),
            Some(name) => Self::Named(name),
            None => Self::Opaque,
        }
    }

    /// What the event says, covered or not.
    #[must_use]
    pub fn told(&self) -> Option<&str> {
        match self {
            Self::GrubCommand(text) | Self::KernelCommandLine(text) | Self::Section(text) => {
                Some(text.told())
            }
            Self::Text(text) => Some(text.value()),
            Self::Named(name) => Some(name),
            Self::Opaque => None,
        }
    }
}

fn shown(bytes: &[u8]) -> String {
    text::text(bytes).unwrap_or_default()
}

/// GRUB's texts may hold line breaks, so they are told as they are, as far as they are UTF-8.
fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn without_zero(event: &Event<'_>, bank: HashAlg, text: &[u8]) -> Data<String> {
    let text = text.strip_suffix(&[0]).unwrap_or(text);
    match Bound::part(event, bank, text) {
        Some(bound) => Data::Bound(bound.map(lossy)),
        None => Data::Hint(lossy(text)),
    }
}

fn is_section(name: &str) -> bool {
    name.starts_with('.') && name.is_ascii() && name.len() < MAX_SECTION
}

fn section(event: &Event<'_>, bank: HashAlg, name: &str) -> Data<String> {
    match Bound::part(event, bank, format!("{name}\0").as_bytes()) {
        Some(bound) => Data::Bound(bound.map(shown)),
        None => Data::Hint(name.to_owned()),
    }
}
