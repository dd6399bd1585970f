//! Devices without a TPM: whose key it is, and what the use of a former one means.
//!
//! Promises: such a device joins with a token that was made for its name and for a device without a TPM, and for zones
//! that ask for none; a name of a device with a TPM is never its own. Its key is followed by another with every proof.
//! A key that was followed and is used nevertheless was copied: both copies are stopped until a person decides.

mod ticket;

use std::collections::BTreeSet;

use policy::evidence::device_key::KeyProof;
use policy::id::{DeviceName, ZoneName};
use policy::zone::Zone;

pub(super) use self::ticket::Ticket;
use super::admission::{Placed, bad_token, expect_tpm, stopped, valid};
use super::challenge::{Challenge, Purpose};
use super::complete::commit;
use super::issue::revoke;
use super::proof::Proven;
use super::{Refusal, vouched};
use crate::audit::Event;
use crate::plant::Plant;
use crate::record::device::{
    Admission, BoundAk, Device, Prover, Quarantine, Token, Tpm, device_key, ek_key, token_key,
};
use crate::record::zone::zone_key;
use crate::record::{Held, fetch, stored};
use crate::store::Txn;
use crate::trust;

/// Who stops a device that was copied.
pub(crate) const BROKER: &str = "broker";

/// The place of the device whose key answered; `ticket` came with it.
pub(super) async fn place(
    plant: &Plant,
    proven: &Proven,
    proof: &KeyProof,
    ticket: &[u8],
) -> Result<Placed, Refusal> {
    if let Some(tpm) = proven.tpm() {
        stopped(proven.ek(), &tpm.record)?;
    }
    match proven.challenge().purpose {
        Purpose::Enroll => joined(plant, proven, proof).await,
        Purpose::Renew | Purpose::OnDemand => renewed(plant, proven, proof, ticket).await,
    }
}

/// The device as its record has it now, and what stands for its TPM.
async fn known(plant: &Plant, proven: &Proven, name: &DeviceName) -> Result<(Held<Device>, u64), Refusal> {
    let held: Held<Device> = fetch(plant.store.as_ref(), device_key(name))
        .await?
        .ok_or_else(|| Refusal::NotFound(format!("there is no device {name}; it has to enroll")))?;
    let Prover::Key { generation } = held.record.prover else {
        return Err(Refusal::Conflict(format!("{name} has a TPM and proves itself with that alone")));
    };
    if held.record.counter != proven.challenge().counter || proven.challenge().device.as_ref() != Some(name) {
        return Err(Refusal::MustReattest(
            "the challenge was used already, or another one was answered since",
        ));
    }
    if held.record.admission == Admission::Retired {
        return Err(Refusal::Retired(name.to_string()));
    }
    Ok((held, generation))
}

async fn renewed(plant: &Plant, proven: &Proven, proof: &KeyProof, ticket: &[u8]) -> Result<Placed, Refusal> {
    let name = proven.challenge().device.clone();
    let name = name.ok_or(Refusal::MustReattest("the challenge names no device"))?;
    let (held, current) = known(plant, proven, &name).await?;
    let txn = expect_tpm(Txn::new().unchanged(held.key.clone(), held.version), proven);
    let expected = held.record.ak.as_ref().map(|key| key.name.0.clone()).unwrap_or_default();
    let used = match proof.key().0.as_slice() == expected {
        true => current,
        false => match Ticket::open(plant, ticket, &held.record, proof.key()) {
            // A later one than this broker knows: it was restored from a backup since.
            Some(later) if later > current => later,
            Some(former) => return Err(clone_alarm(plant, proven, held, (former, current)).await?),
            None => return Err(not_its_own(&name)),
        },
    };
    Ok(Placed { device: followed(plant, proof, held.record, used), rebound: false, txn })
}

fn not_its_own(name: &DeviceName) -> Refusal {
    Refusal::NotAdmitted(format!(
        "this key is not {name}'s; if {name} lost its key, `touchstone token create --without-tpm --device {name}` lets \
         it join again"
    ))
}

/// Refuses a key that is not and never was that of the device which the challenge is for. `place` decides again, in
/// the transaction.
pub(super) async fn ask_whose(
    plant: &Plant,
    challenge: &Challenge,
    proof: &KeyProof,
    ticket: &[u8],
) -> Result<(), Refusal> {
    let (Purpose::Renew | Purpose::OnDemand, Some(name)) = (challenge.purpose, &challenge.device) else {
        return Ok(());
    };
    let held: Option<Held<Device>> = fetch(plant.store.as_ref(), device_key(name)).await?;
    let current = |device: &Device| device.ak.as_ref().is_some_and(|ak| *ak.name.0 == proof.key().0);
    let its_own =
        |device: &Device| current(device) || Ticket::open(plant, ticket, device, proof.key()).is_some();
    match held {
        Some(held) if !its_own(&held.record) => Err(not_its_own(name)),
        // Where it is gone, the reason is another one.
        _ => Ok(()),
    }
}

/// The device with the next key in the place of the one that it used.
pub(super) fn followed(plant: &Plant, proof: &KeyProof, device: Device, used: u64) -> Device {
    Device {
        ak: Some(BoundAk {
            public: proof.next_der().into(),
            name: proof.next().0.to_vec().into(),
            since: plant.now(),
        }),
        prover: Prover::Key { generation: used.saturating_add(1) },
        counter: device.counter.saturating_add(1),
        answered: device.asked,
        clock_excused: false,
        ..device
    }
}

/// Stops both copies of a device: which of them is the device, only a person can find out.
async fn clone_alarm(
    plant: &Plant,
    proven: &Proven,
    held: Held<Device>,
    (former, current): (u64, u64),
) -> Result<Refusal, Refusal> {
    let (now, name) = (plant.now(), &held.record.name);
    let tpm = proven.tpm().ok_or_else(|| Refusal::internal(format!("nothing stands for a TPM of {name}")))?;
    let reason =
        format!("clone alarm: its key number {former} was used after number {current}: it was copied");
    let stop = Quarantine { at: now, by: BROKER.to_owned(), reason: reason.clone() };
    let txn = expect_tpm(Txn::new().unchanged(held.key.clone(), held.version), proven);
    let (revoked, txn) = revoke(plant, txn, name, |_| true, now, "clone alarm").await?;
    let record = Tpm { quarantine: Some(stop), ..tpm.record.clone() };
    let txn = trust::raise(plant, txn.put(tpm.key.clone(), stored(&record)?), now).await?;
    let text = format!("{reason}; {revoked} certificates revoked");
    let event = Event::new(now, BROKER, "device.clone-alarm", name.as_str(), &text);
    commit(plant, txn.audit(event.entry())).await?;
    tracing::warn!(device.id = %name, reason, revoked, "stopped");
    Ok(Refusal::Quarantined { device: name.to_string(), since: now, by: BROKER.to_owned(), reason })
}

async fn joined(plant: &Plant, proven: &Proven, proof: &KeyProof) -> Result<Placed, Refusal> {
    if proof.key().0.as_slice() != proven.challenge().ak_name.0 {
        return Err(Refusal::EvidenceInvalid("the key is not the one this session began with".into()));
    }
    let token = proven.statement().token.as_ref().ok_or_else(|| {
        Refusal::NotAdmitted(
            "a device without a TPM joins with a token: `touchstone token create --without-tpm --device NAME --zone \
             ZONE`"
                .into(),
        )
    })?;
    let held: Option<Held<Token>> = fetch(plant.store.as_ref(), token_key(&token.id)).await?;
    let good = |held: &Held<Token>| held.record.without_tpm && valid(plant, proven, &[], token, held);
    let held = held.filter(good).ok_or_else(bad_token)?;
    let record = &held.record;
    let name = record.device.as_ref().filter(|name| proven.asked_name() == Some(name));
    let name = name.ok_or_else(|| {
        Refusal::NotAdmitted("the join token is for another name; set `device` in attestor.toml to it".into())
    })?;
    for zone in &record.zones {
        takes(plant, zone).await?;
    }
    let txn = Txn::new().unchanged(held.key.clone(), held.version).delete(held.key.clone());
    match fetch::<Device>(plant.store.as_ref(), device_key(name)).await? {
        None => new(plant, proven, proof, record, txn).await,
        Some(_) => again(plant, proven, proof, record, txn).await,
    }
}

/// Refuses a zone that would refuse every device without a TPM: its token is for when the zone asks for less.
pub(super) async fn takes(plant: &Plant, name: &ZoneName) -> Result<(), Refusal> {
    let held: Option<Held<Zone>> = fetch(plant.store.as_ref(), zone_key(name)).await?;
    let zone =
        held.ok_or_else(|| Refusal::NotAdmitted(format!("zone {name} does not exist any more")))?.record;
    match refusal_of(&zone) {
        None => Ok(()),
        Some(why) => Err(Refusal::NotAdmitted(why)),
    }
}

/// Why a zone takes no device without a TPM.
pub(crate) fn refusal_of(zone: &Zone) -> Option<String> {
    let asked: Vec<&str> =
        zone.policy().refuses_without_tpm().into_iter().map(|claim| claim.name()).collect();
    (!asked.is_empty()).then(|| {
        format!(
            "zone {} asks for {}, which a device without a TPM cannot prove; let the zone ask for less \
             (`--least instance-identity=affirming`), or choose another",
            zone.name,
            asked.join(" and ")
        )
    })
}

async fn new(
    plant: &Plant,
    proven: &Proven,
    proof: &KeyProof,
    token: &Token,
    txn: Txn,
) -> Result<Placed, Refusal> {
    let name = token.device.clone().ok_or_else(bad_token)?;
    if proven.challenge().counter != 0 {
        return Err(Refusal::MustReattest("the device record is gone"));
    }
    let tpm = proven.tpm().map(|held| &held.record);
    if tpm.is_some_and(|tpm| tpm.device.is_some()) {
        return Err(Refusal::Conflict(format!("what stands for a TPM of {name} belongs to another device")));
    }
    let txn = vouched::no_machine(plant, &name, expect_tpm(txn, proven)).await?;
    let stand_in = Tpm {
        device: Some(name.clone()),
        registered: false,
        quarantine: None,
        retired: false,
        manufacturer: None,
    };
    let txn = txn.absent(device_key(&name)).put(ek_key(proven.ek()), stored(&stand_in)?);
    let device = Device {
        name,
        zones: token.zones.clone(),
        ek: *proven.ek(),
        prover: Prover::Key { generation: 0 },
        ak: None,
        admission: Admission::Admitted,
        admitted_by: format!("join token of {}", token.by),
        admitted_at: plant.now(),
        counter: 0,
        services: std::collections::BTreeMap::new(),
        trust_sequence: 0,
        asked: 0,
        answered: 0,
        clock_excused: false,
        clear_expected: None,
        leaving: None,
        addresses: std::collections::BTreeMap::new(),
    };
    Ok(Placed { device: followed(plant, proof, device, 0), rebound: false, txn })
}

/// The same device with another line of keys: an administrator made a token for it after it was admitted last.
async fn again(
    plant: &Plant,
    proven: &Proven,
    proof: &KeyProof,
    token: &Token,
    txn: Txn,
) -> Result<Placed, Refusal> {
    let name = token.device.clone().ok_or_else(bad_token)?;
    let (held, current) = known(plant, proven, &name).await?;
    if token.made <= held.record.admitted_at {
        return Err(bad_token());
    }
    // Who made the token may reach other zones than those that the device was moved to since.
    let set = |zones: &[ZoneName]| zones.iter().cloned().collect::<BTreeSet<_>>();
    if set(&token.zones) != set(&held.record.zones) {
        return Err(Refusal::Conflict(format!(
            "{name} is in other zones than its join token says; make a token for the zones that it is in"
        )));
    }
    let txn = expect_tpm(txn.unchanged(held.key.clone(), held.version), proven);
    let device = Device {
        admitted_by: format!("join token of {}", token.by),
        admitted_at: plant.now(),
        leaving: None,
        ..held.record
    };
    Ok(Placed { device: followed(plant, proof, device, current), rebound: true, txn })
}
