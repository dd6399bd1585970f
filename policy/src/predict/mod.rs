//! What firmware and boot stubs will measure of artefacts that were built and never booted.
//!
//! [`pe`] reads PE/COFF images and hashes them as firmware does, [`uki`] finds what systemd-stub measures of a
//! unified kernel image, [`release`] makes the draft of a release from both.
//!
//! What this module does not promise: that the artefacts are good, or that a device boots them. Somebody must
//! review and sign the draft, as one that was learned.

mod initrd;
pub mod pe;
pub mod release;
mod rules;
pub mod stub;
pub mod uki;

pub use rules::Phase;
