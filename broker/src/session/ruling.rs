//! What each zone makes of a device's evidence.

use policy::appraisal::{AppraisalRecord, Finding, appraise, appraise_without_tpm};
use policy::id::{DeviceName, ZoneName};
use policy::time::UnixTime;
use policy::tpm::clock::{ClockAlarm, ClockInfo, ClockOrder};
use policy::zone::{Admission, Zone, decide};

use super::Refusal;
use super::complete::commit;
use super::proof::ProvenBy;
use crate::audit::Event;
use crate::drill;
use crate::golden::Golden;
use crate::plant::Plant;
use crate::record::device::{Attested, Decision, Device, attested_key};
use crate::record::overriding::Excused;
use crate::record::zone::zone_key;
use crate::record::{Held, fetch, stored};
use crate::store::Txn;

/// One zone's decision, with the record of how it came about.
#[derive(Debug)]
pub struct Ruling {
    /// The zone and the version it was decided under.
    pub zone: Held<Zone>,
    /// What the appraisal found.
    pub record: AppraisalRecord,
    /// What the zone makes of it.
    pub admission: Admission,
}

impl Ruling {
    /// For the device's record.
    #[must_use]
    pub fn decision(&self) -> Decision {
        match &self.admission {
            Admission::Refused(_) => Decision::Refused,
            Admission::Trusted(trusted) if trusted.would_refuse().is_empty() => Decision::Trusted,
            Admission::Trusted(_) => Decision::WouldRefuse,
        }
    }

    /// What it would be refused for without an override.
    #[must_use]
    pub fn overridden(&self) -> &[Finding] {
        match &self.admission {
            Admission::Refused(_) => &[],
            Admission::Trusted(trusted) => trusted.overridden(),
        }
    }

    /// The reasons against the device: those it is refused for, or would be.
    #[must_use]
    pub fn reasons(&self) -> &[Finding] {
        match &self.admission {
            Admission::Refused(findings) => findings,
            Admission::Trusted(trusted) => trusted.would_refuse(),
        }
    }
}

/// The decision of every zone of `device` on what was proven.
pub async fn rule(
    plant: &Plant,
    device: &Device,
    proven: &ProvenBy,
    golden: &Golden,
    excused: &Excused,
    now: UnixTime,
) -> Result<Vec<Ruling>, Refusal> {
    let mut rulings = Vec::new();
    for name in &device.zones {
        let zone = zone(plant, name).await?;
        let policy = zone.record.policy();
        let result = match proven {
            ProvenBy::Tpm(by) => appraise(by.evidence(), &golden.values, &policy, now),
            ProvenBy::Key(by) => appraise_without_tpm(&by.proof, &policy, now),
        };
        rulings.push(Ruling {
            record: result.record().clone(),
            admission: decide(&result, excused.in_zone(name)),
            zone,
        });
    }
    drill::corrupt(plant, device, &mut rulings, now);
    Ok(rulings)
}

async fn zone(plant: &Plant, name: &ZoneName) -> Result<Held<Zone>, Refusal> {
    fetch(plant.store.as_ref(), zone_key(name)).await?.ok_or_else(|| {
        Refusal::NotAdmitted(format!(
            "zone {name} is not there any more; make it with `touchstone zone create {name}`, or let the device go to another with `touchstone device move`"
        ))
    })
}

/// The last attestation of `device`, unless the TPM's counters say that this is another TPM state
/// than the one that made it: a clone, or an unannounced TPM2_Clear. What was announced or forgiven is used up.
pub async fn in_order(
    plant: &Plant,
    device: &mut Device,
    clock: &ClockInfo,
) -> Result<Option<Held<Attested>>, Refusal> {
    let last: Option<Held<Attested>> = fetch(plant.store.as_ref(), attested_key(&device.name)).await?;
    let forgiven = std::mem::take(&mut device.clock_excused);
    let Some(held) = &last else { return Ok(None) };
    let before = ClockInfo {
        clock_ms: held.record.clock,
        reset_count: held.record.reset_count,
        restart_count: held.record.restart_count,
        safe: true,
    };
    match ClockOrder::of(&before, clock) {
        ClockOrder::Alarm(_) if forgiven => Ok(last),
        ClockOrder::Alarm(ClockAlarm::ResetCountFell { .. })
            if device.clear_expected.take_if(|until| plant.now() < *until).is_some() =>
        {
            Ok(last)
        }
        ClockOrder::Alarm(alarm) => Err(raise_alarm(plant, device, held.clone(), alarm).await?),
        ClockOrder::Continues | ClockOrder::Rebooted => Ok(last),
    }
}

/// Puts a clone alarm on record, once for each attestation that it follows: a device that asks again is no
/// news. The attestation itself stays what it was. Returns what the device is told.
async fn raise_alarm(
    plant: &Plant,
    device: &Device,
    mut last: Held<Attested>,
    alarm: ClockAlarm,
) -> Result<Refusal, Refusal> {
    if !last.record.clone_alarm {
        last.record.clone_alarm = true;
        let name = device.name.as_str();
        let event = Event::new(plant.now(), name, "device.clone-alarm", name, &alarm.to_string());
        let txn = Txn::new().unchanged(last.key.clone(), last.version);
        commit(plant, txn.put(last.key, stored(&last.record)?).audit(event.entry())).await?;
    }
    Ok(Refusal::EvidenceInvalid(format!("clone alarm: {alarm}; {}", remedy(alarm, &device.name))))
}

/// What an administrator does about a clone alarm, once it is known what happened.
#[must_use]
pub fn remedy(alarm: ClockAlarm, name: &DeviceName) -> String {
    match alarm {
        ClockAlarm::ResetCountFell { .. } => {
            format!(
                "if it was cleared on purpose, `touchstone device expect-clear {name} --reason TEXT` accepts that once"
            )
        }
        ClockAlarm::RestartCountFell { .. } | ClockAlarm::ClockFell { .. } => {
            format!(
                "once the copy is found, `touchstone device readmit {name} --reason TEXT` accepts its counters once"
            )
        }
    }
}
