//! The answer of a device without a TPM: the same statement, signed by its key and by the one that follows.

use std::collections::BTreeMap;

use policy::digest::Digest;
use policy::evidence::{Purpose, qualifying_data};
use proto::v1;

use super::statement::{self, Logs, Proving};
use super::{Challenge, EvidenceError, Subject};
use crate::device_key::DeviceKey;
use crate::role::Seat;
use crate::software_key::SoftwareKey;

/// Answers a challenge that expects the key with the digest `expected`; `keys` ask for certificates.
pub fn answer_keyed(
    (challenge, expected): (&Challenge, &[u8]),
    subject: &Subject,
    keys: &BTreeMap<Seat, SoftwareKey>,
    device: &DeviceKey,
    next: &SoftwareKey,
) -> Result<v1::CompleteRequest, EvidenceError> {
    let request = |(seat, key): (&Seat, &SoftwareKey)| {
        let csr = key.request().map_err(EvidenceError::DeviceKey)?;
        let (zone, role) = (seat.zone.to_string(), seat.role.to_wire().into());
        Ok(v1::IdentityKey { zone, role, csr, ..v1::IdentityKey::default() })
    };
    let identity_keys = keys.iter().map(request).collect::<Result<Vec<_>, EvidenceError>>()?;
    let stated = |key: &v1::IdentityKey| v1::StatedKey {
        zone: key.zone.clone(),
        role: key.role,
        name: Vec::new(),
        csr_digest: Digest::of(&key.csr).0.to_vec(),
    };
    let proving = Proving {
        ak_name: expected.to_vec(),
        identity_keys: identity_keys.iter().map(stated).collect(),
        device_keys: [device.digest().0.to_vec(), next.digest().0.to_vec()],
        ..Proving::default()
    };
    let statement = statement::encode(proving, challenge, subject, Logs::default());
    let sealed = challenge.sealed().to_vec();
    let sign = |key: &SoftwareKey, purpose| {
        key.sign(&qualifying_data(purpose, &sealed, &statement)).map_err(EvidenceError::DeviceKey)
    };
    let proof = v1::KeyProof {
        key: device.key.spki(),
        signature: sign(&device.key, Purpose::DeviceKey)?,
        next_key: next.spki(),
        next_signature: sign(next, Purpose::NextKey)?,
        ticket: device.ticket.clone(),
    };
    Ok(v1::CompleteRequest {
        sealed,
        statement,
        identity_keys,
        software_keys: subject.software_keys.clone(),
        key_proof: Some(proof),
        ..v1::CompleteRequest::default()
    })
}
