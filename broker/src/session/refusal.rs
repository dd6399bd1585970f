//! Why the broker refuses a device or an administrator.
//!
//! One type for every refusal that a peer may see; `grpc::status` maps it to the wire, exhaustively.
//! What went wrong inside the broker is logged whole and told to nobody.

use policy::appraisal::Finding;
use proto::v1::WantedRelease;

/// A refusal, with what the peer may know of it.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A message cannot be read or exceeds a bound.
    #[error("{0}")]
    Malformed(String),
    /// The challenge no longer counts: begin again.
    #[error("{0}; begin again")]
    MustReattest(&'static str),
    /// A signature, binding or log does not hold.
    #[error("{0}")]
    EvidenceInvalid(String),
    /// Authentic, but not what golden releases accept.
    #[error("{message}")]
    ReferenceMismatch {
        /// One sentence.
        message: String,
        /// What the appraisal found.
        findings: Vec<Finding>,
        /// The release that it is wanted to install instead.
        wanted: Option<Box<WantedRelease>>,
    },
    /// Nobody admitted the device.
    #[error("{0}")]
    NotAdmitted(String),
    /// The EK is neither certified by a trusted manufacturer nor registered.
    #[error("{0}")]
    NotEndorsed(String),
    /// An administrator, or the clone alarm, stopped the device.
    #[error(
        "{device} is quarantined since {since} by {by}: {reason}; `touchstone device why {device}` says what ends it"
    )]
    Quarantined {
        /// The device.
        device: String,
        /// Since when.
        since: policy::time::UnixTime,
        /// By whom.
        by: String,
        /// Why.
        reason: String,
    },
    /// The device was retired, or its TPM replaced.
    #[error("{0} is retired and its TPM barred; `touchstone device readmit` takes a retired device back")]
    Retired(String),
    /// A name, EK or key belongs to another device.
    #[error("{0}")]
    Conflict(String),
    /// No protocol version in common.
    #[error("this broker speaks protocol version 1; the device offers {0:?}: update the attestor")]
    Version(Vec<u32>),
    /// The caller's certificate does not allow this.
    #[error("{0}")]
    NotPermitted(String),
    /// No such thing.
    #[error("{0}")]
    NotFound(String),
    /// It was not carried out: it waits for a second person.
    #[error("{what} waits for a second person: `touchstone change approve {change}`")]
    Waits {
        /// Id of the change.
        change: String,
        /// What it is, for people.
        what: String,
    },
    /// The broker's clock shows a time at which it could not be this plant's broker.
    #[error("the broker's clock may be wrong; it says: {0}")]
    ClockSkew(String),
    /// Ask again later.
    #[error("{why}; ask again in {seconds} s")]
    TryLater {
        /// Why not now.
        why: String,
        /// When.
        seconds: u32,
    },
    /// Something failed inside the broker.
    #[error("the broker could not decide; its log says why")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Refusal {
    /// A message that cannot be read.
    #[must_use]
    pub const fn malformed(why: String) -> Self {
        Self::Malformed(why)
    }

    /// A failure inside the broker.
    pub fn internal(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(error.into())
    }
}

impl From<crate::record::RecordError> for Refusal {
    fn from(error: crate::record::RecordError) -> Self {
        Self::internal(error)
    }
}

impl From<crate::store::ReadError> for Refusal {
    fn from(error: crate::store::ReadError) -> Self {
        Self::internal(error)
    }
}
