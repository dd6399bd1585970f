//! The gRPC services: thin. Each handler converts, calls one room and converts back.

pub mod admin;
pub mod authorize;
pub(crate) mod confined;
pub mod connection;
pub mod device;
pub mod health;
pub mod invitation;
mod parts;
pub mod peer;
mod queue;
pub mod status;
pub mod watch;
