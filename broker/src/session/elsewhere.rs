//! Keys for zones that their device is not in: none gets a certificate, and each is told why.

use std::collections::BTreeSet;

use policy::id::{DeviceName, ZoneName};

use super::Refusal;
use super::proof::ProvenKey;
use super::ruling::Ruling;
use super::software::{OfferedKey, RefusedKey};

/// What is said of the `keys` of `device`, and of those `outside` its prover, whose zone has none of the `rulings`. The
/// device's own keys of a zone are refused together.
pub(super) fn refused(
    device: &DeviceName,
    rulings: &[Ruling],
    keys: &[ProvenKey],
    outside: &[OfferedKey],
) -> Vec<RefusedKey> {
    let elsewhere = |zone: &ZoneName| rulings.iter().all(|ruling| ruling.zone.record.name != *zone);
    // The same for a zone that does not exist: who is not in it learns nothing of it.
    let refuse = |zone: &ZoneName, key| RefusedKey {
        zone: zone.clone(),
        key,
        refusal: Refusal::NotAdmitted(format!(
            "{device} is not in zone {zone}; `touchstone device admit {device}` with a --zone for each of its zones lets \
             it in"
        )),
    };
    let own: BTreeSet<&ZoneName> = keys.iter().map(|key| &key.zone).filter(|zone| elsewhere(zone)).collect();
    let outside = outside.iter().filter(|key| elsewhere(&key.zone));
    own.into_iter()
        .map(|zone| refuse(zone, None))
        .chain(outside.map(|key| refuse(&key.zone, Some((key.holder.clone(), key.role)))))
        .collect()
}
