//! Real parts for tests (feature `test-util`): a software TPM and the manufacturer that certified it.
//!
//! Needs the Debian packages swtpm and swtpm-tools; [`missing_tool`] says whether they are there. Nothing here is
//! used by the daemon.

mod swtpm;

pub use swtpm::{Manufacturer, Swtpm, command, missing_tool};
