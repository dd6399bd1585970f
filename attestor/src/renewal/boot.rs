//! Whether what the device holds was proved by the boot that it is in, and is the last that it heard.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::sleep;

use super::attester::{Attester, Means};
use crate::boot_set::BootSet;
use crate::state::{MAKE_ROOM, State, UNSAVED};

/// Pause before the TPM is asked again what was booted.
pub(crate) const READ_AGAIN: Duration = Duration::from_secs(5);

/// Why certificates from before do not count yet; nothing once the device proved itself.
#[derive(Debug, Default)]
pub(super) struct Boot(Mutex<Doubt>);

#[derive(Debug, Default)]
struct Doubt {
    words: Option<String>,
    /// It is only that the TPM did not say what was booted.
    unread: bool,
}

impl Boot {
    /// What is in the way, for people.
    pub(super) fn doubt(&self) -> Option<String> {
        self.with(|doubt| doubt.words.clone())
    }

    /// The broker accepted this boot.
    pub(super) fn is_accepted(&self) {
        self.with(|doubt| *doubt = Doubt::default());
    }

    fn is_unread(&self) -> bool {
        self.with(|doubt| doubt.unread)
    }

    fn with<T>(&self, look: impl FnOnce(&mut Doubt) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Attester {
    /// Compares what was booted with what the broker accepted last. Before anything answers software of the device: what
    /// it holds is not to be used in the boot of somebody else.
    pub async fn look_at_boot(&self) {
        let found = self.find_doubt().await;
        if let Some(words) = &found.words {
            tracing::warn!("{words}");
        }
        self.boot.with(|doubt| *doubt = found);
    }

    async fn find_doubt(&self) -> Doubt {
        if let Means::Absent(why) = &self.prover {
            return Doubt { words: Some(why.clone()), unread: false };
        }
        if self.keeper.is_outdated() {
            let words = format!(
                "{UNSAVED}: the stored certificates count once the broker accepts the device; {MAKE_ROOM}"
            );
            return Doubt { words: Some(words), unread: false };
        }
        let (certified, accepted) =
            self.keeper.read(|state: &State| (!state.svids.is_empty(), state.accepted_boot.clone()));
        let Some(tpm) = self.prover.tpm().filter(|_| certified) else { return Doubt::default() };
        let booted = BootSet::of(tpm, accepted.as_ref()).await;
        let unread = accepted.is_some() && booted.is_err();
        Doubt { words: BootSet::doubt(accepted.as_ref(), &booted), unread }
    }

    /// Asks a TPM that did not say what was booted until it does, or the broker has accepted the device: one fault must
    /// not count for as long as the broker is away. Returns at once if it said so.
    pub(super) async fn read_boot_again(&self) -> bool {
        while self.boot.is_unread() {
            sleep(READ_AGAIN).await;
            let found = self.find_doubt().await;
            // The broker may have accepted it meanwhile.
            let read = self.boot.with(|doubt| {
                let read = doubt.unread && !found.unread;
                if read {
                    *doubt = found;
                }
                read
            });
            if read {
                self.keeper.announce();
                return true;
            }
        }
        false
    }
}
