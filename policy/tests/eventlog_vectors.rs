//! Firmware logs of real machines against independently computed expectations.
//!
//! The logs are not part of the project; without them the tests say so and pass.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use policy::eventlog::event::describe;
use policy::eventlog::replay::{ReplayError, replay, replay_all};
use policy::eventlog::tcg::{EventLog, EventLogError, Format};
use policy::tpm::alg::HashAlg;
use serde_json::Value;

#[expect(clippy::disallowed_methods, reason = "tests read recorded logs")]
fn folder() -> Option<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors");
    let root = std::env::var("TOUCHSTONE_VECTORS").map_or(here, PathBuf::from);
    let folder = root.join("eventlogs");
    if !folder.is_dir() {
        println!("skipped: no third-party vectors");
        return None;
    }
    Some(folder)
}

#[expect(clippy::disallowed_methods, reason = "tests read recorded logs")]
fn read(folder: &Path, name: &str) -> std::io::Result<Vec<u8>> {
    std::fs::read(folder.join(name))
}

type Pcrs = BTreeMap<String, BTreeMap<String, String>>;

fn replayed(log: &EventLog<'_>) -> Pcrs {
    let row = |values: &policy::tpm::pcr::PcrValues| {
        let pcrs = values.iter().map(|(pcr, value)| (pcr.to_string(), value.to_string())).collect();
        (values.bank().to_string(), pcrs)
    };
    replay_all(log).iter().map(row).collect()
}

#[test]
fn every_log_replays_as_expected() {
    let Some(folder) = folder() else { return };
    let expected: BTreeMap<String, Value> =
        serde_json::from_slice(&read(&folder, "expected.json").unwrap()).unwrap();
    assert!(!expected.is_empty());
    for (name, want) in &expected {
        let bytes = read(&folder, name).unwrap();
        let parsed = EventLog::parse(&bytes);
        let Some(events) = want.get("events").and_then(Value::as_u64) else {
            assert!(matches!(parsed, Err(EventLogError::Structure(_))), "{name}: {parsed:?}");
            continue;
        };
        let log = parsed.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(u64::try_from(log.events().len()), Ok(events), "{name}");
        let locality = want["startup_locality"].as_u64();
        assert_eq!(log.startup_locality().map(u64::from), locality, "{name}");
        let pcrs: Pcrs = serde_json::from_value(want["pcrs"].clone()).unwrap();
        assert_eq!(replayed(&log), pcrs, "{name}");
        for event in log.events() {
            assert!(describe(event).is_none_or(|text| text.chars().all(|c| !c.is_control())), "{name}");
        }
    }
}

/// Strict replay agrees with lenient replay wherever every event carries the bank.
#[test]
fn complete_banks_replay_strictly() {
    let Some(folder) = folder() else { return };
    let bytes = read(&folder, "ibmtss-dell1.bin").unwrap();
    let log = EventLog::parse(&bytes).unwrap();
    let lenient = replay_all(&log);
    let strict = replay(&log, HashAlg::Sha256).unwrap();
    assert_eq!(Some(strict.values()), lenient.iter().find(|values| values.bank() == HashAlg::Sha256));
    let error = replay(&log, HashAlg::Sha1).unwrap_err();
    assert!(matches!(error, ReplayError::NoDigest { bank: HashAlg::Sha1, .. }), "{error}");
    assert_eq!(replay(&log, HashAlg::Sha384).unwrap_err(), ReplayError::NoBank(HashAlg::Sha384));
}

#[test]
fn an_oversize_event_is_refused_at_its_offset() {
    let Some(folder) = folder() else { return };
    let bytes = read(&folder, "go-attestation-event-size-too-large.bin").unwrap();
    let EventLogError::Structure(error) = EventLog::parse(&bytes).unwrap_err() else {
        panic!("refused for another reason")
    };
    assert!(error.to_string().starts_with("offset 32: event data"), "{error}");
}

#[test]
fn a_log_without_spec_id_is_sha1() {
    let Some(folder) = folder() else { return };
    let bytes = read(&folder, "go-attestation-short-no-action.bin").unwrap();
    let log = EventLog::parse(&bytes).unwrap();
    assert_eq!((log.format(), log.banks()), (Format::Sha1, &[HashAlg::Sha1][..]));
}

#[test]
fn descriptions_name_files_and_variables() {
    let Some(folder) = folder() else { return };
    let bytes = read(&folder, "tpm2-tools-moklisttrusted.bin").unwrap();
    let log = EventLog::parse(&bytes).unwrap();
    let texts: Vec<String> = log.events().iter().filter_map(describe).collect();
    for text in ["SecureBoot", "Calling EFI Application from Boot Option", "MokListTrusted"] {
        assert!(texts.iter().any(|found| found == text), "{text} is not in {texts:#?}");
    }
    assert!(texts.iter().any(|text| text.to_lowercase().ends_with(".efi")), "{texts:#?}");
}
