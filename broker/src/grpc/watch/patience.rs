//! How long devices that were told to attest may still stay silent.
//!
//! Promises: what counts is the time that a device listens, over all its streams: whoever connects again does not begin
//! anew. Time that it is away does not count. Holds nothing of a device that answered.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use policy::id::DeviceName;

/// What is left to each device whose stream ended before it answered, with the attestations that it had made by then.
#[derive(Debug, Default)]
pub(super) struct Patience(Mutex<HashMap<DeviceName, (u64, Duration)>>);

impl Patience {
    /// What is left of `whole` to a device that has attested `counter` times.
    pub(super) fn left(&self, device: &DeviceName, counter: u64, whole: Duration) -> Duration {
        match self.lock().get(device) {
            Some((of, left)) if *of == counter => whole.min(*left),
            _ => whole,
        }
    }

    /// A stream ended before the device answered, with so much left.
    pub(super) fn keep(&self, device: &DeviceName, counter: u64, left: Duration) {
        let mut all = self.lock();
        let kept = all.entry(device.clone()).or_insert((counter, left));
        *kept = (counter, if kept.0 == counter { left.min(kept.1) } else { left });
    }

    /// The device answered, or its silence was judged.
    pub(super) fn forget(&self, device: &DeviceName) {
        self.lock().remove(device);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DeviceName, (u64, Duration)>> {
        // Each change is a whole one: nothing can be half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
