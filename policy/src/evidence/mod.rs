//! Evidence and what stands behind it.

pub mod endorsement;
