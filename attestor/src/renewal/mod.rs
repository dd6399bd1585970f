//! Renewal is re-attestation: when to prove oneself, how, and what to do with the answer.
//!
//! [`machine`] decides, [`driver`] waits and calls, `exchange` speaks with the broker, `adopt` takes what it
//! answers, `boot` says whether what is stored counts after a reboot, `floor` keeps what is known of time,
//! `broker_time` whether a broker still goes by it, `heard` when the broker was heard,
//! `watch` listens for what it has to tell, `shown` says when software must be shown something, `report` writes
//! the status.

mod adopt;
mod attester;
mod boot;
mod broker_time;
pub mod driver;
mod exchange;
mod floor;
mod heard;
mod keyed;
mod left_out;
pub mod machine;
mod report;
mod shown;
#[cfg(feature = "test-util")]
mod trial;
mod watch;

pub use attester::{Attester, Line, Means, OwnClock};
pub(crate) use boot::READ_AGAIN;
pub(crate) use heard::SILENCE;
#[cfg(feature = "test-util")]
pub use trial::{Proof, Trial, prove};
