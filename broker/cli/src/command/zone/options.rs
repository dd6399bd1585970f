//! What zones are made and changed with on a command line.

use std::str::FromStr;

use clap::{Args, ValueEnum};
use policy::appraisal::claims::Claim;
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
        let (claim, tier) = claim_and_tier(text, &["affirming", "warning"])?;
        Ok(Self { claim, tier })
    }
}

/// A change of the least that a zone accepts for a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LeastChange {
    pub(super) claim: String,
    /// A tier, or `none`.
    pub(super) tier: String,
}

impl FromStr for LeastChange {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (claim, tier) = claim_and_tier(text, &["affirming", "warning", "none"])?;
        Ok(Self { claim, tier })
    }
}

fn claim_and_tier(text: &str, tiers: &[&str]) -> std::result::Result<(String, String), String> {
    let (claim, tier) = text.split_once('=').unwrap_or((text, ""));
    let claims = Claim::ALL.map(Claim::name);
    if !claims.contains(&claim) {
        return Err(format!("`{claim}` is no claim; use one of {}", claims.join(", ")));
    }
    if !tiers.contains(&tier) {
        let ways: Vec<String> = tiers.iter().map(|tier| format!("{claim}={tier}")).collect();
        return Err(format!("`{tier}` is no tier; write {}", ways.join(" or ")));
    }
    Ok((claim.to_owned(), tier.to_owned()))
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
        assert!("hardware=none".parse::<Least>().unwrap_err().contains("`none` is no tier"));
        assert_eq!("hardware=none".parse::<LeastChange>().unwrap().tier, "none");
    }
}
