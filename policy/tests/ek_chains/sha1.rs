//! Chains that rest on SHA-1. The workshop signs with SHA-256; the openssl command signs its certificates anew.
#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "these tests run openssl in a folder")]

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::forge::{Authority, judge, store};
use policy::evidence::endorsement::{Applies, EndorsedEk, EndorsementError};
use policy::x509::signature::SignatureError;
use policy::x509::{Certificate, oid};
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_RSA_SHA256, RsaKeySize, date_time_ymd};

/// Octets of a signature by RSA of 2048 bits.
const SIGNATURE: usize = 256;

fn rsa() -> KeyPair {
    KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap()
}

/// An RSA root.
fn root() -> Authority {
    Authority::root_of(rsa(), "Root", |_| {})
}

/// A name, and a beginning in 2016 on its last day, or on the first day of 2017.
fn beginning(before_2017: bool, name: &str) -> impl FnOnce(&mut CertificateParams) {
    move |params| {
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = if before_2017 { date_time_ymd(2016, 12, 31) } else { date_time_ymd(2017, 1, 1) };
    }
}

/// Signs a certificate of `issuer` anew, with SHA-1; nothing where openssl is not installed.
fn with_sha1(certificate: &[u8], issuer: &Authority) -> Option<Vec<u8>> {
    let mut der = certificate.to_vec();
    for _ in ["as it is signed", "beside the signature"] {
        let at = der.windows(oid::SHA256_WITH_RSA.len()).position(|found| found == oid::SHA256_WITH_RSA);
        let place = der.iter_mut().skip(at.unwrap());
        place.zip(oid::SHA1_WITH_RSA).for_each(|(byte, new)| *byte = *new);
    }
    let signature = sign(Certificate::parse(&der).unwrap().tbs(), &issuer.key.serialize_pem())?;
    der.truncate(der.len() - SIGNATURE);
    der.extend(signature);
    Some(der)
}

/// RSA PKCS#1 with SHA-1 over `bytes`.
fn sign(bytes: &[u8], key: &str) -> Option<Vec<u8>> {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir();
    let file = |what: &str| folder.join(format!("touchstone-sign-{}-{run}.{what}", std::process::id()));
    std::fs::write(file("key"), key).unwrap();
    std::fs::write(file("tbs"), bytes).unwrap();
    let made =
        Command::new("openssl").args(["dgst", "-sha1", "-sign"]).args([file("key"), file("tbs")]).output();
    for what in ["key", "tbs"] {
        std::fs::remove_file(file(what)).unwrap();
    }
    match made {
        Ok(output) => {
            assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
            Some(output.stdout)
        }
        Err(error) => {
            eprintln!("skipped: openssl does not run here: {error}");
            None
        }
    }
}

/// Whether the chain is said to rest on SHA-1.
fn notice(ek: &EndorsedEk) -> Option<Applies> {
    ek.advisories().iter().find(|advisory| advisory.id == "SHA-1").map(|advisory| advisory.applies())
}

#[test]
fn the_beginning_decides_whether_sha_1_counts() {
    let root = root();
    let roots = store(&[&root.der]);
    let old = root.ek_with(beginning(true, "EK"));
    assert_eq!(notice(&judge(&old, &[], &roots).unwrap()), None);
    let Some(old) = with_sha1(&old, &root) else { return };
    assert_eq!(notice(&judge(&old, &[], &roots).unwrap()), Some(Applies::ToThisChain));

    let Some(new) = with_sha1(&root.ek_with(beginning(false, "EK")), &root) else { return };
    let error = judge(&new, &[], &roots).unwrap_err();
    assert_eq!(error, EndorsementError::Sha1 { certificate: "CN=EK".to_owned() });
    assert_eq!(
        error.to_string(),
        "`CN=EK` is signed with SHA-1, which counts only with RSA and on certificates that began before 2017: \
         register the EK by its digest instead"
    );
}

#[test]
fn an_old_beginning_makes_no_signature_right() {
    let [root, stranger] = [root(), root()];
    let Some(forged) = with_sha1(&root.ek_with(beginning(true, "EK")), &stranger) else { return };
    let error = judge(&forged, &[], &store(&[&root.der])).unwrap_err();
    assert!(matches!(error, EndorsementError::Signature { source: SignatureError::Wrong, .. }), "{error}");
}

#[test]
fn authorities_are_held_to_the_same_year() {
    let root = root();
    let roots = store(&[&root.der]);
    let old = root.below_of(rsa(), "Old", |params| params.not_before = date_time_ymd(2016, 12, 31));
    let Some(der) = with_sha1(&old.der, &root) else { return };
    // The EK certificate itself is signed with SHA-256, and began in 2025.
    let ek = judge(&old.ek(), &[&der], &roots).unwrap();
    assert_eq!((notice(&ek), ek.chain_length()), (Some(Applies::ToThisChain), 3));

    let new = root.below_of(rsa(), "New", |params| params.not_before = date_time_ymd(2017, 1, 1));
    let Some(der) = with_sha1(&new.der, &root) else { return };
    let error = judge(&new.ek_with(beginning(true, "EK")), &[&der], &roots).unwrap_err();
    assert_eq!(error, EndorsementError::Sha1 { certificate: "CN=New".to_owned() });
}
