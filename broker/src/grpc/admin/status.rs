//! The morning page: convert, call, convert.

use proto::v1;

use super::audit::event;
use super::parse;
use crate::admin::outlook::ZoneOutlook;
use crate::admin::status::Attention;
use crate::admin::{Actor, status};
use crate::plant::Plant;
use crate::session::Refusal;

pub(super) async fn read(
    plant: &Plant,
    actor: &Actor,
    _: v1::GetStatusRequest,
) -> Result<v1::GetStatusResponse, Refusal> {
    let status = status::status(plant, actor).await?;
    Ok(v1::GetStatusResponse {
        plant: status.plant,
        broker_version: env!("CARGO_PKG_VERSION").to_owned(),
        broker_time: status.now.0,
        plant_epoch: status.epoch,
        store_revision: status.revision.0,
        devices: status.devices.iter().map(|(state, count)| (state.name().to_owned(), *count)).collect(),
        attention: status.attention.into_iter().map(attention).collect(),
        zones: parse::count(status.zones),
        conduits: parse::count(status.conduits),
        active_releases: parse::count(status.active_releases),
        plant_root: status.plant_root.map(|pin| pin.0.to_vec()).unwrap_or_default(),
        issuing_not_after: status.issuing_not_after.0,
        changes: status.changes.into_iter().map(event).collect(),
        outlook: status.outlook.into_iter().map(outlook).collect(),
    })
}

fn attention(attention: Attention) -> v1::Attention {
    v1::Attention {
        subject: attention.subject,
        message: attention.message,
        next_command: attention.next_command,
        owner: attention.owner,
        criticality: attention.criticality,
    }
}

fn outlook(zone: ZoneOutlook) -> v1::ZoneOutlook {
    v1::ZoneOutlook {
        zone: zone.zone.to_string(),
        observes: zone.observes,
        released: zone.released,
        devices: zone.devices,
        silent: zone.silent,
        late: zone.late,
        first_ends: zone.first_ends.map_or(0, |at| at.0),
        outlive_seconds: zone.timing.outlive_broker(),
    }
}
