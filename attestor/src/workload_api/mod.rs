//! The SPIFFE Workload API: programs on this device get certificates in names of their own over a Unix socket.
//!
//! ```text
//! connection -- SO_PEERCRED --> user and group (peer.rs) --> [[workload]] of attestor.toml (service.rs)
//! state of the device --> what that workload has now (offer.rs) --> stream, again whenever it is another
//! ```
//!
//! Promises: who a caller is comes from the kernel, never from the caller; a workload believes exactly the authorities
//! that the conduits of its one service and side allow at that second; what a device that lost trust had is served to
//! nobody. Connections, streams and messages are bounded for each user and in all.
//! Does not promise to tell two programs of one user apart: they can read each other's memory anyway. Nor that a
//! workload forgets what it was given: what bounds that is the certificate, which ends with the device's own.

mod listener;
mod offer;
mod peer;
mod service;

pub use listener::{Listener, serve};
pub use offer::{Offer, Withheld};
pub use service::Source;
