//! Where a device stands between its attestations: what a Watch stream must tell it.
//!
//! Everything is read from the store, so that any broker can serve any stream.

use policy::digest::Digest;
use policy::id::ZoneName;
use policy::reference::release::ReleaseId;
use policy::reference::state::ReleaseState;
use policy::time::UnixTime;
use proto::{convert, v1};

use super::issue::revoke;
use super::recorded::results;
use super::{Refusal, complete::commit};
use crate::audit::Event;
use crate::golden::{self, Golden};
use crate::grpc::peer::DevicePeer;
use crate::plant::Plant;
use crate::record::device::{Attested, Decision, Device, Tpm, attested_key, device_key, ek_key};
use crate::record::zone::{revoked_key, zone_key};
use crate::record::{Held, fetch, stored};
use crate::rollout::wanted::wanted;
use crate::store::Txn;
use crate::trust;

/// Why a device should attest now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Somebody wants to know about this device.
    Administrator,
    /// What it last proved to run was withdrawn, or its signatures count no more.
    Withdrawn,
    /// What its last verdict rests on changed, for the whole fleet at once.
    Golden,
}

impl Ask {
    /// For the device's log.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Administrator => "an administrator asks for it",
            Self::Withdrawn => "the release that it runs was withdrawn, or its release key is compromised",
            Self::Golden => "golden values changed",
        }
    }
}

/// What a device is to be told.
#[derive(Debug)]
pub enum Standing {
    /// Its certificate holds; `ask` says why it should attest now, if it should.
    Holds {
        /// The device.
        device: Box<Held<Device>>,
        /// The releases that it last proved to run.
        running: Vec<ReleaseId>,
        /// Why it should attest now.
        ask: Option<Ask>,
    },
    /// The authority of its certificate is believed no more: it proves itself for another, and is no peer until then.
    Distrusted,
    /// Its certificates were revoked, for this reason.
    Lost(Box<v1::Denial>),
}

/// The standing of the device behind `peer`.
pub async fn standing(plant: &Plant, peer: &DevicePeer) -> Result<Standing, Refusal> {
    let name = peer.id.device();
    let device: Option<Held<Device>> = fetch(plant.store.as_ref(), device_key(name)).await?;
    let Some(device) = device else {
        return Ok(lost(
            plant,
            v1::DenialReason::NotAdmitted,
            format!("{name} is no device of this plant any more"),
        ));
    };
    if revoked(plant, peer).await? {
        return why(plant, &device.record).await;
    }
    let view = trust::view(plant).await.map_err(Refusal::internal)?;
    let signed = |(zone, der): (&ZoneName, &[u8])| *zone == peer.zone && Digest::of(der) == peer.authority;
    if !view.callers().any(signed) {
        return Ok(Standing::Distrusted);
    }
    let attested: Option<Held<Attested>> = fetch(plant.store.as_ref(), attested_key(name)).await?;
    let running = attested.as_ref().map(|held| held.record.running()).unwrap_or_default();
    let golden = golden::current(plant).await.map_err(Refusal::internal)?;
    let ask = if device.record.asked > device.record.answered {
        Some(Ask::Administrator)
    } else {
        match &attested {
            Some(held) if held.record.golden == golden.n => None,
            Some(_) if running.iter().any(|id| withdrawn(&golden, id)) => Some(Ask::Withdrawn),
            Some(_) | None => Some(Ask::Golden),
        }
    };
    Ok(Standing::Holds { device: Box::new(device), running, ask })
}

fn withdrawn(golden: &Golden, release: &ReleaseId) -> bool {
    let state = golden.values.release(release).map(policy::reference::Release::state);
    state == Some(ReleaseState::Withdrawn) || golden.void.contains_key(release)
}

/// Whether the certificate of the connection was revoked.
async fn revoked(plant: &Plant, peer: &DevicePeer) -> Result<bool, Refusal> {
    let Some(serial) = crate::ca::Serial::from_hex(&peer.serial) else { return Ok(true) };
    let view = trust::view(plant).await.map_err(Refusal::internal)?;
    for (role, generation) in view.generations(&peer.zone) {
        let key = revoked_key(&peer.zone, *role, *generation, serial);
        if plant.store.get(&key).await?.is_some() {
            return Ok(true);
        }
    }
    // A zone that is gone has no authority left that could have signed.
    Ok(plant.store.get(&zone_key(&peer.zone)).await?.is_none())
}

fn lost(plant: &Plant, reason: v1::DenialReason, message: String) -> Standing {
    Standing::Lost(Box::new(v1::Denial {
        reason: reason.into(),
        message,
        broker_time: plant.now().0,
        ..v1::Denial::default()
    }))
}

/// Why the device's certificates were revoked.
async fn why(plant: &Plant, device: &Device) -> Result<Standing, Refusal> {
    let tpm: Option<Held<Tpm>> = fetch(plant.store.as_ref(), ek_key(&device.ek)).await?;
    if let Some(stop) = tpm.and_then(|held| held.record.quarantine) {
        let message =
            format!("{} is quarantined since {} by {}: {}", device.name, stop.at, stop.by, stop.reason);
        return Ok(lost(plant, v1::DenialReason::Quarantined, message));
    }
    let attested: Option<Held<Attested>> = fetch(plant.store.as_ref(), attested_key(&device.name)).await?;
    let Some(attested) = attested.filter(|held| held.record.decision == Decision::Refused) else {
        let message = format!("the certificate of {} was revoked; attest again", device.name);
        return Ok(lost(plant, v1::DenialReason::MustReattest, message));
    };
    if let Some(why) = attested.record.lost {
        let message = format!("{why}; install a release that is accepted");
        let mut standing = lost(plant, v1::DenialReason::ReferenceMismatch, message);
        if let Standing::Lost(denial) = &mut standing {
            denial.wanted = wanted(plant, &device.name).await?;
        }
        return Ok(standing);
    }
    let records = results(plant, &attested.record).await;
    let findings: Vec<v1::Finding> = records.iter().flat_map(|r| &r.findings).map(convert::finding).collect();
    let message = findings.first().map(|first| first.message.clone()).unwrap_or_default();
    let mut standing = lost(plant, v1::DenialReason::ReferenceMismatch, message);
    if let Standing::Lost(denial) = &mut standing {
        denial.findings = findings;
        denial.wanted = wanted(plant, &device.name).await?;
    }
    Ok(standing)
}

/// Revokes what a device holds that was told to attest on an open stream and did not: stopping the
/// attestor must not buy a thief the rest of a certificate's life.
pub async fn unanswered(plant: &Plant, device: &Held<Device>, now: UnixTime) -> Result<(), Refusal> {
    let name = &device.record.name;
    let txn = Txn::new().unchanged(device.key.clone(), device.version);
    let (revoked, mut txn) = revoke(plant, txn, name, |_| true, now, "attest now was not answered").await?;
    let attested: Option<Held<Attested>> = fetch(plant.store.as_ref(), attested_key(name)).await?;
    if let Some(mut held) = attested {
        held.record.decision = Decision::Silent;
        txn = txn.unchanged(held.key.clone(), held.version).put(held.key, stored(&held.record)?);
    }
    let text = format!("{revoked} certificates revoked");
    let event = Event::new(now, "broker", "device.silent", name.as_str(), &text);
    let txn = trust::raise(plant, txn, now).await?;
    commit(plant, txn.audit(event.entry())).await?;
    device.record.zones.iter().for_each(|zone| plant.metrics.verdict(zone, Decision::Silent, None));
    Ok(())
}
