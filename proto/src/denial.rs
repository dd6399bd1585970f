//! A structured refusal on the wire: `touchstone.v1.Denial` as a detail of `google.rpc.Status`.

use prost::{Message, Name};
use tonic::{Code, Status};
use tonic_types::Status as RpcStatus;

use crate::v1::{Denial, DenialReason};

const TYPE_URL: &str = "type.googleapis.com/touchstone.v1.Denial";

impl Name for Denial {
    const NAME: &'static str = "Denial";
    const PACKAGE: &'static str = "touchstone.v1";

    fn type_url() -> String {
        TYPE_URL.to_owned()
    }
}

/// The gRPC code of a reason (google.rpc.Code). Exhaustive: a new reason must choose its code.
#[must_use]
pub const fn code(reason: DenialReason) -> Code {
    match reason {
        DenialReason::Unspecified => Code::Internal,
        DenialReason::Malformed => Code::InvalidArgument,
        DenialReason::MustReattest => Code::Aborted,
        DenialReason::EvidenceInvalid => Code::Unauthenticated,
        DenialReason::ReferenceMismatch | DenialReason::ClockSkew | DenialReason::Waits => {
            Code::FailedPrecondition
        }
        DenialReason::NotAdmitted
        | DenialReason::Quarantined
        | DenialReason::Retired
        | DenialReason::NotEndorsed
        | DenialReason::NotPermitted => Code::PermissionDenied,
        DenialReason::TryLater => Code::Unavailable,
        DenialReason::Conflict => Code::AlreadyExists,
        DenialReason::UnsupportedVersion => Code::Unimplemented,
        DenialReason::NotFound => Code::NotFound,
    }
}

/// The gRPC status that carries `denial`.
#[must_use]
pub fn to_status(denial: &Denial) -> Status {
    let code = code(denial.reason());
    let detail = prost_types::Any { type_url: TYPE_URL.to_owned(), value: denial.encode_to_vec() };
    let rpc = RpcStatus { code: i32::from(code), message: denial.message.clone(), details: vec![detail] };
    Status::with_details(code, denial.message.clone(), rpc.encode_to_vec().into())
}

/// The denial that a status carries; `None` when the refusal is not one of ours (a transport error,
/// say) or cannot be read.
#[must_use]
pub fn from_status(status: &Status) -> Option<Denial> {
    let rpc = RpcStatus::decode(status.details()).ok()?;
    let detail = rpc.details.into_iter().find(|detail| detail.type_url == TYPE_URL)?;
    Denial::decode(detail.value.as_slice()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_survives_the_wire() {
        let denial = Denial {
            reason: DenialReason::TryLater.into(),
            message: "the broker starts up; ask again in 5 s".to_owned(),
            retry_after_seconds: 5,
            ..Denial::default()
        };
        let status = to_status(&denial);
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(from_status(&status), Some(denial));
    }

    #[test]
    fn a_foreign_status_has_no_denial() {
        assert_eq!(from_status(&Status::unavailable("connection refused")), None);
    }
}
