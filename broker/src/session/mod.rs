//! The one way to a certificate: challenge, proof, admission, appraisal, issue.
//!
//! ```text
//! begin     ->  Challenge (sealed, not stored)
//! complete  ->  Proven (fresh, of this TPM)  ->  Place (whose device it is)
//!           ->  one Ruling a zone            ->  certificates, in one transaction
//! ```
//!
//! Each step takes what only the step before it can make. What goes wrong is a [`Refusal`]; a refusal
//! before [`proof`] ends changes nothing in the store.

mod addressed;
pub mod admission;
pub mod begin;
mod by_digest;
pub mod challenge;
pub mod complete;
pub mod credential;
pub(crate) mod earlier;
mod elsewhere;
pub(crate) mod idevid;
mod inventory;
pub mod issue;
mod join_token;
pub(crate) mod kept;
mod leaving;
pub(crate) mod other_eks;
pub mod proof;
pub mod recorded;
mod refusal;
pub mod ruling;
pub mod software;
pub mod standing;
pub mod statement;
mod sum;
#[cfg(test)]
mod tests;
pub(crate) mod vouched;
pub(crate) mod without_tpm;

use policy::zone::Role;
use proto::v1;

pub use self::refusal::Refusal;

/// A role as it travels; none where the sender left it out.
#[must_use]
pub const fn role_from_wire(role: v1::Role) -> Option<Role> {
    match role {
        v1::Role::Caller => Some(Role::Caller),
        v1::Role::Listener => Some(Role::Listener),
        v1::Role::Unspecified => None,
    }
}

/// A role to send.
#[must_use]
pub const fn role_to_wire(role: Role) -> v1::Role {
    match role {
        Role::Caller => v1::Role::Caller,
        Role::Listener => v1::Role::Listener,
    }
}
