//! The second person of an act: joins the transaction, which removes the change that it carries out.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::reach::{Deed, Scope};
use crate::audit::Event;
use crate::plant::Plant;
use crate::record::Held;
use crate::record::change::{Basis, Change};
use crate::session::Refusal;
use crate::store::Txn;

/// Things that changed meanwhile that a refusal names.
const MAX_NAMED: usize = 5;

/// Whoever approved a change, with the change.
#[derive(Debug, Clone)]
pub(in crate::admin) struct Second {
    pub(super) name: String,
    pub(super) scope: Scope,
    pub(super) change: Arc<Held<Change>>,
    pub(super) basis: Arc<Basis>,
    /// Whether the change is only tried.
    pub(super) dry_run: bool,
    /// Whether a transaction carried it out already: an act of several transactions removes the change with
    /// its first.
    pub(super) joined: Arc<AtomicBool>,
}

impl Second {
    pub(in crate::admin) fn name(&self) -> &str {
        &self.name
    }

    pub(in crate::admin) const fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Whether something was written in the name of both.
    pub(super) fn has_joined(&self) -> bool {
        self.joined.load(Ordering::Relaxed)
    }

    /// The transaction of both, unless it is only tried.
    pub(super) async fn join(&self, plant: &Plant, deed: &Deed, txn: Txn) -> Result<Option<Txn>, Refusal> {
        let first = !self.has_joined();
        if first {
            self.unchanged(plant, deed).await?;
        }
        if self.dry_run {
            return Ok(None);
        }
        let now = plant.now();
        let told = |txn: Txn, (subject, text): &(String, String)| {
            let text = format!("approved by {}; {text}", self.name);
            txn.audit(deed.reach().event(now, subject, &text).entry())
        };
        let txn = deed.done().iter().fold(txn, told);
        if !first {
            return Ok(Some(txn));
        }
        let change = &self.change.record;
        let text = format!("{} {}, asked for by {}", change.act, change.subject, change.by);
        let event = Event::new(now, &self.name, "change.approve", &change.id, &text);
        let key = &self.change.key;
        let txn = txn.unchanged(key.clone(), self.change.version).delete(key.clone()).audit(event.entry());
        Ok(Some(txn))
    }

    /// A transaction in the name of both is on disk.
    pub(in crate::admin) fn committed(&self) {
        self.joined.store(true, Ordering::Relaxed);
    }

    /// Refuses, by name, what is not as it was when the change was asked for.
    async fn unchanged(&self, plant: &Plant, deed: &Deed) -> Result<(), Refusal> {
        let id = &self.change.record.id;
        let there = plant.store.get(&self.change.key).await?;
        if there.is_none_or(|found| found.version != self.change.version) {
            return Err(Refusal::Conflict(format!(
                "change {id} was approved or rejected by somebody else meanwhile; `touchstone audit list` says by whom"
            )));
        }
        let mut changed = Vec::new();
        for (key, version) in &self.basis.rests_on {
            let now = plant.store.get(key).await?.map(|found| found.version.0);
            if now != Some(*version) {
                changed.push(thing(key));
            }
        }
        if deed.reach().zones() != self.basis.zones {
            let zones: Vec<&str> = deed.reach().zones().iter().map(policy::id::ZoneName::as_str).collect();
            changed.push(format!("what it touches (now the zones {})", zones.join(", ")));
        }
        if changed.is_empty() {
            return Ok(());
        }
        let more = changed.len().saturating_sub(MAX_NAMED);
        changed.truncate(MAX_NAMED);
        let mut names = changed.join(", ");
        if more > 0 {
            let _ = write!(names, " and {more} more");
        }
        Err(Refusal::Conflict(format!(
            "since change {id} was asked for, others changed {names}; reject it and ask for it again under what is so now"
        )))
    }
}

/// A store key in words: `zone/cell-3` is the zone cell-3.
fn thing(key: &str) -> String {
    let (kind, name) = key.split_once('/').unwrap_or((key, ""));
    match kind {
        "zone" => format!("zone {name}"),
        "conduit" => format!("conduit {}", name.replace('/', " ")),
        "admin" => format!("administrator {name}"),
        "golden" | "product" => "golden releases".to_owned(),
        "release-keys" => "release keys".to_owned(),
        _ => kind.to_owned(),
    }
}
