//! TPMs that a plant stopped since its backup was made: a restore lets none of them in again.

use std::collections::BTreeMap;

use super::inspect::Inspected;
use crate::plant::Plant;
use crate::record::device::{AK, Admission, AkOwner, Device, EK, Tpm, ek_key};
use crate::record::{Held, RecordError, list, stored};
use crate::session::Refusal;

/// TPMs that a note names; the rest is counted.
const MAX_NAMED: usize = 20;

/// The TPMs that are stopped now, and their attestation keys, by store key.
#[derive(Debug, Default)]
pub(super) struct Barred {
    tpms: BTreeMap<String, Tpm>,
    /// A TPM is known by its AK under every EK that it has.
    aks: BTreeMap<String, AkOwner>,
}

impl Barred {
    /// Those of this plant.
    pub(super) async fn of(plant: &Plant) -> Result<Self, Refusal> {
        let tpms: Vec<Held<Tpm>> = list(plant.store.as_ref(), EK).await?;
        let tpms: BTreeMap<String, Tpm> = tpms
            .into_iter()
            .filter(|held| held.record.is_barred())
            .map(|held| (held.key, held.record))
            .collect();
        let aks: Vec<Held<AkOwner>> = list(plant.store.as_ref(), AK).await?;
        let aks = aks.into_iter().filter(|held| tpms.contains_key(&ek_key(&held.record.ek)));
        Ok(Self { aks: aks.map(|held| (held.key, held.record)).collect(), tpms })
    }

    /// Records that the backup does not have. A device that it does not have either has its TPM no more.
    pub(super) fn added(&self, inspected: &Inspected) -> Result<Vec<(String, Vec<u8>)>, RecordError> {
        let aks = self.aks.iter().map(|(key, owner)| Ok((key.clone(), stored(owner)?)));
        let unknown = self.tpms.iter().filter(|(key, _)| !inspected.tpms.contains_key(*key));
        let unknown =
            unknown.map(|(key, tpm)| Ok((key.clone(), stored(&Tpm { device: None, ..tpm.clone() })?)));
        aks.chain(unknown).collect()
    }

    /// Whether [`Self::added`] has the record under `key` already.
    pub(super) fn has_ak(&self, key: &str) -> bool {
        self.aks.contains_key(key)
    }

    /// The TPM under `key` as it is restored: stopped, if it was before or is now.
    pub(super) fn tpm(&self, key: &str, restored: Tpm) -> Tpm {
        let Some(now) = self.tpms.get(key) else { return restored };
        Tpm {
            retired: restored.retired || now.retired,
            quarantine: now.quarantine.clone().or(restored.quarantine),
            ..restored
        }
    }

    /// The device as it is restored: out of service, if it is so now.
    pub(super) fn device(&self, restored: Device) -> Device {
        let retired = |tpm: &Tpm| tpm.retired && tpm.device.as_ref() == Some(&restored.name);
        match self.tpms.get(&ek_key(&restored.ek)).is_some_and(retired) {
            true => {
                let mut device =
                    Device { admission: Admission::Retired, addresses: BTreeMap::new(), ..restored };
                device.end_move();
                device
            }
            false => restored,
        }
    }

    /// For people: those that the backup would have let in.
    pub(super) fn note(&self, inspected: &Inspected) -> Option<String> {
        let since = |key: &&String| inspected.tpms.get(*key) != Some(&true);
        let eks: Vec<&str> = self.tpms.keys().filter(since).filter_map(|key| key.strip_prefix(EK)).collect();
        let mut named: Vec<String> = eks.iter().take(MAX_NAMED).map(|ek| format!("sha256:{ek}")).collect();
        if eks.len() > named.len() {
            named.push(format!("{} more", eks.len().saturating_sub(named.len())));
        }
        (!eks.is_empty()).then(|| {
            format!(
                "TPMs that were stopped since the backup stay so: {}; give a device whose TPM was replaced its new \
                 one with `touchstone device replace`",
                named.join(", ")
            )
        })
    }
}
