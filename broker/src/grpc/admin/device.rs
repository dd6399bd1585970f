//! Devices: convert, call, convert.

use std::collections::HashMap;

use policy::appraisal::AppraisalRecord;
use policy::appraisal::claims::{Claim, Tier};
use policy::id::ZoneName;
use policy::reference::release::ReleaseId;
use proto::{convert, v1};

use super::{parse, progress};
use crate::admin::device::seen::seen as as_seen;
use crate::admin::device::view::{self, DeviceView, Filter, Seen, State};
use crate::admin::device::{DeviceRef, admit as admission, result as last, stop, vouch, why};
use crate::admin::golden::running;
use crate::admin::{Actor, overriding};
use crate::plant::Plant;
use crate::record::device::{Attested, HeldCertificate, Inventory, Pending, Prover, Source};
use crate::record::idevid::BoxIdentity;
use crate::session::{Refusal, role_to_wire};

pub(super) async fn list(
    plant: &Plant,
    actor: &Actor,
    request: v1::ListDevicesRequest,
) -> Result<v1::ListDevicesResponse, Refusal> {
    if request.after.len() > 80 || !request.after.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Refusal::malformed("after: pass the `next` of the page before".to_owned()));
    }
    let filter = Filter {
        zone: parse::optional("zone", &request.zone)?,
        state: optional_state(&request.state)?,
        after: request.after,
        limit: usize::try_from(request.limit).unwrap_or(usize::MAX),
    };
    let machines = match filter.after.is_empty() {
        true => super::vouch::of(plant, actor, filter.zone.as_ref(), &request.state).await?,
        false => Vec::new(),
    };
    // Whether a device's broker is away is known to the device alone, and no device is vouched for.
    if filter.state.is_none() && !request.state.is_empty() {
        return Ok(v1::ListDevicesResponse { machines, ..v1::ListDevicesResponse::default() });
    }
    let page = view::page(plant, actor.scope(), &filter).await?;
    let devices = page.devices.iter().map(|seen| device(seen, &[])).collect();
    Ok(v1::ListDevicesResponse { devices, next: page.next.unwrap_or_default(), machines })
}

fn optional_state(word: &str) -> Result<Option<State>, Refusal> {
    let found = State::ALL.into_iter().find(|state| state.name() == word);
    let of_no_device =
        || word.is_empty() || word == "holding" || vouch::Standing::ALL.iter().any(|one| one.name() == word);
    if found.is_some() || of_no_device() {
        return Ok(found);
    }
    let names: Vec<&str> = State::ALL.iter().map(|state| state.name()).collect();
    Err(Refusal::malformed(format!("state: write one of {}, holding, vouched, ended", names.join(", "))))
}

pub(super) async fn one(
    plant: &Plant,
    actor: &Actor,
    request: v1::GetDeviceRequest,
) -> Result<v1::GetDeviceResponse, Refusal> {
    let seen = view::one(plant, actor.scope(), &parse::device("device", &request.name)?).await?;
    let records = match &seen {
        Seen::Device(view) => match &view.attested {
            Some(attested) => crate::session::recorded::results(plant, attested).await,
            None => Vec::new(),
        },
        Seen::Pending(_) => Vec::new(),
    };
    let mut why = why::why(&seen, &records, plant.now());
    let held = match &seen {
        Seen::Device(view) => overriding::of(plant, &view.device.name).await?,
        Seen::Pending(_) => None,
    };
    if let Some(held) = &held {
        why.sentences.insert(0, overriding::words(held));
    }
    let releases = running::of_device(plant, &seen).await?;
    let names = |releases: Vec<ReleaseId>| releases.iter().map(ToString::to_string).collect();
    Ok(v1::GetDeviceResponse {
        device: Some(device(&seen, &records)),
        seen: Some(parse::to_wire(as_seen(&seen))),
        why: why.sentences,
        next_command: why.next_command,
        r#override: held.as_ref().map(super::overriding::state),
        wanted: names(releases.wanted),
        accepted: names(releases.accepted),
        running: names(releases.running),
        health: match &seen {
            Seen::Device(view) => progress::health(plant, &view.device.name).await?,
            Seen::Pending(_) => None,
        },
        rollouts: match &seen {
            Seen::Device(view) => progress::rollouts(plant, &view.device.name).await?,
            Seen::Pending(_) => Vec::new(),
        },
        failing_hooks: seen.failing_hooks(),
    })
}

pub(super) async fn admit(
    plant: &Plant,
    actor: &Actor,
    request: v1::AdmitDeviceRequest,
) -> Result<v1::AdmitDeviceResponse, Refusal> {
    let wanted = if request.ek_digest.is_empty() {
        parse::device("device", &request.device)?
    } else {
        DeviceRef::Ek(parse::digest("EK digest", &request.ek_digest)?)
    };
    let request = admission::Request {
        device: wanted,
        name: parse::optional("name", &request.name)?,
        zones: parse::texts("zone", &request.zones)?,
        seen: parse::seen(request.seen)?,
    };
    let name = admission::admit(plant, actor, &request).await?;
    match view::one(plant, actor.scope(), &DeviceRef::Name(name)).await {
        Ok(seen) => Ok(v1::AdmitDeviceResponse { device: Some(device(&seen, &[])) }),
        // An approval that is only tried admits nobody.
        Err(Refusal::NotFound(_)) => Ok(v1::AdmitDeviceResponse { device: None }),
        Err(refusal) => Err(refusal),
    }
}

pub(super) async fn quarantine(
    plant: &Plant,
    actor: &Actor,
    request: v1::QuarantineDeviceRequest,
) -> Result<v1::QuarantineDeviceResponse, Refusal> {
    let name = parse::text("device", &request.name)?;
    let revoked = stop::quarantine(plant, actor, &name, &request.reason).await?;
    Ok(v1::QuarantineDeviceResponse { revoked: parse::count(revoked) })
}

pub(super) async fn readmit(
    plant: &Plant,
    actor: &Actor,
    request: v1::ReadmitDeviceRequest,
) -> Result<v1::ReadmitDeviceResponse, Refusal> {
    let name = parse::text("device", &request.name)?;
    let seen = parse::seen(request.seen)?;
    let next = stop::readmit(plant, actor, (&name, seen.as_ref()), &request.reason).await?;
    Ok(v1::ReadmitDeviceResponse { next_command: next.unwrap_or_default() })
}

pub(super) async fn expect_clear(
    plant: &Plant,
    actor: &Actor,
    request: v1::ExpectClearRequest,
) -> Result<v1::ExpectClearResponse, Refusal> {
    let name = parse::text("device", &request.name)?;
    let until = stop::expect_clear(plant, actor, &name, request.lifetime_seconds, &request.reason).await?;
    Ok(v1::ExpectClearResponse { until: until.0 })
}

pub(super) async fn attest(
    plant: &Plant,
    actor: &Actor,
    request: v1::AttestDeviceRequest,
) -> Result<v1::AttestDeviceResponse, Refusal> {
    stop::attest_now(plant, actor, &parse::text("device", &request.name)?).await?;
    Ok(v1::AttestDeviceResponse {})
}

pub(super) async fn result(
    plant: &Plant,
    actor: &Actor,
    request: v1::GetResultRequest,
) -> Result<v1::GetResultResponse, Refusal> {
    let name = parse::text("device", &request.device)?;
    let zone: Option<ZoneName> = parse::optional("zone", &request.zone)?;
    let last::Recorded { device, record, ear } =
        last::result(plant, actor.scope(), &name, zone.as_ref(), request.ear).await?;
    let claims = record.claims.iter().map(|(claim, value)| (claim.name().to_owned(), value.0.into()));
    Ok(v1::GetResultResponse {
        device: device.to_string(),
        zone: record.zone.to_string(),
        at: record.at.0,
        verdict: record.verdict.to_string(),
        claims: claims.collect(),
        findings: record.findings.iter().map(convert::finding).collect(),
        release: record.release.as_ref().map(ToString::to_string).unwrap_or_default(),
        expires_at: ear.as_ref().map_or(0, |ear| ear.expires.0),
        ear: ear.map(|ear| ear.token).unwrap_or_default(),
    })
}

fn device(seen: &Seen, records: &[AppraisalRecord]) -> v1::Device {
    match seen {
        Seen::Pending(pending) => waiting(pending),
        Seen::Device(view) => known(view, records),
    }
}

fn waiting(pending: &Pending) -> v1::Device {
    v1::Device {
        name: pending.name.as_ref().map(ToString::to_string).unwrap_or_default(),
        state: State::Pending.name().to_owned(),
        zones: pending.zones.iter().map(ToString::to_string).collect(),
        ek_digest: pending.ek.0.to_vec(),
        last_seen: pending.since.0,
        ..v1::Device::default()
    }
}

fn known(view: &DeviceView, records: &[AppraisalRecord]) -> v1::Device {
    let device = &view.device;
    let service = |(name, port): (&String, &u16)| v1::Service { name: name.clone(), port: (*port).into() };
    v1::Device {
        name: device.name.to_string(),
        state: view.state.name().to_owned(),
        zones: device.zones.iter().map(ToString::to_string).collect(),
        ek_digest: device.ek.0.to_vec(),
        inventory: inventory(&view.inventory),
        services: device.services.iter().map(service).collect(),
        attested: view.attested.as_ref().map(|attested| attestation(attested, view, records)),
        svids: view.certificates.iter().map(|(zone, held)| certificate(zone, held)).collect(),
        admitted_at: device.admitted_at.0,
        admitted_by: device.admitted_by.clone(),
        last_seen: view.attested.as_ref().map_or(0, |attested| attested.at.0),
        attestation_counter: device.counter,
        addresses: super::day_two::addresses_of(view),
        r#move: super::day_two::move_of(view),
        without_tpm: !device.prover.is_tpm(),
        key_generation: match device.prover {
            Prover::Tpm => 0,
            Prover::Key(line) => line.generation,
        },
        idevid: view.idevid.as_ref().map(box_identity),
    }
}

fn box_identity(known: &BoxIdentity) -> v1::BoxIdentity {
    v1::BoxIdentity {
        digest: known.digest.0.to_vec(),
        subject: known.subject.clone(),
        serial: known.serial.clone(),
        manufacturer: known.manufacturer.clone(),
        bound_by: known.tie.name().to_owned(),
        since: known.since.0,
    }
}

fn inventory(inventory: &Inventory) -> Vec<v1::InventoryValue> {
    let source = |source| match source {
        Source::Vouched => "vouched",
        Source::Declared => "declared",
        Source::Attested => "attested",
    };
    let values = inventory.values.iter().map(|(name, value)| v1::InventoryValue {
        name: name.clone(),
        value: value.value.clone(),
        source: source(value.source).to_owned(),
        at: value.at.0,
    });
    values.collect()
}

fn certificate(zone: &ZoneName, held: &HeldCertificate) -> v1::Svid {
    v1::Svid {
        zone: zone.to_string(),
        role: role_to_wire(held.role).into(),
        chain: Vec::new(),
        not_before: held.validity.not_before.0,
        not_after: held.validity.not_after.0,
        spki_digest: held.spki.0.to_vec(),
        service: held.service.as_ref().map(ToString::to_string).unwrap_or_default(),
        workload: held.workload.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

fn attestation(attested: &Attested, view: &DeviceView, records: &[AppraisalRecord]) -> v1::Attested {
    let mut claims: HashMap<String, i32> = HashMap::new();
    let mut findings: Vec<v1::Finding> = Vec::new();
    let mut not_appraised: Vec<String> = Vec::new();
    for record in records {
        claims.extend(record.claims.iter().map(|(claim, value)| (claim.name().to_owned(), value.0.into())));
        for finding in record.findings.iter().map(convert::finding) {
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
        for pcr in record.not_appraised.iter().map(|pcr| format!("PCR {pcr}")) {
            if !not_appraised.contains(&pcr) {
                not_appraised.push(pcr);
            }
        }
    }
    v1::Attested {
        at: attested.at.0,
        verdict: attested.verdict.clone(),
        claims,
        findings,
        release: attested.release.clone().unwrap_or_default(),
        decision: attested.decision.name().to_owned(),
        evidence_digest: attested.evidence.0.to_vec(),
        reset_count: attested.reset_count.into(),
        restart_count: attested.restart_count.into(),
        firmware_version: attested.firmware_version,
        hardware: hardware(view, records),
        not_appraised,
    }
}

fn hardware(view: &DeviceView, records: &[AppraisalRecord]) -> String {
    let Some(record) = records.first() else { return String::new() };
    if !view.device.prover.is_tpm() {
        return match &view.idevid {
            Some(_) => "no TPM: a key in software, another after each proof; joined by an IDevID",
            None => "no TPM: a key in software, another after each proof",
        }
        .to_owned();
    }
    let proven = record.claims.value(Claim::Hardware).tier() == Tier::Affirming;
    match (proven, view.tpm.registered, view.tpm.manufacturer) {
        (true, true, _) => "TPM with a registered EK",
        (true, false, Some(_)) => "TPM with an EK that its manufacturer certifies",
        (true, false, None) => "TPM of a box whose manufacturer certifies it by an IDevID",
        (false, _, _) => "nothing vouches for the TPM",
    }
    .to_owned()
}
