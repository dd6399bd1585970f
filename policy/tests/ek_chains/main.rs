//! EK chains: of real TPMs, of a software TPM, and forged in every way that came to mind.

mod cabinets;
mod flaws;
mod forge;
mod forged;
mod openssl;
mod pinning;
mod properties;
mod sha1;
mod swtpm;
mod vectors;
