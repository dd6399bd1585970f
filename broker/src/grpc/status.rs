//! The one map from a refusal to the wire. Exhaustive: a new refusal must choose what a peer learns.

use policy::cause::chain;
use proto::v1::{Denial, DenialReason};
use proto::{convert, denial};
use tonic::Status;

use crate::plant::Plant;
use crate::session::Refusal;

/// The gRPC status of a refusal.
pub fn status(plant: &Plant, refusal: &Refusal) -> Status {
    denial::to_status(&denial(plant, refusal))
}

/// What a peer is told of a refusal. Failures inside the broker are logged whole and told to nobody.
pub fn denial(plant: &Plant, refusal: &Refusal) -> Denial {
    let (reason, retry) = match refusal {
        Refusal::Malformed(_) => (DenialReason::Malformed, 0),
        Refusal::MustReattest(_) => (DenialReason::MustReattest, 0),
        Refusal::EvidenceInvalid(_) => (DenialReason::EvidenceInvalid, 0),
        Refusal::ReferenceMismatch { .. } => (DenialReason::ReferenceMismatch, 0),
        Refusal::NotAdmitted(_) => (DenialReason::NotAdmitted, 0),
        Refusal::NotEndorsed(_) => (DenialReason::NotEndorsed, 0),
        Refusal::Quarantined { .. } => (DenialReason::Quarantined, 0),
        Refusal::Retired(_) => (DenialReason::Retired, 0),
        Refusal::Conflict(_) => (DenialReason::Conflict, 0),
        Refusal::Version(_) => (DenialReason::UnsupportedVersion, 0),
        Refusal::NotPermitted(_) => (DenialReason::NotPermitted, 0),
        Refusal::NotFound(_) => (DenialReason::NotFound, 0),
        Refusal::Waits { .. } => (DenialReason::Waits, 0),
        Refusal::TryLater { seconds, .. } => (DenialReason::TryLater, *seconds),
        Refusal::Internal(error) => {
            tracing::error!(error = %chain(error.as_ref()), "the broker could not decide");
            (DenialReason::Unspecified, 0)
        }
    };
    let (findings, wanted) = match refusal {
        Refusal::ReferenceMismatch { findings, wanted, .. } => {
            (findings.iter().map(convert::finding).collect(), wanted.as_deref().cloned())
        }
        _ => (Vec::new(), None),
    };
    let change = match refusal {
        Refusal::Waits { change, .. } => change.clone(),
        _ => String::new(),
    };
    Denial {
        reason: reason.into(),
        message: refusal.to_string(),
        findings,
        broker_time: plant.now().0,
        retry_after_seconds: retry,
        change,
        wanted,
    }
}
