//! What a firmware log must look like to count as evidence of PCRs 0 to 7.
//!
//! The type of an event is written by whoever wrote the log and no digest binds it, so a log whose
//! digests replay can still tell a false story. This grammar leaves little room: known types only,
//! each in the PCRs that the TCG PC Client Platform Firmware Profile gives it, one plain separator
//! for each PCR, no configuration after it, and Secure Boot variables whose data is what was hashed
//! (checklist rows 19 to 22). It does not say whether the measured things are good.

use crate::eventlog::event::{EventType, Variable};
use crate::eventlog::replay::Replay;
use crate::eventlog::tcg::Event;
use crate::tpm::alg::HashAlg;
use crate::tpm::pcr::PcrIndex;

/// A log replays but is not built as firmware builds it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrammarError {
    /// A type that firmware does not measure into this PCR, or none that is known.
    #[error(
        "event {position} of type {event_type} does not belong into PCR {pcr}; report the firmware or reject the device"
    )]
    UnexpectedType {
        /// Place in the log.
        position: usize,
        /// The PCR.
        pcr: PcrIndex,
        /// The type.
        event_type: EventType,
    },
    /// No separator: the log is cut or the firmware did not finish.
    #[error("PCR {pcr} has no separator event; send the whole log of a finished boot")]
    NoSeparator {
        /// The PCR.
        pcr: PcrIndex,
    },
    /// More than one separator.
    #[error(
        "event {position} is a second separator in PCR {pcr}; the log was changed or the firmware is faulty"
    )]
    SecondSeparator {
        /// Place in the log.
        position: usize,
        /// The PCR.
        pcr: PcrIndex,
    },
    /// A separator other than four zero bytes: firmware reports an error with it.
    #[error(
        "event {position} is no plain separator in PCR {pcr}; the firmware reported an error or the log was changed"
    )]
    ErrorSeparator {
        /// Place in the log.
        position: usize,
        /// The PCR.
        pcr: PcrIndex,
    },
    /// Configuration or firmware code after the separator.
    #[error(
        "event {position} of type {event_type} comes after the separator of PCR {pcr}; the log was changed or the firmware is faulty"
    )]
    AfterSeparator {
        /// Place in the log.
        position: usize,
        /// The PCR.
        pcr: PcrIndex,
        /// The type.
        event_type: EventType,
    },
    /// The data of a Secure Boot variable is not what was hashed.
    #[error(
        "event {position} measures a Secure Boot variable and its data is not what was hashed; the log was changed"
    )]
    UnboundVariable {
        /// Place in the log.
        position: usize,
    },
    /// A variable is measured twice.
    #[error(
        "event {position} measures variable {name} a second time; the log was changed or the firmware is faulty"
    )]
    SecondVariable {
        /// Place in the log.
        position: usize,
        /// The variable.
        name: String,
    },
    /// A Secure Boot flag that is not one byte of 0 or 1.
    #[error(
        "event {position} measures {name} with a value other than 0 and 1; the log was changed or the firmware is faulty"
    )]
    Flag {
        /// Place in the log.
        position: usize,
        /// The variable.
        name: String,
    },
    /// Secure Boot is on and nothing was verified under it.
    #[error(
        "Secure Boot is on and no authority was measured in PCR 7; the log was changed or the firmware is faulty"
    )]
    NoAuthority,
}

/// Whether firmware verified what it started, as PCR 7 proves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecureBoot {
    /// SecureBoot is 1 and the firmware is not in audit or setup mode.
    Enabled,
    /// SecureBoot is 0 or absent, or audit or setup mode is on.
    Disabled,
}

/// Holds the log against the grammar and reads the Secure Boot state out of PCR 7.
pub(super) fn verify(replay: &Replay<'_, '_>) -> Result<SecureBoot, GrammarError> {
    for pcr in (0..=7).filter_map(PcrIndex::new) {
        pcr_events(pcr, replay.events(pcr), replay.values().bank())?;
    }
    PcrIndex::new(7)
        .map_or(Ok(SecureBoot::Disabled), |pcr| secure_boot(replay.events(pcr), replay.values().bank()))
}

fn pcr_events(pcr: PcrIndex, events: &[&Event<'_>], bank: HashAlg) -> Result<(), GrammarError> {
    let mut separated = false;
    for event in events {
        let (position, event_type) = (event.position, event.event_type);
        if !before_separator(event_type).contains(&pcr.number()) {
            return Err(GrammarError::UnexpectedType { position, pcr, event_type });
        }
        if event_type == EventType::SEPARATOR {
            if separated {
                return Err(GrammarError::SecondSeparator { position, pcr });
            }
            if event.data != [0; 4] || !is_bound(event, bank) {
                return Err(GrammarError::ErrorSeparator { position, pcr });
            }
            separated = true;
        } else if separated && !after_separator(event_type).contains(&pcr.number()) {
            return Err(GrammarError::AfterSeparator { position, pcr, event_type });
        }
    }
    separated.then_some(()).ok_or(GrammarError::NoSeparator { pcr })
}

/// The PCRs among 0 to 7 that the profile gives a type (Platform Firmware Profile 1.06, 3.3.4 and
/// table 27), with what boot loaders add: systemd-boot measures SMBIOS and loader.conf as tagged
/// events in PCRs 1 and 5. Types of conventional BIOS (`EV_IPL` and its kin) have no place here.
const fn before_separator(event_type: EventType) -> &'static [u8] {
    match event_type {
        EventType::SEPARATOR => &[0, 1, 2, 3, 4, 5, 6, 7],
        EventType::ACTION => &[1, 2, 3, 4, 5, 6],
        EventType::EFI_ACTION => &[1, 2, 3, 4, 5, 6, 7],
        EventType::POST_CODE
        | EventType::POST_CODE2
        | EventType::S_CRTM_CONTENTS
        | EventType::S_CRTM_VERSION
        | EventType::NONHOST_INFO
        | EventType::EFI_HCRTM_EVENT => &[0],
        EventType::CPU_MICROCODE => &[0, 1],
        EventType::PLATFORM_CONFIG_FLAGS
        | EventType::TABLE_OF_DEVICES
        | EventType::EFI_HANDOFF_TABLES
        | EventType::EFI_HANDOFF_TABLES2 => &[1],
        EventType::NONHOST_CODE => &[0, 2],
        EventType::NONHOST_CONFIG => &[1, 3],
        EventType::EVENT_TAG => &[1, 5],
        EventType::COMPACT_HASH => &[4, 5, 6],
        EventType::OMIT_BOOT_DEVICE_EVENTS => &[4],
        EventType::EFI_VARIABLE_DRIVER_CONFIG => &[1, 3, 5, 7],
        EventType::EFI_VARIABLE_BOOT | EventType::EFI_VARIABLE_BOOT2 => &[1, 5],
        EventType::EFI_BOOT_SERVICES_APPLICATION => &[2, 4],
        EventType::EFI_BOOT_SERVICES_DRIVER | EventType::EFI_RUNTIME_SERVICES_DRIVER => &[0, 2, 4],
        EventType::EFI_GPT_EVENT | EventType::EFI_GPT_EVENT2 => &[5],
        EventType::EFI_PLATFORM_FIRMWARE_BLOB | EventType::EFI_PLATFORM_FIRMWARE_BLOB2 => &[0, 2, 4],
        EventType::EFI_VARIABLE_AUTHORITY => &[7],
        EventType::EFI_SPDM_FIRMWARE_BLOB => &[2],
        EventType::EFI_SPDM_FIRMWARE_CONFIG => &[3],
        EventType::EFI_SPDM_DEVICE_POLICY | EventType::EFI_SPDM_DEVICE_AUTHORITY => &[7],
        _ => &[],
    }
}

/// The PCRs in which a type may still come once the platform handed over to boot: what is started,
/// from which disk, in which order, and under whose authority.
const fn after_separator(event_type: EventType) -> &'static [u8] {
    match event_type {
        EventType::EFI_BOOT_SERVICES_APPLICATION
        | EventType::EFI_BOOT_SERVICES_DRIVER
        | EventType::EFI_RUNTIME_SERVICES_DRIVER => &[2, 4],
        EventType::ACTION | EventType::EFI_ACTION => &[4, 5],
        EventType::EFI_GPT_EVENT | EventType::EFI_GPT_EVENT2 => &[5],
        EventType::EVENT_TAG | EventType::EFI_VARIABLE_BOOT | EventType::EFI_VARIABLE_BOOT2 => &[1, 5],
        EventType::EFI_VARIABLE_AUTHORITY | EventType::EFI_SPDM_DEVICE_AUTHORITY => &[7],
        _ => &[],
    }
}

/// Whether the digest is the hash of the data (checklist row 20).
fn is_bound(event: &Event<'_>, bank: HashAlg) -> bool {
    event.digest(bank) == Some(bank.hash(&[event.data]))
}

fn secure_boot(events: &[&Event<'_>], bank: HashAlg) -> Result<SecureBoot, GrammarError> {
    let mut seen: Vec<Variable<'_>> = Vec::new();
    let mut flags = Flags::default();
    for event in events.iter().filter(|e| e.event_type == EventType::EFI_VARIABLE_DRIVER_CONFIG) {
        let position = event.position;
        let variable = Variable::parse(event.data).map_err(|_| GrammarError::UnboundVariable { position })?;
        if !is_bound(event, bank) {
            return Err(GrammarError::UnboundVariable { position });
        }
        if seen.iter().any(|other| other.guid == variable.guid && other.name == variable.name) {
            return Err(GrammarError::SecondVariable { position, name: variable.name });
        }
        flags.read(position, &variable)?;
        seen.push(variable);
    }
    let authority = events.iter().any(|event| event.event_type == EventType::EFI_VARIABLE_AUTHORITY);
    match flags.state() {
        SecureBoot::Enabled if !authority => Err(GrammarError::NoAuthority),
        state => Ok(state),
    }
}

/// The flags that decide whether images are verified (UEFI 2.10, 3.3 and 32.3).
#[derive(Default)]
struct Flags {
    secure_boot: bool,
    setup_mode: bool,
    audit_mode: bool,
}

impl Flags {
    /// Reads one variable; a flag that does not exist is measured with no data and counts as 0.
    fn read(&mut self, position: usize, variable: &Variable<'_>) -> Result<(), GrammarError> {
        let flag = match variable.name.as_str() {
            "SecureBoot" => &mut self.secure_boot,
            "SetupMode" => &mut self.setup_mode,
            "AuditMode" => &mut self.audit_mode,
            _ => return Ok(()),
        };
        *flag = match variable.value {
            [] | [0] => false,
            [1] => true,
            _ => return Err(GrammarError::Flag { position, name: variable.name.clone() }),
        };
        Ok(())
    }

    const fn state(&self) -> SecureBoot {
        if self.secure_boot && !self.setup_mode && !self.audit_mode {
            SecureBoot::Enabled
        } else {
            SecureBoot::Disabled
        }
    }
}
