//! Whatever a stranger sends: no panic, and no bit of a chain can change unnoticed.

use super::forge::{Authority, judge, store};
use policy::evidence::endorsement::{RootStore, describe};
use policy::x509::{Certificate, SubjectKey, name, pem, readout};
use proptest::prelude::*;

/// Reads bytes as everything that a stranger's bytes are read as.
fn read_as_everything(bytes: &[u8]) {
    drop(readout::certificate_in(bytes));
    drop(pem::certificates(bytes));
    drop(SubjectKey::parse(bytes));
    drop(name::attributes(bytes));
    let _ = name::text(bytes);
    drop(describe(bytes));
    drop(RootStore::new().add("any", bytes));
    drop(judge(bytes, &[bytes], &RootStore::new()));
    if let Ok(certificate) = Certificate::parse(bytes) {
        let _ = certificate.label();
    }
}

#[test]
fn every_flipped_bit_of_a_chain_is_refused_or_without_effect() {
    let root = Authority::root("Root");
    let middle = root.below("Middle");
    let (ek, roots) = (middle.ek(), store(&[&root.der]));
    let verdict = judge(&ek, &[&middle.der], &roots).unwrap();
    let flips = |bytes: &[u8]| {
        let bytes = bytes.to_vec();
        (0..bytes.len() * 8).map(move |bit| {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            flipped
        })
    };
    for flipped in flips(&ek) {
        let Ok(endorsed) = judge(&flipped, &[&middle.der], &roots) else { continue };
        assert_eq!(endorsed, verdict, "{}", hex::encode(flipped));
    }
    for flipped in flips(&middle.der) {
        let Ok(endorsed) = judge(&ek, &[&flipped], &roots) else { continue };
        assert_eq!(endorsed, verdict, "{}", hex::encode(flipped));
    }
}

#[test]
fn every_cut_of_a_certificate_is_refused() {
    let root = Authority::root("Root");
    let (ek, roots) = (root.ek(), store(&[&root.der]));
    for length in 0..ek.len() {
        read_as_everything(&ek[..length]);
        judge(&ek[..length], &[], &roots).unwrap_err();
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        read_as_everything(&bytes);
    }

    /// A certificate with some bytes replaced reaches deeper than noise does.
    #[test]
    fn mangled_certificates_never_panic(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        tail in proptest::collection::vec(any::<u8>(), 0..8),
    ) {
        thread_local!(static EK: Vec<u8> = Authority::root("Root").ek());
        let mut mangled = EK.with(Clone::clone);
        for (index, byte) in edits {
            let at = index.index(mangled.len());
            mangled[at] = byte;
        }
        mangled.extend(tail);
        read_as_everything(&mangled);
    }
}
