//! Hooks: programs of the operator's that make local software read its files again.
//!
//! Promises: after every delivery that changed what a hook's software uses, the hook runs, and runs again until it ends
//! well, also if the attestor stopped in between. Where an authority left a trust file it is `restart` that runs: some
//! software only ever adds authorities when it is told to reload. No hook waits for another. Does not promise that
//! the software did what it was told: an exit code of 0 is believed.

mod seen;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use policy::id::ServiceName;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::seen::Seen;
use crate::deliver::{CURRENT, Delivery};
use crate::program::{self, ProgramError};
use crate::renewal::Attester;

/// Folder in the delivery folder with what each hook's software was told.
pub(crate) const FOLDER: &str = "hooks";
/// Time that a hook has unless told otherwise: a restart of large software.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// Most time that a hook may be given: until it ends, its software may accept what was revoked.
pub const MOST_TIMEOUT: Duration = Duration::from_secs(600);
/// Pause after a hook that failed: software that is just starting can be told soon after.
const RETRY: Duration = Duration::from_secs(5);

/// A hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// What logs, status and files call it.
    pub name: String,
    /// The service whose files it is about, besides certificates and keys of the device; `None`: all services.
    pub service: Option<ServiceName>,
    /// Program and arguments, run when something changed.
    pub reload: Vec<String>,
    /// The same, run instead when an authority left a trust file, or nothing is known of what was told before.
    pub restart: Vec<String>,
    /// When it is ended; then it failed.
    pub timeout: Duration,
}

/// A hook that did not end well the last time it ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailingHook {
    /// The hook.
    pub name: String,
    /// What went wrong.
    pub message: String,
}

/// What hooks wait for, and how they do.
#[derive(Debug, Default)]
pub struct Hooks {
    delivered: watch::Sender<Option<Arc<Delivery>>>,
    failing: Mutex<BTreeMap<String, String>>,
}

impl Hooks {
    /// Software can see this delivery now.
    pub(crate) fn delivered(&self, delivery: Delivery) {
        self.delivered.send_replace(Some(Arc::new(delivery)));
    }

    /// The hooks that did not end well.
    pub(crate) fn failing(&self) -> Vec<FailingHook> {
        let failing = self.lock();
        failing
            .iter()
            .map(|(name, message)| FailingHook { name: name.clone(), message: message.clone() })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        // Each change is one insert or remove: nothing can be half done.
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a hook failed.
#[derive(Debug, thiserror::Error)]
enum HookError {
    /// It could not be run, or not to its end.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// It said so itself.
    #[error("it ended with {0}; see its own log")]
    Failed(std::process::ExitStatus),
}

/// Follows deliveries for every configured hook; ends with the value.
pub(crate) fn follow_all(attester: &Arc<Attester>) -> JoinSet<()> {
    let mut all = JoinSet::new();
    for hook in &attester.config.hooks {
        let (attester, hook) = (Arc::clone(attester), hook.clone());
        all.spawn(async move { follow(&attester.hooks, &hook, attester.sink.dir()).await });
    }
    all
}

/// What the software was told is compared with what it should have been, so that nothing is lost between a delivery
/// and its hook: not by a hook that fails, nor by an attestor that ends.
async fn follow(hooks: &Hooks, hook: &Hook, dir: &Path) {
    let file = dir.join(FOLDER).join(format!("{}.json", hook.name));
    let mut told = Seen::read(&file);
    let mut deliveries = hooks.delivered.subscribe();
    loop {
        let delivery = deliveries.borrow_and_update().clone();
        let due = delivery.map(|delivery| Seen::of(&delivery, hook.service.as_ref()));
        let due = due.filter(|due| told.as_ref() != Some(due));
        let failed = match due {
            Some(due) if hook.tell(hooks, told.as_ref(), &due, dir).await => {
                if let Err(error) = due.write(&file) {
                    let file = file.display();
                    tracing::error!(%error, "the hook may run once more: {file} cannot be written; free space");
                }
                told = Some(due);
                false
            }
            due => due.is_some(),
        };
        let changed = deliveries.changed();
        match failed {
            true => drop(timeout(RETRY, changed).await),
            false if changed.await.is_err() => return,
            false => {}
        }
    }
}

impl Hook {
    /// Runs it for software that was `told` something else, and tells whether it ended well.
    async fn tell(&self, hooks: &Hooks, told: Option<&Seen>, due: &Seen, dir: &Path) -> bool {
        let restart = told.is_none_or(|told| due.lacks_authority_of(told));
        let words = if restart { &self.restart } else { &self.reload };
        match self.run(words, dir).await {
            Ok(()) => {
                tracing::info!(hook = self.name, restart, "software was told of its new files");
                hooks.lock().remove(&self.name);
                true
            }
            Err(error) => {
                tracing::error!(hook = self.name, restart, %error, "the hook failed; its software may go on by old files");
                hooks.lock().insert(self.name.clone(), error.to_string());
                false
            }
        }
    }

    async fn run(&self, words: &[String], dir: &Path) -> Result<(), HookError> {
        let files = dir.join(CURRENT).display().to_string();
        let child = program::start(words, [("TOUCHSTONE_FILES", files.as_str())])?;
        match program::end(child, self.timeout).await? {
            status if status.success() => Ok(()),
            status => Err(HookError::Failed(status)),
        }
    }
}

#[cfg(test)]
mod tests;
