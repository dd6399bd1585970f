//! From a `CompleteRequest` to [`Proven`]: everything that cryptography alone decides.
//!
//! Whoever holds a `Proven` knows that one TPM answered this challenge, with this statement, having
//! booted what the log says, and that each identity key lives in that same TPM. Or, where the session began without a
//! TPM (`keyed`), that the holder of one key did, who holds the next and each identity key too.

mod keyed;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use policy::appraisal::Prover;
use policy::cause::chain;
use policy::digest::Digest;
use policy::eventlog::ima::verify::ImaPart;
use policy::evidence::device_key::KeyProof;
use policy::evidence::endorsement::{BoundEk, RootStore, ValidityPolicy, endorse};
use policy::evidence::flaw::{AttestingTpm, flaws};
use policy::evidence::identity::CertifiedKey;
use policy::evidence::software_key::SoftwareKey;
use policy::evidence::verify::{Challenged, EvidenceError, VerifiedEvidence, verify};
use policy::evidence::{Evidence, HardwareProof, Purpose as Use, Quote, qualifying_data};
use policy::id::{DeviceName, ZoneName};
use policy::time::UnixTime;
use policy::tpm::alg::HashValue;
use policy::tpm::attest::Attest;
use policy::tpm::clock::ClockInfo;
use policy::tpm::pcr::{PcrSelection, PcrValues};
use policy::tpm::public::{AttestationKey, EkPublic};
use policy::tpm::signature::Signature;
use policy::x509::request::Request;
use policy::zone::Role;
use proto::v1;
use rcgen::{CertificateSigningRequestParams, PublicKeyData};
use rustls::pki_types::CertificateSigningRequestDer;

use super::challenge::{Challenge, Door, Purpose};
use super::idevid::{self, Shown};
use super::statement::{BoundStatement, key_purpose};
use super::{Refusal, software};
use crate::plant::Plant;
use crate::record::device::{MAX_OTHER_EKS, MAX_ZONES, Tpm, ek_key};
use crate::record::{Held, fetch};

/// Largest CSR: a P-256 request without extensions has some 250 bytes.
const MAX_CSR: usize = 4096;

/// A device's own key, where it lives.
#[derive(Debug)]
pub enum OwnKey {
    /// In its TPM.
    Tpm(CertifiedKey),
    /// In software, of a device without one.
    Software(SoftwareKey),
}

impl OwnKey {
    /// SHA-256 of the key's SubjectPublicKeyInfo.
    pub fn spki_digest(&self) -> Digest {
        match self {
            Self::Tpm(key) => key.spki_digest(),
            Self::Software(key) => key.spki_digest(),
        }
    }
}

/// An identity key that is to be certified.
#[derive(Debug)]
pub struct ProvenKey {
    /// The zone it is for.
    pub zone: ZoneName,
    /// The role it is for.
    pub role: Role,
    /// The key, proven to be the device's.
    pub key: OwnKey,
}

/// What answered a challenge.
#[derive(Debug)]
pub enum ProvenBy {
    /// A TPM.
    Tpm(Box<TpmProof>),
    /// A key in software.
    Key(Keyed),
}

/// What a key in software proved.
#[derive(Debug)]
pub struct Keyed {
    /// The key, and the one that follows it.
    pub proof: KeyProof,
    /// What came with it as the broker's ticket for the key; unread.
    pub ticket: Vec<u8>,
}

/// What a TPM proved.
#[derive(Debug)]
pub struct TpmProof {
    endorsement: Result<BoundEk, String>,
    ak: AttestationKey,
    ak_public: Vec<u8>,
    ek_name: Vec<u8>,
    evidence: VerifiedEvidence,
    other_eks: Vec<Digest>,
}

impl TpmProof {
    /// Why no manufacturer vouches for the EK, or the endorsement.
    pub fn endorsement(&self) -> Result<&BoundEk, &str> {
        self.endorsement.as_ref().map_err(String::as_str)
    }

    /// The AK and its public area as it came.
    pub fn ak(&self) -> (&AttestationKey, &[u8]) {
        (&self.ak, &self.ak_public)
    }

    /// Name of the EK, for an enrollment.
    pub fn ek_name(&self) -> &[u8] {
        &self.ek_name
    }

    /// What was booted.
    pub const fn evidence(&self) -> &VerifiedEvidence {
        &self.evidence
    }

    /// Further EKs that the device says its TPM has, each certified by a trusted manufacturer.
    pub fn other_eks(&self) -> &[Digest] {
        &self.other_eks
    }
}

/// What a device proved in answer to a challenge. Only [`prove`] makes it.
#[derive(Debug)]
pub struct Proven {
    challenge: Challenge,
    statement: BoundStatement,
    ek: Digest,
    tpm: Option<Held<Tpm>>,
    sealed: Vec<u8>,
    by: ProvenBy,
    idevid: Option<Shown>,
    keys: Vec<ProvenKey>,
    software_keys: Vec<software::OfferedKey>,
}

impl Proven {
    /// The challenge that was answered.
    pub const fn challenge(&self) -> &Challenge {
        &self.challenge
    }

    /// What the device says of itself.
    pub const fn statement(&self) -> &BoundStatement {
        &self.statement
    }

    /// What answered.
    pub const fn by(&self) -> &ProvenBy {
        &self.by
    }

    /// Who its manufacturer says it is, if it showed that.
    pub(super) const fn idevid(&self) -> Option<&Shown> {
        self.idevid.as_ref()
    }

    /// The name that the session began with, or that it asks for.
    pub fn asked_name(&self) -> Option<&DeviceName> {
        self.challenge.device.as_ref().or(self.statement.device.as_ref())
    }

    /// Digest of the EK, or what stands for it where there is no TPM.
    pub const fn ek(&self) -> &Digest {
        &self.ek
    }

    /// What the store knows of the TPM.
    pub const fn tpm(&self) -> Option<&Held<Tpm>> {
        self.tpm.as_ref()
    }

    /// The sealed challenge as it came: join tokens are proven over it.
    pub fn sealed(&self) -> &[u8] {
        &self.sealed
    }

    /// The keys to certify.
    pub fn keys(&self) -> &[ProvenKey] {
        &self.keys
    }

    /// The keys outside the device's own prover to certify.
    pub fn software_keys(&self) -> &[software::OfferedKey] {
        &self.software_keys
    }
}

/// Verifies everything that `request` claims.
pub async fn prove(plant: &Plant, request: &v1::CompleteRequest, door: Door) -> Result<Proven, Refusal> {
    let challenge = Challenge::open(&plant.keys.load(), plant.now(), &request.sealed)?.begun_at(door)?;
    if let Some(sent) = &request.key_proof {
        return keyed::prove(plant, request, sent, challenge.proven_by(Prover::Key)?).await;
    }
    let challenge = challenge.proven_by(Prover::Tpm)?;
    let statement = BoundStatement::bind(request, &challenge)?;
    let ek = EkPublic::parse(&request.ek_public).map_err(|e| Refusal::malformed(format!("EK: {e}")))?;
    let ak = begun_with(&challenge, request)?;
    if challenge.purpose == Purpose::Enroll {
        opened(&challenge, request, &ek)?;
    }
    let tpm: Option<Held<Tpm>> = fetch(plant.store.as_ref(), ek_key(&ek.digest())).await?;
    let endorsement = endorsed(&plant.roots, plant.now(), request, &ek);
    let idevid = idevid::shown(&plant.idevid_roots, plant.now(), request, Some(&ak));
    let hardware = match (&endorsement, &tpm) {
        (Ok(_), _) => HardwareProof::Endorsed,
        (Err(_), _) if idevid.as_ref().is_some_and(|shown| shown.bound().is_some()) => {
            HardwareProof::Endorsed
        }
        (Err(_), Some(tpm)) if tpm.record.registered => HardwareProof::Registered,
        (Err(_), _) => HardwareProof::Unproven,
    };
    let evidence = verified(request, &challenge, &ak, hardware)?;
    let attesting = AttestingTpm {
        endorsed: endorsement.as_ref().ok().map(BoundEk::endorsed),
        recorded: tpm.as_ref().and_then(|tpm| tpm.record.manufacturer()),
        ek: ek.key(),
        ak: &ak,
        firmware_version: evidence.firmware_version(),
    };
    let known = flaws(&attesting, &plant.config.tpm_deny);
    let evidence = evidence.with_flaws(known);
    let keys = certified_keys(request, &ak)?;
    let stated = &statement.software_keys;
    let software_keys = software::verified(&request.software_keys, stated, &statement.services, &keys)?;
    let other_eks = other_eks(plant, request, &statement);
    let (ak_public, ek_name) = (request.ak_public.clone(), ek.name().to_bytes());
    let by = TpmProof { endorsement, ak, ak_public, ek_name, evidence, other_eks };
    Ok(Proven {
        statement,
        ek: ek.digest(),
        tpm,
        sealed: request.sealed.clone(),
        by: ProvenBy::Tpm(Box::new(by)),
        idevid,
        keys,
        software_keys,
        challenge,
    })
}

/// Whoever sends `request` has the AK with which the session began, and answered its challenge: what it takes to be listened
/// to for longer. Nothing else is proven, but what its TPM counts.
pub(crate) fn answered(
    plant: &Plant,
    request: &v1::CompleteRequest,
    door: Door,
) -> Result<ClockInfo, Refusal> {
    let challenge = Challenge::open(&plant.keys.load(), plant.now(), &request.sealed)?.begun_at(door)?;
    let challenge = challenge.proven_by(Prover::Tpm)?;
    let ak = begun_with(&challenge, request)?;
    let invalid = |error: &dyn std::error::Error| Refusal::EvidenceInvalid(chain(error));
    Signature::parse(&request.quote_signature)
        .and_then(|signature| signature.verify(&ak, &request.quote))
        .map_err(|error| invalid(&EvidenceError::Signature(error)))?;
    let quote = Attest::parse(&request.quote).map_err(|error| invalid(&EvidenceError::Quote(error)))?;
    match quote.extra_data == qualifying_data(Use::Quote, &request.sealed, &request.statement) {
        true => Ok(quote.clock),
        false => Err(invalid(&EvidenceError::QualifyingData)),
    }
}

/// The AK of a session.
fn begun_with(challenge: &Challenge, request: &v1::CompleteRequest) -> Result<AttestationKey, Refusal> {
    let ak =
        AttestationKey::accept(&request.ak_public).map_err(|e| Refusal::malformed(format!("AK: {e}")))?;
    match ak.name().to_bytes() == challenge.ak_name.0 {
        true => Ok(ak),
        false => {
            Err(Refusal::EvidenceInvalid("the attestation key is not the one this session began with".into()))
        }
    }
}

/// The credential was opened by the TPM of the EK that the session began with.
fn opened(challenge: &Challenge, request: &v1::CompleteRequest, ek: &EkPublic) -> Result<(), Refusal> {
    if ek.name().to_bytes() != challenge.ek_name.0 {
        return Err(Refusal::EvidenceInvalid("the EK is not the one this session began with".into()));
    }
    let secret = challenge.secret.as_ref().map_or(&[][..], |secret| &secret.0);
    let wrong = || Refusal::EvidenceInvalid("the credential was not opened".into());
    if secret.is_empty() {
        return Err(wrong());
    }
    // Attempts are not counted: the secret has 256 bits and a wrong proof gives no hint.
    verify_slices_are_equal(secret, &request.credential_secret).map_err(|_| wrong())
}

pub(super) fn endorsed(
    roots: &RootStore,
    now: UnixTime,
    request: &v1::CompleteRequest,
    ek: &EkPublic,
) -> Result<BoundEk, String> {
    if request.ek_certificate.is_empty() {
        return Err("the TPM holds no EK certificate".to_owned());
    }
    let intermediates: Vec<&[u8]> = request.ek_chain.iter().map(Vec::as_slice).collect();
    endorse(&request.ek_certificate, &intermediates, roots, now, ValidityPolicy::AtTime)
        .map_err(|error| chain(&error))?
        .bind(&ek.digest())
        .map_err(|error| chain(&error))
}

/// Digests of the other EKs whose certificates hold; one that does not hold says nothing.
fn other_eks(plant: &Plant, request: &v1::CompleteRequest, statement: &BoundStatement) -> Vec<Digest> {
    let chain: Vec<&[u8]> = request.ek_chain.iter().map(Vec::as_slice).collect();
    let certificates = statement.other_ek_certificates.iter().take(MAX_OTHER_EKS);
    certificates
        .filter_map(|der| endorse(der, &chain, &plant.roots, plant.now(), ValidityPolicy::AtTime).ok())
        .map(|ek| ek.digest())
        .collect()
}

fn verified(
    request: &v1::CompleteRequest,
    challenge: &Challenge,
    ak: &AttestationKey,
    hardware: HardwareProof,
) -> Result<VerifiedEvidence, Refusal> {
    let selection = challenge.selection();
    let evidence = Evidence {
        quote: Quote { attest: request.quote.clone(), signature: request.quote_signature.clone() },
        pcrs: pcr_values(&request.pcr_values, &selection)?,
        firmware_log: request.firmware_log.clone(),
        ima: sent_ima(request),
        userspace_log: sent_log(&request.userspace_log),
        image_log: sent_log(&request.image_log),
    };
    let challenged = Challenged {
        ak,
        qualifying_data: qualifying_data(Use::Quote, &request.sealed, &request.statement),
        selection,
        hardware,
        ima: None,
    };
    verify(&evidence, &challenged).map_err(|error| Refusal::EvidenceInvalid(chain(&error)))
}

/// On the wire a log that is not sent is empty.
fn sent_log(log: &[u8]) -> Option<Vec<u8>> {
    (!log.is_empty()).then(|| log.to_vec())
}

/// The IMA list of a request. A part of one is no less sent for being empty.
pub(super) fn sent_ima(request: &v1::CompleteRequest) -> Option<ImaPart> {
    let (first, list) = (request.ima_first, request.ima_log.as_slice());
    (first > 0 || !list.is_empty()).then(|| ImaPart { first, bytes: list.into() })
}

pub(super) fn pcr_values(sent: &[Vec<u8>], selection: &PcrSelection) -> Result<PcrValues, Refusal> {
    let malformed = || Refusal::malformed("send one value of the asked bank for each quoted PCR".to_owned());
    let mut values = PcrValues::new(selection.bank);
    let mut sent = sent.iter();
    for pcr in selection.iter() {
        let value =
            sent.next().and_then(|bytes| HashValue::new(selection.bank, bytes)).ok_or_else(malformed)?;
        values.set(pcr, value);
    }
    if sent.next().is_some() { Err(malformed()) } else { Ok(values) }
}

fn certified_keys(request: &v1::CompleteRequest, ak: &AttestationKey) -> Result<Vec<ProvenKey>, Refusal> {
    if request.identity_keys.len() > MAX_ZONES * 2 {
        return Err(Refusal::malformed(format!("at most {} identity keys are taken", MAX_ZONES * 2)));
    }
    let qualifying = qualifying_data(Use::Certify, &request.sealed, &request.statement);
    let mut keys: Vec<ProvenKey> = Vec::new();
    for sent in &request.identity_keys {
        let (zone, role) = key_purpose(sent)?;
        // TPM2B_PUBLIC: two bytes of length, then TPMT_PUBLIC; the parser refuses what does not fit.
        let public = sent.public.get(2..).unwrap_or_default();
        let key = CertifiedKey::verify(public, &sent.certify, &sent.certify_signature, ak, qualifying)
            .map_err(|error| {
                Refusal::EvidenceInvalid(format!("identity key for {zone}: {}", chain(&error)))
            })?;
        agree_with_csr(&sent.csr, &key)?;
        add(&mut keys, ProvenKey { zone, role, key: OwnKey::Tpm(key) })?;
    }
    Ok(keys)
}

/// A device has one key for each role of a zone.
fn add(keys: &mut Vec<ProvenKey>, key: ProvenKey) -> Result<(), Refusal> {
    if keys.iter().any(|other| (&other.zone, other.role) == (&key.zone, key.role)) {
        return Err(Refusal::malformed(format!("two identity keys for the same role in {}", key.zone)));
    }
    keys.push(key);
    Ok(())
}

/// The CSR is signed by the certified key, and asks for nothing else.
fn agree_with_csr(der: &[u8], key: &CertifiedKey) -> Result<(), Refusal> {
    if der.len() > MAX_CSR {
        return Err(Refusal::malformed(format!("a CSR has {} bytes, at most {MAX_CSR}", der.len())));
    }
    let csr = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der))
        .map_err(|error| Refusal::EvidenceInvalid(format!("a CSR does not hold: {error}")))?;
    if csr.public_key.subject_public_key_info() != key.spki_der() {
        let why = "a CSR is for another key than the one that was certified";
        return Err(Refusal::EvidenceInvalid(why.into()));
    }
    let request = Request::parse(der)
        .map_err(|error| Refusal::EvidenceInvalid(format!("a CSR does not hold: {}", chain(&error))))?;
    request.only_for_its_key().map_err(|asks| Refusal::malformed(format!("a CSR is refused: {asks}")))
}
