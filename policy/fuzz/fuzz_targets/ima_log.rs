//! An IMA list is read, its signatures are parsed and it is replayed without a panic; and a list that reads
//! is confirmed to its end by the values that it replays to, apart from its boot aggregate and its PCR.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use policy::eventlog::ima::key::ImaKey;
use policy::eventlog::ima::list::ImaList;
use policy::eventlog::ima::replay::summarize;
use policy::eventlog::ima::signature;
use policy::eventlog::ima::state::Boot;
use policy::eventlog::ima::verify::{ImaError, ImaPart, Quoted, verify};
use policy::tpm::alg::HashAlg;
use policy::tpm::pcr::PcrValues;

/// The key of the seeds' signatures, so that more than their headers is looked at.
const KEY: &[u8] = include_bytes!("../keys/rsa.der");

fuzz_target!(|bytes: &[u8]| {
    let Ok(list) = ImaList::parse(bytes, 0) else { return };
    let keys = [ImaKey::parse_version1(KEY).unwrap()];
    for record in list.records().map_while(Result::ok) {
        let _ = signature::verify(&record.fields, &keys);
    }
    let Ok(summary) = summarize(&list, &BTreeSet::from([HashAlg::Sha256])) else { return };
    let [pcrs] = summary.values.as_slice() else { return };
    let firmware = PcrValues::new(HashAlg::Sha256);
    let boot = Boot { reset_count: 0, restart_count: 0 };
    let quoted = Quoted { pcrs, firmware: &firmware, boot, accepted: None };
    match verify(&ImaPart { first: 0, bytes: bytes.into() }, &quoted) {
        Ok(verified) => assert_eq!(verified.records().count(), summary.records),
        Err(error) => assert!(matches!(error, ImaError::Aggregate(_) | ImaError::OtherPcr(_)), "{error}"),
    }
});
