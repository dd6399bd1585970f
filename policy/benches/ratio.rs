//! Criterion measures; this remembers the fastest sample of each measurement, so that one run can say how many
//! times its floor a piece of work takes. Ratios hold on any machine, times do not.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

use criterion::Criterion;

/// Measurements of one run.
pub(crate) struct Ratios {
    criterion: Criterion,
    fastest: BTreeMap<String, Duration>,
}

impl Ratios {
    pub(crate) fn new() -> Self {
        let criterion = Criterion::default().without_plots().warm_up_time(Duration::from_millis(500));
        let criterion = criterion.measurement_time(Duration::from_secs(2)).sample_size(30);
        Self { criterion: criterion.configure_from_args(), fastest: BTreeMap::new() }
    }

    /// Measures `work` under `name`.
    pub(crate) fn measure<T>(&mut self, name: &str, mut work: impl FnMut() -> T) {
        let mut fastest = Duration::MAX;
        self.criterion.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                let spent = sample(times, &mut work);
                let each = spent.div_f64(u32::try_from(times).map_or(f64::from(u32::MAX), f64::from));
                fastest = fastest.min(each);
                spent
            });
        });
        self.fastest.insert(name.to_owned(), fastest);
    }

    /// Prints how many times `floor` the measurement `name` took, beside what is promised of it.
    pub(crate) fn compare(&self, name: &str, floor: &str, promised: f64) {
        // A filter on the command line, or `cargo test`, leaves measurements out.
        if let (Some(name_time), Some(floor_time)) = (self.known(name), self.known(floor)) {
            let ratio = name_time.as_secs_f64() / floor_time.as_secs_f64();
            println!("ratio  {name} / {floor}: {ratio:.2} (promised: at most {promised})");
        }
    }

    fn known(&self, name: &str) -> Option<Duration> {
        self.fastest.get(name).copied().filter(|time| *time != Duration::MAX)
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn sample<T>(times: u64, mut work: impl FnMut() -> T) -> Duration {
    let begin = std::time::Instant::now();
    for _ in 0..times {
        black_box(work());
    }
    begin.elapsed()
}
