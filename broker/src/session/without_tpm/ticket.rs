//! What the broker gives with the acceptance of a key, so that it knows the key again without keeping all of them.
//!
//! A ticket says of which device the key was, and how many came before it. It is sealed under the key-encryption key,
//! which outlives epochs: a broker that was restored from a backup knows keys by it that came after the backup.

use policy::digest::Digest;
use policy::id::DeviceName;
use policy::time::UnixTime;
use serde::{Deserialize, Serialize};

use crate::plant::Plant;
use crate::record::device::{Device, Prover};
use crate::session::Refusal;

/// Largest ticket that is looked at: a name and some numbers.
const MAX_TICKET: usize = 512;

/// A key that was accepted.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::session) struct Ticket {
    device: DeviceName,
    /// When the device was admitted last: a token begins another line of keys.
    admitted: UnixTime,
    generation: u64,
    key: Digest,
}

impl Ticket {
    /// The ticket for the key that `device` proves itself with from now on; empty where that is a TPM.
    pub(in crate::session) fn seal(plant: &Plant, device: &Device) -> Result<Vec<u8>, Refusal> {
        let (Prover::Key { generation }, Some(key)) = (device.prover, &device.ak) else {
            return Ok(Vec::new());
        };
        let key = Digest::try_from(key.name.0.as_slice()).map_err(Refusal::internal)?;
        let (device, admitted) = (device.name.clone(), device.admitted_at);
        let plain =
            serde_json::to_vec(&Self { device, admitted, generation, key }).map_err(Refusal::internal)?;
        plant.kek.seal(plant.entropy.as_ref(), &context(plant), &plain).map_err(Refusal::internal)
    }

    /// The generation of `key`, if this is the ticket that was given for it to `device`.
    pub(super) fn open(plant: &Plant, sealed: &[u8], device: &Device, key: Digest) -> Option<u64> {
        if sealed.len() > MAX_TICKET {
            return None;
        }
        let plain = plant.kek.open(&context(plant), sealed).ok()?;
        let ticket: Self = serde_json::from_slice(&plain).ok()?;
        let same = ticket.device == device.name && ticket.admitted == device.admitted_at && ticket.key == key;
        same.then_some(ticket.generation)
    }
}

fn context(plant: &Plant) -> Vec<u8> {
    format!("touchstone/v1/key-ticket {}", plant.keys.load().plant_id).into_bytes()
}
