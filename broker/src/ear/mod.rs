//! Attestation results as signed tokens (EAR as JWT), and what a Relying Party does to believe one.

mod token;

pub use token::{EarKey, Results, Signed, TokenError, verify};
