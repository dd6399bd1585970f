//! Devices without a TPM: whose key it is, and what the use of a former one means.
//!
//! Promises: such a device joins with a token that was made for its name and for a device without a TPM, and for zones
//! that ask for none; a name of a device with a TPM is never its own. Its key is followed by another with every proof.
//! A key that was followed and is used nevertheless was copied: both copies are stopped until a person decides, and then
//! neither goes on: the device joins again. A device whose answers are lost raises no alarm, because it hears which key is
//! expected, and has that one, before it proves itself.

mod alarm;
mod joining;
pub(super) mod pace;
mod ticket;

use policy::digest::Digest;
use policy::evidence::device_key::KeyProof;
use policy::evidence::key_order::{Turn, Use};
use policy::id::DeviceName;
use policy::zone::Zone;

pub(super) use self::joining::{created, takes};
pub(super) use self::ticket::Ticket;
use super::Refusal;
use super::admission::{Placed, expect_tpm, stopped};
use super::challenge::{Challenge, Purpose};
use super::proof::{Keyed, Proven};
use crate::plant::Plant;
use crate::record::device::{Admission, BoundAk, Device, KeyLine, Prover, device_key};
use crate::record::{Held, fetch};
use crate::store::Txn;

/// The place of the device whose key answered.
pub(super) async fn place(plant: &Plant, proven: &Proven, by: &Keyed) -> Result<Placed, Refusal> {
    match proven.challenge().purpose {
        Purpose::Enroll => joining::joined(plant, proven, by).await,
        Purpose::Renew | Purpose::OnDemand => renewed(plant, proven, by).await,
    }
}

fn not_stopped(proven: &Proven) -> Result<(), Refusal> {
    proven.tpm().map_or(Ok(()), |tpm| stopped(proven.ek(), &tpm.record))
}

/// The device as its record has it now, and its keys.
async fn known(
    plant: &Plant,
    proven: &Proven,
    name: &DeviceName,
) -> Result<(Held<Device>, KeyLine), Refusal> {
    let held: Held<Device> = fetch(plant.store.as_ref(), device_key(name))
        .await?
        .ok_or_else(|| Refusal::NotFound(format!("there is no device {name}; it has to enroll")))?;
    let Some(line) = held.record.key_line() else {
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
    Ok((held, line))
}

async fn renewed(plant: &Plant, proven: &Proven, by: &Keyed) -> Result<Placed, Refusal> {
    not_stopped(proven)?;
    let name = proven.challenge().device.clone();
    let name = name.ok_or(Refusal::MustReattest("the challenge names no device"))?;
    let (held, line) = known(plant, proven, &name).await?;
    let used = match key_use(plant, &held.record, line, by) {
        KeyUse::Its(used) => used,
        KeyUse::Copied(former) => {
            return Err(alarm::stop_both(plant, proven, held, (former, line.generation)).await?);
        }
        KeyUse::Repeated => return Err(taken()),
        KeyUse::Nobodys => return Err(not_its_own(&name)),
    };
    let txn = expect_tpm(Txn::new().unchanged(held.key.clone(), held.version), proven);
    let device = followed(plant, &by.proof, held.record, line, used);
    Ok(Placed { device, rebound: false, txn })
}

/// What the use of a key means.
enum KeyUse {
    /// It is the device's, of this turn.
    Its(Turn),
    /// It was the device's and was followed by the key that is offered as the next once more: the answer was lost.
    Repeated,
    /// It was the device's and was followed, with this number.
    Copied(u64),
    /// It is no key of the device, or of a line of keys that ended.
    Nobodys,
}

/// What it means that `by` is used for `device`. The one before the current key and the first are known without a
/// ticket: the device had none for them while an answer was lost.
fn key_use(plant: &Plant, device: &Device, line: KeyLine, by: &Keyed) -> KeyUse {
    let key = by.proof.key();
    // Its line ended, and no key is expected until it joins again.
    let (Some(current), Some(_)) = (device.turn(), &device.ak) else { return KeyUse::Nobodys };
    if device.has_key(key) {
        return KeyUse::Its(current);
    }
    if device.has_key(by.proof.next()) {
        return KeyUse::Repeated;
    }
    if line.former == Some(key) {
        return KeyUse::Copied(line.generation.saturating_sub(1));
    }
    if line.first == Some(key) {
        return KeyUse::Copied(0);
    }
    let Some(used) = Ticket::open(plant, &by.ticket, &device.name, key) else { return KeyUse::Nobodys };
    match current.when_used(used) {
        Use::Later => KeyUse::Its(used),
        Use::Copied => KeyUse::Copied(used.generation),
        Use::Ended => KeyUse::Nobodys,
    }
}

/// The device finds its way with the next challenge, which expects the key that it offered.
const fn taken() -> Refusal {
    Refusal::MustReattest("this proof was taken already, and its answer lost")
}

fn not_its_own(name: &DeviceName) -> Refusal {
    Refusal::NotAdmitted(format!(
        "this key is not {name}'s; if {name} lost its key, `touchstone token create --without-tpm --device {name} --zone \
         ZONE` lets it join again"
    ))
}

/// Refuses a key that is not and never was that of the device which the challenge is for, and one that comes too often.
/// `place` decides again, in the transaction.
pub(super) async fn ask_whose(plant: &Plant, challenge: &Challenge, by: &Keyed) -> Result<(), Refusal> {
    let (Purpose::Renew | Purpose::OnDemand, Some(name)) = (challenge.purpose, &challenge.device) else {
        return Ok(());
    };
    let held: Option<Held<Device>> = fetch(plant.store.as_ref(), device_key(name)).await?;
    // Where it is gone, the reason is another one.
    let Some(device) = held.map(|held| held.record) else { return Ok(()) };
    let Some(line) = device.key_line() else { return Ok(()) };
    match key_use(plant, &device, line, by) {
        KeyUse::Its(_) => pace::allowed(line, plant.now()),
        KeyUse::Repeated => Err(taken()),
        KeyUse::Copied(_) => Ok(()),
        KeyUse::Nobodys => Err(not_its_own(name)),
    }
}

/// The device with the next key in the place of the one that it used.
pub(super) fn followed(plant: &Plant, proof: &KeyProof, device: Device, line: KeyLine, used: Turn) -> Device {
    let (now, next) = (plant.now(), used.next(plant.keys.load().epoch));
    // A broker that was restored knows nothing of how the line began that the device is in.
    let first: Option<Digest> = line.first.filter(|_| used.line == device.admitted_at);
    let line = KeyLine {
        generation: next.generation,
        epoch: next.epoch,
        former: Some(proof.key()),
        first,
        paid_until: pace::paid(line, now),
    };
    Device {
        ak: Some(BoundAk {
            public: proof.next_der().into(),
            name: proof.next().0.to_vec().into(),
            since: now,
        }),
        prover: Prover::Key(line),
        admitted_at: used.line,
        counter: device.counter.saturating_add(1),
        answered: device.asked,
        clock_excused: false,
        ..device
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
