//! Boots whose logs are measured: recorded ones of this project and of other people's machines, and a long one.

use std::path::{Path, PathBuf};

use policy::eventlog::replay::replay;
use policy::eventlog::tcg::EventLog;
use policy::tpm::alg::{HashAlg, HashValue};
use policy::tpm::pcr::PcrValues;

use crate::measure::signer::Signer;
use crate::measure::subject::Subject;
use crate::measure::tpm;

/// Events of a long boot: collected logs have at most so many.
const LONG: usize = 120;

/// Logs of real machines that satisfy the evidence grammar (policy/tests/evidence_suite/boots.rs).
const THIRD_PARTY: [&str; 12] = [
    "go-attestation-coreos-36",
    "go-attestation-crypto-agile",
    "go-attestation-ubuntu-2104",
    "ibmtss-dell1",
    "ibmtss-hp1",
    "ibmtss-sm1",
    "ibmtss-ubuntu1",
    "tpm2-tools-arch-linux",
    "tpm2-tools-bootorder",
    "tpm2-tools-gce-ubuntu-2104",
    "tpm2-tools-moklisttrusted",
    "tpm2-tools-sd-boot-fedora37",
];

/// An honest boot of 120 events, many of a boot loader that measures each line of its script.
pub(crate) fn long(signer: Signer) -> Subject {
    let mut events = tpm::boot();
    for line in events.len()..LONG {
        let text = format!("grub_cmd: search --no-floppy --fs-uuid --set=root line {line}");
        events.push(tpm::event(8, 0x0d, text.as_bytes()));
    }
    let pcrs = tpm::pcrs_after(&events, HashAlg::Sha256, 0);
    Subject::new(signer, pcrs, tpm::write_log(&events), "")
}

/// The boots that are recorded in tests/vectors.
pub(crate) fn recorded() -> impl Iterator<Item = (&'static str, Subject)> {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/measured-boot");
    ["boot-a", "boot-b", "boot-c"].into_iter().map(move |name| {
        let folder = vectors.join(name);
        let pcrs = pcrs(&String::from_utf8(read(&folder.join("pcrs.txt"))).unwrap());
        (name, Subject::new(Signer::p256(), pcrs, read(&folder.join("eventlog.bin")), ""))
    })
}

/// PCRs 0 to 15 from lines `sha256:<index>:<hex>`.
fn pcrs(text: &str) -> PcrValues {
    let mut pcrs = PcrValues::new(HashAlg::Sha256);
    for line in text.lines() {
        let [bank, index, digits] = line.split(':').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let index: u32 = index.parse().unwrap();
        if bank == "sha256" && index < 16 {
            let value = HashValue::from_hex(HashAlg::Sha256, digits).unwrap();
            pcrs.set(tpm::pcr(index), value);
        }
    }
    pcrs
}

/// Logs of other people's machines, with the values that they replay to; none, and told so, where they are not.
pub(crate) fn third_party() -> impl Iterator<Item = (&'static str, Subject)> {
    let folder = third_party_folder();
    if folder.is_none() {
        println!("skipped: third-party logs; name their folder in TOUCHSTONE_VECTORS");
    }
    let subject = |(name, folder): (&'static str, PathBuf)| {
        let log = read(&folder.join(format!("{name}.bin")));
        let mut pcrs = tpm::pcrs_after(&[], HashAlg::Sha256, 0);
        let replayed = replay(&EventLog::parse(&log).unwrap(), HashAlg::Sha256).unwrap().values().clone();
        for (pcr, value) in replayed.iter().filter(|(pcr, _)| pcr.number() < 16) {
            pcrs.set(pcr, *value);
        }
        (name, Subject::new(Signer::p256(), pcrs, log, ""))
    };
    folder.into_iter().flat_map(|folder| THIRD_PARTY.map(|name| (name, folder.clone()))).map(subject)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark finds its vectors")]
fn third_party_folder() -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var("TOUCHSTONE_VECTORS").ok()?).join("eventlogs");
    folder.is_dir().then_some(folder)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads its vectors")]
fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
