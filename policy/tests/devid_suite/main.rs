//! Device identity (design-details, A11): whose box it is, and when it vouches for an attestation key.

mod binding;
mod certificates;
mod factory;
