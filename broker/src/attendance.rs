//! Which devices hold a Watch stream open, and since when those that did are gone.
//!
//! Kept in memory: after a restart of the broker nobody is known to have left, until they came once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use policy::id::DeviceName;
use policy::time::UnixTime;

use crate::ports::Clock;

/// Seconds that a device may be gone for: it opens its stream anew with each certificate, and after a hitch of the
/// network.
const HITCH: u64 = 5;

/// Who is here. Only devices with a certificate come, so there are never more than the plant has names.
#[derive(Clone, Debug, Default)]
pub struct Attendance(Arc<Mutex<HashMap<DeviceName, Presence>>>);

#[derive(Clone, Copy, Debug, Default)]
struct Presence {
    /// Streams that are open: the new one may come before the old one is known to be dead.
    open: usize,
    /// Streams that it opened so far.
    opened: u64,
    left: Option<UnixTime>,
}

/// An open stream. The device leaves with its last one.
pub struct Present {
    attendance: Attendance,
    device: DeviceName,
    clock: Arc<dyn Clock>,
}

impl Attendance {
    /// The device opens a stream.
    #[must_use]
    pub fn enter(&self, device: &DeviceName, clock: &Arc<dyn Clock>) -> Present {
        let mut all = self.lock();
        let presence = all.entry(device.clone()).or_default();
        (presence.open, presence.left) = (presence.open.saturating_add(1), None);
        presence.opened = presence.opened.saturating_add(1);
        Present { attendance: self.clone(), device: device.clone(), clock: Arc::clone(clock) }
    }

    /// Whether the device was here, left after `then`, and has been gone for longer than a hitch at `now`.
    #[must_use]
    pub fn has_left(&self, device: &DeviceName, then: UnixTime, now: UnixTime) -> bool {
        let left = self.lock().get(device).and_then(|presence| presence.left);
        left.is_some_and(|left| left >= then && now.since(left) > HITCH)
    }

    /// How many streams of the device are open, and how many it opened since the broker started.
    #[must_use]
    pub fn streams(&self, device: &DeviceName) -> (usize, u64) {
        self.lock().get(device).map_or((0, 0), |presence| (presence.open, presence.opened))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DeviceName, Presence>> {
        // A presence is whole whatever happened to who held the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        let now = self.clock.now();
        if let Some(presence) = self.attendance.lock().get_mut(&self.device) {
            presence.open = presence.open.saturating_sub(1);
            presence.left = (presence.open == 0).then_some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::admin::tests::{Bench, NOW};

    #[tokio::test]
    async fn a_device_has_left_when_its_last_stream_is_closed() {
        let bench = Bench::new().await;
        let (attendance, press) = (&bench.plant.attendance, "press-7".parse().unwrap());
        let gone = |then, seconds| attendance.has_left(&press, then, NOW.plus(seconds));
        assert!(!gone(NOW, 60), "it was never here");
        let first = attendance.enter(&press, &bench.plant.clock);
        let second = attendance.enter(&press, &bench.plant.clock);
        drop(first);
        assert!(!gone(NOW, 60), "the new stream came before the old one ended");
        drop(second);
        assert!(!gone(NOW, 5) && gone(NOW, 6), "a hitch is none");
        assert!(!gone(NOW.plus(1), 60), "it proved itself since");
        let _back = attendance.enter(&press, &bench.plant.clock);
        assert_eq!(attendance.streams(&press), (1, 3));
        assert!(!gone(NOW, 60));
    }
}
