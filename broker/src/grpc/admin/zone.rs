//! Zones, conduits and authorities: convert, call, convert.

use policy::time::UnixTime;
use policy::zone::IntraZone;
use proto::{convert, v1};

use super::graph::reachable;
use super::parse;
use crate::admin::conduit::Unoffered;
use crate::admin::conduit::why::{Answer, why};
use crate::admin::{Actor, conduit, enforcement, zone};
use crate::plant::Plant;
use crate::record::zone::AuthorityState;
use crate::session::{Refusal, role_to_wire};
use crate::token_key::{make_all, published};
use crate::withdrawal;

/// Devices that one forecast names.
const MAX_TOLD: usize = 1000;

pub(super) async fn create(
    plant: &Plant,
    actor: &Actor,
    request: v1::CreateZoneRequest,
) -> Result<v1::CreateZoneResponse, Refusal> {
    let sent = request.zone.ok_or_else(|| Refusal::malformed("zone is missing".to_owned()))?;
    let zone = convert::zone_from_wire(&sent).map_err(malformed)?;
    zone::create(plant, actor, &zone, request.dry_run).await?;
    Ok(v1::CreateZoneResponse { zone: Some(convert::zone_to_wire(&zone)) })
}

fn malformed(error: convert::ConvertError) -> Refusal {
    Refusal::malformed(error.to_string())
}

pub(super) async fn list(
    plant: &Plant,
    actor: &Actor,
    _: v1::ListZonesRequest,
) -> Result<v1::ListZonesResponse, Refusal> {
    let all = zone::all(plant, actor.scope()).await?;
    Ok(v1::ListZonesResponse { zones: all.iter().map(convert::zone_to_wire).collect() })
}

pub(super) async fn one(
    plant: &Plant,
    actor: &Actor,
    request: v1::GetZoneRequest,
) -> Result<v1::GetZoneResponse, Refusal> {
    let name = parse::text("zone", &request.name)?;
    // Read before what is shown: what changed in between counts as not seen.
    let seen = zone::seen(plant, &name).await?;
    let view = zone::one(plant, actor.scope(), &name).await?;
    let lifetime = view.zone.timing.certificate_lifetime();
    Ok(v1::GetZoneResponse {
        zone: Some(convert::zone_to_wire(&view.zone)),
        conduits: view.conduits.iter().map(convert::conduit_to_wire).collect(),
        devices: parse::count(view.devices),
        certificate_seconds: u32::try_from(lifetime).unwrap_or(u32::MAX),
        seen: Some(parse::to_wire(seen)),
    })
}

pub(super) async fn set(
    plant: &Plant,
    actor: &Actor,
    request: v1::SetZoneRequest,
) -> Result<v1::SetZoneResponse, Refusal> {
    let (name, dry_run) = (parse::text("zone", &request.name)?, request.dry_run);
    let settings = settings(request)?;
    if settings.is_empty() {
        return Err(Refusal::malformed(
            "say what to set of the zone: SetZoneRequest names what there is".to_owned(),
        ));
    }
    if settings.mode.is_some() && (settings.subnets.is_some() || settings.name_constraint.is_some()) {
        return Err(Refusal::malformed(
            "set mode, and what stands in the authorities (subnets, name_constraint), one after the other"
                .to_owned(),
        ));
    }
    let changed = zone::set(plant, actor, &name, &settings, dry_run).await?;
    let zone = changed.zone;
    let outside = match settings.subnets {
        Some(_) => withdrawal::outside(plant, &zone).await?,
        None => Vec::new(),
    };
    Ok(v1::SetZoneResponse {
        zone: Some(convert::zone_to_wire(&zone)),
        outside: outside.iter().take(MAX_TOLD).map(stranger).collect(),
        outside_left_out: parse::count(outside.len().saturating_sub(MAX_TOLD)),
        changed: changed.fields,
        loses: changed.loses.iter().take(MAX_TOLD).map(loses).collect(),
        loses_left_out: parse::count(changed.loses.len().saturating_sub(MAX_TOLD)),
        longer: changed.longer.as_ref().map(longer),
        gained: changed.peers.gained.iter().take(MAX_TOLD).map(reachable).collect(),
        gained_left_out: parse::count(changed.peers.gained.len().saturating_sub(MAX_TOLD)),
        lost: changed.peers.lost.iter().take(MAX_TOLD).map(reachable).collect(),
        lost_left_out: parse::count(changed.peers.lost.len().saturating_sub(MAX_TOLD)),
    })
}

pub(super) fn stranger(one: &withdrawal::Outside) -> v1::Outside {
    v1::Outside {
        device: one.device.to_string(),
        addresses: one.addresses.iter().map(ToString::to_string).collect(),
        until: one.until.0,
    }
}

pub(super) fn longer(found: &withdrawal::Longer) -> v1::LongerCertificates {
    v1::LongerCertificates {
        zone: found.zone.to_string(),
        certificates: parse::count(found.certificates),
        devices: parse::count(found.devices),
        until: found.until.0,
    }
}

/// A number that is 0 was left out.
fn stated(seconds: u32) -> Option<u64> {
    (seconds > 0).then_some(u64::from(seconds))
}

fn settings(request: v1::SetZoneRequest) -> Result<zone::Settings, Refusal> {
    Ok(zone::Settings {
        two_person: request.two_person,
        mode: convert::mode_from_wire(&request.mode).map_err(malformed)?,
        subnets: request.subnets.map(|all| convert::subnets(&all.subnets)).transpose().map_err(malformed)?,
        drills: match (request.drills, request.no_drills) {
            (Some(_), true) => {
                return Err(Refusal::malformed("set drills or no_drills, not both".to_owned()));
            }
            (Some(bounds), false) => Some(Some(convert::drills_from_wire(&bounds).map_err(malformed)?)),
            (None, true) => Some(None),
            (None, false) => None,
        },
        gate_drain: request.gate_drain_seconds.map(u64::from),
        gate_fail: convert::gate_fail_from_wire(&request.gate_fail).map_err(malformed)?,
        on_silence: convert::on_silence_from_wire(&request.on_silence).map_err(malformed)?,
        idevid_admits: request.idevid_admits,
        reattest_every: stated(request.reattest_every_seconds),
        outlive_broker: stated(request.outlive_broker_seconds),
        silent_after: stated(request.silent_after_seconds),
        function: request
            .function
            .map(|text| convert::function_from_wire(&text))
            .transpose()
            .map_err(malformed)?,
        intra_zone: request.intra_zone.map(|allow| if allow { IntraZone::Allow } else { IntraZone::Deny }),
        products: request
            .products
            .map(|all| convert::products(&all.products))
            .transpose()
            .map_err(malformed)?,
        least: convert::least_changes(&request.least).map_err(malformed)?,
        token_admits: request.token_admits,
        name_constraint: convert::name_constraint_from_wire(&request.name_constraint).map_err(malformed)?,
        accept_observed: request.accept_observed,
        reason: request.reason,
        seen: parse::seen(request.seen)?,
    })
}

pub(super) async fn forecast(
    plant: &Plant,
    actor: &Actor,
    request: v1::ForecastEnforcementRequest,
) -> Result<v1::ForecastEnforcementResponse, Refusal> {
    let name = parse::text("zone", &request.zone)?;
    let seen = zone::seen(plant, &name).await?;
    let forecast = enforcement::forecast(plant, actor.scope(), &name, UnixTime(request.since)).await?;
    let refused = |device: &enforcement::WouldBeRefused| v1::WouldBeRefused {
        device: device.device.to_string(),
        first: device.history.first.0,
        last: device.history.last.0,
        count: device.history.count,
        reasons: device.history.reasons.clone(),
        still: device.still,
        owner: device.owner.clone(),
        criticality: device.criticality.clone(),
    };
    let told = forecast.refused.iter().take(MAX_TOLD).map(refused).collect();
    let unknown = forecast.unknown.iter().take(MAX_TOLD).map(ToString::to_string).collect();
    Ok(v1::ForecastEnforcementResponse {
        mode: convert::mode_to_wire(forecast.mode).to_owned(),
        refused: told,
        left_out: parse::count(forecast.refused.len().saturating_sub(MAX_TOLD)),
        clean: parse::count(forecast.clean),
        unknown,
        unknown_count: parse::count(forecast.unknown.len()),
        loses: forecast.loses.iter().take(MAX_TOLD).map(loses).collect(),
        loses_left_out: parse::count(forecast.loses.len().saturating_sub(MAX_TOLD)),
        seen: Some(parse::to_wire(seen)),
    })
}

pub(super) fn loses(device: &enforcement::Loses) -> v1::LosesCertificates {
    v1::LosesCertificates {
        device: device.device.to_string(),
        zone: device.zone.to_string(),
        reason: device.why.clone(),
        owner: device.owner.clone(),
        criticality: device.criticality.clone(),
    }
}

pub(super) async fn allow(
    plant: &Plant,
    actor: &Actor,
    request: v1::AllowConduitRequest,
) -> Result<v1::AllowConduitResponse, Refusal> {
    let wanted = convert::conduit_from_wire(request.conduit.as_ref()).map_err(malformed)?;
    let (before, seen) = (conduit::seen(plant, &wanted).await?, parse::seen(request.seen)?);
    let unoffered = if request.unoffered { Unoffered::Accept } else { Unoffered::Refuse };
    let affected = conduit::allow(plant, actor, &wanted, seen.as_ref(), unoffered, request.dry_run).await?;
    let affected = affected.iter().map(ToString::to_string).collect();
    let nobody_offers = conduit::opens_nothing(plant, &wanted).await?.unwrap_or_default();
    Ok(v1::AllowConduitResponse { affected, nobody_offers, seen: Some(parse::to_wire(before)) })
}

pub(super) async fn close(
    plant: &Plant,
    actor: &Actor,
    request: v1::CloseConduitRequest,
) -> Result<v1::CloseConduitResponse, Refusal> {
    let wanted = convert::conduit_from_wire(request.conduit.as_ref()).map_err(malformed)?;
    let (before, seen) = (conduit::seen(plant, &wanted).await?, parse::seen(request.seen)?);
    let affected = conduit::close(plant, actor, &wanted, seen.as_ref(), request.dry_run).await?;
    let affected = affected.iter().map(ToString::to_string).collect();
    Ok(v1::CloseConduitResponse { affected, seen: Some(parse::to_wire(before)) })
}

pub(super) async fn conduits(
    plant: &Plant,
    actor: &Actor,
    _: v1::ListConduitsRequest,
) -> Result<v1::ListConduitsResponse, Refusal> {
    let all = conduit::all(plant, actor.scope()).await?;
    Ok(v1::ListConduitsResponse { conduits: all.iter().map(convert::conduit_to_wire).collect() })
}

pub(super) async fn explain(
    plant: &Plant,
    actor: &Actor,
    request: v1::ExplainConduitRequest,
) -> Result<v1::ExplainConduitResponse, Refusal> {
    let (device, to) = (parse::text("device", &request.device)?, parse::text("to", &request.to)?);
    let service = parse::text("service", &request.service)?;
    let answers = why(plant, actor.scope(), &device, &to, &service).await?;
    let answers: Vec<v1::ConduitAnswer> = answers.iter().map(answer).collect();
    Ok(v1::ExplainConduitResponse { allowed: answers.iter().any(|answer| answer.allowed), answers })
}

fn answer(answer: &Answer) -> v1::ConduitAnswer {
    let reasons = answer.outcome.as_ref().err().into_iter().flatten();
    v1::ConduitAnswer {
        from: answer.from.to_string(),
        allowed: answer.outcome.is_ok(),
        reasons: reasons.map(convert::access_reason).collect(),
        until: answer.outcome.as_ref().map_or(0, |until| until.0),
    }
}

pub(super) async fn authorities(
    plant: &Plant,
    actor: &Actor,
    _: v1::ListAuthoritiesRequest,
) -> Result<v1::ListAuthoritiesResponse, Refusal> {
    let views = zone::authorities(plant, actor.scope()).await?;
    Ok(v1::ListAuthoritiesResponse { authorities: views.iter().map(|view| authority(plant, view)).collect() })
}

fn authority(plant: &Plant, view: &zone::AuthorityView) -> v1::AuthorityState {
    let record = &view.record;
    let state = match record.state {
        AuthorityState::Prepared => "prepared",
        AuthorityState::Active => "active",
        AuthorityState::Old => "old",
        AuthorityState::Distrusted => "distrusted",
    };
    let domain = plant.domain().trust_domain(&record.zone);
    let role = crate::record::zone::role_name(record.role);
    v1::AuthorityState {
        authority: Some(v1::Authority {
            zone: record.zone.to_string(),
            role: role_to_wire(record.role).into(),
            generation: record.generation,
            certificate: record.certificate.0.clone(),
            crl: Vec::new(),
        }),
        subject: format!("CN={domain} {role} {}", record.generation),
        not_after: record.not_after.0,
        state: state.to_owned(),
        since: record.since.0,
        revoked: parse::count(view.revoked),
    }
}

pub(super) async fn jwks(
    plant: &Plant,
    _: &Actor,
    _: v1::GetJwksRequest,
) -> Result<v1::GetJwksResponse, Refusal> {
    make_all(plant).await.map_err(Refusal::internal)?;
    let jwks = serde_json::to_string_pretty(&published(plant).await.map_err(Refusal::internal)?)
        .map_err(Refusal::internal)?;
    Ok(v1::GetJwksResponse { jwks })
}
