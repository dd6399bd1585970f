//! State hooks: what the operator does with the machine when the device's state changes.
//!
//! Promises: every change is told, in order, to one program after another, the safe state first, which waits for none of
//! an earlier change; a program that takes too long is ended with all that it started; renewal waits for none of them. One that failed is run again until it
//! ends well or another change comes. What changed while the attestor was away is told when it is back, and after a
//! reboot the state is told anew. Does not promise each of more than [`MAX_WAITING`] changes while one program runs: the
//! newest are told.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::{ActionError, FOLDER, FailingHook, RETRY, longer};
use crate::durable;
use crate::evidence::boot_id;
use crate::program;
use crate::status::{Hold, Status, Word};

/// Name of the hook that brings the machine to its safe state.
pub(crate) const SAFE_STATE: &str = "safe-state";
/// Changes that wait while a hook runs: a device changes its state a few times an hour at most.
const MAX_WAITING: usize = 16;
/// What was told last, beside what other hooks were told.
const FILE: &str = "state";
/// Longest such file in bytes: a word, a reason and a UUID.
const MAX_FILE: u64 = 1024;

/// A hook that is run when the state changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateHook {
    /// What logs and status call it.
    pub name: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// The states of which it is told; `None`: all.
    pub states: Option<Vec<Word>>,
    /// When it is ended; then it failed.
    pub timeout: Duration,
}

/// A state, with the reason where it is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Change {
    state: Word,
    /// A word in capitals, as the broker's reasons are; empty for a trusted device.
    reason: String,
}

impl Change {
    /// The state that `status` shows; None while it is starting, or between two.
    pub(crate) fn of(status: &Status) -> Option<Self> {
        let reason = match status.state {
            Word::Starting => return None,
            Word::Enrolling => "NOT_ENROLLED",
            Word::Trusted => "",
            Word::Holding => match status.hold() {
                Hold::BrokerAway => "BROKER_AWAY",
                Hold::Refused(reason) => reason,
                Hold::NotAttested => "NOT_ATTESTED",
            },
            Word::Pending => "NOT_ADMITTED",
            Word::Refused | Word::Quarantined => match &status.denial {
                Some(denial) => &denial.reason,
                // Accepted anew, and its keys are being certified.
                None if status.certificates.is_empty() => return None,
                None => "CERTIFICATES_ENDED",
            },
        };
        Some(Self { state: status.state, reason: reason.to_owned() })
    }
}

/// On disk: what was told, in which boot.
#[derive(Serialize, Deserialize)]
struct Told {
    boot_id: String,
    #[serde(flatten)]
    change: Change,
}

/// The state hooks of the device, in their order, and what they have to be told.
#[derive(Debug)]
pub struct StateHooks {
    file: PathBuf,
    hooks: Vec<StateHook>,
    known: Mutex<Known>,
    wake: Notify,
    /// Tells of another change while a hook runs.
    noted: Notify,
}

#[derive(Debug, Default)]
struct Known {
    /// The last change that was seen.
    noted: Option<Change>,
    /// Those that are still to be told, oldest first.
    waiting: VecDeque<Change>,
    /// The change of which the safe state was told before its turn, and whether that ended well.
    safe: Option<(Change, bool)>,
    /// By name of the hook: how it failed the last time.
    faults: BTreeMap<String, String>,
}

impl StateHooks {
    /// `hooks`, with what they were told in this boot before, as kept below the delivery folder `dir`.
    pub(crate) fn new(hooks: Vec<StateHook>, dir: &Path) -> Self {
        let file = dir.join(FOLDER).join(FILE);
        let noted = read(&file).filter(|told| told.boot_id == boot_id()).map(|told| told.change);
        let known = Mutex::new(Known { noted, ..Known::default() });
        Self { file, hooks, known, wake: Notify::new(), noted: Notify::new() }
    }

    /// The device is in this state.
    pub(crate) fn note(&self, change: Change) {
        let mut known = self.lock();
        if self.hooks.is_empty() || known.noted.as_ref() == Some(&change) {
            return;
        }
        if known.waiting.len() >= MAX_WAITING {
            known.waiting.pop_front();
        }
        known.waiting.push_back(change.clone());
        known.noted = Some(change);
        self.wake.notify_one();
        self.noted.notify_waiters();
    }

    /// The hooks that did not end well.
    pub(crate) fn failing(&self) -> Vec<FailingHook> {
        let failing = |(name, message): (&String, &String)| FailingHook {
            name: name.clone(),
            message: message.clone(),
        };
        self.lock().faults.iter().map(failing).collect()
    }

    /// Tells every change of the state of `device`, for ever.
    pub(crate) async fn follow(&self, device: impl Fn() -> Option<String>) {
        loop {
            self.another().await;
            let next = self.lock().waiting.pop_front();
            if let Some(change) = next {
                self.tell(&change, &device().unwrap_or_default()).await;
            }
        }
    }

    /// Runs what concerns `change`, and again what failed, until all ended well or there is another change.
    async fn tell(&self, change: &Change, device: &str) {
        let mut pause = RETRY;
        let mut due: Vec<&StateHook> = self.hooks.iter().filter(|hook| hook.concerns(change.state)).collect();
        loop {
            let mut failed = Vec::new();
            for hook in due {
                if hook.name == SAFE_STATE && self.is_safe(change) {
                    continue;
                }
                let ended = self.run(hook, change, device).await;
                if ended.is_err() {
                    failed.push(hook);
                }
                self.end(hook, change, ended);
            }
            if failed.is_empty() {
                return self.keep(change);
            }
            // The safe state is not put off.
            let wait = if failed.iter().any(|hook| hook.name == SAFE_STATE) { RETRY } else { pause };
            if timeout(wait, self.another()).await.is_ok() {
                return;
            }
            pause = longer(pause);
            due = failed;
        }
    }

    /// Runs a hook, and meanwhile that of the safe state as soon as a change waits at which a machine that is not there
    /// yet goes to it.
    async fn run(&self, hook: &StateHook, change: &Change, device: &str) -> Result<(), ActionError> {
        let mut ended = std::pin::pin!(hook.run(change, device));
        let is_safe = |other: &&StateHook| other.name == SAFE_STATE;
        let Some(safe) = self.hooks.iter().find(is_safe).filter(|safe| !safe.concerns(change.state)) else {
            return ended.await;
        };
        loop {
            tokio::select! {
                ended = &mut ended => return ended,
                change = self.unsafe_change(safe) => {
                    let ended = safe.run(&change, device).await;
                    self.lock().safe = Some((change.clone(), ended.is_ok()));
                    self.end(safe, &change, ended);
                }
            }
        }
    }

    /// The newest waiting change of which `safe` was not told yet, once there is one.
    async fn unsafe_change(&self, safe: &StateHook) -> Change {
        loop {
            // Asked for before the look, so that no change falls between.
            let noted = self.noted.notified();
            let newest = {
                let known = self.lock();
                let concerned = known.waiting.iter().rev().find(|change| safe.concerns(change.state));
                concerned
                    .filter(|change| known.safe.as_ref().is_none_or(|(told, _)| told != *change))
                    .cloned()
            };
            match newest {
                Some(change) => return change,
                None => noted.await,
            }
        }
    }

    /// Whether the machine went to its safe state at `change` before it was its turn.
    fn is_safe(&self, change: &Change) -> bool {
        self.lock().safe.take_if(|(told, well)| told == change && *well).is_some()
    }

    /// Ready once a change waits.
    async fn another(&self) {
        while self.lock().waiting.is_empty() {
            self.wake.notified().await;
        }
    }

    fn end(&self, hook: &StateHook, change: &Change, ended: Result<(), ActionError>) {
        let (name, state) = (&hook.name, change.state.as_str());
        let mut known = self.lock();
        match ended {
            Ok(()) => {
                tracing::info!(hook = name, state, reason = change.reason, "was told of the state");
                known.faults.remove(name);
            }
            Err(error) => {
                tracing::error!(hook = name, state, %error, "the state hook failed; the machine may not be as it should");
                known.faults.insert(name.clone(), error.to_string());
            }
        }
    }

    fn keep(&self, change: &Change) {
        let told = Told { boot_id: boot_id(), change: change.clone() };
        let written = serde_json::to_vec(&told).map_err(std::io::Error::other).and_then(|json| {
            self.file.parent().map_or(Ok(()), |folder| durable::make_dir(folder, 0o755))?;
            durable::replace(&self.file, &json, 0o644)
        });
        if let Err(error) = written {
            let file = self.file.display();
            tracing::error!(%error, "{file} cannot be written: state hooks may be told once more after a restart; free space");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Each change is a whole one: nothing can be half done.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateHook {
    fn concerns(&self, state: Word) -> bool {
        self.states.as_ref().is_none_or(|states| states.contains(&state))
    }

    async fn run(&self, change: &Change, device: &str) -> Result<(), ActionError> {
        let variables = [
            ("TOUCHSTONE_STATE", change.state.as_str()),
            ("TOUCHSTONE_REASON", change.reason.as_str()),
            ("TOUCHSTONE_DEVICE", device),
        ];
        let child = program::start(&self.command, variables)?;
        match program::end(child, self.timeout).await? {
            status if status.success() => Ok(()),
            status => Err(ActionError::Failed(status)),
        }
    }
}

fn read(file: &Path) -> Option<Told> {
    serde_json::from_slice(&durable::read_bounded(file, MAX_FILE).ok()?).ok()
}

#[cfg(test)]
mod tests;
