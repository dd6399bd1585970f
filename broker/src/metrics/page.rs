//! The page: what was counted, and a census that is taken seldom.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::PREFIX;
use super::census::census;
use crate::plant::Plant;

/// A census is not taken more often.
const EVERY: Duration = Duration::from_secs(10);
/// Nor for more than one part in so many of the time: a large plant is counted less often.
const SHARE: u32 = 20;
/// A scrape waits this long for a census, then shows the one before; Prometheus gives up after ten seconds.
const PATIENCE: Duration = Duration::from_secs(3);

/// The page of one plant.
pub struct Page {
    plant: Arc<Plant>,
    last: Mutex<Option<Taken>>,
    counting: tokio::sync::Mutex<()>,
    of_census: Registry,
    age: Gauge<f64, AtomicU64>,
    cost: Gauge<f64, AtomicU64>,
}

/// A census.
struct Taken {
    registry: Registry,
    at: Instant,
    cost: Duration,
}

/// How long a census counts that took `cost`.
fn pause(cost: Duration) -> Duration {
    EVERY.max(cost.saturating_mul(SHARE))
}

impl Page {
    /// The page of `plant`; nothing is counted yet.
    #[must_use]
    pub fn new(plant: Arc<Plant>) -> Arc<Self> {
        let (age, cost) = (Gauge::default(), Gauge::default());
        let mut of_census = Registry::with_prefix(PREFIX);
        of_census.register("census_age_seconds", "Age of what this page has from the store", age.clone());
        of_census.register("census_duration_seconds", "Time that it took to read it", cost.clone());
        let counting = tokio::sync::Mutex::default();
        Arc::new(Self { plant, last: Mutex::default(), counting, of_census, age, cost })
    }

    /// The page as of now.
    pub async fn text(self: &Arc<Self>) -> String {
        if self.is_due() {
            // A task of its own, so that it goes on when this scrape has waited long enough.
            let census = tokio::spawn(Arc::clone(self).take_census());
            drop(tokio::time::timeout(PATIENCE, census).await);
        }
        self.plant.metrics.look();
        let mut text = String::new();
        if let Err(error) = self.write(&mut text) {
            tracing::error!(%error, "the metrics cannot be written as text");
        }
        text
    }

    fn is_due(&self) -> bool {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().is_none_or(|taken| taken.at.elapsed() >= pause(taken.cost))
    }

    async fn take_census(self: Arc<Self>) {
        let _alone = self.counting.lock().await;
        // Another scrape's census may have ended meanwhile.
        if !self.is_due() {
            return;
        }
        let begun = Instant::now();
        match census(&self.plant).await {
            Ok(registry) => {
                let taken = Taken { registry, at: Instant::now(), cost: begun.elapsed() };
                *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(taken);
            }
            Err(error) => tracing::warn!(%error, "the metrics show what was counted before"),
        }
    }

    fn write(&self, text: &mut String) -> fmt::Result {
        encode_registry(text, &self.plant.metrics.registry)?;
        if let Some(taken) = self.last.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            self.age.set(taken.at.elapsed().as_secs_f64());
            self.cost.set(taken.cost.as_secs_f64());
            encode_registry(text, &self.of_census)?;
            encode_registry(text, &taken.registry)?;
        }
        encode_eof(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::tests::{Bench, observing};

    #[test]
    fn a_census_that_is_dear_is_taken_seldom() {
        assert_eq!(pause(Duration::from_millis(3)), EVERY);
        assert_eq!(pause(Duration::from_secs(4)), Duration::from_secs(80));
    }

    #[tokio::test]
    async fn a_second_scrape_does_not_read_the_store_again() {
        let bench = Bench::new().await;
        bench.zone(&observing("cell-3")).await;
        let (plant, _dir) = bench.into_plant();
        let page = Page::new(Arc::clone(&plant));
        let devices = |text: &str| text.lines().filter(|line| line.contains("zone=\"cell-4\"")).count();
        assert_eq!(devices(&page.text().await), 0);
        let zone = crate::record::stored(&observing("cell-4")).unwrap();
        plant.store.transact(crate::store::Txn::new().put("zone/cell-4", zone)).await.unwrap();
        assert_eq!(devices(&page.text().await), 0, "it counts for ten seconds");
        assert!(devices(&Page::new(plant).text().await) > 0);
    }
}
