//! Attestation results as signed tokens (EAR as JWT): the broker's key for them, and what a Relying
//! Party does to believe one.
//!
//! The key signs results and nothing else; no certificate hangs on it. It is made when the first result
//! is asked for, and wrapped at rest like every other key. What this module does not promise: rotation
//! of the key, or revocation of a token; a token ends soon.

mod key;
mod token;

pub use key::{EarKey, EarKeyError};
pub use token::{Signed, TokenError, verify};
