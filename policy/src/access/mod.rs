//! May this peer open this service? Decided about one certificate, with reasons, and said in a short-lived grant.
//!
//! ```text
//! certificate, ways, authorities, time  -- decide -->  Allowed  -- AccessGrant::new -->  claims of a token
//! ```
//!
//! Broker and device decide with the same function: the broker from its store, the device from the trust set that it
//! was sent. What the device was not sent cannot change the outcome: whether there is a way comes before who signed,
//! and the authorities of every zone with a way are in the set.
//!
//! What this module does not promise: that the peer holds the key of its certificate (the TLS handshake proves that),
//! and that a device knows of a revocation before it was told.

pub mod decision;
pub mod grant;
pub mod peer;
pub mod reason;

pub use decision::{Allowed, Decision, KnownAuthority, View, decide, decide_again};
pub use grant::{AccessGrant, AccessGrantError, Audience};
pub use peer::PeerCertificate;
pub use reason::Reason;
