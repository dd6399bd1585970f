//! Gates before real sockets, with a plant in memory.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod refusals;
#[expect(dead_code, reason = "the benchmark uses the rest")]
mod rig;
mod sessions;
