//! TPM 2.0 structures (TCG TPM 2.0 Library, Part 2) as the Verifier reads them.

mod ak;
pub mod alg;
pub mod attest;
pub mod bare;
pub mod clock;
pub mod credential;
mod ek;
pub mod nv;
pub mod pcr;
pub mod public;
pub mod signature;
pub(crate) mod spki;
