//! The last appraisal of a device in one zone, and the same as a signed EAR.

use policy::appraisal::AppraisalRecord;
use policy::appraisal::ear::{Ear, VerifierId};
use policy::id::{DeviceName, ZoneName};
use policy::time::UnixTime;

use super::view::{DeviceView, State, device};
use crate::admin::reach::Scope;
use crate::ear::{EarKey, Signed};
use crate::golden;
use crate::plant::Plant;
use crate::record::device::Attested;
use crate::record::zone::zone_key;
use crate::record::{Held, fetch};
use crate::session::Refusal;
use crate::session::kept;
use crate::session::recorded::results;

/// Who made this Verifier, in its results.
const DEVELOPER: &str = "Touchstone";

/// An appraisal that was recorded.
#[derive(Debug)]
pub struct Recorded {
    /// The device.
    pub device: DeviceName,
    /// What was found; its zone is the one asked for.
    pub record: AppraisalRecord,
    /// The signed result, if it was asked for.
    pub ear: Option<SignedEar>,
}

/// A signed result.
#[derive(Debug)]
pub struct SignedEar {
    /// JWT.
    pub token: String,
    /// When it ends.
    pub expires: UnixTime,
}

/// The last appraisal of `name` in `zone`, or in its only zone; signed now if `sign`.
pub async fn result(
    plant: &Plant,
    scope: &Scope,
    name: &DeviceName,
    zone: Option<&ZoneName>,
    sign: bool,
) -> Result<Recorded, Refusal> {
    let view = device(plant, scope, name).await?;
    let attested = view.attested.as_ref().ok_or_else(|| {
        Refusal::NotFound(format!("{name} has not attested yet, so there is no result; start its attestor"))
    })?;
    let record = choose(results(plant, attested).await, name, zone)?;
    let ear = match sign {
        true => Some(signed(plant, &view, attested, &record).await?),
        false => None,
    };
    Ok(Recorded { device: name.clone(), record, ear })
}

fn choose(
    records: Vec<AppraisalRecord>,
    name: &DeviceName,
    zone: Option<&ZoneName>,
) -> Result<AppraisalRecord, Refusal> {
    let zones: Vec<String> = records.iter().map(|record| record.zone.to_string()).collect();
    let mut wanted = records.into_iter().filter(|record| zone.is_none_or(|zone| record.zone == *zone));
    match (wanted.next(), wanted.next()) {
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) => Err(Refusal::malformed(format!(
            "{name} was appraised in several zones; name one with --zone: {}",
            zones.join(", ")
        ))),
        (None, _) => Err(Refusal::NotFound(format!(
            "there is no result of {name}{}; ask for one with `touchstone device attest {name}`",
            zone.map(|zone| format!(" in zone {zone}")).unwrap_or_default()
        ))),
    }
}

async fn signed(
    plant: &Plant,
    view: &DeviceView,
    attested: &Attested,
    record: &AppraisalRecord,
) -> Result<SignedEar, Refusal> {
    let name = &view.device.name;
    stands(view)?;
    if let Some(change) = undermined(plant, view, attested, record).await? {
        return Err(Refusal::NotFound(format!(
            "the last result of {name} is of {} and {change}; ask for a new one with `touchstone device attest {name}`",
            record.at
        )));
    }
    let expires = expiry(plant, view, record).await?;
    if expires <= plant.now() {
        return Err(Refusal::NotFound(format!(
            "the last result of {name} is of {} and ended at {expires}; ask for a new one with `touchstone device attest {name}`",
            record.at
        )));
    }
    let verifier = VerifierId {
        developer: DEVELOPER.to_owned(),
        build: format!("touchstone-broker {}", env!("CARGO_PKG_VERSION")),
    };
    let nonce = nonce(plant, attested).await;
    let ear = Ear::of(record, nonce.as_deref(), verifier, expires);
    let domain = plant.domain();
    let sub = domain.trust_domain(&record.zone).device(name).to_string();
    let signed = Signed { iss: domain.to_string(), sub, ear };
    let key = EarKey::open(plant).await.map_err(Refusal::internal)?;
    let token = key.sign(&signed).map_err(Refusal::internal)?;
    Ok(SignedEar { token, expires })
}

/// A result of before says nothing about a device that was stopped or fell silent since.
fn stands(view: &DeviceView) -> Result<(), Refusal> {
    let name = view.device.name.to_string();
    match (view.state, &view.tpm.quarantine) {
        (State::Trusted | State::Refused, _) => Ok(()),
        (State::Quarantined, Some(stop)) => Err(Refusal::Quarantined {
            device: name,
            since: stop.at,
            by: stop.by.clone(),
            reason: stop.reason.clone(),
        }),
        (State::Retired, _) => Err(Refusal::Retired(name)),
        (state, _) => Err(Refusal::NotFound(format!(
            "{name} is {}, so its last result no longer speaks for it; ask for a new one with `touchstone device attest {name}`",
            state.name()
        ))),
    }
}

/// What changed since the appraisal under which a new signature would hide it, if anything did.
async fn undermined(
    plant: &Plant,
    view: &DeviceView,
    attested: &Attested,
    record: &AppraisalRecord,
) -> Result<Option<String>, Refusal> {
    if !view.device.zones.contains(&record.zone) {
        return Ok(Some(format!("the device left zone {} since", record.zone)));
    }
    let golden = golden::current(plant).await.map_err(Refusal::internal)?;
    let changed = golden.n != attested.golden;
    Ok(changed.then(|| "the golden releases or their states were changed since".to_owned()))
}

/// When a result ends: when the zone wants the next proof, and never after the certificates that hang
/// on it.
async fn expiry(plant: &Plant, view: &DeviceView, record: &AppraisalRecord) -> Result<UnixTime, Refusal> {
    let zone: Option<Held<policy::zone::Zone>> = fetch(plant.store.as_ref(), zone_key(&record.zone)).await?;
    let zone = zone.ok_or_else(|| super::no_zone(&record.zone))?.record;
    let window = record.at.plus(zone.timing.reattest_every());
    let of_zone = view.certificates.iter().filter(|(zone, _)| *zone == record.zone);
    let certificates = of_zone.map(|(_, held)| held.validity.not_after).max();
    Ok(certificates.map_or(window, |end| end.min(window)))
}

/// The qualifying data of the last quote; none if an older broker kept it with the evidence, which is gone.
async fn nonce(plant: &Plant, attested: &Attested) -> Option<Vec<u8>> {
    match &attested.nonce {
        Some(nonce) => Some(nonce.0.clone()),
        None => kept::nonce(&kept::own(plant, attested.evidence).await.ok()?),
    }
}
