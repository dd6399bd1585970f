//! The Appraisal Policy of a zone: whose releases count, and the least that is accepted.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::claims::LeastClaims;
use crate::id::{ProductName, ZoneName};

/// What a zone does with a device that does not meet its policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Records the refusal that would have been, and trusts. Authenticity is never relaxed.
    Observe,
    /// Refuses.
    Enforce,
}

/// What a zone asks of evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZonePolicy {
    /// The zone.
    pub zone: ZoneName,
    /// The products whose releases may boot in it.
    pub products: BTreeSet<ProductName>,
    /// The least that it accepts.
    pub least: LeastClaims,
    /// Whether it refuses or records.
    pub mode: Mode,
}
