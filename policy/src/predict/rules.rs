//! The rules that a release needs for what will be measured of its artefacts.
//!
//! Single events rather than whole values: a rule names what changed when it does not match. Events that not every
//! machine, kernel or stub measures are optional; the list of their PCR is closed all the same.

use std::collections::BTreeSet;

use super::initrd;
use super::pe::{Pe, PeError};
use super::stub::{self, Measured};
use super::uki::{Profile, Uki};
use crate::appraisal::early;
use crate::eventlog::userspace::OS_SEPARATOR;
use crate::reference::event_type::EventType;
use crate::reference::manifest::{EventRule, Expectation};
use crate::tpm::alg::{HashAlg, HashValue};
use crate::tpm::pcr::PcrIndex;

/// Words that systemd extends into PCR 11 while a machine comes up and goes down (systemd-pcrphase.service(8)).
const PHASES: [&str; 6] = ["enter-initrd", "leave-initrd", "sysinit", "ready", "shutdown", "final"];
/// What one rule is satisfied by.
type Digests = BTreeSet<HashValue>;

/// Until when a device has come up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The initrd runs.
    EnterInitrd,
    /// The initrd is done.
    LeaveInitrd,
    /// The file systems are there.
    Sysinit,
    /// The machine is up.
    Ready,
}

impl Phase {
    /// Every phase in which devices attest, in their order.
    pub const ALL: [Self; 4] = [Self::EnterInitrd, Self::LeaveInitrd, Self::Sysinit, Self::Ready];

    /// The word that systemd extends when it begins.
    #[must_use]
    pub const fn word(self) -> &'static str {
        let [enter_initrd, leave_initrd, sysinit, ready, ..] = PHASES;
        match self {
            Self::EnterInitrd => enter_initrd,
            Self::LeaveInitrd => leave_initrd,
            Self::Sysinit => sysinit,
            Self::Ready => ready,
        }
    }
}

/// An image, with the profile that is booted and the variant of the release that it is, if there are others.
pub(super) struct Image<'a> {
    pub(super) uki: Uki<'a>,
    pub(super) profile: Profile<'a>,
    pub(super) variant: Option<String>,
}

impl Image<'_> {
    /// The rule, held together with all others of the image: what is in one image is not accepted with another.
    fn bound(&self, rule: EventRule) -> EventRule {
        EventRule { variant: self.variant.clone(), ..rule }
    }
}

/// Makes rules with the digests of these banks.
pub(super) struct Rules<'b> {
    banks: &'b [HashAlg],
}

impl<'b> Rules<'b> {
    pub(super) const fn new(banks: &'b [HashAlg]) -> Self {
        Self { banks }
    }

    /// PCR 4 around the applications: what firmware and systemd write there on every machine.
    pub(super) fn frame(&self) -> Vec<EventRule> {
        let of = |data: &[u8]| self.each(|bank| bank.hash(&[data]));
        [
            (EventType::EFI_ACTION, of(early::CALL), true, "boot option is called"),
            (EventType::SEPARATOR, of(early::SEPARATOR), false, "separator"),
            (EventType::SYSTEMD, of(OS_SEPARATOR.as_bytes()), true, "separator of systemd"),
        ]
        .into_iter()
        .filter_map(|(event_type, digests, optional, name)| {
            Self::rule(4, event_type, digests, optional, name.to_owned())
        })
        .collect()
    }

    /// PCR 4: a boot loader, started.
    pub(super) fn loader(&self, loader: &Pe<'_>, name: String) -> Option<EventRule> {
        Self::rule(4, EventType::EFI_BOOT_SERVICES_APPLICATION, self.started(loader), false, name)
    }

    /// PCR 4: the image is started, and its kernel, which firmware measures too where Secure Boot does not make the
    /// stub go past it.
    pub(super) fn image(&self, image: &Image<'_>) -> Result<Vec<EventRule>, PeError> {
        let mut kernels = Digests::new();
        if let Some(linux) = image.profile.section(".linux")
            && let Ok(kernel) = Pe::parse(&linux.content()?)
        {
            kernels.extend(self.each(|bank| kernel.authenticode(bank)));
        }
        let application = EventType::EFI_BOOT_SERVICES_APPLICATION;
        let started = self.started(image.uki.pe());
        let uki = Self::rule(4, application, started, false, "unified kernel image".to_owned());
        let kernel = Self::rule(4, application, kernels, true, "kernel in the image".to_owned());
        Ok(uki.into_iter().chain(kernel).map(|rule| image.bound(rule)).collect())
    }

    /// PCR 11: names and contents of the sections.
    pub(super) fn sections(&self, image: &Image<'_>) -> Result<Vec<EventRule>, PeError> {
        let profile = &image.profile;
        let mut names: Vec<String> = Vec::new();
        for section in profile.sections() {
            let name = section.name().into_owned();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let mut rules = Vec::new();
        for name in names {
            let measured = stub::measures(profile.stub(), &name);
            if measured == Measured::Never {
                continue;
            }
            let mut contents = Digests::new();
            for section in profile.sections().iter().filter(|section| section.name() == name) {
                let content = section.content()?;
                contents.extend(self.each(|bank| bank.hash(&[&content])));
            }
            let optional = measured != Measured::Always;
            let heading = self.each(|bank| bank.hash(&[name.as_bytes(), &[0]]));
            rules.extend(Self::rule(11, EventType::IPL, heading, optional, format!("name {name}")));
            rules.extend(Self::rule(11, EventType::IPL, contents, optional, format!("section {name}")));
        }
        Ok(rules.into_iter().map(|rule| image.bound(rule)).collect())
    }

    /// PCR 11: the words of the phases. With a phase, those until then and no later ones; without, any.
    pub(super) fn phases(&self, phase: Option<Phase>) -> Vec<EventRule> {
        let last = phase.map(Phase::word);
        let until = PHASES.iter().position(|word| Some(*word) == last).unwrap_or(PHASES.len());
        let words = PHASES.iter().take(until.saturating_add(1));
        let rule = |word: &&str| {
            let digests = self.each(|bank| bank.hash(&[word.as_bytes()]));
            Self::rule(11, EventType::SYSTEMD, digests, phase.is_none(), format!("phase {word}"))
        };
        words.filter_map(rule).collect()
    }

    /// PCR 9: what Linux measures when it starts, if the stub's way with the initrd is known.
    pub(super) fn linux(&self, image: &Image<'_>) -> Result<Option<Vec<EventRule>>, PeError> {
        let (mut options, mut initrds) = (Digests::new(), Digests::new());
        for bank in self.banks {
            let Some(digests) = initrd::digests(&image.profile, *bank)? else { return Ok(None) };
            initrds.extend(digests);
        }
        if let Some(line) = image.profile.section(".cmdline") {
            for text in load_options(&line.content()?) {
                options.extend(self.each(|bank| bank.hash(&[&text])));
            }
        }
        // Linux measures the options since 6.0 and the initrd since 5.11; the image holds both.
        let options = Self::rule(9, EventType::EVENT_TAG, options, true, "kernel command line".to_owned());
        let initrd = Self::rule(9, EventType::EVENT_TAG, initrds, true, "initrd".to_owned());
        Ok(Some(options.into_iter().chain(initrd).map(|rule| image.bound(rule)).collect()))
    }

    /// PCR 12: the number of a profile that is not the first.
    pub(super) fn profile(&self, number: u32) -> Option<EventRule> {
        let text = utf16(&number.to_string());
        let digests = self.each(|bank| bank.hash(&[&text]));
        Self::rule(12, EventType::EVENT_TAG, digests, false, format!("profile {number}"))
    }

    fn each(&self, digest: impl Fn(HashAlg) -> HashValue) -> Digests {
        self.banks.iter().copied().map(digest).collect()
    }

    /// The image's own hash, and the one that it has once it is signed.
    fn started(&self, pe: &Pe<'_>) -> Digests {
        let signed = self.banks.iter().filter_map(|bank| pe.authenticode_once_signed(*bank));
        self.each(|bank| pe.authenticode(bank)).into_iter().chain(signed).collect()
    }

    fn rule(
        pcr: u32,
        event_type: EventType,
        digests: Digests,
        optional: bool,
        name: String,
    ) -> Option<EventRule> {
        let pcr = PcrIndex::new(pcr)?;
        let expectation = Expectation::OneOf { digests, optional, early: false };
        let rule = EventRule { pcr, event_type, expectation, name: Some(name), variant: None };
        matches!(&rule.expectation, Expectation::OneOf { digests, .. } if !digests.is_empty()).then_some(rule)
    }
}

/// The load options that a stub makes of a command line: control characters become spaces, and newer stubs take
/// spaces away from both ends.
fn load_options(line: &[u8]) -> [Vec<u8>; 2] {
    let line = String::from_utf8_lossy(line);
    let line = line.split('\0').next().unwrap_or_default();
    let plain: String = line.chars().map(|c| if c <= '\u{1f}' { ' ' } else { c }).collect();
    [utf16(&plain), utf16(plain.trim_matches(' '))]
}

/// UTF-16, least significant byte first, with its terminating zero.
fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}
