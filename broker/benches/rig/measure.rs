//! How long something takes, how much of the processors, and how much memory the process had at most meanwhile.

use std::fmt;
use std::time::{Duration, Instant};

/// Clock ticks of `/proc/self/stat` in a second: Linux tells user space 100, whatever it counts by itself.
const TICKS: f64 = 100.0;

/// What something cost.
pub(crate) struct Cost {
    pub(crate) elapsed: Duration,
    pub(crate) peak: u64,
    pub(crate) processor: f64,
}

impl Cost {
    /// How often the time of `floor` this took.
    pub(crate) fn ratio(&self, floor: &Self) -> f64 {
        self.elapsed.as_secs_f64() / floor.elapsed.as_secs_f64()
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { elapsed, peak, processor } = self;
        write!(f, "{elapsed:.2?}, {processor:.2} s of processor, {} resident at most", mib(*peak))
    }
}

pub(crate) fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// Does it, and says what it cost.
pub(crate) async fn measured<T>(work: impl Future<Output = T>) -> (T, Cost) {
    // Forgets the peak so far (proc(5), clear_refs).
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let (processor, begin) = (processor_time(), Instant::now());
    let done = work.await;
    let (elapsed, processor) = (begin.elapsed(), processor_time() - processor);
    (done, Cost { elapsed, processor, peak: peak() })
}

/// Most memory that the process had since it was last forgotten.
pub(crate) fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Seconds of processor that this process took.
pub(crate) fn processor_time() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // The name in parentheses may hold anything; utime and stime are the 12th and 13th field after it.
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks = |place: usize| fields.get(place).unwrap().parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / TICKS
}
