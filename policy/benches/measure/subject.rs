//! A boot to be appraised: its evidence, signed by a test key, and a release that approves it.

use std::collections::BTreeSet;
use std::num::NonZeroU8;

use policy::appraisal::claims::LeastClaims;
use policy::appraisal::measurements::Measurements;
use policy::appraisal::policy::{Mode, ZonePolicy};
use policy::appraisal::{AttestationResult, Verdict, appraise};
use policy::digest::Digest;
use policy::eventlog::ima::state::ImaState;
use policy::evidence::verify::{Challenged, VerifiedEvidence, verify};
use policy::evidence::{Evidence, HardwareProof, Quote};
use policy::reference::ReferenceValues;
use policy::reference::dsse::{Envelope, SignedRelease, Unsigned};
use policy::reference::keys::{ReleaseKey, ReleaseKeys};
use policy::reference::learn::{Lesson, learn};
use policy::reference::manifest::Manifest;
use policy::reference::state::ReleaseState;
use policy::time::UnixTime;
use policy::tpm::alg::HashAlg;
use policy::tpm::pcr::{PcrSelection, PcrValues};
use policy::tpm::public::AttestationKey;
use rcgen::{PKCS_ED25519, PublicKeyData, SigningKey};

use super::signer::Signer;
use super::tpm;

const NOW: UnixTime = UnixTime(1_800_000_000);

/// A boot and everything that it is judged by.
pub(crate) struct Subject {
    pub(crate) evidence: Evidence,
    pub(crate) signer: Signer,
    /// How far the IMA list was accepted before.
    pub(crate) accepted: Option<ImaState>,
    ak: AttestationKey,
    reference: ReferenceValues,
    policy: ZonePolicy,
}

impl Subject {
    /// A device whose TPM holds `pcrs`, and a release learned from it. `rules` are more sections of that.
    pub(crate) fn new(signer: Signer, pcrs: PcrValues, firmware_log: Vec<u8>, rules: &str) -> Self {
        let evidence = Evidence {
            quote: quote(&signer, &pcrs),
            pcrs,
            firmware_log,
            ima: None,
            userspace_log: None,
            image_log: None,
        };
        let (ak, reference) = (signer.ak(), ReferenceValues::new());
        let mut subject = Self { evidence, signer, accepted: None, ak, reference, policy: policy() };
        let verified = subject.verify();
        let lesson = Lesson { id: "edge@1".parse().unwrap(), counter: 1, one_of: false };
        let learned = learn(&[Measurements::from(&verified).into()], lesson).unwrap();
        let manifest = Manifest::parse(&(learned.manifest.render() + rules)).unwrap();
        subject.reference.insert(signed(&manifest), ReleaseState::Active).unwrap();
        subject
    }

    pub(crate) fn verify(&self) -> VerifiedEvidence {
        let challenged = Challenged {
            ak: &self.ak,
            qualifying_data: tpm::QUALIFYING_DATA,
            selection: PcrSelection::quoted(self.evidence.pcrs.bank()),
            hardware: HardwareProof::Endorsed,
            ima: self.accepted.as_ref(),
        };
        verify(&self.evidence, &challenged).unwrap()
    }

    pub(crate) fn verify_and_appraise(&self) -> AttestationResult {
        let result = appraise(&self.verify(), &self.reference, &self.policy, NOW);
        assert_eq!(result.record().verdict, Verdict::Affirming, "{:?}", result.record().findings);
        result
    }
}

/// A quote of these values in answer to the challenge.
pub(crate) fn quote(signer: &Signer, pcrs: &PcrValues) -> Quote {
    let selection = PcrSelection::quoted(pcrs.bank());
    let digest = pcrs.quote_digest(&selection, HashAlg::Sha256).unwrap();
    let body = tpm::quote_info(&[(pcrs.bank().id(), selection.bitmap())], digest.as_bytes());
    let extra_data = tpm::QUALIFYING_DATA.to_vec();
    let attest = tpm::Forged { magic: 0xff54_4347, kind: 0x8018, extra_data, body }.bytes();
    Quote { signature: signer.sign(&attest), attest }
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
