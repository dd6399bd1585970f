//! What a process takes, as Linux counts it.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A process by its id.
#[derive(Clone, Copy)]
pub(crate) struct Watched(pub(crate) u32);

impl Watched {
    /// Anonymous resident memory in KiB.
    pub(crate) fn memory(self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("Linux tells it");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Processor time of all its threads.
    pub(crate) fn processor(self) -> Duration {
        let threads = fs::read_dir(format!("/proc/{}/task", self.0)).expect("the process runs");
        let spent = threads.filter_map(|thread| {
            let stat = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            stat.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(spent.sum())
    }

    /// Looks at its memory each millisecond until it is asked.
    pub(crate) fn sample(self) -> Sampler {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let looking = thread::spawn(move || {
            let mut most: f64 = 0.0;
            while !stopped.load(Ordering::Relaxed) {
                most = most.max(self.memory());
                thread::sleep(Duration::from_millis(1));
            }
            most
        });
        Sampler { stop, looking }
    }
}

/// Looks until it is asked.
pub(crate) struct Sampler {
    stop: Arc<AtomicBool>,
    looking: JoinHandle<f64>,
}

impl Sampler {
    /// The most that was seen, in KiB.
    pub(crate) fn peak(self) -> f64 {
        self.stop.store(true, Ordering::Relaxed);
        self.looking.join().expect("it looked")
    }
}
