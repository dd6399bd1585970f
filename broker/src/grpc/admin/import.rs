//! Lists of devices to register.

use std::sync::Arc;

use prost::Message as _;
use proto::v1;
use tonic::{Status, Streaming};

use super::{Administration, parse};
use crate::admin::Actor;
use crate::admin::device::import::{Entry, Imported, MAX_ENTRIES, import};
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

fn answer(done: Imported) -> v1::ImportDevicesResponse {
    v1::ImportDevicesResponse { created: parse::count(done.created), unchanged: parse::count(done.unchanged) }
}

/// A list in one message.
pub(super) async fn few(
    plant: &Plant,
    actor: &Actor,
    request: v1::ImportDevicesRequest,
) -> Result<v1::ImportDevicesResponse, Refusal> {
    let entries = request.devices.into_iter().map(entry).collect::<Result<Vec<_>, _>>()?;
    import(plant, actor, &entries, request.dry_run).await.map(answer)
}

/// A list in parts.
pub(super) async fn list(
    service: &Administration,
    actor: Actor,
    parts: Streaming<v1::ImportListRequest>,
) -> Result<v1::ImportDevicesResponse, Refusal> {
    let busy = |_| Refusal::TryLater { why: "another list is being registered".to_owned(), seconds: BUSY };
    let place = Arc::clone(&service.lists).try_acquire_owned().map_err(busy)?;
    let (entries, dry_run) = whole(parts).await?;
    let plant = Arc::clone(&service.plant);
    // In a task: it runs to its end even if the caller is gone.
    let work = tokio::spawn(async move {
        let _place = place;
        import(&plant, &actor, &entries, dry_run).await
    });
    work.await.map_err(Refusal::internal)?.map(answer)
}

/// The devices of a whole list, and whether it is a dry run.
async fn whole(mut parts: Streaming<v1::ImportListRequest>) -> Result<(Vec<Entry>, bool), Refusal> {
    let broken = |status: Status| Refusal::malformed(format!("the list broke off: {}", status.message()));
    let (mut entries, mut bytes, mut first) = (Vec::new(), 0_usize, None);
    while let Some(part) = parts.message().await.map_err(broken)? {
        bytes = bytes.saturating_add(part.encoded_len());
        let (total, _) = *first.get_or_insert((parse::size(part.total), part.dry_run));
        if total > MAX_ENTRIES || bytes > MAX_LIST {
            return Err(Refusal::malformed(format!(
                "the list has {total} devices and {bytes} bytes so far; at most {MAX_ENTRIES} and {MAX_LIST} are registered at once"
            )));
        }
        for one in part.devices {
            entries.push(entry(one)?);
        }
    }
    let (total, dry_run) = first.unwrap_or_default();
    if entries.len() != total {
        return Err(Refusal::malformed(format!(
            "the list says that it has {total} devices and has {}; nothing was registered",
            entries.len()
        )));
    }
    Ok((entries, dry_run))
}
