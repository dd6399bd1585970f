//! A device with a real TPM that does not keep to the protocol, and callers with the wrong certificate.
//!
//! Every message but one detail is an honest one: the same request is accepted once the detail is put right.

mod administrators;
mod attestation;
pub(crate) mod caller;
mod crowd;
mod enrollment;
mod floods;
mod frames;
mod parts;
mod roles;
mod routes;
mod software;
pub(crate) mod thief;
