//! Folders of evidence: recorded boots, and quotes by a key that no TPM holds.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot write its evidence has failed"
)]

use std::fs;
use std::path::{Path, PathBuf};

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use policy::evidence::offline::PcrTable;
use policy::tpm::alg::HashAlg;
use tempfile::TempDir;

use crate::tool::{self, Ran};

/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, sign.
pub(crate) const AK_ATTRIBUTES: u32 = 0x0005_0472;
pub(crate) const NONCE: &[u8] = b"chosen by whoever asked";
pub(crate) const MAGIC: u32 = 0xff54_4347;
pub(crate) const QUOTE: u16 = 0x8018;

/// A folder that a test may spoil.
pub(crate) struct Evidence(TempDir);

impl Evidence {
    /// A copy of a recorded boot, PCRs as they were written down.
    pub(crate) fn of(boot: &str) -> Self {
        let evidence = Self(tempfile::tempdir().unwrap());
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/measured-boot").join(boot);
        for name in ["eventlog.bin", "pcrs.txt"] {
            evidence.write(name, &fs::read(from.join(name)).unwrap());
        }
        evidence
    }

    /// A folder without files.
    pub(crate) fn empty() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn folder(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> &Self {
        fs::write(self.path(name), bytes).unwrap();
        self
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    pub(crate) fn remove(&self, name: &str) -> &Self {
        fs::remove_file(self.path(name)).unwrap();
        self
    }

    /// Keeps those lines of pcrs.txt that begin with one of these.
    pub(crate) fn keep_pcrs(&self, beginnings: &[&str]) -> &Self {
        let text = String::from_utf8(self.read("pcrs.txt")).unwrap();
        let kept = text.lines().filter(|line| beginnings.iter().any(|beginning| line.starts_with(beginning)));
        self.write("pcrs.txt", kept.map(|line| format!("{line}\n")).collect::<String>().as_bytes())
    }

    /// Adds an honest quote of every sha256 PCR that is written down; returns the key.
    pub(crate) fn quote(&self) -> Key {
        let key = Key::new();
        self.write("ak.pub", &tpm2b(&key.area(AK_ATTRIBUTES))).write("nonce.bin", NONCE);
        self.sign(&key, &self.attest(MAGIC, QUOTE, NONCE));
        key
    }

    /// Writes an attest with the key's signature.
    pub(crate) fn sign(&self, key: &Key, attest: &[u8]) {
        self.write("quote.bin", attest).write("quote.sig", &key.sign(attest));
    }

    /// `TPMS_ATTEST` of the sha256 values that are written down.
    pub(crate) fn attest(&self, magic: u32, kind: u16, extra_data: &[u8]) -> Vec<u8> {
        let table = PcrTable::parse(&self.read("pcrs.txt")).unwrap();
        let values: Vec<u8> = table
            .values(HashAlg::Sha256)
            .into_iter()
            .flat_map(|values| values.iter().flat_map(|(_, value)| value.as_bytes().to_vec()))
            .collect();
        let digest = HashAlg::Sha256.hash(&[&values]);
        let bitmap = table.selection(HashAlg::Sha256).bitmap();
        attest(magic, kind, extra_data, &[(0x000b, bitmap)], digest.as_bytes())
    }

    /// Learns a manifest from the folder, and says where it is.
    pub(crate) fn learned(&self) -> String {
        let out = self.path("golden.toml");
        let out = out.to_str().unwrap().to_owned();
        let ran = tool::run(&[
            "golden",
            "learn",
            "--from-evidence",
            self.folder(),
            "--product",
            "edge",
            "--out",
            &out,
        ]);
        assert_eq!(ran.code, 0, "{ran:?}");
        out
    }

    /// Appraises the folder against a manifest, with JSON.
    pub(crate) fn appraise(&self, golden: &str, rest: &[&str]) -> Ran {
        let line = ["appraise", "--evidence", self.folder(), "--golden", golden, "-o", "json"];
        tool::run(&[&line, rest].concat())
    }
}

pub(crate) fn tpm2b(bytes: &[u8]) -> Vec<u8> {
    let mut out = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    out.extend_from_slice(bytes);
    out
}

/// `TPMS_ATTEST` with these selections and this digest.
pub(crate) fn attest(
    magic: u32,
    kind: u16,
    extra_data: &[u8],
    selections: &[(u16, [u8; 3])],
    digest: &[u8],
) -> Vec<u8> {
    let mut out = magic.to_be_bytes().to_vec();
    out.extend(kind.to_be_bytes());
    out.extend(tpm2b(&[0x00, 0x0b, 0x11]));
    out.extend(tpm2b(extra_data));
    // clock, resetCount, restartCount, safe, firmwareVersion
    out.extend([0; 8 + 4 + 4]);
    out.push(1);
    out.extend([0; 8]);
    out.extend(u32::try_from(selections.len()).unwrap().to_be_bytes());
    for (bank, bitmap) in selections {
        out.extend(bank.to_be_bytes());
        out.push(3);
        out.extend(bitmap);
    }
    out.extend(tpm2b(digest));
    out
}

/// A P-256 key that signs whatever it is given, as no TPM would.
pub(crate) struct Key(EcdsaKeyPair);

impl Key {
    pub(crate) fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    /// `TPMT_PUBLIC`, bound to ECDSA with SHA-256.
    pub(crate) fn area(&self, attributes: u32) -> Vec<u8> {
        let mut out = vec![0x00, 0x23, 0x00, 0x0b];
        out.extend(attributes.to_be_bytes());
        out.extend([0, 0, 0x00, 0x10, 0x00, 0x18, 0x00, 0x0b, 0x00, 0x03, 0x00, 0x10]);
        let (x, y) = self.0.public_key().as_ref()[1..].split_at(32);
        out.extend(tpm2b(x));
        out.extend(tpm2b(y));
        out
    }

    /// The key alone, as openssl writes it.
    pub(crate) fn pem(&self) -> String {
        let der: PublicKeyX509Der<'_> = self.0.public_key().as_der().unwrap();
        format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            BASE64_STANDARD.encode(der.as_ref())
        )
    }

    /// `TPMT_SIGNATURE` over `message`.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let raw = self.0.sign(&SystemRandom::new(), message).unwrap();
        let (r, s) = raw.as_ref().split_at(32);
        let mut out = vec![0x00, 0x18, 0x00, 0x0b];
        out.extend(tpm2b(r));
        out.extend(tpm2b(s));
        out
    }
}
