//! TPM 2.0 structures (TCG TPM 2.0 Library, Part 2) as the Verifier reads them.

pub mod alg;
pub mod pcr;
