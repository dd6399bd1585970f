//! A broker for one device: it verifies credential, quote, statement and keys, and answers as the test says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use attestor::ports::{Clock, System};
use aws_lc_rs::agreement::{ECDH_P384, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use policy::digest::Digest;
use policy::evidence::identity::CertifiedKey;
use policy::evidence::software_key::SoftwareKey;
use policy::evidence::{Purpose, qualifying_data};
use policy::tpm::attest::Attest;
use policy::tpm::credential::{ecc_encrypted_secret, ecc_seed, id_object};
use policy::tpm::public::{AttestationKey, EkPublic, PublicKey};
use policy::tpm::signature::Signature;
use prost::Message;
use proto::v1;
use proto::v1::complete_response::Outcome;
use rcgen::{CertificateParams, KeyPair};
use tokio::sync::broadcast;
use tonic::{Request, Response, Status, Streaming};

use x509_cert::der::Decode;

use crate::authority::Plant;

/// The secret of every credential; opening it needs the TPM all the same.
const SECRET: [u8; 32] = [0x5a; 32];

/// What the test decides and sees.
pub(crate) struct Script {
    /// Answers every Complete until it is taken away.
    pub(crate) denial: Option<v1::Denial>,
    /// The device is unknown to Attestation.
    pub(crate) forgotten: bool,
    /// Statements of all answers that verified.
    pub(crate) statements: Vec<v1::Statement>,
    /// Watch streams opened with a client certificate.
    pub(crate) watchers: usize,
    /// What happens to software keys.
    pub(crate) software: Software,
    /// The trust set of every answer; none: the one of sequence 7.
    pub(crate) trust: Option<v1::SignedTrustSet>,
    /// Answers every Complete until it is taken away, instead of certificates.
    pub(crate) answer: Option<v1::CompleteResponse>,
    /// The next answer says that what was issued before is worth nothing.
    pub(crate) distrusted: bool,
    /// Serial of the newest certificate of each role and service.
    serials: BTreeMap<(i32, String), Vec<u8>>,
    /// Challenges that were given.
    pub(crate) begun: u8,
    /// Seconds by which its clock is behind.
    pub(crate) behind: u64,
    /// It takes what it has of the logs for what is left out of a request.
    pub(crate) keeps_logs: bool,
    /// The next answer is that it has lost them.
    pub(crate) wants_logs: bool,
    /// All requests that verified.
    pub(crate) requests: Vec<v1::CompleteRequest>,
}

/// What happens to software keys.
#[derive(Clone, Copy)]
pub(crate) enum Software {
    Certified,
    Refused,
    /// Each gets the certificate of a key that nobody asked one for.
    Exchanged,
}

/// The broker, shared by its services.
#[derive(Clone)]
pub(crate) struct Broker {
    pub(crate) plant: Arc<Plant>,
    pub(crate) script: Arc<Mutex<Script>>,
    /// Pushed to every watcher.
    pub(crate) push: broadcast::Sender<v1::WatchEvent>,
}

impl Broker {
    pub(crate) fn new() -> Self {
        Self::of(Arc::new(Plant::new()))
    }

    /// One more of the same plant.
    pub(crate) fn another(&self) -> Self {
        Self::of(Arc::clone(&self.plant))
    }

    fn of(plant: Arc<Plant>) -> Self {
        let (denial, statements) = (None, Vec::new());
        let script = Script {
            denial,
            forgotten: false,
            statements,
            watchers: 0,
            software: Software::Certified,
            trust: None,
            answer: None,
            distrusted: false,
            serials: BTreeMap::new(),
            begun: 0,
            behind: 0,
            keeps_logs: false,
            wants_logs: false,
            requests: Vec::new(),
        };
        let (push, _) = broadcast::channel(16);
        Self { plant, script: Arc::new(Mutex::new(script)), push }
    }

    fn challenge(&self) -> v1::Challenge {
        let mut script = self.script.lock().unwrap();
        script.begun += 1;
        let sealed = vec![script.begun; 64];
        v1::Challenge {
            sealed,
            version: 1,
            pcr_bank: 0x000b,
            pcr_mask: 0xffff,
            broker_time: System::default().now().minus(script.behind).0,
            expires_at: u64::MAX,
        }
    }

    pub(crate) fn begin_enrollment(
        &self,
        request: &v1::BeginEnrollmentRequest,
    ) -> v1::BeginEnrollmentResponse {
        let ek = EkPublic::parse(&request.ek_public).unwrap();
        let ak = AttestationKey::accept(&request.ak_public).unwrap();
        assert!(!request.ek_certificate.is_empty());
        let PublicKey::Ecc { point, .. } = ek.key() else { panic!("a certified ECC key comes before RSA") };
        let ephemeral = EphemeralPrivateKey::generate(&ECDH_P384, &SystemRandom::new()).unwrap();
        let public = ephemeral.compute_public_key().unwrap();
        let peer = UnparsedPublicKey::new(&ECDH_P384, point);
        let seed =
            agree_ephemeral(ephemeral, peer, (), |x| Ok(ecc_seed(&ek, x, public.as_ref()).unwrap())).unwrap();
        v1::BeginEnrollmentResponse {
            challenge: Some(self.challenge()),
            credential_blob: id_object(&ek, &seed, &ak.name(), &SECRET).unwrap(),
            encrypted_secret: ecc_encrypted_secret(&ek, public.as_ref()).unwrap(),
        }
    }

    pub(crate) fn begin_attestation(
        &self,
        request: &v1::BeginAttestationRequest,
    ) -> Result<v1::BeginAttestationResponse, Status> {
        assert_eq!(request.device, "press-1");
        if std::mem::take(&mut self.script.lock().unwrap().forgotten) {
            let reason = v1::DenialReason::NotFound.into();
            let denial =
                v1::Denial { reason, message: "there is no such device".into(), ..v1::Denial::default() };
            return Err(proto::denial::to_status(&denial));
        }
        let keeps = self.script.lock().unwrap().keeps_logs;
        Ok(v1::BeginAttestationResponse {
            challenge: Some(self.challenge()),
            takes_log_digests: keeps,
            takes_ima_before: keeps,
            ..Default::default()
        })
    }

    pub(crate) fn complete(
        &self,
        request: &v1::CompleteRequest,
        enrolls: bool,
    ) -> Result<v1::CompleteResponse, Status> {
        let secret: &[u8] = if enrolls { &SECRET } else { &[] };
        assert_eq!(request.credential_secret, secret);
        let mut script = self.script.lock().unwrap();
        let statement = verify(request, script.keeps_logs && !enrolls);
        assert_eq!(statement.purpose() == v1::Purpose::Enroll, enrolls);
        script.statements.push(statement);
        script.requests.push(request.clone());
        if std::mem::take(&mut script.wants_logs) {
            let outcome = Some(Outcome::LogsWanted(v1::LogsWanted {}));
            return Ok(v1::CompleteResponse { outcome });
        }
        if let Some(denial) = &script.denial {
            return Err(proto::denial::to_status(denial));
        }
        if let Some(answer) = &script.answer {
            return Ok(answer.clone());
        }
        if std::mem::take(&mut script.distrusted) {
            script.serials.clear();
        }
        let mut svids: Vec<v1::Svid> =
            request.identity_keys.iter().map(|key| self.plant.issue(key)).collect();
        let mut refused_keys = Vec::new();
        for key in &request.software_keys {
            match script.software {
                Software::Certified => svids.push(self.plant.issue_outside(key)),
                Software::Refused => refused_keys.push(refused(key)),
                Software::Exchanged => {
                    let (other, params) = (KeyPair::generate().unwrap(), CertificateParams::default());
                    let csr = params.serialize_request(&other).unwrap().der().to_vec();
                    svids.push(self.plant.issue_outside(&v1::SoftwareKey { csr, ..key.clone() }));
                }
            }
        }
        let place = |svid: &v1::Svid| ((svid.role, svid.service.clone()), serial(&svid.chain[0]));
        script.serials.extend(svids.iter().map(place));
        Ok(v1::CompleteResponse {
            outcome: Some(Outcome::Issued(v1::Issued {
                device: "press-1".into(),
                svids,
                trust: Some(script.trust.clone().unwrap_or_else(|| self.plant.trust(7, true))),
                zones: vec!["press".into()],
                valid_serials: script.serials.values().cloned().collect(),
                refused_keys,
                ..v1::Issued::default()
            })),
        })
    }

    pub(crate) fn demand(&self) {
        let now = v1::AttestNow { reason: "an administrator asked".into(), deadline: u64::MAX };
        self.say(v1::watch_event::Event::AttestNow(now));
    }

    /// Ends every Watch stream: one that cannot follow what is said ends.
    pub(crate) fn hang_up(&self) {
        for _ in 0..64 {
            assert!(self.push.send(v1::WatchEvent { event: None }).is_ok(), "nobody watches");
        }
    }

    pub(crate) fn say(&self, event: v1::watch_event::Event) {
        assert!(self.push.send(v1::WatchEvent { event: Some(event) }).is_ok(), "nobody watches");
    }
}

/// Everything that binds the answer together; `short`: its log may be left out.
fn verify(request: &v1::CompleteRequest, short: bool) -> v1::Statement {
    let ak = AttestationKey::accept(&request.ak_public).unwrap();
    let quote = Attest::parse(&request.quote).unwrap();
    Signature::parse(&request.quote_signature).unwrap().verify(&ak, &request.quote).unwrap();
    let expected = qualifying_data(Purpose::Quote, &request.sealed, &request.statement);
    assert_eq!(quote.extra_data, expected);
    assert_eq!(quote.quote().unwrap().pcr_digest, digest(&SHA256, &request.pcr_values.concat()).as_ref());
    let statement = v1::Statement::decode(request.statement.as_slice()).unwrap();
    let ek = EkPublic::parse(&request.ek_public).unwrap();
    assert_eq!((&statement.ak_name, &statement.ek_name), (&ak.name().to_bytes(), &ek.name().to_bytes()));
    assert_eq!(statement.logs.len(), 1);
    let left_out = short && request.firmware_log.is_empty();
    assert!(left_out || statement.logs[0].digest == Digest::of(&request.firmware_log).0);
    assert_eq!(statement.identity_keys.len(), request.identity_keys.len());
    let expected = qualifying_data(Purpose::Certify, &request.sealed, &request.statement);
    for (stated, key) in statement.identity_keys.iter().zip(&request.identity_keys) {
        let public = &key.public[2..];
        let certified =
            CertifiedKey::verify(public, &key.certify, &key.certify_signature, &ak, expected).unwrap();
        assert_eq!(stated.name, certified.name().to_bytes());
        assert_eq!(stated.csr_digest, Digest::of(&key.csr).0);
        assert_eq!((&stated.zone, stated.role), (&key.zone, key.role));
    }
    assert_eq!(statement.software_keys.len(), request.software_keys.len());
    for (stated, key) in statement.software_keys.iter().zip(&request.software_keys) {
        assert_eq!((&stated.zone, &stated.service), (&key.zone, &key.service));
        SoftwareKey::verify(&key.csr, &stated.csr_digest).unwrap();
    }
    statement
}

fn refused(key: &v1::SoftwareKey) -> v1::RefusedKey {
    let reason = v1::DenialReason::NotPermitted.into();
    let message = "the test allows no software keys".into();
    let denial = Some(v1::Denial { reason, message, ..v1::Denial::default() });
    let (zone, service) = (key.zone.clone(), key.service.clone());
    v1::RefusedKey { zone, service, denial, ..v1::RefusedKey::default() }
}

#[tonic::async_trait]
impl v1::enrollment_server::Enrollment for Broker {
    async fn begin(
        &self,
        request: Request<v1::BeginEnrollmentRequest>,
    ) -> Result<Response<v1::BeginEnrollmentResponse>, Status> {
        Ok(Response::new(self.begin_enrollment(request.get_ref())))
    }

    async fn complete(
        &self,
        request: Request<v1::CompleteRequest>,
    ) -> Result<Response<v1::CompleteResponse>, Status> {
        Self::complete(self, request.get_ref(), true).map(Response::new)
    }

    async fn complete_in_parts(
        &self,
        _: Request<Streaming<v1::CompletePart>>,
    ) -> Result<Response<v1::CompleteResponse>, Status> {
        Err(Status::unimplemented("no device of these tests has an IMA list"))
    }
}

#[tonic::async_trait]
impl v1::attestation_server::Attestation for Broker {
    async fn begin(
        &self,
        request: Request<v1::BeginAttestationRequest>,
    ) -> Result<Response<v1::BeginAttestationResponse>, Status> {
        self.begin_attestation(request.get_ref()).map(Response::new)
    }

    async fn complete(
        &self,
        request: Request<v1::CompleteRequest>,
    ) -> Result<Response<v1::CompleteResponse>, Status> {
        Self::complete(self, request.get_ref(), false).map(Response::new)
    }

    async fn complete_in_parts(
        &self,
        _: Request<Streaming<v1::CompletePart>>,
    ) -> Result<Response<v1::CompleteResponse>, Status> {
        Err(Status::unimplemented("no device of these tests has an IMA list"))
    }
}

fn serial(certificate: &[u8]) -> Vec<u8> {
    let certificate = x509_cert::Certificate::from_der(certificate).unwrap();
    certificate.tbs_certificate().serial_number().as_bytes().to_vec()
}
