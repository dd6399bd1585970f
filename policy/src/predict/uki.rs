//! Unified kernel images: which sections systemd-stub measures, of which profile.
//!
//! Source: UAPI.5 Unified Kernel Image; systemd-stub(7). Sections before the first `.profile` are common to all
//! profiles; each `.profile` begins one, whose sections take the place of the common ones.

use super::pe::{Pe, PeError, Section};
use super::stub;

/// Most profiles (`UNIFIED_PROFILES_MAX` of systemd).
pub const MAX_PROFILES: u32 = 256;
/// Sections of which the machine chooses one, so that they may stand in an image several times.
const CHOSEN: [&str; 2] = [".dtbauto", ".efifw"];

/// An image is not one whose measurements are known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UkiError {
    /// Not a PE image.
    #[error(transparent)]
    Pe(#[from] PeError),
    /// No stub of systemd's.
    #[error(
        "the image has no stub of systemd's (section .sdmagic), so what it measures is not known; name it with --boot-loader for its own hash alone"
    )]
    NoStub,
    /// A stub that measures otherwise.
    #[error("the image has the stub of systemd {0}; what stubs before {oldest} measure is not known here, so build it with a newer one", oldest = stub::OLDEST)]
    Old(u32),
    /// No kernel.
    #[error("the image has no section .linux, so it boots nothing; is it an addon?")]
    NoKernel,
    /// The same section twice.
    #[error("section {0} is in the image twice, and stubs differ in which they take; build it again")]
    Twice(String),
    /// No such profile.
    #[error("the image has {found} profile(s), numbered from 0, and none is {wanted}")]
    NoProfile {
        /// The number that was asked for.
        wanted: u32,
        /// How many there are.
        found: usize,
    },
}

/// A unified kernel image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uki<'a> {
    pe: Pe<'a>,
    stub: u32,
    common: Vec<Section<'a>>,
    profiles: Vec<Vec<Section<'a>>>,
}

/// The sections that one boot of an image takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile<'a> {
    number: u32,
    stub: u32,
    sections: Vec<Section<'a>>,
}

impl<'a> Uki<'a> {
    /// Reads an image, whole.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, UkiError> {
        let pe = Pe::parse(bytes)?;
        let (mut common, mut profiles) = (Vec::new(), Vec::<Vec<Section<'a>>>::new());
        let mut version = None;
        for section in pe.sections().iter().filter(|section| !section.is_empty()) {
            match (section.name().as_ref(), profiles.last_mut()) {
                (".sdmagic", _) if version.is_none() => version = stub::version(&section.content()?),
                (".profile", _) => profiles.push(vec![*section]),
                (_, Some(profile)) => profile.push(*section),
                (_, None) => common.push(*section),
            }
        }
        let stub = version.ok_or(UkiError::NoStub)?;
        if stub < stub::OLDEST {
            return Err(UkiError::Old(stub));
        }
        [&common].into_iter().chain(&profiles).try_for_each(|sections| each_once(sections))?;
        Ok(Self { pe, stub, common, profiles })
    }

    /// The image as firmware sees it.
    #[must_use]
    pub const fn pe(&self) -> &Pe<'a> {
        &self.pe
    }

    /// The major version of its stub.
    #[must_use]
    pub const fn stub(&self) -> u32 {
        self.stub
    }

    /// How many profiles it has; one without any is booted as profile 0.
    #[must_use]
    pub const fn profiles(&self) -> usize {
        self.profiles.len()
    }

    /// The sections that are taken when profile `number` is booted.
    pub fn profile(&self, number: u32) -> Result<Profile<'a>, UkiError> {
        let own = usize::try_from(number).ok().and_then(|number| self.profiles.get(number));
        if own.is_none() && number > 0 || number >= MAX_PROFILES {
            return Err(UkiError::NoProfile { wanted: number, found: self.profiles.len() });
        }
        let own = own.map_or(&[][..], Vec::as_slice);
        let replaced = |section: &&Section<'_>| own.iter().any(|other| other.name() == section.name());
        let common = self.common.iter().filter(|section| is_chosen(section) || !replaced(section));
        let sections: Vec<Section<'a>> = common.chain(own).copied().collect();
        if !sections.iter().any(|section| section.name() == ".linux") {
            return Err(UkiError::NoKernel);
        }
        Ok(Profile { number, stub: self.stub, sections })
    }
}

impl<'a> Profile<'a> {
    /// Its number; the first is what is booted when nobody asks for another.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// The major version of the stub that boots it.
    #[must_use]
    pub const fn stub(&self) -> u32 {
        self.stub
    }

    /// The section of this name, of which there is one.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<&Section<'a>> {
        self.sections.iter().find(|section| section.name() == name)
    }

    /// Every section, in the order of the image.
    #[must_use]
    pub fn sections(&self) -> &[Section<'a>] {
        &self.sections
    }
}

fn is_chosen(section: &Section<'_>) -> bool {
    CHOSEN.contains(&section.name().as_ref())
}

fn each_once(sections: &[Section<'_>]) -> Result<(), UkiError> {
    let mut seen = std::collections::BTreeSet::new();
    for section in sections.iter().filter(|section| !is_chosen(section)) {
        if !seen.insert(section.name().into_owned()) {
            return Err(UkiError::Twice(section.name().into_owned()));
        }
    }
    Ok(())
}
