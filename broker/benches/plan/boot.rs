//! Boots of 120 events: a recorded one, and after it a boot loader that measures each line of its script.

use std::path::Path;

use policy::eventlog::tcg::EventLog;
use policy::tpm::alg::HashAlg;

/// Events of a long boot: collected logs have at most so many.
const EVENTS: usize = 120;
/// Where boot loaders measure their scripts, and as what (`EV_IPL`).
const PCR: usize = 8;
const IPL: u32 = 0x0d;
/// The banks of the recorded log, by their TCG numbers.
const BANKS: [(u16, HashAlg); 2] = [(0x0004, HashAlg::Sha1), (0x000b, HashAlg::Sha256)];

/// What a device booted.
pub(crate) struct Boot {
    /// PCRs 0 to 15, SHA-256.
    pub(crate) pcrs: Vec<Vec<u8>>,
    /// The firmware's log.
    pub(crate) log: Vec<u8>,
}

/// A boot whose script names `n`.
pub(crate) fn boot(n: u32) -> Boot {
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/measured-boot/boot-a");
    let mut log = std::fs::read(recorded.join("eventlog.bin")).unwrap();
    let mut pcrs = pcrs(&std::fs::read_to_string(recorded.join("pcrs.txt")).unwrap());
    let begun = EventLog::parse(&log).unwrap().events().len();
    for line in begun..EVENTS {
        let text = format!("grub_cmd: search --no-floppy --fs-uuid --set=root device {n} line {line}");
        append(&mut log, text.as_bytes());
        let script = pcrs.get_mut(PCR).unwrap();
        *script = HashAlg::Sha256
            .hash(&[script, HashAlg::Sha256.hash(&[text.as_bytes()]).as_bytes()])
            .as_bytes()
            .to_vec();
    }
    Boot { pcrs, log }
}

/// `TCG_PCR_EVENT2` (PC Client Platform Firmware Profile, section 10.2.2).
fn append(log: &mut Vec<u8>, data: &[u8]) {
    let number = |n: usize| u32::try_from(n).unwrap().to_le_bytes();
    log.extend(number(PCR));
    log.extend(IPL.to_le_bytes());
    log.extend(number(BANKS.len()));
    for (id, bank) in BANKS {
        log.extend(id.to_le_bytes());
        log.extend(bank.hash(&[data]).as_bytes());
    }
    log.extend(number(data.len()));
    log.extend(data);
}

/// PCRs 0 to 15 from lines `sha256:<index>:<hex>`.
fn pcrs(text: &str) -> Vec<Vec<u8>> {
    let value = |pcr: usize| {
        let prefix = format!("sha256:{pcr}:");
        let line = text.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap();
        hex::decode(line.to_lowercase()).unwrap()
    };
    (0..16).map(value).collect()
}
