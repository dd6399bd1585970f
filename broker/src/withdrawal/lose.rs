//! Ends what a device holds, in steps of bounded size.

use std::collections::BTreeSet;

use policy::appraisal::finding::FindingKind;
use policy::id::{DeviceName, ZoneName};

use crate::audit::Event;
use crate::plant::Plant;
use crate::record::device::{Attested, Decision, HeldCertificates, held_place, held_prefix};
use crate::record::{Held, list, stored};
use crate::session::Refusal;
use crate::session::complete::commit;
use crate::session::issue::revoke_all;
use crate::store::{MAX_TXN_KEYS, Txn};
use crate::trust;

/// What each transaction expects and writes besides what is of devices: the trust head.
const OVERHEAD: usize = 2;

/// Why a device keeps no trust.
pub(super) struct Loss {
    /// In a sentence, for the device and the audit chain.
    pub(super) why: String,
    /// The same, as revocations say it.
    pub(super) revocation: &'static str,
    /// The same, as metrics count it.
    pub(super) kind: Option<FindingKind>,
}

/// Ends what `name` holds in `zones`, and puts on record why. Each step compares its attestation, the last one
/// writes it.
pub(super) async fn lose(
    plant: &Plant,
    batch: &mut Batch,
    loss: &Loss,
    name: &DeviceName,
    mut attested: Held<Attested>,
    zones: &BTreeSet<ZoneName>,
) -> Result<(), Refusal> {
    let now = plant.now();
    let why = &loss.why;
    let prefix = held_prefix(name);
    let held: Vec<Held<HeldCertificates>> = list(plant.store.as_ref(), &prefix).await?;
    let (mut revoked, mut lost) = (0, BTreeSet::new());
    for held in held {
        let place = held.key.strip_prefix(&prefix).and_then(held_place);
        let (zone, _) = place.ok_or_else(|| Refusal::internal(format!("store key {}", held.key)))?;
        if zones.contains(&zone) {
            let step = Txn::new().unchanged(attested.key.clone(), attested.version);
            let (count, step) = revoke_all(step, name, &zone, held, now, loss.revocation)?;
            batch.add(plant, step, count).await?;
            revoked += count;
            lost.insert(zone);
        }
    }
    (attested.record.decision, attested.record.lost) = (Decision::Refused, Some(why.clone()));
    let text = format!("{why}; {revoked} certificates revoked");
    let event = Event::new(now, "broker", "device.lost", name.as_str(), &text);
    let step = Txn::new().unchanged(attested.key.clone(), attested.version);
    batch.add(plant, step.put(attested.key, stored(&attested.record)?).audit(event.entry()), 0).await?;
    lost.iter().for_each(|zone| plant.metrics.verdict(zone, Decision::Refused, loss.kind));
    Ok(())
}

/// Steps that go into one transaction as long as there is room.
#[derive(Default)]
pub(super) struct Batch {
    txn: Txn,
    pub(super) revoked: usize,
}

impl Batch {
    async fn add(&mut self, plant: &Plant, step: Txn, revoked: usize) -> Result<(), Refusal> {
        if self.txn.keys() + step.keys() + OVERHEAD > MAX_TXN_KEYS {
            self.commit(plant).await?;
        }
        self.txn = std::mem::take(&mut self.txn).and(step);
        self.revoked += revoked;
        Ok(())
    }

    pub(super) async fn commit(&mut self, plant: &Plant) -> Result<(), Refusal> {
        let txn = std::mem::take(&mut self.txn);
        if txn.keys() == 0 {
            return Ok(());
        }
        commit(plant, trust::raise(plant, txn, plant.now()).await?).await
    }
}
