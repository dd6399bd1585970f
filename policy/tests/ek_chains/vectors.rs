//! EK certificates of real TPMs against the certificates of their manufacturers.
//!
//! The files are other people's and stay outside the project: see the README beside them.
#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "these tests read vectors from files")]

use std::path::PathBuf;

use policy::evidence::endorsement::{
    EndorsedEk, EndorsementError, RootStore, ValidityPolicy, describe, endorse,
};
use policy::time::UnixTime;
use policy::x509::signature::SignatureError;
use policy::x509::{SubjectKey, name, readout, signature};

struct Vectors {
    folder: PathBuf,
    roots: RootStore,
}

impl Vectors {
    /// The vectors, or nothing where the folder is absent.
    fn open() -> Option<Self> {
        let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors"));
        let folder = std::env::var_os("TOUCHSTONE_VECTORS").map_or_else(beside, PathBuf::from);
        if !folder.is_dir() {
            eprintln!("skipped: no third-party vectors");
            return None;
        }
        let mut roots = RootStore::new();
        for entry in std::fs::read_dir(folder.join("ek-roots")).unwrap() {
            let path = entry.unwrap().path();
            let label = path.file_name().unwrap().to_string_lossy().into_owned();
            roots.add(&label, &std::fs::read(&path).unwrap()).unwrap();
        }
        Some(Self { folder, roots })
    }

    fn read(&self, file: &str) -> Vec<u8> {
        std::fs::read(self.folder.join("ek").join(file)).unwrap()
    }

    fn endorse(&self, file: &str, at: &str, policy: ValidityPolicy) -> Result<EndorsedEk, EndorsementError> {
        let at: UnixTime = at.parse().unwrap();
        endorse(&self.read(file), &[], &self.roots, at, policy)
    }
}

const THEN: &str = "2023-06-01T00:00:00Z";
const GOOGLE: &str =
    r"CN=tpm_ek_v1_cloud_host_root-signer-0-2018-04-06T10:58:26-07:00 K:1\, 1:Pw003HsFYO4:0:18,OU=Cloud";

/// What is expected of one file; digests are those that `openssl pkey -pubin -outform der | sha256sum` prints.
struct Chained {
    file: &'static str,
    tpm: [&'static str; 3],
    root: &'static str,
    length: usize,
    digest: &'static str,
}

const CHAINED: [Chained; 6] = [
    Chained {
        file: "google-vtpm-ecc.pem",
        tpm: ["Google", "vTPM", "8214.1297"],
        root: GOOGLE,
        length: 3,
        digest: "d3f48aa2c0e27fefa3a56469d523b53a3d735f5a92ae6b65c5bf81d358f7833a",
    },
    Chained {
        file: "google-vtpm-rsa.pem",
        tpm: ["Google", "vTPM", "8214.1297"],
        root: GOOGLE,
        length: 3,
        digest: "88c7ebc77b2f821015ebfe97b94b217f29cfdb52fc4e43540b625188f0157457",
    },
    Chained {
        file: "infineon-rsa-029.der",
        tpm: ["Infineon", "SLB 9665", "5.62"],
        root: "CN=Infineon OPTIGA(TM) RSA Root CA,OU=OPTIGA(TM) Devices",
        length: 3,
        digest: "b9fdc5891694bbbdfdd2e2160d26a7617479edb84b9cd574e95e2fb85a9b87ab",
    },
    Chained {
        file: "nuvoton-set-order.der",
        tpm: ["Nuvoton", "NPCT75x", "7.2"],
        root: "C=TW+CN=Nuvoton TPM Root CA 2111",
        length: 2,
        digest: "55b8de383e7bd1cf1f3975d0f3dddecb65a35ae11526c5a615a9ae08489fcc2d",
    },
    Chained {
        file: "stm-06-critical-policies.der",
        tpm: ["STMicroelectronics", "ST33HTPHAHD8", "1.258"],
        root: "CN=GlobalSign Trusted Platform Module Root CA,O=GlobalSign",
        length: 4,
        digest: "3ba1ab076495d3b59acfea473f06986ee1da2626fc24204939d23911ecab8aa4",
    },
    Chained {
        file: "stm-rsaes-oaep-7-byte-header.bin",
        tpm: ["STMicroelectronics", "ST33ZP24PVSP", "13.12"],
        root: "CN=GlobalSign Trusted Platform Module Root CA,O=GlobalSign",
        length: 4,
        digest: "66b3b647112423c4775d5d15bc8bd2ef75e0ae70e1a5aba10891e0c382ad9d31",
    },
];

#[test]
fn certificates_of_known_manufacturers_chain_to_their_roots() {
    let Some(vectors) = Vectors::open() else { return };
    for expected in CHAINED {
        let ek = vectors.endorse(expected.file, THEN, ValidityPolicy::AtTime).expect(expected.file);
        let tpm = [ek.manufacturer().to_string(), ek.model().to_owned(), ek.version().to_string()];
        assert_eq!(tpm, expected.tpm, "{}", expected.file);
        assert!(ek.root_subject().starts_with(expected.root), "{}: {}", expected.file, ek.root_subject());
        assert_eq!(ek.chain_length(), expected.length, "{}", expected.file);
        assert_eq!(ek.digest().hex(), expected.digest, "{}", expected.file);
    }
}

#[test]
fn an_issuer_outside_the_set_is_named() {
    let Some(vectors) = Vectors::open() else { return };
    let error = vectors.endorse("nv-trailing-padding.bin", THEN, ValidityPolicy::AtTime).unwrap_err();
    assert_eq!(
        error.to_string(),
        "issuer `C=TW+CN=Nuvoton TPM Root CA 2010+O=Nuvoton Technology Corporation` of \
         `serial 00e9baeb65d9d54492` is not among the roots: add its certificate"
    );
}

#[test]
fn a_leaf_that_was_signed_with_sha_1_before_2017_is_endorsed_and_says_so() {
    let Some(vectors) = Vectors::open() else { return };
    let known = |ek: &EndorsedEk| ek.advisories().iter().map(|advisory| advisory.id).collect::<Vec<_>>();
    let file = "stm-rsaes-oaep-7-byte-header.bin";
    let old = vectors.endorse(file, THEN, ValidityPolicy::AtTime).unwrap();
    assert_eq!(known(&old), ["SHA-1"]);
    assert_eq!(describe(&vectors.read(file)).unwrap().advisories, ["SHA-1"]);

    // One byte of its signature, its last, is another.
    let mut forged = readout::certificate_in(&vectors.read(file)).unwrap().into_owned();
    *forged.last_mut().unwrap() ^= 1;
    let at = THEN.parse().unwrap();
    let error = endorse(&forged, &[], &vectors.roots, at, ValidityPolicy::AtTime).unwrap_err();
    assert!(matches!(&error, EndorsementError::Signature { source: SignatureError::Wrong, .. }), "{error}");

    // It ended in 2024.
    let error = vectors.endorse(file, "2026-01-01T00:00:00Z", ValidityPolicy::AtTime).unwrap_err();
    assert!(matches!(error, EndorsementError::Expired { .. }), "{error}");
    vectors.endorse(file, "2026-01-01T00:00:00Z", ValidityPolicy::AtLeafNotBefore).unwrap();

    let new = vectors.endorse("stm-06-critical-policies.der", THEN, ValidityPolicy::AtTime).unwrap();
    assert!(!known(&new).contains(&"SHA-1"));
}

#[test]
fn an_oaep_typed_key_has_the_digest_of_the_plain_key() {
    let Some(vectors) = Vectors::open() else { return };
    let description = describe(&vectors.read("stm-rsaes-oaep-7-byte-header.bin")).unwrap();
    assert_eq!((description.key_type, description.key_size.as_deref()), (Some("rsa"), Some("2048")));
    assert_eq!(
        description.ek_digest.unwrap().hex(),
        "66b3b647112423c4775d5d15bc8bd2ef75e0ae70e1a5aba10891e0c382ad9d31"
    );
}

#[test]
fn validity_is_held_against_the_time_that_the_policy_says() {
    let Some(vectors) = Vectors::open() else { return };
    let file = "infineon-rsa-029.der";
    let late = "2044-01-01T00:00:00Z";
    let error = vectors.endorse(file, late, ValidityPolicy::AtTime).unwrap_err();
    assert!(
        matches!(&error, EndorsementError::Expired { certificate, .. } if certificate == "serial 10ea3194")
    );
    vectors.endorse(file, late, ValidityPolicy::AtLeafNotBefore).unwrap();

    for policy in [ValidityPolicy::AtTime, ValidityPolicy::AtLeafNotBefore] {
        let error = vectors.endorse(file, "2020-01-01T00:00:00Z", policy).unwrap_err();
        assert!(matches!(error, EndorsementError::NotYetValid { .. }), "{error}");
    }
}

#[test]
fn every_certificate_of_the_set_is_read_and_sorted() {
    let Some(vectors) = Vectors::open() else { return };
    assert_eq!((vectors.roots.anchors(), vectors.roots.intermediates()), (25, 149));
}

/// The signature of every intermediate holds over its bytes under some certificate of the set; one issuer, the
/// root of AMD's Pluton factory, is not public.
#[test]
fn every_intermediate_is_signed_by_its_issuer() {
    let Some(vectors) = Vectors::open() else { return };
    let mut ders = Vec::new();
    for entry in std::fs::read_dir(vectors.folder.join("ek-roots")).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        match policy::x509::pem::certificates(&bytes) {
            Ok(many) => ders.extend(many),
            Err(_) => ders.push(readout::certificate_in(&bytes).unwrap().into_owned()),
        }
    }
    let all: Vec<_> = ders.iter().map(|der| policy::x509::Certificate::parse(der).unwrap()).collect();
    let mut orphans = Vec::new();
    for certificate in &all {
        SubjectKey::parse(certificate.spki()).unwrap().validate().unwrap();
        let mut issuers = all
            .iter()
            .filter(|issuer| name::comparable(issuer.subject()) == name::comparable(certificate.issuer()));
        if !issuers.any(|issuer| signature::verify(certificate, issuer).is_ok()) {
            orphans.push(certificate.label());
        }
    }
    let [orphan] = orphans.as_slice() else { panic!("{orphans:#?}") };
    assert!(orphan.starts_with("CN=AMD Pluton Global Factory ICA"), "{orphan}");
}

#[test]
fn a_description_needs_no_root() {
    let Some(vectors) = Vectors::open() else { return };
    let description = describe(&vectors.read("nv-trailing-padding.bin")).unwrap();
    let json = serde_json::to_value(&description).unwrap();
    assert_eq!(json["issuer"], "C=TW+CN=Nuvoton TPM Root CA 2010+O=Nuvoton Technology Corporation");
    assert_eq!(json["manufacturer"], "Nuvoton");
    assert_eq!(json["model"], "NPCT6xx");
    assert_eq!(json["key_type"], "rsa");
    assert_eq!(json["not_after"], "2036-05-18T20:29:53Z");
}
