//! What a caller saw of a device before they changed it.
//!
//! A device's record is written with each of its attestations, so its revision says nothing of what people decided.
//! A digest of just that does.

use policy::digest::Digest;
use policy::id::ZoneName;
use serde::Serialize;

use super::Known;
use super::view::Seen as Line;
use crate::admin::change::Seen;
use crate::record::device::{Admission, Device, Pending, Tpm};
use crate::session::Refusal;
use crate::store::Revision;

/// A line of the list as it is, for whoever changes it later.
pub(crate) fn seen(line: &Line) -> Seen {
    match line {
        Line::Device(view) => of_device(&view.device, &view.tpm),
        Line::Pending(pending) => of_pending(pending),
    }
}

/// A device of the plant.
pub(super) fn of_device(device: &Device, tpm: &Tpm) -> Seen {
    let decided =
        (&device.name, &device.zones, device.ek, device.admission, &device.leaving, &device.addresses);
    let stopped = match &tpm.quarantine {
        _ if tpm.retired || device.admission == Admission::Retired => ", retired",
        Some(_) => ", quarantined",
        None => "",
    };
    let leaving =
        device.leaving.as_ref().map_or_else(String::new, |move_| format!(" on its way to {}", move_.to));
    let words = format!("in {}{leaving}{stopped}", listed(&device.zones));
    Seen { revision: named(&(decided, tpm.retired, &tpm.quarantine)), words }
}

/// A TPM that waits.
pub(super) fn of_pending(pending: &Pending) -> Seen {
    Seen { revision: named(pending), words: format!("waiting, with EK {}", pending.ek) }
}

impl Known {
    /// Refuses a change by somebody who saw something else of the device.
    pub(super) fn expected_as(&self, seen: Option<&Seen>) -> Result<(), Refusal> {
        let name = &self.device.record.name;
        let look = format!("touchstone device show {name}");
        of_device(&self.device.record, &self.tpm.record).expected(seen, name.as_str(), None, &look)
    }
}

/// A number that stands for `decided` and for nothing else that is likely to be met. Records always serialize.
fn named(decided: &impl Serialize) -> Revision {
    let digest = Digest::of(&serde_json::to_vec(decided).unwrap_or_default());
    let [a, b, c, d, e, f, g, h, ..] = digest.0;
    Revision(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
}

fn listed(zones: &[ZoneName]) -> String {
    if zones.is_empty() {
        return "no zone".to_owned();
    }
    zones.iter().map(ZoneName::as_str).collect::<Vec<_>>().join(", ")
}
