//! The grant: what a token says of a decision, and what a Relying Party does to believe it.
//!
//! It is bound to the peer's certificate (RFC 8705, section 3.1), so whoever copies it has nothing without the key.
//! What this does not promise: that the decision still stands. A grant lives minutes, and only until the first moment
//! at which the decision would be another by itself; a revocation does not end it sooner.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::decision::Allowed;
use crate::digest::Digest;
use crate::id::{PlantDomain, ServiceName, SpiffeId};
use crate::time::UnixTime;
use crate::zone::Direction;

/// Media type of the token, without `application/`: pinned, so that no other token of the broker is taken for one
/// (RFC 8725, section 3.11).
pub const TYPE: &str = "touchstone-grant+jwt";
/// Longest life in seconds.
pub const MAX_LIFETIME: u64 = 300;
/// Seconds by which clocks of broker and Relying Party may differ.
pub const MAX_SKEW: u64 = 5;
/// Longest token that is read, in bytes: a grant takes well under 1 KiB.
pub const MAX_TOKEN: usize = 4096;

/// Whom a grant is for: one service of one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audience {
    /// The device in the zone where it offers the service.
    pub device: SpiffeId,
    /// The service.
    pub service: ServiceName,
}

impl std::fmt::Display for Audience {
    /// SPIFFE IDs have no fragment, so the service cannot be part of a name.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}#{}", self.device, self.service)
    }
}

/// The claims of a grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessGrant {
    /// The plant's domain.
    pub iss: String,
    /// One service of one device: [`Audience`].
    pub aud: String,
    /// SPIFFE ID of the peer.
    pub sub: String,
    /// When it was decided.
    pub iat: u64,
    /// Not before then.
    pub nbf: u64,
    /// From then on it is not to be believed.
    pub exp: u64,
    /// Which certificate it is bound to.
    pub cnf: Confirmation,
}

/// Proof of possession by a certificate (RFC 8705, section 3.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmation {
    /// SHA-256 of the certificate's DER, base64url without padding.
    #[serde(rename = "x5t#S256")]
    pub thumbprint: String,
}

/// A grant is not to be believed, or cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessGrantError {
    /// Grants are for those who open connections.
    #[error("a grant is for a peer that opens a service of the device that asks; ask without a grant")]
    Direction,
    /// It was decided about a service of another name.
    #[error("the decision is about {0}; ask about the service that the grant is for")]
    Service(ServiceName),
    /// Another plant's.
    #[error("the grant is of plant {0}")]
    Issuer(String),
    /// For somebody else.
    #[error("the grant is for {0}")]
    Audience(String),
    /// For another peer.
    #[error("the grant is about {0}, and the certificate is of another peer")]
    Subject(String),
    /// Bound to another certificate.
    #[error("the grant is bound to another certificate")]
    Certificate,
    /// Of the future.
    #[error("the grant begins at {0}; compare the clocks")]
    Early(UnixTime),
    /// Over.
    #[error("the grant ended at {0}; ask for a new one")]
    Ended(UnixTime),
    /// It lives longer than any grant.
    #[error("the grant lives {0} s; grants live at most {MAX_LIFETIME} s")]
    Lifetime(u64),
}

impl AccessGrant {
    /// The grant that follows from a decision at `now`.
    pub fn new(
        allowed: &Allowed,
        plant: &PlantDomain,
        audience: &Audience,
        now: UnixTime,
    ) -> Result<Self, AccessGrantError> {
        if allowed.direction() != Direction::Inbound {
            return Err(AccessGrantError::Direction);
        }
        if *allowed.service() != audience.service {
            return Err(AccessGrantError::Service(allowed.service().clone()));
        }
        Ok(Self {
            iss: plant.to_string(),
            aud: audience.to_string(),
            sub: allowed.peer().to_string(),
            iat: now.0,
            nbf: now.0,
            exp: allowed.until().min(now.plus(MAX_LIFETIME)).0,
            cnf: Confirmation { thumbprint: encoded(&allowed.thumbprint()) },
        })
    }

    /// Believes a grant whose signature was verified, for a peer that this Relying Party sees on a connection.
    pub fn verify(
        &self,
        plant: &PlantDomain,
        audience: &Audience,
        peer: &SpiffeId,
        thumbprint: &Digest,
        now: UnixTime,
    ) -> Result<(), AccessGrantError> {
        if self.iss != plant.as_str() {
            return Err(AccessGrantError::Issuer(self.iss.clone()));
        }
        if self.aud != audience.to_string() {
            return Err(AccessGrantError::Audience(self.aud.clone()));
        }
        if self.sub != peer.to_string() {
            return Err(AccessGrantError::Subject(self.sub.clone()));
        }
        if self.cnf.thumbprint != encoded(thumbprint) {
            return Err(AccessGrantError::Certificate);
        }
        let lifetime = self.exp.saturating_sub(self.nbf.min(self.iat));
        if lifetime > MAX_LIFETIME {
            return Err(AccessGrantError::Lifetime(lifetime));
        }
        let begins = self.nbf.max(self.iat);
        if now.plus(MAX_SKEW).0 < begins {
            return Err(AccessGrantError::Early(UnixTime(begins)));
        }
        // No leeway: until then the decision itself would be another.
        if now.0 >= self.exp {
            return Err(AccessGrantError::Ended(UnixTime(self.exp)));
        }
        Ok(())
    }
}

fn encoded(thumbprint: &Digest) -> String {
    URL_SAFE_NO_PAD.encode(thumbprint.0)
}
