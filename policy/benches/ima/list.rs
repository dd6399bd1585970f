//! IMA lists as a busy device writes them, the release that approves them, and the least work that they take.

use aws_lc_rs::digest::{Digest, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256};
use policy::eventlog::ima::list::ImaList;
use policy::eventlog::ima::template::Fields;
use policy::tpm::alg::HashAlg;
use rcgen::{KeyPair, PKCS_RSA_SHA256, PublicKeyData, SigningKey};

use crate::ima::{Device, Written, aggregate, d_ng, n_ng, record, sha256};
use crate::measure::floor::{Pcr, extend};
use crate::measure::tpm;

/// Files that the release lists one by one: as many as a manifest holds beside everything else. The others lie
/// below folders that it excludes.
const LISTED: usize = 2500 / crate::SCALE;
/// Length of an RSA 2048 signature with its header (`struct signature_v2_hdr`).
const SIGNATURE: usize = 9 + 256;

/// A device that booted and measured these many files, of both common templates.
pub(crate) fn device(files: usize) -> Device {
    of((1..files).map(measured).collect())
}

/// A device that booted and measured these files.
pub(crate) fn of(files: Vec<Written>) -> Device {
    let booted = tpm::pcrs_after(&tpm::boot(), HashAlg::Sha256, 0);
    Device::with(booted.clone(), [vec![aggregate(&booted)], files].concat())
}

/// The file that is measured as the n-th. Every other one has a signature, which nobody need verify.
pub(crate) fn measured(n: usize) -> Written {
    let path = path(n);
    let fields = [d_ng(&sha256(path.as_bytes())), n_ng(&path)];
    match n % 2 {
        0 => record("ima-ng", &fields),
        _ => record("ima-sig", &[fields.as_slice(), &[vec![0x5a; SIGNATURE]]].concat()),
    }
}

fn path(n: usize) -> String {
    let layer = sha256(&(n / 5000).to_be_bytes());
    match n {
        ..LISTED => format!("/usr/lib/x86_64-linux-gnu/plant/module-{n:05}.so.4.2"),
        _ => format!(
            "/var/lib/containers/storage/overlay/{layer}/diff/usr/lib/python3/dist-packages/app/{n:05}.py"
        ),
    }
}

/// The section of the release that approves [`device`].
pub(crate) fn rules() -> String {
    let rule = |n| {
        let path = path(n);
        format!("[[ima.file]]\npath = \"{path}\"\ndigest = [\"sha256:{}\"]\n", sha256(path.as_bytes()))
    };
    let exclude =
        r#"exclude = ["/tmp/**", "/run/**", "/var/log/**", "/var/lib/docker/**", "/var/lib/containers/**"]"#;
    format!("[ima]\n{exclude}\n") + &(1..LISTED).map(rule).collect::<String>()
}

/// The hashes of a list: of each record's data in both banks, and the extend of one.
pub(crate) struct ListFloor<'a>(Vec<&'a [u8]>);

impl<'a> ListFloor<'a> {
    pub(crate) fn of(list: &'a [u8]) -> Self {
        Self(ImaList::parse(list, 0).unwrap().records().map(|record| record.unwrap().data).collect())
    }

    /// Of the classic list, whose stated digests are SHA-1.
    pub(crate) fn compute(&self) -> (Pcr, u8) {
        let mut folded = 0;
        let pcr = self.compute_own();
        for data in &self.0 {
            folded ^= digest(&SHA1_FOR_LEGACY_USE_ONLY, data).as_ref()[0];
        }
        (pcr, folded)
    }

    /// Of the list of the bank itself, whose stated digests are those that are extended.
    pub(crate) fn compute_own(&self) -> Pcr {
        let mut pcr = Pcr::default();
        for data in &self.0 {
            extend(&mut pcr, digest(&SHA256, data).as_ref());
        }
        pcr
    }
}

/// A key whose signatures vouch for files.
pub(crate) struct Vendor {
    key: KeyPair,
    verifier: ParsedPublicKey,
}

impl Vendor {
    pub(crate) fn rsa() -> Self {
        let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        let verifier = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.der_bytes()).unwrap();
        Self { key, verifier }
    }

    pub(crate) fn p256() -> Self {
        let key = KeyPair::generate().unwrap();
        let verifier = ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.der_bytes()).unwrap();
        Self { key, verifier }
    }

    /// A file that is signed, in version 2 of the header.
    pub(crate) fn signed(&self, n: usize) -> Written {
        let (path, id) = (path(n), HashAlg::Sha1.hash(&[self.key.der_bytes()]));
        let signature = self.key.sign(path.as_bytes()).unwrap();
        let len = u16::try_from(signature.len()).unwrap().to_be_bytes();
        let value = [&[3, 2, 4], &id.as_bytes()[16..], &len, &signature].concat();
        record("ima-sig", &[d_ng(&sha256(path.as_bytes())), n_ng(&path), value])
    }

    pub(crate) fn rules(&self) -> String {
        format!("[ima]\nkeys = [\"\"\"\n{}\"\"\"]\n", self.key.public_key_pem())
    }

    /// The check of the signatures of these files alone.
    pub(crate) fn check(&self, files: &[(Digest, Vec<u8>)]) {
        for (digest, signature) in files {
            self.verifier.verify_digest_sig(digest, signature).unwrap();
        }
    }
}

/// The digests of files and their signatures without header.
pub(crate) fn signatures(list: &[u8]) -> Vec<(Digest, Vec<u8>)> {
    let signature = |fields: Fields<'_>| {
        let digest = Digest::import_less_safe(fields.digest?.value.as_bytes(), &SHA256).unwrap();
        Some((digest, fields.signature?.get(9..)?.to_vec()))
    };
    let records = ImaList::parse(list, 0).unwrap().records();
    records.filter_map(|record| signature(record.unwrap().fields)).collect()
}
