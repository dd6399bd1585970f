//! The broker's side of the audit: what is written into the chain, what seals it, and for how long it is kept.
//!
//! Events, records and their verification are `policy::audit`; the store links the records.
//!
//! Every attestation is an event of its own, also one that changes nothing. A batch of renewals with a Merkle root
//! would be smaller, but the event would no longer be in the transaction that it speaks of, and a reader could not
//! tell what happened without the leaves. It costs some 590 bytes (the test `what_a_renewal_costs`): 57 KB a day for a
//! device that proves itself every 15 minutes, 21 MB a year. Retention bounds it (`audit_keep_days`).

pub mod archive;
pub mod chains;
pub mod grants;
pub mod key;
pub mod refusals;
pub mod seal;

pub use policy::audit::Event;
