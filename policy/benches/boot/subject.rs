//! A boot to be appraised: its evidence, signed by a test key, and a release learned from it.

use std::collections::BTreeSet;
use std::num::NonZeroU8;

use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, UnparsedPublicKey};
use policy::appraisal::claims::LeastClaims;
use policy::appraisal::measurements::Measurements;
use policy::appraisal::policy::{Mode, ZonePolicy};
use policy::digest::Digest;
use policy::eventlog::tcg::EventLog;
use policy::evidence::verify::{Challenged, verify};
use policy::evidence::{Evidence, HardwareProof, Quote};
use policy::reference::ReferenceValues;
use policy::reference::dsse::{Envelope, SignedRelease, Unsigned};
use policy::reference::keys::{ReleaseKey, ReleaseKeys};
use policy::reference::learn::learn;
use policy::reference::manifest::Manifest;
use policy::reference::state::ReleaseState;
use policy::time::UnixTime;
use policy::tpm::alg::{HashAlg, HashValue};
use policy::tpm::pcr::{PcrSelection, PcrValues};
use policy::tpm::public::AttestationKey;
use rcgen::{PKCS_ED25519, PublicKeyData, SigningKey};

use crate::rig;

pub(crate) const NOW: UnixTime = UnixTime(1_800_000_000);

/// An attestation key of a test, and its floor: one check of its signature by the library.
pub(crate) enum Signer {
    P256(rig::Key),
    Rsa(Box<RsaKeyPair>),
}

impl Signer {
    pub(crate) fn p256() -> Self {
        Self::P256(rig::Key::new())
    }

    pub(crate) fn rsa() -> Self {
        Self::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()))
    }

    /// How many times the floor verification and appraisal may take.
    fn promised(&self) -> f64 {
        match self {
            Self::P256(_) => 2.0,
            Self::Rsa(_) => 3.0,
        }
    }

    fn ak(&self) -> AttestationKey {
        match self {
            Self::P256(key) => key.ak(),
            Self::Rsa(key) => AttestationKey::accept(&rsa_public(key)).unwrap(),
        }
    }

    /// `TPMT_SIGNATURE` over `message`.
    #[expect(clippy::disallowed_types, reason = "the test key needs randomness to sign")]
    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::P256(key) => key.sign(message),
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                let random = aws_lc_rs::rand::SystemRandom::new();
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                [&[0x00, 0x14, 0x00, 0x0b][..], &rig::tpm2b(&signature)].concat()
            }
        }
    }

    /// The check of a signature as the library does it alone, given the parts of a `TPMT_SIGNATURE`.
    fn check(&self, message: &[u8], tpmt_signature: &[u8]) {
        match self {
            Self::P256(key) => {
                let signature = policy::tpm::signature::Signature::parse(tpmt_signature).unwrap();
                let policy::tpm::signature::Signature::Ecdsa { r, s, .. } = signature else {
                    panic!("ECDSA")
                };
                let fixed = [r, s].concat();
                UnparsedPublicKey::new(&aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED, key.point())
                    .verify(message, &fixed)
                    .unwrap();
            }
            Self::Rsa(key) => UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key().as_ref())
                .verify(message, &tpmt_signature[6..])
                .unwrap(),
        }
    }
}

/// `TPMT_PUBLIC` of a restricted RSASSA key.
fn rsa_public(key: &RsaKeyPair) -> Vec<u8> {
    let modulus = key.public_key().modulus().big_endian_without_leading_zero();
    let mut out = vec![0x00, 0x01, 0x00, 0x0b];
    out.extend(rig::AK_ATTRIBUTES.to_be_bytes());
    out.extend(rig::tpm2b(&[]));
    out.extend([0x00, 0x10, 0x00, 0x14, 0x00, 0x0b]);
    out.extend(2048_u16.to_be_bytes());
    out.extend(0_u32.to_be_bytes());
    out.extend(rig::tpm2b(modulus));
    out
}

/// A boot and everything that it is judged by.
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    pub(crate) evidence: Evidence,
    pub(crate) reference: ReferenceValues,
    pub(crate) policy: ZonePolicy,
    pub(crate) promised: f64,
    ak: AttestationKey,
    signer: Signer,
}

impl Subject {
    /// A recorded boot of this project.
    pub(crate) fn recorded(name: &'static str, signer: Signer) -> Self {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/measured-boot/boot-a");
        let read = |file| read(&format!("{folder}/{file}"));
        let mut pcrs = PcrValues::new(HashAlg::Sha256);
        for line in String::from_utf8(read("pcrs.txt")).unwrap().lines() {
            let [bank, index, value] = line.split(':').collect::<Vec<_>>()[..] else { panic!("{line}") };
            if bank == "sha256" && index.parse::<u32>().unwrap() < 16 {
                let value = HashValue::new(HashAlg::Sha256, &hex::decode(value).unwrap()).unwrap();
                pcrs.set(rig::pcr(index.parse().unwrap()), value);
            }
        }
        Self::new(name, signer, pcrs, read("eventlog.bin"))
    }

    /// An honest boot of 120 events, many of a boot loader that measures each line of its script.
    pub(crate) fn long(name: &'static str, signer: Signer) -> Self {
        let mut events = rig::boot();
        for line in events.len()..120 {
            let text = format!("grub_cmd: search --no-floppy --fs-uuid --set=root line {line}");
            events.push(rig::event(8, 0x0d, text.as_bytes()));
        }
        let pcrs = rig::pcrs_after(&events, HashAlg::Sha256, 0);
        Self::new(name, signer, pcrs, rig::write_log(&events))
    }

    fn new(name: &'static str, signer: Signer, pcrs: PcrValues, firmware_log: Vec<u8>) -> Self {
        let selection = PcrSelection::quoted(pcrs.bank());
        let digest = pcrs.quote_digest(&selection, HashAlg::Sha256).unwrap();
        let body = rig::quote_info(&[(pcrs.bank().id(), selection.bitmap())], digest.as_bytes());
        let extra_data = rig::QUALIFYING_DATA.to_vec();
        let attest = rig::Forged { magic: 0xff54_4347, kind: 0x8018, extra_data, body }.bytes();
        let quote = Quote { signature: signer.sign(&attest), attest };
        let evidence = Evidence { quote, pcrs, firmware_log };
        let mut subject = Self {
            name,
            promised: signer.promised(),
            ak: signer.ak(),
            signer,
            evidence,
            reference: ReferenceValues::new(),
            policy: policy(),
        };
        let verified = verify(&subject.evidence, &subject.challenged()).unwrap();
        let learned =
            learn(&[Measurements::from(&verified)], "edge".parse().unwrap(), "1".parse().unwrap(), 1)
                .unwrap();
        subject.reference.insert(signed(&learned.manifest), ReleaseState::Active).unwrap();
        subject
    }

    pub(crate) fn challenged(&self) -> Challenged<'_> {
        Challenged {
            ak: &self.ak,
            qualifying_data: rig::QUALIFYING_DATA,
            selection: PcrSelection::quoted(self.evidence.pcrs.bank()),
            hardware: HardwareProof::Endorsed,
        }
    }

    /// The digests that were extended, with their PCRs.
    pub(crate) fn digests(&self) -> Vec<(usize, Vec<u8>)> {
        let log = EventLog::parse(&self.evidence.firmware_log).unwrap();
        let of = |event: &policy::eventlog::tcg::Event<'_>| {
            let digest = event.digest(HashAlg::Sha256)?;
            Some((usize::from(event.pcr?.number()), digest.as_bytes().to_vec()))
        };
        log.events().iter().filter(|event| event.event_type.0 != 3).filter_map(of).collect()
    }

    /// The hash of the log's bytes and one extend for each event.
    pub(crate) fn floor_of_log(&self, digests: &[(usize, Vec<u8>)]) -> Vec<Vec<u8>> {
        let hash = |parts: &[&[u8]]| {
            let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
            parts.iter().for_each(|part| context.update(part));
            context.finish().as_ref().to_vec()
        };
        let mut values = vec![vec![0; 32]; 24];
        for (pcr, digest) in digests {
            values[*pcr] = hash(&[&values[*pcr], digest]);
        }
        values.push(hash(&[&self.evidence.firmware_log]));
        values
    }

    /// The check of the quote's signature.
    pub(crate) fn floor_of_signature(&self) {
        self.signer.check(&self.evidence.quote.attest, &self.evidence.quote.signature);
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads its vectors")]
fn read(path: &str) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

fn policy() -> ZonePolicy {
    ZonePolicy {
        zone: "cell-3".parse().unwrap(),
        products: BTreeSet::from(["edge".parse().unwrap()]),
        least: LeastClaims::default(),
        mode: Mode::Enforce,
    }
}

fn signed(manifest: &Manifest) -> SignedRelease {
    let key = rcgen::KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let spki = key.subject_public_key_info();
    let release_key = ReleaseKey::from_spki(&spki, [manifest.product().clone()].into()).unwrap();
    let keys = ReleaseKeys::new(vec![release_key], NonZeroU8::MIN).unwrap();
    let unsigned = Unsigned::new(manifest);
    let signature = key.sign(&unsigned.to_be_signed()).unwrap();
    Envelope::new(&unsigned, &[(Digest::of(&spki), signature)]).verify(&keys).unwrap()
}
