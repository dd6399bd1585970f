//! EK chains: of real TPMs, of a software TPM, and forged in every way that came to mind.

mod forge;
mod forged;
mod openssl;
mod properties;
mod swtpm;
mod vectors;
