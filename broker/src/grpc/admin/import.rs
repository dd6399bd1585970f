//! Lists of devices to register.

use std::sync::Arc;

use prost::Message as _;
use proto::v1;
use tonic::{Status, Streaming};

use super::{Administration, parse};
use crate::admin::Actor;
use crate::admin::device::import::{Entry, MAX_ENTRIES, import};
use crate::plant::Plant;
use crate::session::Refusal;

/// Most bytes of a list: its longest names and a few inventory values of every device.
const MAX_LIST: usize = 64 << 20;
/// Seconds after which an administrator who found another list being registered asks again.
const BUSY: u32 = 10;

fn entry(entry: v1::DeviceEntry) -> Result<Entry, Refusal> {
    Ok(Entry {
        name: parse::text("device", &entry.name)?,
        zones: parse::texts("zone", &entry.zones)?,
        ek: parse::digest(&format!("EK digest of {}", entry.name), &entry.ek_digest)?,
        inventory: entry.inventory.into_iter().collect(),
    })
}

/// A list as a whole.
pub(super) async fn whole_list(
    plant: &Plant,
    actor: &Actor,
    request: v1::ImportDevicesRequest,
) -> Result<v1::ImportDevicesResponse, Refusal> {
    let entries = request.devices.into_iter().map(entry).collect::<Result<Vec<_>, _>>()?;
    let done = import(plant, actor, &entries, request.dry_run).await?;
    Ok(v1::ImportDevicesResponse {
        created: parse::count(done.created),
        unchanged: parse::count(done.unchanged),
        warnings: done.warnings,
    })
}

/// A list in parts.
pub(super) async fn list(
    service: &Administration,
    actor: Actor,
    parts: Streaming<v1::ImportListRequest>,
) -> Result<v1::ImportDevicesResponse, Refusal> {
    let busy = |_| Refusal::TryLater { why: "another list is being registered".to_owned(), seconds: BUSY };
    let place = Arc::clone(&service.lists).try_acquire_owned().map_err(busy)?;
    let request = whole(parts).await?;
    // What is longer than a message cannot be kept until a second person comes, which the import says then.
    let actor =
        if request.encoded_len() <= proto::MAX_ADMIN_REQUEST { actor.asking(&request) } else { actor };
    let plant = Arc::clone(&service.plant);
    // In a task: it runs to its end even if the caller is gone.
    let work = tokio::spawn(async move {
        let _place = place;
        whole_list(&plant, &actor, request).await
    });
    work.await.map_err(Refusal::internal)?
}

/// The whole list as one request.
async fn whole(mut parts: Streaming<v1::ImportListRequest>) -> Result<v1::ImportDevicesRequest, Refusal> {
    let broken = |status: Status| Refusal::malformed(format!("the list broke off: {}", status.message()));
    let (mut devices, mut bytes, mut first) = (Vec::new(), 0_usize, None);
    while let Some(part) = parts.message().await.map_err(broken)? {
        bytes = bytes.saturating_add(part.encoded_len());
        let (total, _) = *first.get_or_insert((parse::size(part.total), part.dry_run));
        if total > MAX_ENTRIES || bytes > MAX_LIST {
            return Err(Refusal::malformed(format!(
                "the list has {total} devices and {bytes} bytes so far; at most {MAX_ENTRIES} and {MAX_LIST} are registered at once"
            )));
        }
        devices.extend(part.devices);
    }
    let (total, dry_run) = first.unwrap_or_default();
    if devices.len() != total {
        return Err(Refusal::malformed(format!(
            "the list says that it has {total} devices and has {}; nothing was registered",
            devices.len()
        )));
    }
    Ok(v1::ImportDevicesRequest { devices, dry_run })
}
