//! What the renewal loop is told, what it answers, and where a device stands.

use std::time::Duration;

use proto::v1::{DenialReason, Purpose};

/// An exchange with the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exchange {
    /// By the credential challenge: the broker does not know the AK.
    Enroll,
    /// By the bound AK, on the device's own schedule.
    Renew,
    /// By the bound AK, because the broker asked for it.
    OnDemand,
}

impl Exchange {
    /// The purpose on the wire.
    #[must_use]
    pub const fn purpose(self) -> Purpose {
        match self {
            Self::Enroll => Purpose::Enroll,
            Self::Renew => Purpose::Renew,
            Self::OnDemand => Purpose::OnDemand,
        }
    }
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The attestor starts.
    Started,
    /// The last [`Effect::Wait`] is over.
    TimerFired,
    /// The broker asks for proof, through Watch.
    AttestNow,
    /// The device has something to tell by itself: it is told at once, but while the broker is away or busy with the next turn.
    Changed,
    /// The same of what it measures itself: a device that was refused for that may be mended.
    Measured,
    /// The exchange in flight ended.
    Finished(Outcome),
    /// The broker revoked the certificates, for this reason.
    TrustLost(DenialReason),
    /// The broker revoked the certificates of one zone of several.
    ZoneLost,
    /// The broker answers again, seen by Watch.
    BrokerHeard,
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The device was found good, and what it got for that was delivered.
    Issued {
        /// The shortest interval of the device's zones.
        reattest_every: Duration,
        /// How long the first of the certificates to end still lives; zero: it has none yet.
        lifetime: Duration,
        /// Another attestation brings more: a zone has no key yet, or no certificate came for the keys.
        incomplete: bool,
    },
    /// Authentic, but there is no certificate yet.
    Pending {
        /// When the broker wants to be asked again; zero: it does not say.
        retry_after: Duration,
        /// Zones were given, and the device makes keys for them; otherwise people decide.
        keys_missing: bool,
    },
    /// The broker said no.
    Denied {
        /// The first of the two calls was denied: the broker did not look at evidence.
        at_begin: bool,
        /// Why.
        reason: DenialReason,
        /// When the broker wants to be asked again; zero: it does not say.
        retry_after: Duration,
    },
    /// The broker did not answer.
    Unreachable,
    /// The device could not do its part: TPM, disk, or an answer that does not hold.
    Failed,
    /// The keys of its certificates are gone, as after TPM2_Clear.
    KeysLost,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Begin this exchange; one that is in flight is given up.
    Begin(Exchange),
    /// Give [`Input::TimerFired`] after this long; replaces an earlier wait. An exchange in flight is given up.
    Wait(Duration),
}

/// Where the device stands, as far as the machine knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing heard yet.
    Starting,
    /// The plant does not know it yet, and it asks for a place.
    Enrolling,
    /// The last attestation was good.
    Trusted,
    /// It has certificates, but the last attestation got no answer, or one that says nothing of them.
    Holding,
    /// An administrator must admit it.
    Pending,
    /// The broker refused it or revoked its certificates.
    Refused,
    /// It was stopped, by an administrator or because there are two of it.
    Quarantined,
}

impl Standing {
    /// What a refusal for this reason means.
    pub(super) const fn refused(reason: DenialReason) -> Self {
        match reason {
            DenialReason::Quarantined => Self::Quarantined,
            _ => Self::Refused,
        }
    }

    pub(super) const fn is_refusal(self) -> bool {
        matches!(self, Self::Refused | Self::Quarantined)
    }
}

/// Whether a certificate that was revoked for this reason says nothing of those in the device's other zones. What stops the
/// device, or is not known, is of all.
#[must_use]
pub const fn is_of_one_zone(reason: DenialReason) -> bool {
    matches!(reason, DenialReason::MustReattest | DenialReason::ReferenceMismatch)
}

/// Whether the broker revokes all that a device holds before it refuses for this reason.
#[must_use]
pub const fn revokes(reason: DenialReason) -> bool {
    matches!(reason, DenialReason::ReferenceMismatch | DenialReason::Quarantined | DenialReason::Retired)
}
