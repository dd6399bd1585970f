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
pub(crate) struct Loss {
    /// In a sentence, for the device and the audit chain.
    pub(crate) why: String,
    /// The same, as revocations say it.
    pub(crate) revocation: &'static str,
    /// The same, as metrics count it.
    pub(crate) kind: Option<FindingKind>,
    /// What its last attestation counts as from now on.
    pub(crate) decision: Decision,
    /// The same, as the audit chain names it.
    pub(crate) action: &'static str,
    /// What each step expects besides what is of the device.
    pub(crate) rests_on: Txn,
}

impl Loss {
    /// What it proved counts no more.
    pub(super) fn of_proof(why: String, revocation: &'static str, kind: Option<FindingKind>) -> Self {
        let (decision, action, rests_on) = (Decision::Refused, "device.lost", Txn::new());
        Self { why, revocation, kind, decision, action, rests_on }
    }
}

/// Ends what `name` holds in `zones`, and puts on record why. Each step compares its attestation, the last one
/// writes it.
pub(crate) async fn lose(
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
            let step = loss.rests_on.clone().unchanged(attested.key.clone(), attested.version);
            let (count, step) = revoke_all(step, name, &zone, held, now, loss.revocation)?;
            batch.add(plant, step, count).await?;
            revoked += count;
            lost.insert(zone);
        }
    }
    (attested.record.decision, attested.record.lost) = (loss.decision, Some(why.clone()));
    let text = format!("{why}; {revoked} certificates revoked");
    let event = Event::new(now, "broker", loss.action, name.as_str(), &text);
    let step = loss.rests_on.clone().unchanged(attested.key.clone(), attested.version);
    batch.add(plant, step.put(attested.key, stored(&attested.record)?).audit(event.entry()), 0).await?;
    lost.iter().for_each(|zone| plant.metrics.verdict(zone, loss.decision, loss.kind));
    Ok(())
}

/// Steps that go into one transaction as long as there is room.
#[derive(Default)]
pub(crate) struct Batch {
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

    pub(crate) async fn commit(&mut self, plant: &Plant) -> Result<(), Refusal> {
        let txn = std::mem::take(&mut self.txn);
        if txn.keys() == 0 {
            return Ok(());
        }
        commit(plant, trust::raise(plant, txn, plant.now()).await?).await
    }
}
