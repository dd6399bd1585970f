//! What was measured: PCR banks, the firmware's log, the list of IMA. A log counts if it explains the PCRs.

use std::io::ErrorKind;
use std::path::Path;

use policy::budget::{MAX_EVENT_LOG_BYTES, MAX_IMA_BYTES};
use policy::cause::chain;
use policy::eventlog::ima::state::Boot;
use policy::eventlog::ima::verify::{ImaPart, Quoted, verify};
use policy::eventlog::replay::replay;
use policy::eventlog::tcg::EventLog;
use policy::tpm::alg::{HashAlg, HashValue};
use policy::tpm::pcr::{PcrIndex, PcrValues};

use super::Finding;
use crate::config::Config;
use crate::durable;
use crate::tpm::{PcrBank, PcrSelection, PcrValue, TpmError, TpmFault, TpmHandle};

/// Where the kernel shows the list of IMA.
const KERNEL_IMA: &str = "/sys/kernel/security/ima/binary_runtime_measurements";
/// What firmware and boot loader extend (TCG PC Client Platform Firmware Profile, section 3.3.4).
const FIRMWARE_PCRS: std::ops::Range<u32> = 0..8;
/// The banks that may be quoted, best known first.
const BANKS: [(PcrBank, HashAlg); 3] = [
    (PcrBank::Sha256, HashAlg::Sha256),
    (PcrBank::Sha384, HashAlg::Sha384),
    (PcrBank::Sha512, HashAlg::Sha512),
];

/// Reads PCRs and logs and compares them.
pub(super) async fn look(tpm: &TpmHandle, config: &Config) -> Vec<Finding> {
    let mut banks = Vec::new();
    for (bank, alg) in BANKS {
        match tpm.read_pcrs(bank, PcrSelection::QUOTED).await {
            Ok(values) => banks.push(collected(alg, &values)),
            Err(TpmError { fault: TpmFault::BankMissing { .. }, .. }) => {}
            Err(error) => return vec![Finding::fault("pcr banks", error)],
        }
    }
    let Some(first) = banks.first() else {
        return vec![Finding::fault(
            "pcr banks",
            "the TPM keeps no bank of sha256, sha384 or sha512; allocate one with tpm2_pcrallocate and reboot",
        )];
    };
    let firmware = durable::read_bounded(&config.firmware_log, bound(MAX_EVENT_LOG_BYTES));
    let firmware = firmware.map_err(|error| error.to_string());
    vec![
        of_banks(&banks),
        of_firmware(&config.firmware_log, &firmware, first),
        of_ima(config.ima_log.as_deref(), Path::new(KERNEL_IMA), firmware.as_deref().ok(), first),
    ]
}

fn collected(alg: HashAlg, read: &[PcrValue]) -> PcrValues {
    let mut values = PcrValues::new(alg);
    for PcrValue { index, digest } in read {
        let pcr = PcrIndex::new(u32::from(u8::from(*index)));
        if let (Some(pcr), Some(value)) = (pcr, HashValue::new(alg, digest)) {
            values.set(pcr, value);
        }
    }
    values
}

fn is_untouched(value: &HashValue) -> bool {
    value.as_bytes().iter().all(|byte| *byte == 0)
}

pub(super) fn of_banks(banks: &[PcrValues]) -> Finding {
    let names: Vec<String> = banks.iter().map(|bank| bank.bank().to_string()).collect();
    let names = names.join(", ");
    let blank = |bank: &&PcrValues| bank.iter().next().is_none_or(|(_, value)| is_untouched(value));
    match banks.iter().find(blank) {
        Some(bank) if banks.first().is_some_and(|first| first.bank() == bank.bank()) => Finding::fault(
            "pcr banks",
            format!(
                "{names}; the firmware measured nothing into PCR 0 of {}: switch the TPM and measured boot on in the \
                 firmware set-up and reboot",
                bank.bank()
            ),
        ),
        Some(bank) => Finding::warning(
            "pcr banks",
            format!(
                "{names}; the firmware does not measure into {}: anybody could extend that bank as they like, so \
                 deallocate it with tpm2_pcrallocate",
                bank.bank()
            ),
        ),
        None => Finding::good("pcr banks", names),
    }
}

pub(super) fn of_firmware(file: &Path, log: &Result<Vec<u8>, String>, quoted: &PcrValues) -> Finding {
    const CHECK: &str = "firmware log";
    let name = file.display();
    let bytes = match log {
        Ok(bytes) => bytes,
        Err(error) => {
            return Finding::fault(
                CHECK,
                format!(
                    "{name}: {error}; mount securityfs, let the attestor's unit copy the log (its ExecStartPre does), or \
                     correct firmware_log"
                ),
            );
        }
    };
    let log = match EventLog::parse(bytes) {
        Ok(log) => log,
        Err(error) => return Finding::fault(CHECK, format!("{name}: {}", chain(&error))),
    };
    let replayed = match replay(&log, quoted.bank()) {
        Ok(replayed) => replayed,
        Err(error) => return Finding::fault(CHECK, format!("{name}: {}", chain(&error))),
    };
    let unexplained = |pcr: &PcrIndex| {
        let held = quoted.value(*pcr);
        match replayed.values().value(*pcr) {
            Some(value) => held != Some(value),
            None => held.is_some_and(|held| !is_untouched(held)),
        }
    };
    let left: Vec<String> = FIRMWARE_PCRS
        .filter_map(PcrIndex::new)
        .filter(unexplained)
        .map(|pcr| pcr.number().to_string())
        .collect();
    match left.is_empty() {
        true => Finding::good(CHECK, format!("{} events explain PCRs 0 to 7", log.events().len())),
        false => Finding::fault(
            CHECK,
            format!(
                "{name} does not explain PCR {}: it is of another boot, was cut, or something extended the PCR that logs \
                 nothing; reboot, and if it stays so update the firmware",
                left.join(", ")
            ),
        ),
    }
}

pub(super) fn of_ima(
    file: Option<&Path>,
    kernel: &Path,
    firmware: Option<&[u8]>,
    quoted: &PcrValues,
) -> Finding {
    const CHECK: &str = "ima";
    let Some(file) = file else {
        return match kernel.exists() {
            true => Finding::good(CHECK, "the kernel has a list; none is sent, because ima_log is not set"),
            false => Finding::good(CHECK, "not used"),
        };
    };
    let name = file.display();
    let bytes = match durable::read_bounded(file, bound(MAX_IMA_BYTES)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Finding::warning(
                CHECK,
                format!(
                    "there is no {name}, so none is sent: boot with ima_policy=tcb if a release asks for it, or remove \
                     ima_log"
                ),
            );
        }
        Err(error) => {
            return Finding::fault(
                CHECK,
                format!(
                    "{name}: {error}; let the attestor's user read it (SupplementaryGroups=root in its unit), or remove \
                     ima_log"
                ),
            );
        }
    };
    // Without the firmware's log the first record cannot be held against the boot.
    let log = firmware.and_then(|bytes| EventLog::parse(bytes).ok());
    let Some(replayed) = log.as_ref().and_then(|log| replay(log, quoted.bank()).ok()) else {
        return Finding::unknown(CHECK, "the firmware log has to be right first");
    };
    let part = ImaPart { first: 0, bytes: bytes.into() };
    let boot = Boot { reset_count: 0, restart_count: 0 };
    let held = Quoted { pcrs: quoted, firmware: replayed.values(), boot, accepted: None };
    match verify(&part, &held) {
        Ok(list) => Finding::good(CHECK, format!("{} records explain PCR 10", list.records().count())),
        Err(error) => Finding::fault(CHECK, format!("{name}: {}", chain(&error))),
    }
}

fn bound(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
