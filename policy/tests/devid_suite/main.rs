//! Device identity: whose box it is, and when it vouches for an attestation key.

mod binding;
mod certificates;
mod factory;
