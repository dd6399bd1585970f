//! What the broker gives with a key, so that it knows the key again without keeping all of them.
//!
//! A ticket says of which device the key was, and when its turn was. It is sealed under the key-encryption key, which
//! outlives epochs: a broker that was restored from a backup knows keys by it that came after the backup. It is no
//! secret, and worth nothing without the key.

use policy::digest::Digest;
use policy::evidence::key_order::Turn;
use policy::id::DeviceName;
use serde::{Deserialize, Serialize};

use crate::plant::Plant;
use crate::record::device::Device;
use crate::session::Refusal;

/// Largest ticket that is looked at: a name and some numbers.
const MAX_TICKET: usize = 512;

/// A key that was accepted.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::session) struct Ticket {
    device: DeviceName,
    #[serde(flatten)]
    turn: Turn,
    key: Digest,
}

impl Ticket {
    /// The ticket for the key that `device` proves itself with from now on; empty where that is a TPM.
    pub(in crate::session) fn seal(plant: &Plant, device: &Device) -> Result<Vec<u8>, Refusal> {
        let (Some(turn), Some(key)) = (device.turn(), &device.ak) else { return Ok(Vec::new()) };
        let key = Digest::try_from(key.name.0.as_slice()).map_err(Refusal::internal)?;
        let ticket = Self { device: device.name.clone(), turn, key };
        let plain = serde_json::to_vec(&ticket).map_err(Refusal::internal)?;
        plant.kek.seal(plant.entropy.as_ref(), &context(plant), &plain).map_err(Refusal::internal)
    }

    /// The turn of `key`, if this is the ticket that was given for it to `device`.
    pub(super) fn open(plant: &Plant, sealed: &[u8], device: &DeviceName, key: Digest) -> Option<Turn> {
        if sealed.len() > MAX_TICKET {
            return None;
        }
        let plain = plant.kek.open(&context(plant), sealed).ok()?;
        let ticket: Self = serde_json::from_slice(&plain).ok()?;
        (ticket.device == *device && ticket.key == key).then_some(ticket.turn)
    }
}

fn context(plant: &Plant) -> Vec<u8> {
    format!("touchstone/v1/key-ticket {}", plant.keys.load().plant_id).into_bytes()
}
