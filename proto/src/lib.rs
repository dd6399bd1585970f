//! The wire contract of Touchstone, package `touchstone.v1`, and the only conversions between wire
//! and domain types.
//!
//! Version 1 is kept for years: fields are added, never changed or reused. The generated code is
//! committed, so building needs no protoc; a test proves that it is what the contract says.

pub mod convert;
pub mod denial;
pub mod invitation;

/// Largest request in bytes that the broker reads: a firmware log of 1 MiB, keys and certificates, and an IMA
/// list in what they leave.
pub const MAX_REQUEST: usize = 2 << 20;

/// Largest request in bytes of an administrator: a file of zones and conduits, and the graph that its plan was made on.
pub const MAX_ADMIN_REQUEST: usize = 2 * policy::zone::document::MAX_DOCUMENT + 4096;

/// Most bytes of a list of Linux IMA that comes in parts: some 100,000 records, and what the broker keeps as one record's
/// evidence.
pub const MAX_IMA_IN_PARTS: usize = 16 << 20;

/// Generated messages, clients and servers.
#[expect(
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::as_conversions,
    clippy::large_enum_variant,
    reason = "generated; the contract's own comments are its documentation"
)]
pub mod v1 {
    include!("gen/touchstone.v1.rs");
}

/// Generated messages, clients and servers of the SPIFFE Workload API.
#[expect(
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::as_conversions,
    reason = "generated; the standard's own comments are its documentation"
)]
pub mod workload {
    include!("gen/spiffe.workload.rs");
}

/// Generated messages and clients of etcd: key-value, watch and lease, for the broker's store.
#[expect(
    missing_docs,
    clippy::allow_attributes_without_reason,
    reason = "generated; etcd's own comments are its documentation"
)]
pub mod etcd {
    include!("gen/etcdserverpb.rs");
}

/// Serialised file descriptors, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("gen/touchstone.v1.fds");
