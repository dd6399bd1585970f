//! Lists that others made, if they are there.

use std::collections::BTreeSet;
use std::path::PathBuf;

use policy::eventlog::ima::list::ImaList;
use policy::eventlog::ima::replay::summarize;
use policy::eventlog::ima::signature::{self, FileSignatureError};
use policy::tpm::alg::HashAlg;

#[expect(clippy::disallowed_methods, reason = "tests read recorded lists")]
fn read(file: &str) -> Option<Vec<u8>> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors");
    let folder = std::env::var("TOUCHSTONE_VECTORS").map_or(beside, PathBuf::from);
    let bytes = std::fs::read(folder.join("ima").join(file)).ok();
    if bytes.is_none() {
        println!("skipped: no third-party vectors");
    }
    bytes
}

#[test]
fn fourteen_templates_are_read() {
    let Some(bytes) = read("ibmtss-imatest.bin") else { return };
    let list = ImaList::parse(&bytes, 0).unwrap();
    assert_eq!(list.alg(), HashAlg::Sha1);
    let summary = summarize(&list, &BTreeSet::new()).unwrap();
    assert_eq!((summary.records, summary.violations, summary.templates.len()), (17, 1, 14));
    let reasons: Vec<_> =
        list.records().filter_map(|record| signature::verify(&record.unwrap().fields, &[]).err()).collect();
    for key in [0x6e6c_1046, 0xf1f2_ba3c, 0x7851_1c2a] {
        assert!(reasons.contains(&FileSignatureError::UnknownKey(key)), "{key:08x} is not in {reasons:?}");
    }
}

#[test]
fn a_list_of_another_width_is_read_with_it() {
    let Some(bytes) = read("ibmtss-sha256.bin") else { return };
    let list = ImaList::parse(&bytes, 0).unwrap();
    assert_eq!(list.alg(), HashAlg::Sha256);
    let summary = summarize(&list, &BTreeSet::from([HashAlg::Sha256])).unwrap();
    assert_eq!((summary.records, summary.violations), (362, 0));
}
