//! `touchstone inspect ek`, run as a program on certificates of real TPMs.

use crate::tool::{self, Ran, vectors};

/// A time at which every certificate of the collection is valid.
const THEN: &str = "2023-06-01T00:00:00Z";

fn inspect(file: &str, rest: &[&str]) -> Option<Ran> {
    let vectors = vectors()?;
    let (file, roots) = (vectors.join("ek").join(file), vectors.join("ek-roots"));
    let paths = ["inspect", "ek", file.to_str()?, "--roots", roots.to_str()?, "-o", "json"];
    Some(tool::run(&[&paths, rest].concat()))
}

#[test]
fn every_form_of_certificate_chains_to_its_manufacturer() {
    let cases = [
        ("google-vtpm-ecc.pem", "ecc", 256, "Google"),
        ("google-vtpm-rsa.pem", "rsa", 2048, "Google"),
        ("infineon-rsa-029.der", "rsa", 2048, "Infineon"),
        ("nuvoton-set-order.der", "rsa", 2048, "Nuvoton"),
        ("stm-06-critical-policies.der", "rsa", 2048, "STMicroelectronics"),
    ];
    for (file, kind, bits, manufacturer) in cases {
        let Some(ran) = inspect(file, &["--at", THEN]) else { return };
        assert_eq!(ran.code, 0, "{file}: {ran:?}");
        let json = ran.json();
        assert_eq!((&json["schema"], &json["chains"]), (&1.into(), &true.into()), "{file}");
        assert_eq!((&json["key_type"], &json["key_size"]), (&kind.into(), &bits.into()), "{file}");
        assert_eq!(json["manufacturer"], manufacturer, "{file}");
        assert!(json["root"].is_string() && json["reason"].is_null(), "{file}");
        assert!(json["ek_digest"].as_str().unwrap().starts_with("sha256:"), "{file}");
    }
}

#[test]
fn a_header_is_taken_off_and_sha_1_is_named() {
    let Some(ran) = inspect("stm-rsaes-oaep-7-byte-header.bin", &["--at", THEN]) else { return };
    assert_eq!(ran.code, 0, "{ran:?}");
    let json = ran.json();
    assert_eq!((&json["key_type"], &json["key_size"]), (&"rsa".into(), &2048.into()));
    assert_eq!((&json["chains"], &json["manufacturer"]), (&true.into(), &"STMicroelectronics".into()));
    assert!(json["advisories"].as_array().unwrap().contains(&"SHA-1".into()), "{json}");
}

#[test]
fn a_missing_issuer_is_named() {
    let Some(ran) = inspect("nv-trailing-padding.bin", &["--at", THEN]) else { return };
    assert_eq!(ran.code, 3, "{ran:?}");
    let reason = ran.json()["reason"].as_str().unwrap().to_owned();
    assert!(
        reason.contains("Nuvoton TPM Root CA 2010") && reason.contains("not among the roots"),
        "{reason}"
    );
}

#[test]
fn the_time_decides() {
    let file = "stm-rsaes-oaep-7-byte-header.bin";
    let Some(ran) = inspect(file, &["--at", "2025-01-01T00:00:00Z"]) else { return };
    assert_eq!(ran.code, 3, "{ran:?}");
    let json = ran.json();
    assert!(json["reason"].as_str().unwrap().contains("expired at 2024-02-23T00:00:00Z"), "{json}");
    assert_eq!(json["root"], serde_json::Value::Null);

    // Without a time it is now, and the certificate ended in 2024.
    let Some(ran) = inspect(file, &[]) else { return };
    assert_eq!(ran.code, 3, "{ran:?}");
    let json = ran.json();
    assert!(json["reason"].as_str().unwrap().contains("expired at 2024-02-23T00:00:00Z"), "{json}");
}

#[test]
fn what_is_no_certificate_is_unreadable() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ek");
    std::fs::write(&file, [0xff; 1600]).unwrap();
    let path = file.to_str().unwrap();
    let ran = tool::run(&["inspect", "ek", path, "--roots", path]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("the NV index is empty"), "{ran:?}");
    let ran = tool::run(&["inspect", "ek", "/nonexistent/ek", "--roots", path]);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
}

#[test]
fn roots_that_are_no_certificates_are_named_and_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let note = folder.path().join("README");
    std::fs::write(&note, "no certificate").unwrap();
    let Some(ran) = inspect("google-vtpm-ecc.pem", &["--at", THEN, "--roots", note.to_str().unwrap()]) else {
        return;
    };
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.starts_with("passed over: ") && ran.stderr.contains("README"), "{ran:?}");
}

#[test]
fn what_files_of_roots_hold_is_told_file_by_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec();
    std::fs::create_dir(folder.path().join("Infineon")).unwrap();
    std::fs::write(folder.path().join("Infineon/root.der"), &root).unwrap();
    std::fs::write(folder.path().join("cut.der"), &root[..40]).unwrap();
    std::fs::write(folder.path().join("README"), "read me").unwrap();
    let ran = tool::run(&["inspect", "roots", folder.path().to_str().unwrap(), "-o", "json"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&json["roots"], &json["intermediates"]), (&1.into(), &0.into()));
    let files = json["files"].as_array().unwrap();
    assert_eq!(files.iter().map(|file| file["roots"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 0, 0]);
    assert!(files[1]["passed_over"][0].as_str().unwrap().ends_with("README"), "{json}");
    assert!(files[2]["refused"][0].as_str().unwrap().contains("certificate 1 is malformed"), "{json}");
    assert!(ran.stderr.contains("passed over:") && ran.stderr.contains("refused:"), "{}", ran.stderr);
}
