//! Gates before real sockets, with a plant in memory.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod refusals;
mod rig;
mod sessions;
