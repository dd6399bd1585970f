//! `touchstone inspect ima`, run as a program on lists that others made.

use serde_json::json;

use crate::tool::{self, Ran, vectors};

fn inspect(file: &str, rest: &[&str]) -> Option<Ran> {
    let file = vectors()?.join("ima").join(file);
    Some(tool::run(&[&["inspect", "ima", file.to_str()?], rest].concat()))
}

#[test]
fn a_list_of_many_templates_is_summed_up_exactly() {
    let Some(ran) = inspect("ibmtss-imatest.bin", &["-o", "json"]) else { return };
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    let expected = json!({
        "schema": 1,
        "records": 17,
        "violations": 1,
        "templates": {
            "d-ng|sig": 1, "n-ng|d-ng": 1, "n-ng|sig|d-ng": 1, "n-ng|sig": 1, "n": 1, "sig": 1, "ima": 1,
            "ima-ng": 1, "ima-sig": 3, "ima-modsig": 2, "ima-sigv2": 1, "ima-buf": 1, "evm-sig": 1, "ima-ngv2": 1
        },
        "pcrs": {
            "sha1": { "10": "0ff68e1da514770e85581bffe693809776302a63" },
            "sha256": { "10": "af02ae09413721fddb71250ae26383de73cc78d5df37fbebadacedeaeacddb18" }
        }
    });
    assert_eq!(ran.json(), expected);
}

#[test]
fn a_list_of_the_sha256_bank_is_read_with_its_width() {
    let Some(ran) = inspect("ibmtss-sha256.bin", &["--bank", "sha256", "-o", "json"]) else { return };
    assert_eq!(ran.code, 0, "{ran:?}");
    let expected = json!({
        "schema": 1,
        "records": 362,
        "violations": 0,
        "templates": { "ima-sig": 362 },
        "pcrs": { "sha256": { "10": "7fac48c81837d6d29046008aef0cdad8c2745cc98c3340cbba9bfdf39b4124b8" } }
    });
    assert_eq!(ran.json(), expected);
}

#[test]
fn banks_are_chosen_one_by_one() {
    let banks = ["--bank", "sha384", "--bank", "sha512", "-o", "json"];
    let Some(ran) = inspect("ibmtss-imatest.bin", &banks) else { return };
    let json = ran.json();
    let names: Vec<_> = json["pcrs"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["sha384", "sha512"]);
    let ran = inspect("ibmtss-imatest.bin", &["--bank", "md5"]).unwrap();
    assert_eq!(ran.code, 64, "{ran:?}");
    assert!(ran.stderr.contains("`md5` is no PCR bank"), "{ran:?}");
}

#[test]
fn people_are_shown_tables() {
    let Some(ran) = inspect("ibmtss-imatest.bin", &[]) else { return };
    assert!(ran.stdout.starts_with("IMA list, 17 records, 1 violation\n"), "{ran:?}");
    assert!(
        ran.stdout.contains("ima-modsig")
            && ran.stdout.contains("af02ae09413721fddb71250ae26383de73cc78d5df37fbebadacedeaeacddb18"),
        "{ran:?}"
    );
}

#[test]
fn a_malformed_list_is_told_in_one_line_with_its_offset() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list");
    let mut record = 10_u32.to_le_bytes().to_vec();
    record.extend([0; 20]);
    record.extend(6_u32.to_le_bytes());
    record.extend(b"ima-ng");
    let cut = record.clone();
    record.extend(8_u32.to_le_bytes());
    record.extend([0; 8]);
    let flipped = [&[10, 0, 0, 0][..], &[1], &record[5..]].concat();
    let surplus = [&record[..], &[7]].concat();
    for (bytes, reason) in [
        (Vec::new(), "offset 0: the list holds no record"),
        (b"no list at all, but a text that is long enough to be one".to_vec(), "offset 0: no template name"),
        (cut, "offset 34: length of the template data needs 4 bytes, 0 are left"),
        (flipped, "offset 0: the sha1 template digest of record 0 is not that of its data"),
        (surplus, "offset 46: PCR index needs 4 bytes, 1 are left"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let ran = tool::run(&["inspect", "ima", path.to_str().unwrap(), "-o", "json"]);
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.lines().count()), (2, "", 1), "{ran:?}");
        assert!(ran.stderr.contains(reason), "{reason}: {ran:?}");
    }
}
