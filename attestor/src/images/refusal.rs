//! Why nothing can be measured until the device restarts. One writer for each PCR: the entries of two could not be
//! told apart, so where the firmware or systemd measure system extensions into PCR 13, images are not.

use std::path::PathBuf;

use policy::eventlog::image::IMAGE_PCR;
use policy::eventlog::image::recovery::Unexplained;
use policy::eventlog::tcg::EventLog;
use policy::eventlog::userspace::{OS_SEPARATOR, UserspaceLog};

/// Nothing can be measured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Somebody else's measurements are in the PCR.
    #[error(
        "{writer} measures into PCR {IMAGE_PCR}, as for system extensions (sysext); have no extensions, or remove \
         [images], and restart the device"
    )]
    OtherWriter {
        /// Whose log tells of it.
        writer: &'static str,
    },
    /// The PCR is not what the log says.
    #[error(
        "PCR {IMAGE_PCR} is not what {} says ({why}): entries were lost, or other software extends that PCR; the device \
         is refused until it restarts, find out first what did it",
        log.display()
    )]
    Unexplained {
        /// The log.
        log: PathBuf,
        /// Which bank.
        why: Unexplained,
    },
    /// The log cannot be read.
    #[error("{} cannot be read ({why}); the device is refused until it restarts, find out first what wrote it", log.display())]
    Malformed {
        /// The log.
        log: PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl Refusal {
    /// Why the PCR belongs to somebody else, by the logs of firmware and systemd.
    #[must_use]
    pub fn by_logs(firmware: &[u8], userspace: &[u8]) -> Option<Self> {
        // A log that cannot be read says nothing here; the broker refuses it by name.
        let firmware = EventLog::parse(firmware).ok();
        let extends =
            |log: &EventLog<'_>| log.events().iter().any(|event| event.extends() == Some(IMAGE_PCR));
        if firmware.as_ref().is_some_and(extends) {
            return Some(Self::OtherWriter { writer: "the firmware or the boot stub" });
        }
        let userspace = UserspaceLog::parse(userspace).ok()?;
        let foreign = userspace.of_pcr(IMAGE_PCR).any(|event| event.text.as_deref() != Some(OS_SEPARATOR));
        foreign.then_some(Self::OtherWriter { writer: "systemd" })
    }
}
