//! The gRPC services: thin. Each handler converts, calls one room and converts back.

pub mod admin;
pub mod connection;
pub mod device;
pub mod peer;
pub mod status;
