//! Wakes the streams that a change of the store concerns, and only those.
//!
//! One task hands it every change; each Watch stream waits on its own [`Listener`]. A wake-up says only
//! "look again": what is true is read from the store, so a missed or doubled one does no harm.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use policy::id::DeviceName;
use tokio::sync::Notify;

use crate::record::device::DEVICE;
use crate::record::drill::DRILL;
use crate::record::golden::{GOLDEN, WANTED};
use crate::record::plant::TRUST;
use crate::record::rollout::TOLD;
use crate::store::WatchEvent;

/// Who listens, by device.
#[derive(Debug, Default)]
pub struct Hub(Mutex<HashMap<String, Vec<Weak<Notify>>>>);

/// Waits for changes that concern one device.
#[derive(Debug)]
pub struct Listener(Arc<Notify>);

impl Listener {
    /// Returns once something that concerns the device has changed since the last call.
    pub async fn changed(&self) {
        self.0.notified().await;
    }
}

impl Hub {
    /// A listener for `device`; it ends when it is dropped.
    pub fn listen(&self, device: &DeviceName) -> Listener {
        let notify = Arc::new(Notify::new());
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_device = all.entry(device.to_string()).or_default();
        of_device.retain(|weak| weak.strong_count() > 0);
        of_device.push(Arc::downgrade(&notify));
        Listener(notify)
    }

    /// How many devices listen; some of them may have just left.
    #[must_use]
    pub fn devices(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Wakes the listeners that `event` concerns.
    pub fn tell(&self, event: &WatchEvent) {
        let WatchEvent::Change(change) = event else { return self.wake_all() };
        if change
            .keys
            .iter()
            .any(|key| key == TRUST || key == GOLDEN || key.starts_with(WANTED) || key.starts_with(DRILL))
        {
            return self.wake_all();
        }
        let told = |key: &str| Some(key.strip_prefix(TOLD)?.rsplit_once('/')?.1.to_owned());
        for key in change.keys.iter() {
            let name = key.strip_prefix(DEVICE).map(str::to_owned).or_else(|| told(key));
            name.iter().for_each(|name| self.wake(name));
        }
    }

    fn wake(&self, device: &str) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(device)
            .into_iter()
            .flatten()
            .filter_map(Weak::upgrade)
            .for_each(|notify| notify.notify_one());
    }

    /// Wakes all listeners.
    pub fn wake_all(&self) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, listeners| {
            listeners.retain(|weak| weak.strong_count() > 0);
            listeners.iter().filter_map(Weak::upgrade).for_each(|notify| notify.notify_one());
            !listeners.is_empty()
        });
    }
}

/// Whether trust sets may have changed with `event`.
#[must_use]
pub fn moves_trust(event: &WatchEvent) -> bool {
    match event {
        WatchEvent::Resync { .. } => true,
        WatchEvent::Change(change) => change.keys.iter().any(|key| key == TRUST),
    }
}
