//! Recorded boots: their logs must replay to the PCRs that the TPM held, and verify.

use std::path::{Path, PathBuf};

use policy::appraisal::finding::FindingKind;
use policy::appraisal::forecast;
use policy::appraisal::measurements::Measurements;
use policy::appraisal::policy::Mode;
use policy::evidence::verify::{EvidenceError, GrammarError};
use policy::reference::learn::{Lesson, learn};
use policy::reference::manifest::Manifest;
use policy::reference::state::ReleaseState;
use policy::tpm::alg::{HashAlg, HashValue};
use policy::tpm::pcr::PcrValues;

use crate::boot::{NOW, policy_of, reference};
use crate::rig::{Scene, pcr, pcrs_after};

#[expect(clippy::disallowed_methods, reason = "tests read recorded logs")]
fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// PCRs 0 to 15 from lines `sha256:<index>:<hex>`.
fn recorded_pcrs(text: &str) -> PcrValues {
    let mut values = PcrValues::new(HashAlg::Sha256);
    for line in text.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let [bank, index, digits] = fields[..] else { panic!("{line} is not bank:index:value") };
        let index: u32 = index.parse().unwrap();
        if bank == "sha256" && index < 16 {
            values.set(pcr(index), HashValue::from_hex(HashAlg::Sha256, &digits.to_lowercase()).unwrap());
        }
    }
    values
}

#[test]
fn our_own_boots_verify() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/measured-boot");
    let Ok(boots) = folder.read_dir() else {
        println!("skipped: no recorded boots");
        return;
    };
    let mut seen = 0;
    for boot in boots {
        let boot = boot.unwrap().path();
        let log = read(&boot.join("eventlog.bin"));
        let pcrs = recorded_pcrs(&String::from_utf8(read(&boot.join("pcrs.txt"))).unwrap());
        let verified =
            Scene::with(pcrs, log).verify().unwrap_or_else(|e| panic!("{}: {e:?}", boot.display()));
        assert!(!verified.events(pcr(4)).is_empty(), "{}", boot.display());
        seen += 1;
    }
    assert!(seen > 0, "{} is empty", folder.display());
}

#[expect(clippy::disallowed_methods, reason = "tests find recorded logs")]
fn third_party() -> Option<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors");
    let folder = std::env::var("TOUCHSTONE_VECTORS").map_or(here, PathBuf::from).join("eventlogs");
    folder.is_dir().then_some(folder)
}

/// Row 23: which machines run an application before the firmware calls a boot option, and that a release that does
/// not allow it refuses them. Firmware that never tells the call draws the line with its separator.
#[test]
fn row_23_an_early_application_of_a_real_machine_is_flagged() {
    let Some(folder) = third_party() else {
        println!("skipped: no third-party vectors");
        return;
    };
    for (name, early) in [
        ("ibmtss-dell1", 1),
        ("ibmtss-hp1", 0),
        ("ibmtss-sm1", 0),
        ("go-attestation-coreos-36", 0),
        ("go-attestation-crypto-agile", 0),
        ("tpm2-tools-arch-linux", 0),
    ] {
        let verified = replayed(&folder, name).verify().unwrap();
        let lesson = Lesson { id: "edge-box@1".parse().unwrap(), counter: 1, one_of: false };
        let learned = learn(&[Measurements::from(&verified).into()], lesson).unwrap();
        let text = learned.manifest.render();
        assert_eq!(text.matches("early = true\n").count(), early, "{name}");
        let strict = Manifest::parse(&text.replace("early = true\n", "")).unwrap();
        let policy = policy_of(&["edge-box"], Mode::Enforce);
        let forecast = |manifest: Manifest| {
            let reference = reference(&[(manifest, ReleaseState::Active)]);
            forecast(&Measurements::from(&verified), &reference, &policy, NOW).record().clone()
        };
        assert_eq!(forecast(learned.manifest).findings, [], "{name}");
        let flagged: Vec<FindingKind> = forecast(strict).findings.iter().map(|found| found.kind).collect();
        assert_eq!(flagged, vec![FindingKind::EarlyApplication; early], "{name}");
    }
}

/// A device whose TPM holds what the log of `name` replays to.
fn replayed(folder: &Path, name: &str) -> Scene {
    let bytes = read(&folder.join(format!("{name}.bin")));
    let log = policy::eventlog::tcg::EventLog::parse(&bytes).unwrap();
    let replay = policy::eventlog::replay::replay(&log, HashAlg::Sha256).unwrap();
    let mut pcrs = pcrs_after(&[], HashAlg::Sha256, 0);
    for (index, value) in replay.values().iter().filter(|(index, _)| index.number() < 16) {
        pcrs.set(index, *value);
    }
    Scene::with(pcrs, bytes)
}

/// Logs of real machines satisfy the grammar; what is refused is refused for what it lacks.
#[test]
fn real_machines_satisfy_the_grammar() {
    let Some(folder) = third_party() else {
        println!("skipped: no third-party vectors");
        return;
    };
    for (name, expected) in [
        ("go-attestation-coreos-36", Ok(false)),
        ("go-attestation-crypto-agile", Ok(false)),
        ("go-attestation-ubuntu-2104", Ok(false)),
        ("ibmtss-dell1", Ok(true)),
        ("ibmtss-hp1", Ok(true)),
        ("ibmtss-sm1", Ok(true)),
        ("ibmtss-ubuntu1", Ok(false)),
        ("tpm2-tools-arch-linux", Ok(false)),
        ("tpm2-tools-bootorder", Ok(false)),
        ("tpm2-tools-gce-ubuntu-2104", Ok(false)),
        ("tpm2-tools-moklisttrusted", Ok(true)),
        ("tpm2-tools-sd-boot-fedora37", Ok(false)),
        ("go-attestation-sb-cert", Err(GrammarError::NoSeparator { pcr: pcr(0) })),
        ("tpm2-tools-uefivar", Err(GrammarError::NoSeparator { pcr: pcr(0) })),
    ] {
        let verdict = replayed(&folder, name).verify().map(|verified| verified.secure_boot().is_enabled());
        assert_eq!(verdict, expected.map_err(EvidenceError::Grammar), "{name}");
    }
}
