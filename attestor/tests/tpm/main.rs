//! The TPM room on a software TPM. Each test makes a TPM of its own (1 to 2 s); without swtpm it says why it is skipped.
//!
//! libtss2 complains on standard error where a test provokes a fault; `TSS2_LOG=all+NONE` silences it.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

mod faults;
mod identity;
mod support;
mod survival;
mod verbs;
