//! Criterion measures; this remembers the fastest batch of each measurement, so that one run can say how many
//! times its floor a piece of work takes. Ratios hold on any machine, times do not, and what else runs on a
//! machine only ever makes a batch slower.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Duration;

use criterion::Criterion;
use rustix::time::{ClockId, clock_gettime};

/// Shortest time between two looks at the clock that counts: so long that looking costs nothing, and so short that
/// some batches find the processor and its caches undisturbed.
const BATCH: Duration = Duration::from_micros(100);

/// Measurements of one run.
pub(crate) struct Ratios {
    criterion: Criterion,
    fastest: BTreeMap<String, Duration>,
    missed: usize,
}

impl Ratios {
    pub(crate) fn new() -> Self {
        let criterion = Criterion::default().without_plots().warm_up_time(Duration::from_millis(300));
        let criterion = criterion.measurement_time(Duration::from_secs(1)).sample_size(20);
        Self { criterion: criterion.configure_from_args(), fastest: BTreeMap::new(), missed: 0 }
    }

    /// Measures `work` under `name`, and gives the time of its fastest batch in a run that measures.
    pub(crate) fn measure<T>(&mut self, name: &str, mut work: impl FnMut() -> T) -> Option<Duration> {
        let (mut samples, mut fastest) = (0, Duration::MAX);
        self.criterion.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                let (spent, each) = sample(times, &mut work);
                (samples, fastest) = (samples + 1, fastest.min(each));
                spent
            });
        });
        // A filter leaves measurements out, and `cargo test` runs each once to see that it works.
        if samples > 1 && fastest < Duration::MAX {
            self.fastest.insert(name.to_owned(), fastest);
        }
        self.fastest.get(name).copied()
    }

    /// Prints how many times `floor` the measurement `name` took, beside what is promised of it.
    pub(crate) fn promise(&mut self, name: &str, floor: &str, at_most: f64) {
        let (Some(time), Some(floor_time)) = (self.fastest.get(name), self.fastest.get(floor)) else {
            return;
        };
        self.tell(&format!("{name} / {floor}"), time.as_secs_f64() / floor_time.as_secs_f64(), at_most);
    }

    /// Prints a ratio that was found in another way, in a run that measures.
    pub(crate) fn tell(&mut self, what: &str, ratio: f64, at_most: f64) {
        if self.fastest.is_empty() {
            return;
        }
        let kept = ratio <= at_most;
        self.missed += usize::from(!kept);
        let verdict = if kept { "kept" } else { "MISSED" };
        println!("ratio  {what}: {ratio:.2} (promised: at most {at_most}; {verdict})");
    }

    /// Fails if a promise was missed.
    pub(crate) fn finish(self) -> ExitCode {
        if self.missed == 0 {
            return ExitCode::SUCCESS;
        }
        eprintln!("{} promises missed; on a busy machine run again", self.missed);
        ExitCode::FAILURE
    }
}

/// Does `work` so many times; returns the time that all of it took and the fastest batch's share of one.
fn sample<T>(times: u64, mut work: impl FnMut() -> T) -> (Duration, Duration) {
    let (mut left, mut batch, mut all, mut fastest) = (times, 1, Duration::ZERO, Duration::MAX);
    while left > 0 {
        let done = left.min(batch);
        let begin = processor_time();
        for _ in 0..done {
            black_box(work());
        }
        let spent = processor_time().saturating_sub(begin);
        (left, all) = (left - done, all + spent);
        if spent < BATCH {
            batch *= 2;
        } else {
            fastest = fastest.min(spent.div_f64(u32::try_from(done).unwrap().into()));
        }
    }
    (all, fastest)
}

/// Waiting for a processor that others use is no work.
fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap()
}
