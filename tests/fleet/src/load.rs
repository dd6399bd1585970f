//! Work of many devices at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::device::Device;

/// Longest time that anything may take that must come.
const DEADLINE: Duration = Duration::from_secs(300);
/// Pause between two looks.
const POLL: Duration = Duration::from_millis(20);

/// A device that some task may have at the moment.
pub type Shared = Arc<Mutex<Device>>;

/// Devices, to be shared.
pub fn shared(devices: Vec<Device>) -> Vec<Shared> {
    devices.into_iter().map(|device| Arc::new(Mutex::new(device))).collect()
}

/// Lets `work` begin with each of `items`, with so many at once, and gives what came of it, in the order in which it ended.
pub async fn each<I, T, W>(
    items: impl IntoIterator<Item = I>,
    at_once: usize,
    work: impl Fn(I) -> W,
) -> Vec<T>
where
    T: Send + 'static,
    W: Future<Output = T> + Send + 'static,
{
    let (mut running, mut done) = (JoinSet::new(), Vec::new());
    for item in items {
        if running.len() >= at_once {
            done.extend(running.join_next().await.map(|one| one.expect("no task panics")));
        }
        running.spawn(work(item));
    }
    done.extend(running.join_all().await);
    done
}

/// How long `work` took.
pub async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let begin = Instant::now();
    let done = work.await;
    (done, begin.elapsed())
}

/// Waits until `holds`.
pub async fn until<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let end = Instant::now() + DEADLINE;
    while !holds().await {
        assert!(Instant::now() < end, "within {DEADLINE:?} not: {what}");
        tokio::time::sleep(POLL).await;
    }
}
