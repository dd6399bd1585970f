//! Metrics of the broker, for Prometheus and whatever else reads OpenMetrics.
//!
//! ```text
//! counted   at the event, in memory: verdicts, refusals, certificates, latencies   (counted.rs)
//! census    read from the store: devices, expiries, CRLs, audit                    (census.rs)
//! page      both as text; the census is taken at a scrape, seldom                  (page.rs)
//! listener  GET /metrics over plain HTTP, off by default                           (listener.rs)
//! ```
//!
//! `broker/METRICS.md` lists them all, and a test holds it to what a running broker shows. No label takes a value
//! that a peer chooses: reasons and acts are names of enums, zones are those of the plant.
//! Does not promise: secrecy. Whoever reaches the listener reads names of zones and numbers, never names of devices.

mod census;
pub mod counted;
mod disk;
pub mod listener;
pub mod page;
pub mod running;

pub use self::counted::{CertificateKind, Door, Enrolled, Metrics, Signed};

/// Begins the name of every metric.
const PREFIX: &str = "touchstone";

/// Labels of one series.
type Labels<const N: usize> = [(&'static str, String); N];
