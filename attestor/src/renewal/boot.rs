//! Whether what the device holds was proved by the boot that it is in, and is the last that it heard.

use std::sync::{Mutex, PoisonError};

use super::attester::Attester;
use crate::boot_set::BootSet;
use crate::state::{MAKE_ROOM, State, UNSAVED};

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
    /// Compares what was booted with what the broker accepted last. Before anything answers software of the device: what
    /// it holds is not to be used in the boot of somebody else.
    pub async fn look_at_boot(&self) {
        let (certified, accepted) =
            self.keeper.read(|state: &State| (!state.svids.is_empty(), state.accepted_boot.clone()));
        let outdated = self.keeper.is_outdated();
        let doubt = match self.prover.tpm().filter(|_| certified && !outdated) {
            Some(tpm) => BootSet::doubt(accepted.as_ref(), &BootSet::of(tpm, accepted.as_ref()).await),
            None => outdated.then(|| {
                format!(
                    "{UNSAVED}: the stored certificates count once the broker accepts the device; {MAKE_ROOM}"
                )
            }),
        };
        if let Some(doubt) = &doubt {
            tracing::warn!("{doubt}");
        }
        self.boot.set(doubt);
    }
}
