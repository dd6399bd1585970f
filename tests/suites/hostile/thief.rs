//! A device in the hands of somebody who speaks gRPC himself.

use std::collections::BTreeMap;
use std::sync::Arc;

use attestor::client::{BrokerClient, CallError, Calls as _, Connection};
use attestor::config::{Config, Service};
use attestor::evidence::{Answer, Challenge, Prover, Subject, answer};
use attestor::plant::PlantRoot;
use attestor::ports::{Clock, System};
use attestor::role::Seat;
use attestor::tpm::{Credential, EsapiTpm, IdentityKeyBlob, KEY_GENERATION_DEADLINE, TpmHandle};
use e2e::Device;
use policy::id::{DeviceName, ZoneName};
use proto::v1;
use proto::v1::DenialReason;
use proto::v1::complete_response::Outcome;

/// Such a device.
pub(crate) struct Thief {
    pub(crate) prover: Prover,
    pub(crate) connection: Connection,
    pub(crate) keys: BTreeMap<Seat, IdentityKeyBlob>,
    pub(crate) services: Vec<Service>,
    pub(crate) software_keys: Vec<v1::SoftwareKey>,
    root: PlantRoot,
    name: DeviceName,
}

/// A refusal: its reason and its words.
pub(crate) fn denied<T: std::fmt::Debug>(result: Result<T, CallError>) -> (DenialReason, String) {
    match result {
        Err(CallError::Denied(denial)) => (denial.reason(), denial.message.clone()),
        other => panic!("the broker did not refuse with a reason: {other:?}"),
    }
}

/// The certificates of an answer.
pub(crate) fn issued(response: v1::CompleteResponse) -> v1::Issued {
    match response.outcome {
        Some(Outcome::Issued(issued)) => issued,
        other => panic!("not issued: {other:?}"),
    }
}

impl Thief {
    /// Takes over `device`, whose attestor does not run.
    pub(crate) async fn of(device: &Device) -> Self {
        let config = Config::load(&device.path("attestor.toml")).expect("the device's configuration");
        let root = PlantRoot::load(&config.plant_root).expect("the plant root");
        let tpm = TpmHandle::start(EsapiTpm::new(config.tpm.clone().expect("a TPM")))
            .expect("a thread for the TPM");
        let prover = Prover::new(tpm, config.firmware_log.clone()).await.expect("the TPM answers");
        let prover = prover.with_ima_log(config.ima_log.as_deref());
        let clock: Arc<dyn Clock> = Arc::new(System::default());
        let client = BrokerClient::new(config.broker, config.plant, root.clone(), clock);
        let connection = client.expect("a broker name").connect(0).await.expect("the broker answers");
        let name = config.device.expect("the device has a name");
        let (keys, services, software_keys) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { prover, connection, keys, services, software_keys, root, name }
    }

    /// Makes keys for both roles in `zone`.
    pub(crate) async fn make_keys(&mut self, zone: &str) {
        let zone: ZoneName = zone.parse().expect("a zone name");
        for seat in Seat::of_zones(&[zone]) {
            let key = self.prover.tpm().create_identity_key().await.expect("a key in the TPM");
            self.keys.insert(seat, key);
        }
    }

    fn subject(&self, purpose: v1::Purpose) -> Subject {
        Subject {
            purpose,
            device: Some(self.name.clone()),
            zones: Vec::new(),
            services: self.services.clone(),
            inventory: BTreeMap::new(),
            software_keys: self.software_keys.clone(),
            health: None,
            failing_hooks: Vec::new(),
            two_sided: Vec::new(),
            token: None,
            held_serial: Vec::new(),
            delivered: Vec::new(),
            vouches: Vec::new(),
            trust_sequence: 0,
            pinned_root: self.root.spki_digest(),
            now: System::default().now(),
        }
    }

    /// An honest start of an enrollment.
    pub(crate) fn enrollment(&self) -> v1::BeginEnrollmentRequest {
        v1::BeginEnrollmentRequest {
            versions: vec![1],
            ek_public: self.prover.endorsement_key().public.clone(),
            ek_certificate: self.prover.endorsement_key().certificate.clone().unwrap_or_default(),
            ak_public: self.prover.attestation_key().to_vec(),
            ..v1::BeginEnrollmentRequest::default()
        }
    }

    /// An honest answer to a new enrollment challenge.
    pub(crate) async fn enroll_request(&self) -> v1::CompleteRequest {
        let begun = self.connection.begin_enrollment(self.enrollment()).await.expect("a challenge");
        let (id_object, encrypted_secret) = (begun.credential_blob, begun.encrypted_secret);
        let credential = Credential { id_object, encrypted_secret };
        let tpm = self.prover.tpm().with_deadline(KEY_GENERATION_DEADLINE);
        let template = self.prover.endorsement_key().template;
        let secret = tpm.activate(template, credential).await.expect("the TPM opens its own credential");
        let challenge = Challenge::parse(begun.challenge).expect("a challenge");
        let subject = self.subject(v1::Purpose::Enroll);
        self.answer(&challenge, &subject, &secret).await
    }

    /// Enrolls honestly.
    pub(crate) async fn enroll(&self) -> v1::Issued {
        let request = self.enroll_request().await;
        issued(self.connection.complete_enrollment(request).await.expect("the device is registered"))
    }

    /// An honest start of an attestation.
    pub(crate) fn attestation(&self) -> v1::BeginAttestationRequest {
        v1::BeginAttestationRequest {
            versions: vec![1],
            device: self.name.to_string(),
            ak_name: self.prover.attestation_key_name(),
            purpose: v1::Purpose::Renew.into(),
        }
    }

    /// An honest answer to a new challenge.
    pub(crate) async fn request(&self) -> v1::CompleteRequest {
        let begun = self.connection.begin_attestation(self.attestation()).await.expect("a challenge");
        let challenge = Challenge::parse(begun.challenge).expect("a challenge");
        let subject = self.subject(v1::Purpose::Renew);
        self.answer(&challenge, &subject, &[]).await
    }

    /// With the whole IMA list, which a message has room for.
    async fn answer(&self, challenge: &Challenge, subject: &Subject, secret: &[u8]) -> v1::CompleteRequest {
        let answer = answer(&self.prover, challenge, subject, &self.keys, secret, None).await;
        let Answer { mut request, list } = answer.expect("evidence");
        list.put_into(&mut request).expect("a short list");
        request
    }

    /// Sends an answer.
    pub(crate) async fn complete(
        &self,
        request: v1::CompleteRequest,
    ) -> Result<v1::CompleteResponse, CallError> {
        self.connection.complete_attestation(request).await
    }
}
