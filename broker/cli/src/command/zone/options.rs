//! What zones are made and changed with on a command line.

use std::str::FromStr;

use clap::{Args, ValueEnum};
use proto::v1::DrillBounds;

use crate::args::Span;

/// Whether the zone is there to be broken on purpose.
#[derive(Debug, Default, Args)]
pub(super) struct Drills {
    /// Whether failure drills may break things in it (`touchstone drill`); for staging zones [default: off]
    #[arg(long, value_enum, value_name = "ON|OFF")]
    pub(super) drills: Option<Switch>,
    /// Promise of drills: who lost trust is cut off within this [default: 10s]
    #[arg(long, value_name = "TIME", requires = "drills")]
    pub(super) cut_within: Option<Span>,
    /// Promise of drills: devices are trusted again within this, once the fault is over [default: 2m]
    #[arg(long, value_name = "TIME", requires = "drills")]
    pub(super) recover_within: Option<Span>,
}

impl Drills {
    /// The mark, if it is set.
    pub(super) fn bounds(&self) -> Option<DrillBounds> {
        let seconds = |span: Option<Span>| span.map_or(0, |span| span.0);
        (self.drills == Some(Switch::On)).then(|| DrillBounds {
            cut_within_seconds: seconds(self.cut_within),
            recover_within_seconds: seconds(self.recover_within),
        })
    }
}

/// Something that is on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Switch {
    /// It holds
    On,
    /// It does not
    Off,
}

/// What a zone does with a device that is not golden.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Mode {
    /// Records what enforcing would have refused
    Observe,
    /// Refuses
    Enforce,
}

/// Traffic inside the zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum IntraZone {
    /// Devices of the zone open each other's services
    Allow,
    /// They do not
    Deny,
}

/// The constraint in the authorities' certificates (RFC 5280, section 4.2.1.10).
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum NameConstraint {
    /// Marked critical
    Critical,
    /// Not marked critical
    NonCritical,
    /// None
    Off,
}

/// Keys outside the TPM: root of the machine can copy them.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum SoftwareKeys {
    /// Every key of the zone is in a TPM
    Refuse,
    /// A device may ask for them, service by service
    Allow,
}

/// Gates that do not hear the broker.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum GateFail {
    /// They go on by what they know
    Open,
    /// They let in nobody of another zone
    Closed,
}

/// A device that is silent while others of its zone are heard.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum OnSilence {
    /// People are told
    Alert,
    /// Its certificates are revoked, until it proves itself again
    Refuse,
}

/// The least a zone accepts for a claim (AR4SI, section 2.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Least {
    pub(super) claim: String,
    pub(super) tier: String,
}

impl FromStr for Least {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        const CLAIMS: [&str; 8] = [
            "instance-identity",
            "configuration",
            "executables",
            "file-system",
            "hardware",
            "runtime-opaque",
            "storage-opaque",
            "sourced-data",
        ];
        const TIERS: [&str; 2] = ["affirming", "warning"];
        let (claim, tier) = text.split_once('=').unwrap_or((text, ""));
        if !CLAIMS.contains(&claim) {
            return Err(format!("`{claim}` is no claim; use one of {}", CLAIMS.join(", ")));
        }
        if !TIERS.contains(&tier) {
            return Err(format!("`{tier}` is no tier; write {claim}=affirming or {claim}=warning"));
        }
        Ok(Self { claim: claim.to_owned(), tier: tier.to_owned() })
    }
}

pub(super) fn written(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_claim_or_tier_is_refused_by_name() {
        assert!("kernel=affirming".parse::<Least>().unwrap_err().contains("`kernel` is no claim"));
        assert!("hardware=good".parse::<Least>().unwrap_err().contains("`good` is no tier"));
    }
}
