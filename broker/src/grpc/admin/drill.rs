//! Failure drills: convert, call, convert.

use policy::zone::Fault;
use proto::{convert, v1};

use super::parse;
use crate::admin::{Actor, drill};
use crate::plant::Plant;
use crate::session::Refusal;

pub(super) async fn start(
    plant: &Plant,
    actor: &Actor,
    request: v1::StartDrillRequest,
) -> Result<v1::StartDrillResponse, Refusal> {
    let fault: Fault = parse::text("fault", &request.fault)?;
    let device = parse::optional("device", &request.device)?;
    let asked = drill::Request {
        zone: parse::text("zone", &request.zone)?,
        fault,
        device,
        seconds: request.seconds,
        delay: request.delay_seconds,
        reason: request.reason,
        dry_run: request.dry_run,
    };
    let begun = drill::start(plant, actor, &asked).await?;
    Ok(v1::StartDrillResponse {
        before: Some(sight(&begun.before)),
        ends_at: begun.ends.0,
        revoked: parse::count(begun.revoked),
    })
}

pub(super) async fn end(
    plant: &Plant,
    actor: &Actor,
    request: v1::EndDrillRequest,
) -> Result<v1::EndDrillResponse, Refusal> {
    let ended = drill::end(plant, actor, &parse::text("zone", &request.zone)?).await?;
    Ok(v1::EndDrillResponse { ended })
}

pub(super) async fn observe(
    plant: &Plant,
    actor: &Actor,
    request: v1::ObserveDrillRequest,
) -> Result<v1::ObserveDrillResponse, Refusal> {
    let seen = drill::observe(plant, actor.scope(), &parse::text("zone", &request.zone)?).await?;
    Ok(v1::ObserveDrillResponse { ends_at: seen.ends.map_or(0, |ends| ends.0), now: Some(sight(&seen)) })
}

fn sight(seen: &drill::Sight) -> v1::ZoneInDrill {
    v1::ZoneInDrill {
        zone: Some(convert::zone_to_wire(&seen.zone)),
        broker_time: seen.at.0,
        devices: seen.devices.iter().map(device).collect(),
        left_out: seen.left_out.iter().map(ToString::to_string).collect(),
    }
}

fn device(seen: &drill::Seen) -> v1::DrillDevice {
    let attested = seen.attested.as_ref();
    v1::DrillDevice {
        device: seen.device.to_string(),
        watching: seen.streams.0 > 0,
        streams: seen.streams.1,
        decision: attested.map_or("", |attested| attested.decision.name()).to_owned(),
        proofs: seen.proofs,
        resets: attested.map_or(0, |attested| attested.reset_count),
        certificates: parse::count(seen.certificates.len()),
        ends_at: seen.ends.0,
        serials: seen.certificates.clone(),
        elsewhere: seen.elsewhere,
    }
}
