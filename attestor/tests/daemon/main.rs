//! The daemon on a software TPM, against a broker that verifies what it is sent and answers as the test says.
//! Each test makes a TPM of its own (1 to 2 s); without swtpm it says why it is skipped.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod authority;
mod broker;
mod clock;
mod demand;
mod faults;
mod flow;
mod logs;
mod server;
mod software;
mod trust;
mod world;
