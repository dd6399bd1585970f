//! The section about files is read back as it was written, or refused with its place.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use policy::reference::manifest::ima::{MAX_EXCLUDED, MAX_KEYS, Violations};
use policy::reference::manifest::{Manifest, ManifestProblem};
use proptest::prelude::*;
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256, PublicKeyData, SignatureAlgorithm,
};

use crate::manifest::{digest, minimal};

fn key(kind: &'static SignatureAlgorithm) -> String {
    STANDARD.encode(KeyPair::generate_for(kind).unwrap().subject_public_key_info())
}

fn parse(section: &str) -> Manifest {
    Manifest::parse(&(minimal() + section)).unwrap()
}

fn faults(section: &str) -> Vec<ManifestProblem> {
    let faults = Manifest::parse(&(minimal() + section)).unwrap_err();
    faults.faults().iter().map(|fault| fault.problem.clone()).collect()
}

#[test]
fn a_section_says_what_was_written() {
    let key = key(&PKCS_ECDSA_P256_SHA256);
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{key}\n-----END PUBLIC KEY-----");
    let manifest = parse(&format!(
        "[ima]\nkeys = ['''{pem}''']\nexclude = [\"/tmp/**\", \"/a\"]\n[[ima.file]]\npath = \"/usr/bin/x y\"\n\
         digest = [\"sha256:{}\", \"sha256:{}\"]\n[[ima.file]]\npath = \"/b\"\ndigest = [\"sha256:{}\"]\n",
        digest(2).to_uppercase(),
        digest(1),
        digest(3)
    ));
    let canonical = format!(
        "{}\n[ima]\nexclude = [\n  \"/a\",\n  \"/tmp/**\",\n]\nkeys = [\n  \"{key}\",\n]\nviolations = \"refuse\"\n\
         \n[[ima.file]]\npath = \"/b\"\ndigest = [\"sha256:{}\"]\n\
         \n[[ima.file]]\npath = \"/usr/bin/x_y\"\ndigest = [\n  \"sha256:{}\",\n  \"sha256:{}\",\n]\n",
        minimal(),
        digest(3),
        digest(1),
        digest(2)
    );
    assert_eq!(manifest.render(), canonical);
    assert_eq!(Manifest::parse(&canonical).unwrap(), manifest);
    let json = serde_json::to_value(&manifest).unwrap();
    assert_eq!(json["ima"]["file"][0]["path"], "/b");
    assert_eq!(json["ima"]["keys"][0], key);
}

#[test]
fn keys_for_version_1_are_listed_apart() {
    let rsa = key(&PKCS_RSA_SHA256);
    let manifest = parse(&format!("[ima]\nversion1_keys = [\"{rsa}\"]\n"));
    assert!(manifest.ima().unwrap().keys()[0].counts_version1());
    assert_eq!(Manifest::parse(&manifest.render()).unwrap(), manifest);
    let modern = parse(&format!("[ima]\nkeys = [\"{rsa}\"]\n"));
    assert!(!modern.ima().unwrap().keys()[0].counts_version1());
    assert_ne!(manifest.digest(), modern.digest());
    let both = faults(&format!("[ima]\nkeys = [\"{rsa}\"]\nversion1_keys = [\"{rsa}\"]\n"));
    assert_eq!(both, [ManifestProblem::Duplicate("a key".to_owned())]);
    let p256 = faults(&format!("[ima]\nversion1_keys = [\"{}\"]\n", key(&PKCS_ECDSA_P256_SHA256)));
    assert!(matches!(p256.as_slice(), [ManifestProblem::Key(why)] if why.contains("RSA")), "{p256:?}");
}

#[test]
fn an_empty_section_is_not_no_section() {
    assert!(parse("").ima().is_none());
    let manifest = parse("[ima]\n");
    let rules = manifest.ima().unwrap();
    assert_eq!((rules.files().count(), rules.violations()), (0, Violations::Refuse));
    assert_eq!(Manifest::parse(&manifest.render()).unwrap(), manifest);
    assert_ne!(manifest.digest(), parse("").digest());
}

#[test]
fn faults_are_told_by_what_is_wrong() {
    let file = |path: &str, digest: &str| format!("[[ima.file]]\npath = \"{path}\"\ndigest = [{digest}]\n");
    let good = format!("\"sha256:{}\"", digest(1));
    let one = |section: &str| {
        let faults = faults(section);
        assert_eq!(faults.len(), 1, "{section}: {faults:?}");
        faults.into_iter().next().unwrap()
    };
    for excluded in ["/**", "**", "/a*", "/a/*/b", "/a/**/b", "a", "tmp/**", " /a"] {
        let problem = one(&format!("[ima]\nexclude = [\"{excluded}\"]\n"));
        assert_eq!(problem, ManifestProblem::Excluded(excluded.to_owned()));
    }
    let sha1 = format!("sha1:{}", "00".repeat(20));
    for digest in [sha1, digest(1), "sha256:00".to_owned()] {
        assert_eq!(one(&file("/a", &format!("\"{digest}\""))), ManifestProblem::FileDigest(digest));
    }
    assert_eq!(one(&file("/a", "")), ManifestProblem::Empty("digest".to_owned()));
    assert!(matches!(one(&file("", &good)), ManifestProblem::NotPlain("path")));
    let twice = file("/a b", &good) + &file("/a_b", &good);
    assert_eq!(one(&twice), ManifestProblem::Duplicate("file `/a_b`".to_owned()));
    let many = format!("[ima]\nexclude = [{}]\n", "\"/a\",".repeat(MAX_EXCLUDED + 1));
    assert!(matches!(one(&many), ManifestProblem::TooLong { limit: MAX_EXCLUDED, .. }));
    let many = format!("[ima]\nkeys = [{}]\n", "\"\",".repeat(MAX_KEYS + 1));
    assert!(matches!(one(&many), ManifestProblem::TooLong { limit: MAX_KEYS, .. }));
    assert!(matches!(one("[ima]\nkeys = [\"%\"]\n"), ManifestProblem::Key(why) if why.contains("base64")));
    let ed25519 = format!("[ima]\nkeys = [\"{}\"]\n", key(&PKCS_ED25519));
    assert!(matches!(one(&ed25519), ManifestProblem::Key(why) if why.contains("P-256")));
    assert!(matches!(one("[ima]\nviolations = \"maybe\"\n"), ManifestProblem::WrongType { .. }));
    assert!(matches!(one("[ima]\nfiles = []\n"), ManifestProblem::UnknownField { .. }));
    let headless =
        Manifest::parse("schema = 1\nproduct = \"edge-box\"\nversion = \"1\"\ncounter = 1\n[ima]\n");
    let faults = headless.unwrap_err();
    assert_eq!(faults.faults()[0].problem, ManifestProblem::AcceptsEverything);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_canonical_text_reads_back(paths in proptest::collection::btree_set("/[a-z \"\\\\é]{1,20}", 0..8)) {
        let paths: std::collections::BTreeSet<_> = paths.iter().map(|path| path.replace(' ', "_")).collect();
        let section: String = paths.iter().map(|path| {
            format!("[[ima.file]]\npath = '{path}'\ndigest = [\"sha256:{}\"]\n", digest(7))
        }).collect();
        let manifest = parse(&section);
        prop_assert_eq!(Manifest::parse(&manifest.render()).unwrap(), manifest);
    }
}
