//! The Touchstone broker: verifies evidence and issues certificates.
//!
//! Rooms, outermost first: `grpc` converts and calls; `session` is the one way to a certificate;
//! `admin` is what people change;
//! `access` answers whether a peer may open a service; `trust` computes what devices believe; `golden` holds the releases; `ca` and `authority` sign;
//! `store` remembers. What is decided is decided in the `policy` crate.

pub mod access;
pub mod admin;
pub mod attendance;
pub mod audit;
pub mod authority;
pub mod ca;
pub mod chores;
pub mod config;
pub mod drill;
pub mod ear;
mod edges;
mod files;
pub mod golden;
pub mod grpc;
mod http;
pub mod hub;
pub mod init;
pub mod kek;
mod last_proof;
mod leader;
pub mod manufacturers;
pub mod metrics;
mod moving;
pub mod plant;
pub mod ports;
pub mod publication;
pub mod record;
pub mod release_keys;
pub mod rollout;
mod rotation;
pub mod secrets;
pub mod server;
pub mod session;
mod silence;
pub mod store;
mod sweep;
pub mod tls;
pub mod token_key;
pub mod trust;
mod withdrawal;
