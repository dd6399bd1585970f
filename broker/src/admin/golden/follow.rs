//! What devices of a product really come to under golden values of a revision, as they prove themselves.

use policy::id::ProductName;
use policy::time::UnixTime;
use policy::zone::admission::judge;
use policy::zone::{Segmentation, Zone};
use tokio::sync::mpsc;

use super::forecast::Outlook;
use crate::admin::overriding;
use crate::admin::reach::Scope;
use crate::plant::Plant;
use crate::record::device::{ATTESTED, Attested, Decision, Device, device_key};
use crate::record::{Held, fetch, list_page};
use crate::session::Refusal;
use crate::session::recorded::results as appraised;
use crate::store::{MAX_SCAN, WatchEvent};
use crate::trust;

/// What is said where the stored results of a refusal are gone.
const REFUSED: &str = "it was refused; `touchstone device why NAME` tells more";
const SILENT: &str = "it did not answer `attest now` in time";

/// What a device came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// The device.
    pub device: String,
    /// Trusted or refused, by its zones of the product.
    pub outcome: Outlook,
    /// A zone that observes would refuse it, did it enforce.
    pub would_refuse: bool,
    /// Why it is refused, or would be.
    pub reason: String,
    /// When.
    pub at: UnixTime,
}

/// Tells what every device in sight that has a zone of `product` came to under the golden values of revision
/// `golden` or later: those that did already in pages, then each as it does. Ends when the reader is gone.
pub async fn results(
    plant: &Plant,
    scope: &Scope,
    product: &ProductName,
    golden: u64,
    reader: &mpsc::Sender<Vec<Live>>,
) -> Result<(), Refusal> {
    // What changes while the rest is read is told again.
    let mut changes = plant.store.watch(plant.store.revision());
    all(plant, scope, product, golden, reader).await?;
    loop {
        let event = tokio::select! {
            event = changes.next() => event,
            () = reader.closed() => return Ok(()),
        };
        let Some(event) = event else { return Ok(()) };
        let names: Vec<String> = match event {
            WatchEvent::Resync { .. } => {
                all(plant, scope, product, golden, reader).await?;
                continue;
            }
            WatchEvent::Change(change) => {
                let names = change.keys.iter().filter_map(|key| key.strip_prefix(ATTESTED));
                names.map(str::to_owned).collect()
            }
        };
        if names.is_empty() {
            continue;
        }
        let zones = trust::segmentation(plant).await.map_err(Refusal::internal)?;
        let mut page = Vec::new();
        for name in names {
            let key = format!("{ATTESTED}{name}");
            let Some(held) = fetch::<Attested>(plant.store.as_ref(), key).await? else { continue };
            page.extend(live(plant, scope, product, &zones, golden, &name, &held.record).await?);
        }
        if !tell(reader, page).await {
            return Ok(());
        }
    }
}

/// Tells a page; false: the reader is gone.
async fn tell(reader: &mpsc::Sender<Vec<Live>>, page: Vec<Live>) -> bool {
    page.is_empty() || reader.send(page).await.is_ok()
}

async fn all(
    plant: &Plant,
    scope: &Scope,
    product: &ProductName,
    golden: u64,
    reader: &mpsc::Sender<Vec<Live>>,
) -> Result<(), Refusal> {
    let zones = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    let mut after: Option<String> = None;
    loop {
        let found = list_page::<Attested>(plant.store.as_ref(), ATTESTED, after.as_deref(), MAX_SCAN).await?;
        let Some(last) = found.last else { return Ok(()) };
        after = Some(last);
        let mut page = Vec::new();
        for held in found.records {
            let name = held.key.strip_prefix(ATTESTED).unwrap_or_default();
            page.extend(live(plant, scope, product, &zones, golden, name, &held.record).await?);
        }
        if !tell(reader, page).await {
            return Ok(());
        }
    }
}

async fn live(
    plant: &Plant,
    scope: &Scope,
    product: &ProductName,
    zones: &Segmentation,
    golden: u64,
    name: &str,
    attested: &Attested,
) -> Result<Option<Live>, Refusal> {
    if attested.golden < golden {
        return Ok(None);
    }
    let Ok(name) = name.parse() else { return Ok(None) };
    let device: Option<Held<Device>> = fetch(plant.store.as_ref(), device_key(&name)).await?;
    let Some(device) = device.filter(|held| scope.sees(&held.record.zones)) else { return Ok(None) };
    let own = device.record.zones.iter().filter_map(|name| zones.zone(name));
    let own: Vec<&Zone> = own.filter(|zone| zone.products.contains(product)).collect();
    if own.is_empty() {
        return Ok(None);
    }
    let mut live = Live {
        device: name.to_string(),
        outcome: Outlook::Trusted,
        would_refuse: false,
        reason: String::new(),
        at: attested.at,
    };
    match attested.decision {
        Decision::Trusted => {}
        Decision::Silent => (live.outcome, live.reason) = (Outlook::Refused, SILENT.to_owned()),
        Decision::WouldRefuse | Decision::Refused => judged(plant, &own, attested, &mut live).await?,
    }
    Ok(Some(live))
}

/// Finds out which of the zones refuses the device, or would: another product's may.
async fn judged(plant: &Plant, zones: &[&Zone], attested: &Attested, live: &mut Live) -> Result<(), Refusal> {
    let name = live.device.parse().map_err(Refusal::internal)?;
    let excused = overriding::of(plant, &name).await?;
    let records = appraised(plant, attested).await;
    if records.is_empty() && attested.decision == Decision::Refused {
        (live.outcome, live.reason) = (Outlook::Refused, REFUSED.to_owned());
    }
    for zone in zones {
        let Some(record) = records.iter().find(|record| record.zone == zone.name) else { continue };
        let excused = excused.as_ref().and_then(|record| record.in_zone(&zone.name));
        let judgement = judge(record, &zone.policy(), excused);
        if !judgement.refused.is_empty() {
            live.outcome = Outlook::Refused;
        }
        live.would_refuse |= !judgement.would_refuse.is_empty();
        let first = judgement.refused.iter().chain(&judgement.would_refuse).next();
        if let Some(first) = first.filter(|_| live.reason.is_empty()) {
            live.reason.clone_from(&first.sentence);
        }
    }
    Ok(())
}
