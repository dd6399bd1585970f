//! What a firmware log must look like to count as evidence of PCRs 0 to 7.
//!
//! The type of an event is written by whoever wrote the log and no digest binds it, so a log whose
//! digests replay can still tell a false story. This grammar leaves little room: known types only,
//! each in the PCRs that the TCG PC Client Platform Firmware Profile gives it, one plain separator
//! for each PCR, no configuration after it, and Secure Boot variables whose data is what was hashed
//! (checklist rows 19 to 22). It does not say whether the measured things are good.

mod error;

pub use error::GrammarError;

use super::secure_boot::{self, SecureBootState};
use crate::eventlog::event::EventType;
use crate::eventlog::replay::Replay;
use crate::eventlog::tcg::Event;
use crate::eventlog::typed::Bound;
use crate::tpm::alg::HashAlg;
use crate::tpm::pcr::PcrIndex;

/// Holds the log against the grammar and reads the Secure Boot state out of PCR 7.
pub(super) fn verify(replay: &Replay<'_, '_>) -> Result<SecureBootState, GrammarError> {
    let bank = replay.values().bank();
    for pcr in (0..=7).filter_map(PcrIndex::new) {
        pcr_events(pcr, replay.events(pcr), bank)?;
    }
    let pcr_7 = PcrIndex::new(7).map_or(&[][..], |pcr| replay.events(pcr));
    secure_boot::parse(pcr_7, bank)
}

/// Holds the events of one of PCRs 0 to 7 against the grammar.
pub(super) fn pcr_events(pcr: PcrIndex, events: &[&Event<'_>], bank: HashAlg) -> Result<(), GrammarError> {
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
            if event.data != [0; 4] || Bound::whole(event, bank).is_none() {
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
