//! Hooks: what makes local software read its files again, by a program of the operator's, its unit or a signal.
//!
//! Promises: after every delivery that changed what a hook's software uses, the hook runs, and runs again until it ends
//! well, also if the attestor stopped in between. Software may read files at any moment, by itself or because of a hook
//! that then failed, so it may go by everything that it could see since its hook last ended well; only a hook that
//! saw one delivery from beginning to end knows better. Where an authority left a trust file it is `restart` that
//! runs: some software only ever adds authorities when it is told to reload. No hook waits for another. Does not
//! promise that the software did what it was told: an exit code of 0 is believed, and that a signal which was sent is heeded.
//!
//! Hooks that are about the device's state, not about files, are in `on_state`.

mod action;
mod on_state;
mod seen;
mod told;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use policy::id::ServiceName;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::action::ActionError;
pub use self::action::{Action, Job, Process, SignalName};
use self::seen::Seen;
use self::told::{Run, Told};
use crate::deliver::{CURRENT, Delivery};
use crate::renewal::Attester;

pub(crate) use self::on_state::{Change, SAFE_STATE};
pub use self::on_state::{StateHook, StateHooks};

/// Folder in the delivery folder with what each hook's software was told.
pub(crate) const FOLDER: &str = "hooks";
/// Time that a hook has unless told otherwise: a restart of large software.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// Most time that a hook may be given: until it ends, its software may accept what was revoked.
pub const MOST_TIMEOUT: Duration = Duration::from_secs(600);
/// Pause after a hook that failed: software that is just starting can be told soon after. It doubles with each failure in a
/// row up to the longest: a hook may restart its software before it fails.
const RETRY: Duration = Duration::from_secs(5);
const MOST_RETRY: Duration = Duration::from_secs(300);

/// A hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// What logs, status and files call it.
    pub name: String,
    /// The service whose files it is about, besides certificates and keys of the device; `None`: all services.
    pub service: Option<ServiceName>,
    /// What is done when something changed.
    pub reload: Action,
    /// The same, run instead when an authority left a trust file, or nothing is known of what was told before.
    pub restart: Action,
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

/// The hooks of the device, what their software goes by, and how they do.
#[derive(Debug)]
pub struct Hooks {
    /// Delivery folder.
    dir: PathBuf,
    hooks: Vec<Hook>,
    /// By name of the hook.
    told: Mutex<BTreeMap<String, Told>>,
    shown: watch::Sender<()>,
    ended: watch::Sender<()>,
}

impl Hooks {
    /// `hooks`, of software that reads its files below `dir`, and what that was told before.
    pub(crate) fn new(hooks: Vec<Hook>, dir: PathBuf) -> Self {
        let told = hooks.iter().map(|hook| (hook.name.clone(), Told::new(Seen::read(&file(&dir, hook)))));
        let (told, shown, ended) =
            (Mutex::new(told.collect()), watch::Sender::new(()), watch::Sender::new(()));
        Self { told, dir, hooks, shown, ended }
    }

    /// Lets software see `delivery`, which `install` does. That it may is on disk before: an attestor that ends in
    /// between tells it all the same.
    pub(crate) fn show<T, E>(
        &self,
        delivery: &Delivery,
        install: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        // Held throughout: no hook begins between the files that it is told of and those that it finds.
        let mut told = self.lock();
        let due: Vec<(&Hook, Seen)> =
            self.hooks.iter().map(|hook| (hook, Seen::of(delivery, hook.service.as_ref()))).collect();
        for (hook, due) in &due {
            let told = told.entry(hook.name.clone()).or_default();
            if told.may_see(due) {
                self.keep(hook, told);
            }
        }
        let installed = install()?;
        for (hook, due) in due {
            told.entry(hook.name.clone()).or_default().shall_see(due);
        }
        drop(told);
        self.shown.send_replace(());
        Ok(installed)
    }

    /// Whether the software of every hook goes by what it was shown last.
    pub(crate) fn have_told_all(&self) -> bool {
        let told = self.lock();
        self.hooks.iter().all(|hook| told.get(&hook.name).is_none_or(Told::has_all))
    }

    /// Waits until that is so.
    pub(crate) async fn all_told(&self) {
        let mut ended = self.ended.subscribe();
        while !self.have_told_all() {
            if ended.changed().await.is_err() {
                return;
            }
        }
    }

    /// The hooks that did not end well.
    pub(crate) fn failing(&self) -> Vec<FailingHook> {
        let told = self.lock();
        let failing = told.iter().filter_map(|(name, told)| Some((name, told.fault()?)));
        failing
            .map(|(name, message)| FailingHook { name: name.clone(), message: message.to_owned() })
            .collect()
    }

    /// What has to be run now, if anything.
    fn begin(&self, hook: &Hook) -> Option<Run> {
        self.lock().get_mut(&hook.name)?.begin()
    }

    /// What was begun has ended.
    fn end(&self, hook: &Hook, ended: Result<(), ActionError>) {
        let mut all = self.lock();
        let told = all.entry(hook.name.clone()).or_default();
        match ended {
            Ok(()) => {
                told.end_well();
                self.keep(hook, told);
            }
            Err(error) => told.end_ill(error.to_string()),
        }
        drop(all);
        self.ended.send_replace(());
    }

    fn keep(&self, hook: &Hook, told: &Told) {
        let file = file(&self.dir, hook);
        if let Some(Err(error)) = told.goes_by().map(|seen| seen.write(&file)) {
            let (hook, file) = (&hook.name, file.display());
            tracing::error!(hook, %error, "{file} cannot be written: after a restart the hook may run once more, or not; free space");
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Told>> {
        // Each change is a whole one: nothing can be half done.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn file(dir: &Path, hook: &Hook) -> PathBuf {
    dir.join(FOLDER).join(format!("{}.json", hook.name))
}

/// Follows deliveries for every hook; ends with the value.
pub(crate) fn follow_all(attester: &Arc<Attester>) -> JoinSet<()> {
    let mut all = JoinSet::new();
    for hook in &attester.config.hooks {
        let (attester, hook) = (Arc::clone(attester), hook.clone());
        all.spawn(async move { follow(&attester.hooks, &hook).await });
    }
    let attester = Arc::clone(attester);
    all.spawn(async move { attester.state_hooks.follow(|| attester.name()).await });
    all
}

/// The pause after one more failure.
fn longer(pause: Duration) -> Duration {
    pause.saturating_mul(2).min(MOST_RETRY)
}

async fn follow(hooks: &Hooks, hook: &Hook) {
    let mut shown = hooks.shown.subscribe();
    let mut pause = RETRY;
    loop {
        shown.borrow_and_update();
        let failed = match hooks.begin(hook) {
            Some(run) => !hook.tell(hooks, run).await,
            None => false,
        };
        let changed = shown.changed();
        match failed {
            true => {
                let woken = timeout(pause, changed).await.is_ok();
                pause = if woken { RETRY } else { longer(pause) };
            }
            false if changed.await.is_err() => return,
            false => pause = RETRY,
        }
    }
}

impl Hook {
    /// Runs it, and tells whether it ended well.
    async fn tell(&self, hooks: &Hooks, run: Run) -> bool {
        let (action, run) = match run {
            Run::Reload => (&self.reload, "reload"),
            Run::Restart => (&self.restart, "restart"),
        };
        let files = hooks.dir.join(CURRENT).display().to_string();
        let ended = action.run(&files, self.timeout).await;
        match &ended {
            Ok(()) => tracing::info!(hook = self.name, run, "software was told of its new files"),
            Err(error) => {
                tracing::error!(hook = self.name, run, %error, "the hook failed; its software may go on by old files");
            }
        }
        let well = ended.is_ok();
        hooks.end(self, ended);
        well
    }
}

#[cfg(test)]
mod tests;
