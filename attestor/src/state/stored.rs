//! The state file, version 1: JSON with binary values in base64.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use policy::id::{DeviceName, PlantDomain, ZoneName};
use policy::time::UnixTime;
use serde::{Deserialize, Serialize};

use super::State;
use crate::boot_set::BootSet;
use crate::device_key::DeviceKey;
use crate::identity_key::IdentityKey;
use crate::plant::PlantRoot;
use crate::role::Seat;
use crate::software_key::{HeldSoftwareKey, SoftwareKey, SoftwareSeat};
use crate::status::{Refusal, RefusedKey};
use crate::svid::{Asked, HeldSvid};
use crate::tpm::IdentityKeyBlob;
use crate::trust::{Expected, Place, Seen, TrustSet};
use crate::wanted::Wanted;

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tpm: Option<Binary>,
    device: Option<DeviceName>,
    zones: Vec<ZoneName>,
    keys: Vec<StoredKey>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    keys_without_tpm: Vec<StoredKeyWithoutTpm>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device_key: Option<StoredDeviceKey>,
    svids: Vec<StoredSvid>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    void: BTreeSet<Seat>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    software_keys: Vec<StoredSoftwareKey>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    refused_keys: Vec<RefusedKey>,
    trust: Option<Binary>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    closed: BTreeSet<Place>,
    trust_sequence: u64,
    #[serde(default)]
    issuing_number: u32,
    clock_floor: UnixTime,
    last_attestation: Option<UnixTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    accepted_boot: Option<BootSet>,
    refusal: Option<Refusal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wanted: Option<Wanted>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    told_updater: Option<Wanted>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lost: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredKey {
    seat: Seat,
    public: Binary,
    private: Binary,
    parent: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredKeyWithoutTpm {
    seat: Seat,
    pkcs8: Binary,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredDeviceKey {
    pkcs8: Binary,
    ticket: Binary,
    next: Option<Binary>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredSvid {
    seat: Seat,
    chain: Vec<Binary>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredSoftwareKey {
    seat: SoftwareSeat,
    pkcs8: Binary,
    chain: Vec<Binary>,
}

/// Bytes as base64.
#[derive(Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Binary(Vec<u8>);

impl TryFrom<String> for Binary {
    type Error = base64::DecodeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        STANDARD.decode(text).map(Self)
    }
}

impl From<Binary> for String {
    fn from(binary: Binary) -> Self {
        STANDARD.encode(binary.0)
    }
}

impl Clone for Binary {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

pub(super) fn write(state: &State) -> Vec<u8> {
    let (mut keys, mut keys_without_tpm) = (Vec::new(), Vec::new());
    for (seat, key) in &state.keys {
        let seat = seat.clone();
        match key {
            IdentityKey::Tpm(key) => keys.push(StoredKey {
                seat,
                public: Binary(key.public().to_vec()),
                private: Binary(key.private().to_vec()),
                parent: key.parent(),
            }),
            IdentityKey::Software(key) => {
                keys_without_tpm.push(StoredKeyWithoutTpm { seat, pkcs8: Binary(key.pkcs8().to_vec()) });
            }
        }
    }
    let device_key = state.device_key.as_ref().map(|held| StoredDeviceKey {
        pkcs8: Binary(held.key.pkcs8().to_vec()),
        ticket: Binary(held.ticket.clone()),
        next: held.next.as_ref().map(|next| Binary(next.pkcs8().to_vec())),
    });
    let svids = state.svids.iter().map(|(seat, svid)| StoredSvid {
        seat: seat.clone(),
        chain: svid.chain().iter().cloned().map(Binary).collect(),
    });
    let software_keys = state.software_keys.iter().map(|(seat, held)| StoredSoftwareKey {
        seat: seat.clone(),
        pkcs8: Binary(held.key().pkcs8().to_vec()),
        chain: held.svid().chain().iter().cloned().map(Binary).collect(),
    });
    let stored = Stored {
        version: VERSION,
        tpm: state.tpm.clone().map(Binary),
        device: state.device.clone(),
        zones: state.zones.clone(),
        keys,
        keys_without_tpm,
        device_key,
        svids: svids.collect(),
        void: state.void.clone(),
        software_keys: software_keys.collect(),
        refused_keys: state.refused_keys.clone(),
        trust: state.trust.as_ref().map(|trust| Binary(trust.to_bytes())),
        closed: state.closed.clone(),
        trust_sequence: state.trust_sequence,
        issuing_number: state.issuing_number,
        clock_floor: state.clock_floor,
        last_attestation: state.last_attestation,
        accepted_boot: state.accepted_boot.clone(),
        refusal: state.refusal.clone(),
        wanted: state.wanted.clone(),
        told_updater: state.told_updater.clone(),
        lost: state.lost.clone(),
    };
    // Structs, strings and numbers: there is nothing in it that JSON cannot say.
    serde_json::to_vec_pretty(&stored).unwrap_or_default()
}

pub(super) fn parse(bytes: &[u8], plant: &PlantDomain, root: &PlantRoot) -> Result<State, String> {
    let stored: Stored = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if stored.version != VERSION {
        return Err(format!("it has version {}, and this attestor reads {VERSION}", stored.version));
    }
    let mut state = State {
        tpm: stored.tpm.map(|name| name.0),
        device: stored.device,
        zones: stored.zones,
        void: stored.void,
        closed: stored.closed,
        trust_sequence: stored.trust_sequence,
        issuing_number: stored.issuing_number,
        clock_floor: stored.clock_floor,
        last_attestation: stored.last_attestation,
        accepted_boot: stored.accepted_boot,
        refusal: stored.refusal,
        refused_keys: stored.refused_keys,
        wanted: stored.wanted,
        told_updater: stored.told_updater,
        lost: stored.lost,
        ..State::default()
    };
    for key in stored.keys {
        let blob = IdentityKeyBlob::parse(key.public.0, key.private.0, key.parent);
        state.keys.insert(key.seat, IdentityKey::Tpm(blob.map_err(|error| error.to_string())?));
    }
    for key in stored.keys_without_tpm {
        state.keys.insert(key.seat, IdentityKey::Software(software(key.pkcs8)?));
    }
    if let Some(StoredDeviceKey { pkcs8, ticket, next }) = stored.device_key {
        let next = next.map(software).transpose()?;
        state.device_key = Some(DeviceKey { key: software(pkcs8)?, ticket: ticket.0, next });
    }
    let Some(device) = &state.device else {
        return match stored.svids.is_empty() && stored.software_keys.is_empty() && stored.trust.is_none() {
            true => Ok(state),
            false => Err("it has certificates but no device name".to_owned()),
        };
    };
    for svid in stored.svids {
        let key = state.keys.get(&svid.seat).ok_or("a certificate in it has no key")?;
        let asked = Asked { seat: &svid.seat, point: key.point(), plant, device, workload: None };
        let chain = svid.chain.into_iter().map(|der| der.0).collect();
        let held = HeldSvid::recall(chain, &asked).map_err(|error| error.to_string())?;
        state.svids.insert(svid.seat, held);
    }
    for stored in stored.software_keys {
        let key = software(stored.pkcs8)?;
        let chain = stored.chain.into_iter().map(|der| der.0).collect();
        let held =
            HeldSoftwareKey::take(key, &stored.seat, plant, device, |asked| HeldSvid::recall(chain, asked));
        state.software_keys.insert(stored.seat, held.map_err(|error| error.to_string())?);
    }
    if let Some(trust) = stored.trust {
        let expected = Expected { root, plant, device, seen: Seen::default() };
        let trust = TrustSet::recall(&trust.0, &expected).map_err(|error| error.to_string())?;
        // A file that was put together from two is no way back to what was replaced.
        state.trust_sequence = state.trust_sequence.max(trust.sequence());
        state.issuing_number = state.issuing_number.max(trust.issuing_number());
        state.trust = Some(Arc::new(trust));
    }
    Ok(state)
}

fn software(pkcs8: Binary) -> Result<SoftwareKey, String> {
    SoftwareKey::from_pkcs8(pkcs8.0).map_err(|_| "a software key in it is damaged".to_owned())
}
