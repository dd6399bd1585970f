//! A TPM made of test keys: it answers challenges of a plant whose sealing key the test knows.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use policy::digest::Digest;
use policy::evidence::{Purpose, qualifying_data};
use policy::tpm::alg::HashAlg;
use policy::tpm::public::{AttestationKey, EkPublic, Public};
use prost::Message;
use proto::v1;
use rcgen::CertificateParams;

use crate::admin::tests::{EK_P256, boot};
use crate::plant::Plant;
use crate::session::challenge::{Challenge, Door, SELECTION};
use crate::session::proof::pcr_values;
use crate::session::{Refusal, begin, complete};

/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, sign.
const AK_ATTRIBUTES: u32 = 0x0005_0472;
/// The same, not restricted.
pub(super) const IDENTITY_ATTRIBUTES: u32 = 0x0004_0472;
/// x and y of a P-256 point, each with its length, at the end of a public area.
const POINT: usize = 68;

pub(super) fn tpm2b(bytes: &[u8]) -> Vec<u8> {
    let mut out = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    out.extend_from_slice(bytes);
    out
}

fn key() -> EcdsaKeyPair {
    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()
}

/// A point as a public area ends with it.
fn point(uncompressed: &[u8]) -> Vec<u8> {
    let (x, y) = uncompressed[1..].split_at(32);
    [tpm2b(x), tpm2b(y)].concat()
}

/// `TPMT_PUBLIC` of a P-256 key that signs with ECDSA and SHA-256.
pub(super) fn public_area(attributes: u32, uncompressed: &[u8]) -> Vec<u8> {
    let mut out = [0x0023_u16.to_be_bytes(), HashAlg::Sha256.id().to_be_bytes()].concat();
    out.extend(attributes.to_be_bytes());
    // No policy, no symmetric algorithm, ECDSA with SHA-256, P-256, no KDF.
    for word in [0x0000_u16, 0x0010, 0x0018, 0x000b, 0x0003, 0x0010] {
        out.extend(word.to_be_bytes());
    }
    out.extend(point(uncompressed));
    out
}

/// One EK and one AK; two of these may share the AK, as the EKs of one TPM do.
pub(super) struct TestTpm {
    ek: Vec<u8>,
    ak: EcdsaKeyPair,
    /// Milliseconds of its clock: each quote is later than the one before.
    clock: u64,
    /// How often it was reset.
    pub(super) resets: u32,
    /// What was booted and measured: PCR values and logs.
    pub(super) booted: v1::CompleteRequest,
    /// Services that it offers in cell-3, each with a CSR of its software key.
    pub(super) software: Vec<(&'static str, Vec<u8>)>,
    /// Zones and roles that it asks for certificates of, each with a new identity key.
    pub(super) asks: Vec<(&'static str, v1::Role)>,
    /// What the requests for its identity keys ask for.
    pub(super) request: CertificateParams,
    /// The key that signs those requests, where it is not the identity key that each is for.
    pub(super) requester: Option<rcgen::KeyPair>,
    /// Certificates of its other EKs, as it names them.
    pub(super) other_ek_certificates: Vec<Vec<u8>>,
    /// Serials of the certificates that its software has; none: it does not say.
    pub(super) delivered: Option<Vec<Vec<u8>>>,
    /// Zones that it asks to be in.
    pub(super) zones: Vec<String>,
}

impl TestTpm {
    pub(super) fn new() -> Self {
        let mut request = CertificateParams::default();
        request.distinguished_name = rcgen::DistinguishedName::new();
        Self {
            request,
            requester: None,
            ek: ek(),
            ak: key(),
            clock: 1000,
            resets: 7,
            booted: boot("boot-a"),
            software: Vec::new(),
            asks: Vec::new(),
            other_ek_certificates: Vec::new(),
            delivered: None,
            zones: Vec::new(),
        }
    }

    /// What `request` becomes when this TPM's AK and its signature take the place of the first ones.
    pub(super) fn sign_instead(&self, request: v1::CompleteRequest) -> v1::CompleteRequest {
        let quote_signature = self.sign(&request.quote);
        v1::CompleteRequest { ak_public: self.ak_public(), quote_signature, ..request }
    }

    /// The same TPM with another of its EKs.
    pub(super) fn switch_ek(&mut self) {
        self.take_ek(ek());
    }

    /// The same TPM with this one of its EKs.
    pub(super) fn take_ek(&mut self, public: Vec<u8>) {
        self.ek = public;
    }

    /// The same TPM with another AK.
    pub(super) fn switch_ak(&mut self) {
        self.ak = key();
    }

    pub(super) fn ek_public(&self) -> &[u8] {
        &self.ek
    }

    pub(super) fn ek_digest(&self) -> Digest {
        EkPublic::parse(&self.ek).unwrap().digest()
    }

    pub(super) fn ak_name(&self) -> Vec<u8> {
        AttestationKey::accept(&self.ak_public()).unwrap().name().to_bytes()
    }

    fn ak_public(&self) -> Vec<u8> {
        public_area(AK_ATTRIBUTES, self.ak.public_key().as_ref())
    }

    /// Enrolls under `name`, whole.
    pub(super) async fn enroll(
        &mut self,
        plant: &Plant,
        name: &str,
    ) -> Result<v1::CompleteResponse, Refusal> {
        let request = self.answer(plant, name).await?;
        complete::complete(plant, request, Door::Enrollment).await
    }

    /// An honest answer to a new enrollment challenge.
    pub(super) async fn answer(&mut self, plant: &Plant, name: &str) -> Result<v1::CompleteRequest, Refusal> {
        self.answer_with(plant, name, None).await
    }

    /// The same with a join token: its public id and its secret.
    pub(super) async fn answer_with(
        &mut self,
        plant: &Plant,
        name: &str,
        token: Option<(&str, &[u8])>,
    ) -> Result<v1::CompleteRequest, Refusal> {
        let request = v1::BeginEnrollmentRequest {
            versions: vec![1],
            ek_public: self.ek.clone(),
            ak_public: self.ak_public(),
            ..v1::BeginEnrollmentRequest::default()
        };
        let sealed = begin::enrollment(plant, &request).await?.challenge.unwrap().sealed;
        // The test need not open the credential: it can open the challenge, which holds the secret.
        let challenge = Challenge::open(&plant.keys.load(), plant.now(), &sealed)?;
        let booted = self.booted.clone();
        let mut statement = statement(&challenge, name, &booted.firmware_log);
        let software_keys = self.offer(&mut statement);
        let mut identity_keys = self.ask(&mut statement);
        statement.other_ek_certificates = self.other_ek_certificates.clone();
        statement.zones.clone_from(&self.zones);
        statement.delivered = self.delivered.clone().map(|serials| v1::Delivered { serials });
        if let Some((id, secret)) = token {
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
            let proven = [&sealed[..], &challenge.ek_name.0, &challenge.ak_name.0].concat();
            statement.join_token_id = id.to_owned();
            statement.join_token_proof = hmac::sign(&key, &proven).as_ref().to_vec();
        }
        let statement = statement.encode_to_vec();
        let quote = self.quote(&sealed, &statement, &booted.pcr_values);
        for key in &mut identity_keys {
            key.certify = self.certify(&sealed, &statement, &key.public[2..]);
            key.certify_signature = self.sign(&key.certify);
        }
        Ok(v1::CompleteRequest {
            ek_public: self.ek.clone(),
            ak_public: self.ak_public(),
            credential_secret: challenge.secret.unwrap().0,
            quote_signature: self.sign(&quote),
            quote,
            statement,
            sealed,
            software_keys,
            identity_keys,
            ..booted
        })
    }

    /// An honest answer to the challenge of an attestation, for no certificates.
    pub(super) async fn renewal(&mut self, plant: &Plant, name: &str) -> v1::CompleteRequest {
        let request = v1::BeginAttestationRequest {
            versions: vec![1],
            device: name.to_owned(),
            ak_name: self.ak_name(),
            purpose: v1::Purpose::Renew.into(),
        };
        let begun = begin::attestation(plant, &request).await.unwrap();
        assert!(begun.takes_log_digests && begun.takes_ima_before);
        let sealed = begun.challenge.unwrap().sealed;
        let challenge = Challenge::open(&plant.keys.load(), plant.now(), &sealed).unwrap();
        let booted = self.booted.clone();
        let statement = v1::Statement {
            purpose: v1::Purpose::Renew.into(),
            ..statement(&challenge, name, &booted.firmware_log)
        };
        let statement = statement.encode_to_vec();
        let quote = self.quote(&sealed, &statement, &booted.pcr_values);
        let (ek_public, ak_public) = (self.ek.clone(), self.ak_public());
        let quote_signature = self.sign(&quote);
        v1::CompleteRequest { sealed, statement, ek_public, ak_public, quote, quote_signature, ..booted }
    }

    /// States the services with their software keys.
    fn offer(&self, statement: &mut v1::Statement) -> Vec<v1::SoftwareKey> {
        let mut keys = Vec::new();
        for (service, csr) in &self.software {
            let (zone, service) = ("cell-3".to_owned(), (*service).to_owned());
            statement.services.push(v1::OfferedService { name: service.clone(), port: 443 });
            statement.software_keys.push(v1::StatedSoftwareKey {
                zone: zone.clone(),
                service: service.clone(),
                csr_digest: Digest::of(csr).0.to_vec(),
                ..v1::StatedSoftwareKey::default()
            });
            keys.push(v1::SoftwareKey { zone, service, csr: csr.clone(), ..v1::SoftwareKey::default() });
        }
        keys
    }

    /// States a new identity key for each certificate that it asks for.
    fn ask(&self, statement: &mut v1::Statement) -> Vec<v1::IdentityKey> {
        let mut keys = Vec::new();
        for (zone, role) in &self.asks {
            let (key, zone, role) = (rcgen::KeyPair::generate().unwrap(), (*zone).to_owned(), (*role).into());
            let public = public_area(IDENTITY_ATTRIBUTES, key.public_key_raw());
            let requester = self.requester.as_ref().unwrap_or(&key);
            let csr = self.request.serialize_request(requester).unwrap().der().to_vec();
            statement.identity_keys.push(v1::StatedKey {
                zone: zone.clone(),
                role,
                name: Public::parse(&public).unwrap().name().to_bytes(),
                csr_digest: Digest::of(&csr).0.to_vec(),
            });
            keys.push(v1::IdentityKey { zone, role, public: tpm2b(&public), csr, ..Default::default() });
        }
        keys
    }

    /// `TPMS_ATTEST` up to what is attested (TPM 2.0 Part 2, 10.12.12).
    fn attest(&mut self, kind: u16, qualifying: &[u8]) -> Vec<u8> {
        self.clock += 1000;
        let mut out = 0xff54_4347_u32.to_be_bytes().to_vec();
        out.extend(kind.to_be_bytes());
        out.extend(tpm2b(&[0x00, 0x0b, 0x11]));
        out.extend(tpm2b(qualifying));
        out.extend(self.clock.to_be_bytes());
        out.extend([self.resets.to_be_bytes(), 1_u32.to_be_bytes()].concat());
        out.push(1);
        out.extend(1_u64.to_be_bytes());
        out
    }

    /// A quote of `pcrs`.
    fn quote(&mut self, sealed: &[u8], statement: &[u8], pcrs: &[Vec<u8>]) -> Vec<u8> {
        let mut out = self.attest(0x8018, &qualifying_data(Purpose::Quote, sealed, statement));
        out.extend(1_u32.to_be_bytes());
        out.extend(SELECTION.bank.id().to_be_bytes());
        out.push(3);
        out.extend(SELECTION.bitmap());
        let values = pcr_values(pcrs, &SELECTION).unwrap();
        out.extend(tpm2b(values.quote_digest(&SELECTION, HashAlg::Sha256).unwrap().as_bytes()));
        out
    }

    /// A certification of the key with this public area.
    pub(super) fn certify(&mut self, sealed: &[u8], statement: &[u8], public: &[u8]) -> Vec<u8> {
        let name = Public::parse(public).unwrap().name().to_bytes();
        let mut out = self.attest(0x8017, &qualifying_data(Purpose::Certify, sealed, statement));
        out.extend([tpm2b(&name), tpm2b(&name)].concat());
        out
    }

    /// `TPMT_SIGNATURE` over `message`.
    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let raw = self.ak.sign(&aws_lc_rs::rand::SystemRandom::new(), message).unwrap();
        let (r, s) = raw.as_ref().split_at(32);
        [&[0x00, 0x18, 0x00, 0x0b][..], &tpm2b(r), &tpm2b(s)].concat()
    }
}

/// A public area of template L-2 with a key of its own.
pub(super) fn ek() -> Vec<u8> {
    let mut public = hex::decode(EK_P256).unwrap();
    public.truncate(public.len() - POINT);
    public.extend(point(key().public_key().as_ref()));
    public
}

fn statement(challenge: &Challenge, name: &str, log: &[u8]) -> v1::Statement {
    let [a, b, c] = SELECTION.bitmap();
    let log = v1::StatedLog {
        kind: v1::LogKind::Firmware.into(),
        digest: Digest::of(log).0.to_vec(),
        offset: 0,
        length: u64::try_from(log.len()).unwrap(),
    };
    v1::Statement {
        version: 1,
        purpose: v1::Purpose::Enroll.into(),
        device: name.to_owned(),
        ek_name: challenge.ek_name.0.clone(),
        ak_name: challenge.ak_name.0.clone(),
        pcr_bank: SELECTION.bank.id().into(),
        pcr_mask: u32::from_le_bytes([a, b, c, 0]),
        logs: vec![log],
        ..v1::Statement::default()
    }
}
