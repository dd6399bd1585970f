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

/// The reason of a refusal as the wire names it.
#[must_use]
pub const fn reason(refusal: &Refusal) -> DenialReason {
    match refusal {
        Refusal::Malformed(_) => DenialReason::Malformed,
        Refusal::MustReattest(_) => DenialReason::MustReattest,
        Refusal::EvidenceInvalid(_) => DenialReason::EvidenceInvalid,
        Refusal::ReferenceMismatch { .. } => DenialReason::ReferenceMismatch,
        Refusal::NotAdmitted(_) => DenialReason::NotAdmitted,
        Refusal::NotEndorsed(_) => DenialReason::NotEndorsed,
        Refusal::Quarantined { .. } => DenialReason::Quarantined,
        Refusal::Retired(_) => DenialReason::Retired,
        Refusal::Conflict(_) => DenialReason::Conflict,
        Refusal::Version(_) => DenialReason::UnsupportedVersion,
        Refusal::NotPermitted(_) => DenialReason::NotPermitted,
        Refusal::NotFound(_) => DenialReason::NotFound,
        Refusal::Waits { .. } => DenialReason::Waits,
        Refusal::ClockSkew(_) => DenialReason::ClockSkew,
        Refusal::TryLater { .. } => DenialReason::TryLater,
        Refusal::Internal(_) => DenialReason::Unspecified,
    }
}

/// What a peer is told of a refusal. Failures inside the broker are logged whole and told to nobody.
pub fn denial(plant: &Plant, refusal: &Refusal) -> Denial {
    if let Refusal::Internal(error) = refusal {
        tracing::error!(error = %chain(error.as_ref()), "the broker could not decide");
    }
    let retry = match refusal {
        Refusal::TryLater { seconds, .. } => *seconds,
        _ => 0,
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
        reason: reason(refusal).into(),
        message: refusal.to_string(),
        findings,
        broker_time: plant.now().0,
        retry_after_seconds: retry,
        change,
        wanted,
    }
}
