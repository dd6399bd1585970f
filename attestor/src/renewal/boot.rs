//! Whether what the device holds was proved by the boot that it is in.

use std::sync::{Mutex, PoisonError};

use super::attester::Attester;
use crate::boot_set::BootSet;
use crate::state::State;

/// Why certificates from before do not count yet; nothing once the device proved itself.
#[derive(Debug, Default)]
pub(super) struct Boot(Mutex<Option<String>>);

impl Boot {
    /// What is in the way, for people.
    pub(super) fn doubt(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The broker accepted this boot.
    pub(super) fn is_accepted(&self) {
        self.set(None);
    }

    fn set(&self, doubt: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = doubt;
    }
}

impl Attester {
    /// Compares what was booted with what the broker accepted last.
    pub(super) async fn look_at_boot(&self) {
        let certified = self.keeper.read(|state: &State| !state.svids.is_empty());
        let doubt = if certified { self.doubt().await } else { None };
        if let Some(doubt) = &doubt {
            tracing::warn!("{doubt}");
        }
        self.boot.set(doubt);
    }

    async fn doubt(&self) -> Option<String> {
        let tpm = self.prover.tpm()?;
        let Some(accepted) = self.keeper.read(|state: &State| state.accepted_boot.clone()) else {
            return Some(said("it is not known what the device had booted when it was accepted"));
        };
        let now = match tpm.read_pcrs(accepted.bank(), BootSet::selection()).await {
            Ok(values) => BootSet::read(accepted.bank(), values),
            Err(error) => return Some(said(&error.to_string())),
        };
        let changed: Vec<String> = accepted.changed(&now).iter().map(u8::to_string).collect();
        let differs = || said(&format!("PCR {} differs from the boot that was accepted", changed.join(", ")));
        (!changed.is_empty()).then(differs)
    }
}

fn said(why: &str) -> String {
    format!(
        "{why}: the stored certificates count once the broker accepts this boot; bring the network to it back"
    )
}
