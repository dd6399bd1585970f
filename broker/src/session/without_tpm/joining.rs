//! A device without a TPM joins, or joins again with another line of keys.

use std::collections::BTreeSet;

use policy::evidence::key_order::Turn;
use policy::id::{DeviceName, ZoneName};

use super::alarm::betrayed;
use super::{Ticket, followed, known, not_stopped, refusal_of};
use crate::audit::Event;
use crate::plant::Plant;
use crate::record::device::{
    Admitted, BROKER, Device, KeyLine, Prover, Token, Tpm, device_key, ek_key, token_key,
};
use crate::record::{Held, fetch, stored};
use crate::session::admission::{Placed, expect_tpm, stopped};
use crate::session::join_token::{bad_token, token_zone, used, valid};
use crate::session::proof::{Keyed, Proven};
use crate::session::{Refusal, vouched};
use crate::store::Txn;

/// The place of a device that joins.
pub(super) async fn joined(plant: &Plant, proven: &Proven, by: &Keyed) -> Result<Placed, Refusal> {
    if by.proof.key().0.as_slice() != proven.challenge().ak_name.0 {
        return Err(Refusal::EvidenceInvalid("the key is not the one this session began with".into()));
    }
    let (token, mut txn) = match usable(plant, proven).await {
        Ok(usable) => usable,
        Err(refusal) => {
            not_stopped(proven)?;
            let Some(name) = &proven.challenge().device else { return Err(refusal) };
            return Err(betrayed(plant, proven, by, name).await?.unwrap_or(refusal));
        }
    };
    let name = token.record.device.clone().ok_or_else(bad_token)?;
    for zone in &token.record.zones {
        txn = takes(plant, zone, txn).await?;
    }
    match fetch::<Device>(plant.store.as_ref(), device_key(&name)).await? {
        None => new(plant, (proven, by), &token.record, name, txn).await,
        Some(_) => again(plant, (proven, by), &token.record, &name, txn).await,
    }
}

/// The token that came with the statement, if it is one for this device, and the transaction that uses it up.
async fn usable(plant: &Plant, proven: &Proven) -> Result<(Held<Token>, Txn), Refusal> {
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
    match held.record.device.as_ref().is_some_and(|name| proven.asked_name() == Some(name)) {
        true => {
            let txn = used(plant, &held).await?;
            Ok((held, txn))
        }
        false => Err(Refusal::NotAdmitted(
            "the join token is for another name; set `device` in attestor.toml to it".into(),
        )),
    }
}

/// `txn`, if the zone, as it is now, does not refuse every device without a TPM: its token is for when it asks for less.
pub(in crate::session) async fn takes(plant: &Plant, name: &ZoneName, txn: Txn) -> Result<Txn, Refusal> {
    let zone = token_zone(plant, name).await?;
    match refusal_of(&zone.record) {
        None => Ok(txn.unchanged(zone.key, zone.version)),
        Some(why) => Err(Refusal::NotAdmitted(why)),
    }
}

/// Refuses a device that is stopped, unless its token ends that: it was made since, and a person looked at the device
/// after its clone alarm, or a restore left nothing of it that a person could readmit.
fn lifted(proven: &Proven, device: Option<&Device>, token: &Token) -> Result<(), Refusal> {
    let Some(tpm) = proven.tpm() else { return Ok(()) };
    let by_token = |alarm: bool| device.is_none_or(|device| alarm && device.ak.is_none());
    match &tpm.record.quarantine {
        Some(stop) if !tpm.record.retired && by_token(stop.is_clone_alarm()) => match token.made > stop.at {
            true => Ok(()),
            false => Err(Refusal::NotAdmitted(format!(
                "the join token was made before the device was stopped on {}; ask the administrator for a new one",
                stop.at
            ))),
        },
        Some(_) | None => stopped(proven.ek(), &tpm.record),
    }
}

async fn new(
    plant: &Plant,
    (proven, by): (&Proven, &Keyed),
    token: &Token,
    name: DeviceName,
    txn: Txn,
) -> Result<Placed, Refusal> {
    lifted(proven, None, token)?;
    let txn = told_if_lifted(plant, proven, token, &name, txn);
    let by_whom = format!("join token of {}", token.by);
    created(plant, (proven, by), (name, token.zones.clone(), by_whom), txn).await
}

/// A device of this name that there was none of, in these zones, let in by whom it says.
pub(in crate::session) async fn created(
    plant: &Plant,
    (proven, by): (&Proven, &Keyed),
    (name, zones, by_whom): (DeviceName, Vec<ZoneName>, String),
    txn: Txn,
) -> Result<Placed, Refusal> {
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
        other_eks: Vec::new(),
    };
    let txn = txn.absent(device_key(&name)).put(ek_key(proven.ek()), stored(&stand_in)?);
    let device = Device::new(Admitted {
        name,
        ek: *proven.ek(),
        prover: Prover::Key(KeyLine::default()),
        zones,
        by: by_whom,
        at: plant.now(),
    });
    Ok(Placed { device: begun(plant, by, device), rebound: false, txn })
}

/// The same device with another line of keys: an administrator made a token for it after it was admitted last.
async fn again(
    plant: &Plant,
    (proven, by): (&Proven, &Keyed),
    token: &Token,
    name: &DeviceName,
    txn: Txn,
) -> Result<Placed, Refusal> {
    let (held, line) = known(plant, proven, name).await?;
    lifted(proven, Some(&held.record), token)?;
    if was_of(plant, name, line, by) {
        return Err(Refusal::NotAdmitted(format!(
            "{name} has this key already, and whoever copied it has it too; delete the state of {name}, `touchstone-attestor reset` does it, and start its attestor again"
        )));
    }
    if token.made <= held.record.admitted_at {
        return Err(bad_token());
    }
    let Held { key, version, record: mut device } = held;
    device.end_move();
    // Who made the token may reach other zones than those that the device was moved to since.
    let set = |zones: &[ZoneName]| zones.iter().cloned().collect::<BTreeSet<_>>();
    if set(&token.zones) != set(&device.zones) {
        return Err(Refusal::Conflict(format!(
            "{name} is in other zones than its join token says; make a token for the zones that it is in"
        )));
    }
    let mut txn = expect_tpm(txn.unchanged(key, version), proven);
    if let Some(tpm) = proven.tpm() {
        let free = Tpm { quarantine: None, ..tpm.record.clone() };
        txn = told_if_lifted(plant, proven, token, name, txn).put(tpm.key.clone(), stored(&free)?);
    }
    let device = Device {
        admitted_by: format!("join token of {}", token.by),
        // Lines of keys are told apart by it, also when the clock is set back.
        admitted_at: plant.now().max(token.made),
        ..device
    };
    Ok(Placed { device: begun(plant, by, device), rebound: true, txn })
}

/// Whether a line of keys would begin with one of another: every key but the first has a ticket when it is used.
fn was_of(plant: &Plant, name: &DeviceName, line: KeyLine, by: &Keyed) -> bool {
    let key = by.proof.key();
    [line.first, line.former].contains(&Some(key)) || Ticket::open(plant, &by.ticket, name, key).is_some()
}

/// `txn` with an event, if the token ends a quarantine.
fn told_if_lifted(plant: &Plant, proven: &Proven, token: &Token, name: &DeviceName, txn: Txn) -> Txn {
    if proven.tpm().is_none_or(|tpm| tpm.record.quarantine.is_none()) {
        return txn;
    }
    let text = format!("it joined again with a token of {}: its quarantine ends", token.by);
    txn.audit(Event::new(plant.now(), BROKER, "device.joined-again", name.as_str(), &text).entry())
}

/// The device at the beginning of a line of keys.
fn begun(plant: &Plant, by: &Keyed, device: Device) -> Device {
    let line = KeyLine { first: Some(by.proof.key()), ..KeyLine::default() };
    let used = Turn { epoch: plant.keys.load().epoch, line: device.admitted_at, generation: 0 };
    followed(plant, &by.proof, device, line, used)
}
