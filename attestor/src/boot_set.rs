//! What the device booted, as far as it must be the same for stored certificates to count without the broker.
//!
//! It is a service to honest devices: one that was updated or repaired while the broker was away waits until it has
//! proved itself, instead of working under the proof of another boot. Does not promise anything about a system that
//! was tampered with: it would be asked about itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::tpm::{PcrBank, PcrIndex, PcrSelection, PcrValue, TpmHandle};

/// Firmware, its plug-ins, boot loader and kernel, Secure Boot's state. PCRs 1, 5, 9 to 11 and 15 often differ between two
/// boots of the same.
const PCRS: [u8; 4] = [0, 2, 4, 7];

/// The values of these PCRs in a bank, hex.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootSet {
    bank: PcrBank,
    pcrs: BTreeMap<u8, String>,
}

impl BootSet {
    /// The PCRs to read for it.
    #[must_use]
    pub fn selection() -> PcrSelection {
        PCRS.into_iter().filter_map(|pcr| PcrIndex::try_from(pcr).ok()).collect()
    }

    /// Of values that were read.
    pub fn read(bank: PcrBank, values: impl IntoIterator<Item = PcrValue>) -> Self {
        let pcrs = values.into_iter().map(|value| (u8::from(value.index), hex::encode(value.digest)));
        Self { bank, pcrs: pcrs.filter(|(pcr, _)| PCRS.contains(pcr)).collect() }
    }

    /// The bank that it is of.
    #[must_use]
    pub const fn bank(&self) -> PcrBank {
        self.bank
    }

    /// Why certificates from before do not count in a boot of which `now` was read, if they do not; for people.
    #[must_use]
    pub fn doubt(accepted: Option<&Self>, now: &Result<Self, String>) -> Option<String> {
        let why = match (accepted, now) {
            (None, _) => "it is not known what the device had booted when it was accepted".to_owned(),
            (Some(_), Err(unread)) => unread.clone(),
            (Some(accepted), Ok(now)) => {
                let changed: Vec<String> = accepted.changed(now).iter().map(u8::to_string).collect();
                if changed.is_empty() {
                    return None;
                }
                format!("PCR {} differs from the boot that was accepted", changed.join(", "))
            }
        };
        Some(format!(
            "{why}: the stored certificates count once the broker accepts this boot; bring the network to it back"
        ))
    }

    /// Reads it from the TPM, in the bank in which the device was accepted.
    pub(crate) async fn of(tpm: &TpmHandle, accepted: Option<&Self>) -> Result<Self, String> {
        let bank = accepted.map_or(PcrBank::Sha256, Self::bank);
        let values = tpm.read_pcrs(bank, Self::selection()).await.map_err(|error| error.to_string())?;
        Ok(Self::read(bank, values))
    }

    /// The PCRs of which another value, or none, is in `now`.
    #[must_use]
    pub fn changed(&self, now: &Self) -> Vec<u8> {
        let same = |pcr: &u8| self.bank == now.bank && self.pcrs.get(pcr) == now.pcrs.get(pcr);
        PCRS.into_iter().filter(|pcr| !same(pcr) || !self.pcrs.contains_key(pcr)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(values: [u8; 5]) -> BootSet {
        let indices = [0, 2, 4, 7, 10].map(|pcr| PcrIndex::try_from(pcr).unwrap());
        let values = indices.into_iter().zip(values);
        BootSet::read(
            PcrBank::Sha256,
            values.map(|(index, value)| PcrValue { index, digest: vec![value; 32] }),
        )
    }

    #[test]
    fn only_the_boot_set_is_compared() {
        let accepted = boot([1, 2, 3, 4, 5]);
        assert_eq!(accepted.changed(&boot([1, 2, 3, 4, 9])), [0; 0], "PCR 10 is another after each boot");
        assert_eq!(accepted.changed(&boot([1, 2, 8, 9, 5])), [4, 7]);
        assert_eq!(accepted.changed(&BootSet { bank: PcrBank::Sha384, ..accepted.clone() }), PCRS);
        let nothing = BootSet::read(PcrBank::Sha256, []);
        assert_eq!((accepted.changed(&nothing), nothing.changed(&nothing)), (PCRS.to_vec(), PCRS.to_vec()));
    }

    #[test]
    fn what_is_not_known_to_be_the_same_is_in_doubt() {
        let accepted = boot([1, 2, 3, 4, 5]);
        assert_eq!(BootSet::doubt(Some(&accepted), &Ok(boot([1, 2, 3, 4, 9]))), None);
        for (accepted, now, why) in [
            (Some(&accepted), Ok(boot([1, 2, 8, 9, 5])), "PCR 4, 7 differs from the boot"),
            (Some(&accepted), Err("the TPM is busy".to_owned()), "the TPM is busy: the stored"),
            (None, Ok(accepted.clone()), "it is not known what the device had booted"),
        ] {
            let doubt = BootSet::doubt(accepted, &now).unwrap();
            assert!(doubt.starts_with(why), "{doubt}");
        }
    }

    #[test]
    fn it_survives_a_restart() {
        let accepted = boot([1, 2, 3, 4, 5]);
        let json = serde_json::to_string(&accepted).unwrap();
        assert!(json.starts_with(r#"{"bank":"sha256","pcrs":{"0":"0101"#), "{json}");
        assert_eq!(serde_json::from_str::<BootSet>(&json).unwrap(), accepted);
    }
}
