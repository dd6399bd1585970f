//! What was measured: one line of JSON for each figure.

use std::time::Duration;

use serde_json::json;

/// What one unit of work cost, in microseconds.
pub fn micros(span: Duration) -> f64 {
    span.as_secs_f64() * 1e6
}

/// A figure.
#[derive(Debug)]
pub struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    floor: Option<f64>,
    /// At most so much is promised: of the ratio where there is a floor, else of the value.
    most: Option<f64>,
    /// It is promised of the value, although there is a floor.
    of_value: bool,
}

impl Figure {
    /// A figure without floor and promise.
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value, unit, floor: None, most: None, of_value: false }
    }

    /// With what it is compared to.
    pub fn over(self, floor: f64) -> Self {
        Self { floor: Some(floor), ..self }
    }

    /// With what is promised.
    pub fn at_most(self, most: f64) -> Self {
        Self { most: Some(most), ..self }
    }

    /// With what is promised of the value itself, although there is a floor.
    pub fn within(self, most: f64) -> Self {
        Self { most: Some(most), of_value: true, ..self }
    }

    fn ratio(&self) -> Option<f64> {
        self.floor.map(|floor| self.value / floor)
    }

    /// Prints it, and tells people on standard error when a promise is missed.
    pub fn print(&self) {
        let Self { name, value, unit, floor, most, of_value } = self;
        let ratio = self.ratio();
        let line = json!({
            "name": name, "value": value, "unit": unit, "floor": floor, "ratio": ratio, "promised": most,
        });
        println!("{line}");
        let judged = ratio.filter(|_| !of_value).unwrap_or(*value);
        if let Some(most) = most.filter(|most| judged > *most) {
            eprintln!("MISSED  {name}: {judged:.3}, promised is at most {most}");
        }
    }
}

/// Times of many things, for their mean and their tail.
#[derive(Debug, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// From the times, in any order; there is one at least.
    pub fn new(mut times: Vec<Duration>) -> Self {
        assert!(!times.is_empty(), "nothing was measured");
        times.sort_unstable();
        Self(times)
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Their mean, in seconds.
    pub fn mean(&self) -> f64 {
        let sum: Duration = self.0.iter().sum();
        sum.as_secs_f64() / self.0.len() as f64
    }

    /// What `part` of them, of 100, took at most, in seconds.
    pub fn percentile(&self, part: usize) -> f64 {
        let place = (self.0.len() * part).div_ceil(100).saturating_sub(1);
        self.0[place].as_secs_f64()
    }

    /// The longest, in seconds.
    pub fn longest(&self) -> f64 {
        self.percentile(100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_times_that_were() {
        let times = Times::new((1..=200).rev().map(Duration::from_secs).collect());
        assert_eq!((times.percentile(50), times.percentile(99), times.longest()), (100.0, 198.0, 200.0));
        assert_eq!(times.mean(), 100.5);
        let one = Times::new(vec![Duration::from_secs(3)]);
        assert_eq!((one.percentile(1), one.percentile(99)), (3.0, 3.0));
    }
}
