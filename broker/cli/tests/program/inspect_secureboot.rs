//! `touchstone inspect secureboot`, run as a program on logs of real machines.

use serde_json::Value;

use crate::tool::{self, Ran, vectors};

/// `UEFI CA 2011` and `Windows Production PCA 2011` of Microsoft: what vouches for shim and for Windows.
const UEFI_CA: &str = "48e99b991f57fc52f76149599bff0a58c47154229b9f8d603ac40d3500248507";
const WINDOWS_PCA: &str = "e8e95f0733a55e8bad7be0a1413ee23c51fcea64b3c8fa6a786935fddcc71961";

fn inspect(file: &str, rest: &[&str]) -> Option<Ran> {
    let file = vectors()?.join("eventlogs").join(file);
    Some(tool::run(&[&["inspect", "secureboot", file.to_str()?], rest].concat()))
}

/// What a log yields: whether Secure Boot is on, setup mode, and the authorities; or why it yields nothing.
enum Yields {
    State(bool, bool, &'static [&'static str]),
    Refused(&'static str),
    Malformed,
}

use Yields::{Malformed, Refused, State};

const NO_SEPARATOR: Yields = Refused("PCR 7 has no separator event; send the whole log of a finished boot");

/// Every third-party log.
const LOGS: [(&str, Yields); 23] = [
    // shim told its level although Secure Boot is off.
    ("go-attestation-coreos-36", State(false, false, &["SbatLevel", "MokListTrusted"])),
    ("go-attestation-crypto-agile", State(false, false, &[])),
    ("go-attestation-ebs-missing", State(false, false, &[])),
    ("go-attestation-event-size-too-large", Malformed),
    ("go-attestation-option-rom", State(true, false, &["db", "db"])),
    // Only some PCRs of the boot, PCR 7 whole; the surplus byte of older shim.
    ("go-attestation-sb-cert", State(true, false, &["db", "Shim", "Shim"])),
    // One event that extends nothing.
    ("go-attestation-short-no-action", NO_SEPARATOR),
    ("go-attestation-ubuntu-2104", State(false, false, &["SbatLevel"])),
    ("ibmtss-dell1", State(true, false, &["db"])),
    ("ibmtss-hp1", State(true, false, &["db"])),
    ("ibmtss-sm1", State(true, false, &["db", "Shim", "Shim"])),
    // No keys are enrolled.
    ("ibmtss-ubuntu1", State(false, true, &[])),
    ("tpm2-tools-arch-linux", State(false, false, &[])),
    ("tpm2-tools-bootorder", State(false, true, &[])),
    ("tpm2-tools-gce-ubuntu-2104", State(false, false, &["SbatLevel"])),
    ("tpm2-tools-moklisttrusted", State(true, false, &["db", "SbatLevel", "MokListTrusted", "Shim"])),
    ("tpm2-tools-postcode", State(true, false, &["db", "Shim", "Shim"])),
    ("tpm2-tools-sd-boot-fedora37", State(false, true, &[])),
    // A header alone.
    ("tpm2-tools-specid-vendordata", NO_SEPARATOR),
    // The platform key is missing, the others are not.
    ("tpm2-tools-uefi-sha1", State(false, true, &[])),
    // Excerpts of single events: none of PCR 7, or SecureBoot alone.
    ("tpm2-tools-uefiaction", NO_SEPARATOR),
    ("tpm2-tools-uefiservices", NO_SEPARATOR),
    ("tpm2-tools-uefivar", NO_SEPARATOR),
];

#[test]
fn every_log_tells_its_state_or_why_not() {
    for (name, yields) in LOGS {
        let Some(ran) = inspect(&format!("{name}.bin"), &["-o", "json"]) else { return };
        match yields {
            State(secure_boot, setup_mode, authorities) => {
                assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{name}: {ran:?}");
                let json = ran.json();
                assert_eq!(
                    (&json["schema"], &json["secure_boot"]),
                    (&1.into(), &secure_boot.into()),
                    "{name}"
                );
                assert_eq!(json["setup_mode"], setup_mode, "{name}");
                let found: Vec<_> = json["authorities"].as_array().unwrap().iter().collect();
                let found: Vec<_> = found.iter().map(|it| it["variable"].as_str().unwrap()).collect();
                assert_eq!(found, authorities, "{name}");
            }
            Refused(reason) => {
                assert_eq!(ran.code, 3, "{name}: {ran:?}");
                assert_eq!(ran.json(), serde_json::json!({ "schema": 1, "refused": reason }), "{name}");
                assert!(ran.stderr.contains(reason) && ran.stderr.lines().count() == 1, "{name}: {ran:?}");
            }
            Malformed => {
                assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{name}: {ran:?}");
                assert!(ran.stderr.contains("offset ") && ran.stderr.lines().count() == 1, "{name}: {ran:?}");
            }
        }
    }
}

#[test]
fn keys_and_authorities_are_named() {
    let Some(ran) = inspect("tpm2-tools-moklisttrusted.bin", &["-o", "json"]) else { return };
    let json = ran.json();
    let prints = |field: &str| -> Vec<Value> {
        let certificates = json[field]["certificates"].as_array().unwrap();
        certificates.iter().map(|certificate| certificate["sha256"].clone()).collect()
    };
    assert_eq!(prints("db"), [WINDOWS_PCA, UEFI_CA]);
    assert_eq!((json["dbx"]["hashes"].clone(), prints("dbx").len()), (1.into(), 0));
    assert_eq!((prints("pk").len(), prints("kek").len()), (1, 2));
    let authority = &json["authorities"][0];
    assert_eq!((&authority["kind"], &authority["sha256"]), (&"certificate".into(), &UEFI_CA.into()));
    assert!(authority["subject"].as_str().unwrap().contains("Microsoft Corporation UEFI CA 2011"));
    assert_eq!(authority["owner"], "77fa9abd-0359-4d32-bd60-28f4e78f784b");
    assert_eq!(json["authorities"][1]["sbat"], "sbat,1,2021030218");
    assert!(json["authorities"][3]["subject"].as_str().unwrap().contains("Red Hat"));
}

#[test]
fn the_strongest_bank_is_the_default_and_any_can_be_asked_for() {
    let file = "go-attestation-coreos-36.bin";
    let Some(ran) = inspect(file, &["-o", "json"]) else { return };
    assert_eq!(ran.json()["bank"], "sha384");
    let mut told = ran.json();
    let weaker = inspect(file, &["-o", "json", "--bank", "sha1"]).unwrap();
    assert_eq!(weaker.json()["bank"], "sha1");
    told["bank"] = "sha1".into();
    assert_eq!(weaker.json(), told, "every bank covers the same data");
    let none = inspect(file, &["--bank", "sha512"]).unwrap();
    assert_eq!(none.code, 2, "{none:?}");
    assert!(none.stderr.contains("the log has no sha512 bank"), "{none:?}");
    assert_eq!(inspect(file, &["--bank", "md5"]).unwrap().code, 64);
    assert_eq!(inspect("tpm2-tools-uefi-sha1.bin", &["-o", "json"]).unwrap().json()["bank"], "sha1");
}

#[test]
fn people_read_the_same() {
    let Some(ran) = inspect("ibmtss-hp1.bin", &[]) else { return };
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    for part in ["Secure Boot    on", "audit mode     not measured", WINDOWS_PCA, "AUTHORITY", "certificate"]
    {
        assert!(ran.stdout.contains(part), "{part} is not in\n{}", ran.stdout);
    }
    let refused = inspect("tpm2-tools-uefivar.bin", &[]).unwrap();
    assert_eq!((refused.code, refused.stdout.as_str()), (3, ""), "{refused:?}");
    assert!(refused.stderr.contains("PCR 7 has no separator"), "{refused:?}");
}

#[test]
fn a_changed_log_is_refused_with_the_reason() {
    let Some(folder) = vectors() else { return };
    let mut bytes = std::fs::read(folder.join("eventlogs/ibmtss-hp1.bin")).unwrap();
    let name: Vec<u8> = "SecureBoot".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap() + name.len();
    bytes[at] = 0;
    let changed = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(changed.path(), &bytes).unwrap();
    let ran = tool::run(&["inspect", "secureboot", changed.path().to_str().unwrap(), "-o", "json"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.json()["refused"].as_str().unwrap().contains("its data is not what was hashed"), "{ran:?}");
}
