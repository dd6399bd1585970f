//! Begin: a challenge for whoever asks, without storing anything.

use policy::appraisal::Prover;
use policy::digest::Digest;
use policy::id::DeviceName;
use policy::tpm::public::{AttestationKey, EkPublic};
use proto::v1;

use super::challenge::{Challenge, Purpose, VERSION};
use super::without_tpm::Ticket;
use super::{Refusal, credential};
use crate::plant::Plant;
use crate::ports::random;
use crate::record::device::{self, Device, Tpm, device_key, ek_key};
use crate::record::{Held, fetch};

/// Begins the enrollment of the TPM with this EK.
pub async fn enrollment(
    plant: &Plant,
    request: &v1::BeginEnrollmentRequest,
) -> Result<v1::BeginEnrollmentResponse, Refusal> {
    speak(&request.versions)?;
    right_time(plant)?;
    if !request.device_key.is_empty() {
        return without_tpm(plant, request).await;
    }
    let ek = EkPublic::parse(&request.ek_public).map_err(|e| Refusal::malformed(format!("EK: {e}")))?;
    let ak =
        AttestationKey::accept(&request.ak_public).map_err(|e| Refusal::malformed(format!("AK: {e}")))?;
    let secret: [u8; 32] = random(plant.entropy.as_ref()).map_err(Refusal::internal)?;
    let device = known_device(plant, &ek.digest()).await?;
    let challenge = Challenge {
        purpose: Purpose::Enroll,
        prover: Prover::Tpm,
        counter: device.as_ref().map_or(0, |held| held.record.counter),
        device: device.map(|held| held.record.name),
        ek_name: ek.name().to_bytes().into(),
        ak_name: ak.name().to_bytes().into(),
        secret: Some(secret.to_vec().into()),
        issued: plant.now(),
        random: fresh(plant)?,
    };
    let credential = credential::make(&ek, &ak.name(), &secret, plant.entropy.as_ref())?;
    Ok(v1::BeginEnrollmentResponse {
        challenge: Some(seal(plant, &challenge)?),
        credential_blob: credential.blob,
        encrypted_secret: credential.encrypted_secret,
    })
}

/// Begins the enrollment of a device without a TPM. Of a name that belongs to a device with one nothing is told
/// before a token was proven.
async fn without_tpm(
    plant: &Plant,
    request: &v1::BeginEnrollmentRequest,
) -> Result<v1::BeginEnrollmentResponse, Refusal> {
    if !request.ek_public.is_empty() || !request.ak_public.is_empty() {
        return Err(Refusal::malformed("a device enrolls with its TPM or without one, not both".to_owned()));
    }
    let name: DeviceName =
        request.device.parse().map_err(|e: policy::id::NameError| Refusal::malformed(e.to_string()))?;
    let held: Option<Held<Device>> = fetch(plant.store.as_ref(), device_key(&name)).await?;
    // One that never came may be registered by an IDevID.
    let device = held.filter(|held| !held.record.prover.is_tpm() || held.record.ak.is_none());
    let challenge = Challenge {
        purpose: Purpose::Enroll,
        prover: Prover::Key,
        counter: device.as_ref().map_or(0, |held| held.record.counter),
        device: device.map(|held| held.record.name),
        ek_name: Vec::new().into(),
        ak_name: Digest::of(&request.device_key).0.to_vec().into(),
        secret: None,
        issued: plant.now(),
        random: fresh(plant)?,
    };
    let challenge = Some(seal(plant, &challenge)?);
    Ok(v1::BeginEnrollmentResponse { challenge, ..v1::BeginEnrollmentResponse::default() })
}

/// Begins the attestation of a device whose AK is bound.
pub async fn attestation(
    plant: &Plant,
    request: &v1::BeginAttestationRequest,
) -> Result<v1::BeginAttestationResponse, Refusal> {
    speak(&request.versions)?;
    right_time(plant)?;
    let name: DeviceName =
        request.device.parse().map_err(|e: policy::id::NameError| Refusal::malformed(e.to_string()))?;
    let held: Held<Device> = fetch(plant.store.as_ref(), device_key(&name))
        .await?
        .ok_or_else(|| Refusal::NotFound(format!("there is no device {name}; it has to enroll")))?;
    let bound = held.record.ak.as_ref().map(|ak| ak.name.0.clone()).unwrap_or_default();
    let (prover, named) = match held.record.prover {
        device::Prover::Tpm => (Prover::Tpm, request.ak_name == bound),
        device::Prover::Key(_) => (Prover::Key, request.ak_name.is_empty()),
    };
    if prover == Prover::Key && bound.is_empty() {
        return Err(Refusal::NotFound(format!("no key of {name} counts any more; it has to join again")));
    }
    if !named || bound.is_empty() {
        return Err(Refusal::NotFound(format!("{name} has another attestation key; it has to enroll again")));
    }
    let challenge = Challenge {
        purpose: match request.purpose() {
            v1::Purpose::OnDemand => Purpose::OnDemand,
            v1::Purpose::Unspecified | v1::Purpose::Enroll | v1::Purpose::Renew => Purpose::Renew,
        },
        prover,
        counter: held.record.counter,
        device: Some(name),
        ek_name: Vec::new().into(),
        ak_name: bound.clone().into(),
        secret: None,
        issued: plant.now(),
        random: fresh(plant)?,
    };
    let expected_key = if prover == Prover::Key { bound } else { Vec::new() };
    // A device whose last answer was lost has none for it, and with none its copies would not be found out.
    let key_ticket = Ticket::seal(plant, &held.record)?;
    let challenge = Some(seal(plant, &challenge)?);
    let has_logs = prover == Prover::Tpm;
    Ok(v1::BeginAttestationResponse {
        challenge,
        expected_key,
        key_ticket,
        takes_log_digests: has_logs,
        takes_ima_before: has_logs,
    })
}

fn speak(versions: &[u32]) -> Result<(), Refusal> {
    if versions.contains(&VERSION) {
        return Ok(());
    }
    Err(Refusal::Version(versions.iter().copied().take(16).collect()))
}

/// What a broker would not start at, it does not issue at: its clock was set wrong while it ran.
fn right_time(plant: &Plant) -> Result<(), Refusal> {
    plant.keys.load().serve_at(plant.now()).map_err(|error| Refusal::ClockSkew(error.to_string()))
}

fn fresh(plant: &Plant) -> Result<Digest, Refusal> {
    random(plant.entropy.as_ref()).map(Digest).map_err(Refusal::internal)
}

fn seal(plant: &Plant, challenge: &Challenge) -> Result<v1::Challenge, Refusal> {
    challenge.seal(&plant.keys.load(), plant.entropy.as_ref(), plant.now())
}

/// The device that the TPM with this EK belongs to, if an administrator or an enrollment said so.
async fn known_device(plant: &Plant, ek: &Digest) -> Result<Option<Held<Device>>, Refusal> {
    let tpm: Option<Held<Tpm>> = fetch(plant.store.as_ref(), ek_key(ek)).await?;
    let Some(name) = tpm.and_then(|held| held.record.device) else { return Ok(None) };
    Ok(fetch(plant.store.as_ref(), device_key(&name)).await?)
}
