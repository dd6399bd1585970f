//! A device: its TPM, its keys, what it booted, and its side of an exchange.

use std::sync::Arc;

use attestor::client::{CallError, Calls as _, Connection};
use policy::digest::Digest;
use policy::evidence::{Purpose, qualifying_data};
use policy::tpm::pcr::{PcrIndex, PcrSelection, PcrValues};
use prost::Message as _;
use proto::v1;
use proto::v1::complete_response::Outcome;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};

use crate::tpm::{BANK, Tpm, identity_public, tpm2b};

/// What a device booted: one of the recorded boots that the tests share.
pub struct Boot {
    values: Vec<Vec<u8>>,
    digest: Vec<u8>,
    log: Vec<u8>,
    log_digest: Vec<u8>,
}

impl Boot {
    /// The boot that becomes golden, which is part of this program.
    pub fn golden() -> Arc<Self> {
        let log = include_bytes!("../../vectors/measured-boot/boot-a/eventlog.bin");
        Self::recorded(include_str!("../../vectors/measured-boot/boot-a/pcrs.txt"), log.to_vec())
    }

    /// A boot of something else.
    pub fn another() -> Arc<Self> {
        let log = include_bytes!("../../vectors/measured-boot/boot-b/eventlog.bin");
        Self::recorded(include_str!("../../vectors/measured-boot/boot-b/pcrs.txt"), log.to_vec())
    }

    fn recorded(text: &str, log: Vec<u8>) -> Arc<Self> {
        let mut pcrs = PcrValues::new(BANK);
        for line in text.lines() {
            let Some((pcr, value)) = line.strip_prefix("sha256:").and_then(|rest| rest.split_once(':'))
            else {
                continue;
            };
            let pcr: u32 = pcr.parse().expect("a number");
            let value = hex::decode(value.trim().to_lowercase()).expect("hex");
            if pcr < 16 {
                let value = policy::tpm::alg::HashValue::new(BANK, &value).expect("a value of the bank");
                pcrs.set(PcrIndex::new(pcr).expect("a PCR"), value);
            }
        }
        let digest = pcrs.quote_digest(&PcrSelection::quoted(BANK), BANK).expect("all that is quoted");
        Arc::new(Self {
            values: pcrs.iter().map(|(_, value)| value.as_bytes().to_vec()).collect(),
            digest: digest.as_bytes().to_vec(),
            log_digest: Digest::of(&log).0.to_vec(),
            log,
        })
    }
}

/// An identity key, as it is offered and used.
struct Identity {
    role: v1::Role,
    pkcs8: Vec<u8>,
    public: Vec<u8>,
    name: Vec<u8>,
    request: Vec<u8>,
}

impl Identity {
    fn new(role: v1::Role) -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        let public = identity_public(key.der_bytes());
        let name = [&BANK.id().to_be_bytes()[..], &Digest::of(&public).0].concat();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let request = params.serialize_request(&key).expect("a request").der().to_vec();
        Self { role, pkcs8: key.serialize_der(), public, name, request }
    }
}

/// What an exchange is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Certificates for the device's keys, with the proof.
    Replace,
    /// The proof alone.
    Reattest,
}

/// The device.
pub struct Device {
    name: String,
    zone: String,
    tpm: Tpm,
    boot: Arc<Boot>,
    keys: [Identity; 2],
    /// Its certificate as a caller, DER, leaf first.
    caller: Vec<Vec<u8>>,
    trust_sequence: u64,
    /// The broker has its log.
    log_known: bool,
    /// Its log goes whole all the same.
    pub sends_log: bool,
}

impl Device {
    /// A device that is to be of `zone`.
    pub fn new(name: String, zone: String, boot: &Arc<Boot>) -> Self {
        let keys = [v1::Role::Caller, v1::Role::Listener].map(Identity::new);
        let boot = Arc::clone(boot);
        let (tpm, caller) = (Tpm::new(), Vec::new());
        Self { name, zone, tpm, boot, keys, caller, trust_sequence: 0, log_known: false, sends_log: false }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its zone.
    pub fn zone(&self) -> &str {
        &self.zone
    }

    /// Its firmware's log.
    pub fn log(&self) -> &[u8] {
        &self.boot.log
    }

    /// Its TPM.
    pub fn tpm(&mut self) -> &mut Tpm {
        &mut self.tpm
    }

    /// Its certificate as a caller with its chain, and the key of it in PKCS#8.
    pub fn caller(&self) -> (Vec<Vec<u8>>, Vec<u8>) {
        (self.caller.clone(), self.keys[0].pkcs8.clone())
    }

    /// Boots something else.
    pub fn boots(&mut self, boot: &Arc<Boot>) {
        (self.boot, self.log_known) = (Arc::clone(boot), false);
    }

    /// The first call of an enrollment.
    pub fn begin_enrollment(&self) -> v1::BeginEnrollmentRequest {
        v1::BeginEnrollmentRequest {
            versions: vec![1],
            ek_public: self.tpm.ek_public().to_vec(),
            ak_public: self.tpm.ak_public().to_vec(),
            ..v1::BeginEnrollmentRequest::default()
        }
    }

    /// The second: the credential opened, and everything proven.
    pub fn complete_enrollment(&mut self, begun: v1::BeginEnrollmentResponse) -> v1::CompleteRequest {
        let secret = self.tpm.activate(&begun.credential_blob, &begun.encrypted_secret);
        let sealed = begun.challenge.expect("an answer has a challenge").sealed;
        self.answer(sealed, secret, v1::Purpose::Enroll, Kind::Replace)
    }

    /// The first call of an attestation.
    pub fn begin_attestation(&self) -> v1::BeginAttestationRequest {
        v1::BeginAttestationRequest {
            versions: vec![1],
            device: self.name.clone(),
            ak_name: self.tpm.ak_name().to_vec(),
            purpose: v1::Purpose::Renew.into(),
        }
    }

    /// The second.
    pub fn complete_attestation(
        &mut self,
        begun: v1::BeginAttestationResponse,
        kind: Kind,
    ) -> v1::CompleteRequest {
        let by_digest = begun.takes_log_digests && self.log_known && !self.sends_log;
        let sealed = begun.challenge.expect("an answer has a challenge").sealed;
        let mut request = self.answer(sealed, Vec::new(), v1::Purpose::Renew, kind);
        if by_digest {
            request.firmware_log.clear();
        }
        request
    }

    /// Enrolls.
    pub async fn enroll(&mut self, connection: &Connection) -> Result<(), CallError> {
        let begun = connection.begin_enrollment(self.begin_enrollment()).await?;
        let answer = connection.complete_enrollment(self.complete_enrollment(begun)).await?;
        self.adopt(answer, Kind::Replace);
        Ok(())
    }

    /// Attests.
    pub async fn attest(&mut self, connection: &Connection, kind: Kind) -> Result<(), CallError> {
        let begun = connection.begin_attestation(self.begin_attestation()).await?;
        let answer = connection.complete_attestation(self.complete_attestation(begun, kind)).await?;
        self.adopt(answer, kind);
        Ok(())
    }

    /// Keeps what the broker gave; panics unless that is the trust of an enforcing zone.
    pub fn adopt(&mut self, answer: v1::CompleteResponse, kind: Kind) -> v1::TrustSet {
        let Some(Outcome::Issued(issued)) = answer.outcome else {
            panic!("{} is not trusted: {answer:?}", self.name)
        };
        assert!(issued.device == self.name && issued.zones == [self.zone.clone()], "{issued:?}");
        assert!(issued.refused_keys.is_empty(), "{issued:?}");
        let trust = issued.trust.as_ref().expect("a trust set");
        let set = v1::TrustSet::decode(trust.trust_set.as_slice()).expect("a trust set");
        self.trust_sequence = set.sequence;
        self.log_known = true;
        let expected = if kind == Kind::Replace { 2 } else { 0 };
        assert_eq!(issued.svids.len(), expected, "{}: {:?}", self.name, issued.would_refuse);
        let caller = issued.svids.into_iter().find(|svid| svid.role() == v1::Role::Caller);
        if let Some(svid) = caller {
            self.caller = svid.chain;
        }
        set
    }

    fn answer(
        &mut self,
        sealed: Vec<u8>,
        secret: Vec<u8>,
        purpose: v1::Purpose,
        kind: Kind,
    ) -> v1::CompleteRequest {
        let statement = self.statement(purpose, kind).encode_to_vec();
        let selection = PcrSelection::quoted(BANK);
        let quoted = qualifying_data(Purpose::Quote, &sealed, &statement);
        let (quote, quote_signature) = self.tpm.quote(quoted, &selection, &self.boot.digest);
        let certified = qualifying_data(Purpose::Certify, &sealed, &statement);
        let mut identity_keys = Vec::new();
        for key in self.keys.iter().filter(|_| kind == Kind::Replace) {
            let (certify, certify_signature) = self.tpm.certify(certified, &key.name);
            identity_keys.push(v1::IdentityKey {
                zone: self.zone.clone(),
                role: key.role.into(),
                public: tpm2b(&key.public),
                csr: key.request.clone(),
                certify,
                certify_signature,
            });
        }
        v1::CompleteRequest {
            sealed,
            statement,
            credential_secret: secret,
            ek_public: self.tpm.ek_public().to_vec(),
            ak_public: self.tpm.ak_public().to_vec(),
            quote,
            quote_signature,
            pcr_values: self.boot.values.clone(),
            identity_keys,
            firmware_log: self.boot.log.clone(),
            ..v1::CompleteRequest::default()
        }
    }

    fn statement(&self, purpose: v1::Purpose, kind: Kind) -> v1::Statement {
        let [a, b, c] = PcrSelection::quoted(BANK).bitmap();
        let stated = |key: &Identity| v1::StatedKey {
            zone: self.zone.clone(),
            role: key.role.into(),
            name: key.name.clone(),
            csr_digest: Digest::of(&key.request).0.to_vec(),
        };
        let log = v1::StatedLog {
            kind: v1::LogKind::Firmware.into(),
            digest: self.boot.log_digest.clone(),
            offset: 0,
            length: u64::try_from(self.boot.log.len()).expect("a log is short"),
        };
        v1::Statement {
            version: 1,
            versions_offered: vec![1],
            purpose: purpose.into(),
            device: self.name.clone(),
            zones: vec![self.zone.clone()],
            ek_name: self.tpm.ek_name(),
            ak_name: self.tpm.ak_name().to_vec(),
            identity_keys: self.keys.iter().filter(|_| kind == Kind::Replace).map(stated).collect(),
            pcr_bank: BANK.id().into(),
            pcr_mask: u32::from_le_bytes([a, b, c, 0]),
            logs: vec![log],
            trust_sequence: self.trust_sequence,
            ..v1::Statement::default()
        }
    }
}
