//! The audit: what was done, decided and refused, so that nobody can change the past unseen.
//!
//! ```text
//! Event       who did what to whom                       (event.rs)
//! AuditRecord an event as it is stored, naming the digest of the record before it     (record.rs)
//! Seal        the heads of all chains at one moment, signed under the plant root      (seal.rs)
//! Trail       walks records against seals and names the first one that is wrong       (trail.rs)
//! ```
//!
//! Every record of a broker follows the one before, over its restarts, so each broker has one chain.
//!
//! Promises: a record that was removed, changed, repeated or moved is found, up to the newest seal that is
//! given. Does not promise: anything about what came after that seal, nor, without a seal that was kept
//! elsewhere, to notice that somebody put back the whole audit of an earlier moment.

pub mod event;
pub mod record;
pub mod seal;
pub mod trail;

pub use self::event::Event;
pub use self::record::{AuditRecord, ChainHead, RecordError};
pub use self::seal::{Seal, SealError, SignedSeal};
pub use self::trail::{Fault, Found, Trail};
