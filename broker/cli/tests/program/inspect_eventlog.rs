//! `touchstone inspect eventlog`, run as a program on logs of real machines.

use serde_json::Value;

use crate::tool::{self, Ran, vectors};

fn inspect(file: &str, rest: &[&str]) -> Option<Ran> {
    let file = vectors()?.join("eventlogs").join(file);
    Some(tool::run(&[&["inspect", "eventlog", file.to_str()?], rest].concat()))
}

#[test]
fn every_log_replays_as_expected() {
    let Some(folder) = vectors() else { return };
    let text = std::fs::read_to_string(folder.join("eventlogs/expected.json")).unwrap();
    let expected: serde_json::Map<String, Value> = serde_json::from_str(&text).unwrap();
    for (file, expected) in expected.iter().filter(|(_, expected)| expected["events"].is_number()) {
        let ran = inspect(file, &["-o", "json"]).unwrap();
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{file}");
        let json = ran.json();
        assert_eq!(json["schema"], 1, "{file}");
        for field in ["events", "startup_locality"] {
            assert_eq!(json[field], expected[field], "{file}: {field}");
        }
        let extended = |banks: &Value| {
            let banks = banks.as_object().unwrap().iter();
            banks.filter(|(_, pcrs)| pcrs.as_object().is_some_and(|pcrs| !pcrs.is_empty())).count()
        };
        assert_eq!(extended(&json["pcrs"]), extended(&expected["pcrs"]), "{file}");
        for (bank, pcrs) in expected["pcrs"].as_object().unwrap() {
            assert_eq!(&json["pcrs"][bank], pcrs, "{file}: {bank}");
        }
    }
}

#[test]
fn a_malformed_log_is_told_in_one_line_with_its_offset() {
    let Some(ran) = inspect("go-attestation-event-size-too-large.bin", &["-o", "json"]) else { return };
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
    assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    assert!(ran.stderr.starts_with("touchstone: ") && ran.stderr.contains("offset "), "{ran:?}");
}

#[test]
fn empty_and_endless_logs_are_told_with_their_offset() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let file = std::fs::File::create(&path).unwrap();
    for (size, reason) in
        [(0, "offset 0: the log holds no event"), (1 << 40, "offset 1048576: the log goes on")]
    {
        file.set_len(size).unwrap();
        let ran = tool::run(&["inspect", "eventlog", path.to_str().unwrap(), "-o", "json"]);
        assert_eq!((ran.code, ran.stderr.lines().count()), (2, 1), "{ran:?}");
        assert!(ran.stderr.contains(reason), "{ran:?}");
    }
}

#[test]
fn the_format_is_named() {
    let Some(ran) = inspect("tpm2-tools-uefi-sha1.bin", &["-o", "json"]) else { return };
    assert_eq!(ran.json()["format"], "tcg1.2");
    let Some(ran) = inspect("ibmtss-hp1.bin", &["-o", "json"]) else { return };
    assert_eq!(ran.json()["format"], "crypto-agile");
}

#[test]
fn events_are_lines_of_five_fields() {
    let Some(ran) = inspect("ibmtss-hp1.bin", &["--events"]) else { return };
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.stdout.lines().count(), 35);
    for (position, line) in ran.stdout.lines().enumerate() {
        let fields: Vec<_> = line.split('\t').collect();
        assert_eq!(fields.len(), 5, "{line}");
        assert_eq!(fields[0], position.to_string(), "{line}");
        assert!(fields[3] == "-" || fields[3].len() == 64, "{line}");
    }
    let Some(ran) = inspect("tpm2-tools-uefi-sha1.bin", &["--events"]) else { return };
    assert!(ran.stdout.lines().all(|line| line.split('\t').nth(3) == Some("-")), "{ran:?}");
}
