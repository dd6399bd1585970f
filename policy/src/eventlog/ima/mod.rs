//! The measurement list of Linux IMA, as the kernel shows it in
//! `/sys/kernel/security/ima/binary_runtime_measurements`, and per bank beside it.
//!
//! A list is read in one pass and without copies: [`list::ImaList`] yields records that borrow from it.
//! [`verify::verify`] confirms a prefix of it against quoted PCR values and gives a
//! [`verify::VerifiedIma`]; the next evidence of the same boot then sends only the records since
//! ([`state::ImaState`]).
//!
//! Kernels before 5.8 extend SHA-1 digests padded with zeros into the other banks. That is not confirmed
//! here, because it would rest on SHA-1.
//!
//! What a list never shows: that a file was *not* used. The kernel measures what its policy names, and
//! a file only once. Data of a violation record is bound by nothing: its PCR was extended with ones.

pub mod aggregate;
pub mod key;
pub mod list;
pub mod replay;
pub mod signature;
pub mod state;
pub mod template;
pub mod verify;
mod version1;
