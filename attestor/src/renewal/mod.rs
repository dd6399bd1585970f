//! Renewal is re-attestation: when to prove oneself, how, and what to do with the answer.
//!
//! [`machine`] decides, [`driver`] waits and calls, `exchange` speaks with the broker, `adopt` takes what it
//! answers, `floor` keeps what is known of time, `watch` listens for what it has to tell, `shown` says when software must be shown something, `report` writes
//! the status.

mod adopt;
mod attester;
pub mod driver;
mod exchange;
mod floor;
mod keyed;
pub mod machine;
mod report;
mod shown;
#[cfg(feature = "test-util")]
mod trial;
mod watch;

pub use attester::{Attester, Means};
