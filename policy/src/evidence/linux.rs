//! What Linux extended after the firmware's log ended, as its own logs tell it: systemd's, and the
//! attestor's image log.
//!
//! A PCR is the firmware's events, then systemd's, then images, each log in its order. The firmware's
//! part is always whole. systemd extends and then logs, and logs go on growing after a quote, so the
//! quoted value may lie at any record of systemd's log; what comes after it is no evidence and is left
//! out. The image log is written before it extends, so only its last entry may be missing from the PCR.
//!
//! Where no record matches, the PCR is *unexplained*, also with a log: systemd stops logging for good
//! when one of its processes dies between extend and log, and that machine is honest. An unexplained PCR
//! fails every release that constrains it, so nothing is ignored by this. PCRs that only firmware and
//! systemd's separator extend are not excused: there a difference is a contradiction. In PCRs 0 to 7
//! systemd's log may hold nothing but that separator, once: everything else there is firmware's to tell.

use crate::budget::MAX_DESCRIPTION;
use crate::eventlog::event::EventType;
use crate::eventlog::image::{IMAGE_PCR, ImageLog, ImageLogError, ImageMeasurement};
use crate::eventlog::sequence::SequenceError;
use crate::eventlog::userspace::{OS_SEPARATOR, UserspaceLog};
use crate::tpm::alg::{HashAlg, HashValue};
use crate::tpm::pcr::PcrIndex;

use super::verify::VerifiedEvent;

/// Logs besides the firmware's, as they came. A missing log and an empty one say the same: nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct LinuxLogs<'a> {
    /// systemd's `/run/log/systemd/tpm2-measure.log`.
    pub userspace: Option<&'a [u8]>,
    /// The attestor's image log.
    pub images: Option<&'a [u8]>,
}

/// Who says that an event happened, and what of it the digest binds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventOrigin {
    /// The firmware log.
    Firmware,
    /// systemd's log, with its text where the digest is the text's hash.
    Userspace {
        /// What was measured.
        text: Option<String>,
    },
    /// The attestor's image log.
    Image(Box<ImageMeasurement>),
}

/// A log of Linux cannot be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinuxLogError {
    /// systemd's log cannot be read.
    #[error("systemd's measurement log cannot be read")]
    Userspace(#[source] SequenceError),
    /// The image log cannot be read, or says what was not measured.
    #[error("the image log cannot be read")]
    Images(#[source] ImageLogError),
    /// A record that extends a quoted PCR has no digest of the quoted bank.
    #[error(
        "record {position} of the {log} log extends PCR {pcr} and carries no {bank} digest; measure into every bank"
    )]
    NoDigest {
        /// Which log.
        log: &'static str,
        /// Its place.
        position: usize,
        /// The PCR.
        pcr: PcrIndex,
        /// The quoted bank.
        bank: HashAlg,
    },
    /// Something else than one separator in a PCR that is the firmware's.
    #[error(
        "record {position} of systemd's log extends PCR {pcr}, where nothing but one `{OS_SEPARATOR}` may follow the firmware; find what measures there, or reject the device"
    )]
    Foreign {
        /// Its place.
        position: usize,
        /// The PCR.
        pcr: PcrIndex,
    },
}

/// The parsed logs; that anything of them was extended is not proven.
#[derive(Debug)]
pub(super) struct Continuation {
    userspace: UserspaceLog,
    images: ImageLog,
}

impl Continuation {
    pub(super) fn parse(logs: &LinuxLogs<'_>) -> Result<Self, LinuxLogError> {
        let userspace = UserspaceLog::parse(logs.userspace.unwrap_or_default());
        let images = ImageLog::parse(logs.images.unwrap_or_default());
        Ok(Self {
            userspace: userspace.map_err(LinuxLogError::Userspace)?,
            images: images.map_err(LinuxLogError::Images)?,
        })
    }

    /// The events that lead from `start`, which is what the firmware's events give, to `quoted`; `None`
    /// if no accepted number of them does.
    pub(super) fn confirmed(
        &self,
        pcr: PcrIndex,
        start: HashValue,
        quoted: &HashValue,
    ) -> Result<Option<Vec<VerifiedEvent>>, LinuxLogError> {
        let mut events = self.userspace_events(pcr, quoted.alg())?;
        let images = self.image_events(pcr, quoted.alg())?;
        // With two images or more, all of systemd's records and all images but the last came before.
        let least = images.len().checked_sub(2).map_or(0, |but_two| events.len() + but_two + 1);
        events.extend(images);
        let mut value = start;
        for count in 0..=events.len() {
            if count >= least && value == *quoted {
                events.truncate(count);
                return separated(pcr, &events).map(|()| Some(events));
            }
            let Some(next) = events.get(count) else { break };
            value = value.extend(next.digest.as_bytes());
        }
        Ok(None)
    }

    fn userspace_events(&self, pcr: PcrIndex, bank: HashAlg) -> Result<Vec<VerifiedEvent>, LinuxLogError> {
        let event = |event: &crate::eventlog::userspace::UserspaceEvent| {
            let position = event.position;
            let missing = LinuxLogError::NoDigest { log: "userspace", position, pcr, bank };
            let text = event.bound_text(bank).map(str::to_owned);
            Ok(VerifiedEvent {
                position,
                pcr,
                event_type: EventType::SYSTEMD.0,
                digest: event.digests.of(bank).ok_or(missing)?,
                description: event.text.as_deref().or(event.kind.as_deref()).and_then(shown),
                origin: EventOrigin::Userspace { text },
            })
        };
        self.userspace.of_pcr(pcr).map(event).collect()
    }

    fn image_events(&self, pcr: PcrIndex, bank: HashAlg) -> Result<Vec<VerifiedEvent>, LinuxLogError> {
        let entries = if pcr == IMAGE_PCR { self.images.entries() } else { &[] };
        let event = |entry: &crate::eventlog::image::ImageEntry| {
            let position = entry.position;
            let missing = LinuxLogError::NoDigest { log: "image", position, pcr, bank };
            Ok(VerifiedEvent {
                position,
                pcr,
                event_type: EventType::IMAGE.0,
                digest: entry.digests.of(bank).ok_or(missing)?,
                description: shown(&entry.image.path),
                origin: EventOrigin::Image(Box::new(entry.image.clone())),
            })
        };
        entries.iter().map(event).collect()
    }
}

/// In PCRs 0 to 7 only one separator may follow the firmware's events.
fn separated(pcr: PcrIndex, later: &[VerifiedEvent]) -> Result<(), LinuxLogError> {
    if pcr.number() > 7 {
        return Ok(());
    }
    let is_separator = |event: &VerifiedEvent| match &event.origin {
        EventOrigin::Userspace { text } => text.as_deref() == Some(OS_SEPARATOR),
        EventOrigin::Firmware | EventOrigin::Image(_) => false,
    };
    let foreign = match later {
        [] => None,
        [first, ..] if !is_separator(first) => Some(first),
        [_, rest @ ..] => rest.first(),
    };
    foreign.map_or(Ok(()), |event| Err(LinuxLogError::Foreign { position: event.position, pcr }))
}

/// Text that may reach a terminal, cut to a line.
fn shown(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| {
        let plain = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
        text.chars().take(MAX_DESCRIPTION).map(plain).collect()
    })
}
