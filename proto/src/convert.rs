//! The only conversions between wire and domain types.
//!
//! From the wire each is a parse with a refusal of its own; to the wire it cannot fail.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use policy::access::Reason;
use policy::appraisal::Finding;
use policy::appraisal::claims::{Claim, ClaimValue, LeastClaims};
use policy::appraisal::policy::Mode;
use policy::id::{DeviceName, NameError, ProductName, ServiceName, ZoneName};
use policy::time::UnixTime;
use policy::zone::drill::DrillBoundsError;
use policy::zone::function::UnknownFunction;
use policy::zone::gate::GateRulesError;
use policy::zone::model::TimingError;
use policy::zone::subnet::{ParseSubnetError, Subnet};
use policy::zone::{
    Conduit, DrillBounds, Function, GateFail, GateRules, IntraZone, NameConstraint, OnSilence, Schedule,
    ScheduleError, SoftwareKeys, Timing, Way, Zone,
};

use crate::v1;

/// A message of the wire means nothing in the domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// A name is not well formed.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The numbers of a zone.
    #[error(transparent)]
    Timing(#[from] TimingError),
    /// Not the hours of a week.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// The rules of a zone for its gates.
    #[error(transparent)]
    Gate(#[from] GateRulesError),
    /// What a zone promises of drills.
    #[error(transparent)]
    Drill(#[from] DrillBoundsError),
    /// Not a subnet.
    #[error(transparent)]
    Subnet(#[from] ParseSubnetError),
    /// Not a function of a zone.
    #[error(transparent)]
    Function(#[from] UnknownFunction),
    /// A word that is not one of a few.
    #[error("{field}: `{found}` is not one of {expected}")]
    Word {
        /// The field.
        field: &'static str,
        /// What was sent.
        found: String,
        /// What may be.
        expected: &'static str,
    },
    /// A field that must be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
}

fn word(field: &'static str, found: &str, expected: &'static str) -> ConvertError {
    ConvertError::Word { field, found: found.chars().take(60).collect(), expected }
}

/// The bytes that the signature of a heartbeat covers.
#[must_use]
pub fn heartbeat(broker_time: u64, trust_sequence: u64, device: &DeviceName) -> Vec<u8> {
    const LABEL: &[u8] = b"touchstone/v1/heartbeat\0";
    let numbers = [broker_time.to_be_bytes(), trust_sequence.to_be_bytes()].concat();
    [LABEL, &numbers, device.as_str().as_bytes()].concat()
}

/// A reason, to send.
#[must_use]
pub fn finding(finding: &Finding) -> v1::Finding {
    let event = finding.event.as_ref();
    v1::Finding {
        claim: finding.claim.name().to_owned(),
        pcr: finding.pcr.map(u32::from),
        event: event.and_then(|event| u32::try_from(event.position).ok()),
        event_type: event.map(|event| event.event_type.to_string()).unwrap_or_default(),
        subject: finding.name.clone().unwrap_or_default(),
        expected: finding.expected.iter().map(ToString::to_string).collect(),
        seen: finding.seen.as_ref().map(ToString::to_string).unwrap_or_default(),
        release: finding.release.as_ref().map(ToString::to_string).unwrap_or_default(),
        message: finding.sentence.clone(),
    }
}

/// A reason why a peer may not open a service, to send.
#[must_use]
pub fn access_reason(reason: &Reason) -> v1::AccessReason {
    v1::AccessReason { code: reason.code().to_owned(), message: reason.to_string(), remedy: reason.remedy() }
}

/// A zone at the other end, to send.
#[must_use]
pub fn way_to_wire(way: &Way) -> v1::Way {
    v1::Way {
        zone: way.zone.to_string(),
        schedule: schedule_to_wire(way.schedule.as_ref()),
        expires_at: way.expires.map_or(0, |at| at.0),
    }
}

/// The zone at the other end that a message names.
pub fn way_from_wire(sent: &v1::Way) -> Result<Way, ConvertError> {
    Ok(Way {
        zone: sent.zone.parse()?,
        schedule: schedule_from_wire(&sent.schedule)?,
        expires: (sent.expires_at != 0).then_some(UnixTime(sent.expires_at)),
    })
}

/// The mode of a zone as it is written.
#[must_use]
pub const fn mode_to_wire(mode: Mode) -> &'static str {
    match mode {
        Mode::Observe => "observe",
        Mode::Enforce => "enforce",
    }
}

/// The mode that is written; none if nothing is.
pub fn mode_from_wire(mode: &str) -> Result<Option<Mode>, ConvertError> {
    match mode {
        "" => Ok(None),
        "observe" => Ok(Some(Mode::Observe)),
        "enforce" => Ok(Some(Mode::Enforce)),
        other => Err(word("mode", other, "observe, enforce")),
    }
}

/// A zone, to send.
#[must_use]
pub fn zone_to_wire(zone: &Zone) -> v1::Zone {
    let constraint = match zone.name_constraint {
        NameConstraint::Critical => "critical",
        NameConstraint::NonCritical => "non-critical",
        NameConstraint::Off => "off",
    };
    v1::Zone {
        name: zone.name.to_string(),
        mode: mode_to_wire(zone.mode).to_owned(),
        timing: Some(timing_to_wire(zone)),
        intra_zone: zone.intra_zone == IntraZone::Allow,
        products: zone.products.iter().map(ToString::to_string).collect(),
        token_admits: zone.token_admits,
        idevid_admits: zone.idevid_admits,
        name_constraint: constraint.to_owned(),
        least: zone
            .least
            .iter()
            .map(|(claim, value)| (claim.name().to_owned(), value.0.to_string()))
            .collect(),
        software_keys: match zone.software_keys {
            SoftwareKeys::Refuse => "refuse",
            SoftwareKeys::Allow => "allow",
        }
        .to_owned(),
        two_person: zone.two_person,
        subnets: zone.subnets.iter().map(ToString::to_string).collect(),
        gate_drain_seconds: u32::try_from(zone.gate.drain()).unwrap_or(u32::MAX),
        gate_fail: match zone.gate.fail() {
            GateFail::Open => "open",
            GateFail::Closed => "closed",
        }
        .to_owned(),
        on_silence: zone.on_silence.name().to_owned(),
        function: zone.function.map(|function| function.name().to_owned()).unwrap_or_default(),
        drills: zone.drills.as_ref().map(drills_to_wire),
    }
}

/// The three numbers of a zone, to send.
#[must_use]
pub fn timing_to_wire(zone: &Zone) -> v1::ZoneTiming {
    let seconds = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    v1::ZoneTiming {
        zone: zone.name.to_string(),
        reattest_every_seconds: seconds(zone.timing.reattest_every()),
        outlive_broker_seconds: seconds(zone.timing.outlive_broker()),
        silent_after_seconds: seconds(zone.timing.silent_after()),
        gate_drain_seconds: seconds(zone.gate.drain()),
        gate_fail_closed: zone.gate.fail() == GateFail::Closed,
    }
}

/// What a zone promises of drills, to send.
#[must_use]
pub fn drills_to_wire(bounds: &DrillBounds) -> v1::DrillBounds {
    let seconds = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    v1::DrillBounds {
        cut_within_seconds: seconds(bounds.cut_within()),
        recover_within_seconds: seconds(bounds.recover_within()),
    }
}

/// What a zone promises of drills; a bound of 0 is the default.
pub fn drills_from_wire(sent: &v1::DrillBounds) -> Result<DrillBounds, ConvertError> {
    let given = |seconds: u32| (seconds > 0).then_some(u64::from(seconds));
    Ok(DrillBounds::new(given(sent.cut_within_seconds), given(sent.recover_within_seconds))?)
}

/// The zone that a message describes; what it leaves out is the default.
pub fn zone_from_wire(sent: &v1::Zone) -> Result<Zone, ConvertError> {
    let mut zone = Zone::new(sent.name.parse()?);
    zone.mode = mode_from_wire(&sent.mode)?.unwrap_or(zone.mode);
    zone.name_constraint =
        name_constraint_from_wire(&sent.name_constraint)?.unwrap_or(NameConstraint::Critical);
    zone.software_keys = match sent.software_keys.as_str() {
        "" | "refuse" => SoftwareKeys::Refuse,
        "allow" => SoftwareKeys::Allow,
        other => return Err(word("software keys", other, "refuse, allow")),
    };
    if let Some(timing) = &sent.timing {
        zone.timing = timing_from_wire(timing)?;
    }
    zone.intra_zone = if sent.intra_zone { IntraZone::Allow } else { IntraZone::Deny };
    zone.products = products(&sent.products)?;
    zone.token_admits = sent.token_admits;
    zone.idevid_admits = sent.idevid_admits;
    zone.two_person = sent.two_person;
    zone.subnets = subnets(&sent.subnets)?;
    let fail = gate_fail_from_wire(&sent.gate_fail)?.unwrap_or_default();
    zone.gate = GateRules::new(sent.gate_drain_seconds.into(), fail)?;
    zone.on_silence = on_silence_from_wire(&sent.on_silence)?.unwrap_or_default();
    zone.drills = sent.drills.as_ref().map(drills_from_wire).transpose()?;
    zone.function = function_from_wire(&sent.function)?;
    if !sent.least.is_empty() {
        zone.least = least(&sent.least)?;
    }
    Ok(zone)
}

/// How authorities carry their name constraint; none: not said.
pub fn name_constraint_from_wire(sent: &str) -> Result<Option<NameConstraint>, ConvertError> {
    match sent {
        "" => Ok(None),
        "critical" => Ok(Some(NameConstraint::Critical)),
        "non-critical" => Ok(Some(NameConstraint::NonCritical)),
        "off" => Ok(Some(NameConstraint::Off)),
        other => Err(word("name constraint", other, "critical, non-critical, off")),
    }
}

/// What a zone is for; none: it is for nothing that is said.
pub fn function_from_wire(sent: &str) -> Result<Option<Function>, ConvertError> {
    if sent.is_empty() { Ok(None) } else { Ok(Some(sent.parse()?)) }
}

/// What gates do while they do not hear the broker; none: not said.
pub fn gate_fail_from_wire(sent: &str) -> Result<Option<GateFail>, ConvertError> {
    match sent {
        "" => Ok(None),
        "open" => Ok(Some(GateFail::Open)),
        "closed" => Ok(Some(GateFail::Closed)),
        other => Err(word("gate fail", other, "open, closed")),
    }
}

/// What a zone does about silence; none: not said.
pub fn on_silence_from_wire(sent: &str) -> Result<Option<OnSilence>, ConvertError> {
    match sent {
        "" => Ok(None),
        "alert" => Ok(Some(OnSilence::Alert)),
        "refuse" => Ok(Some(OnSilence::Refuse)),
        other => Err(word("on silence", other, "alert, refuse")),
    }
}

/// A number that is 0 was left out and takes its default.
fn timing_from_wire(sent: &v1::ZoneTiming) -> Result<Timing, ConvertError> {
    let default = Timing::default();
    let or = |sent: u32, default: u64| if sent == 0 { default } else { u64::from(sent) };
    let silent = (sent.silent_after_seconds != 0).then(|| u64::from(sent.silent_after_seconds));
    let reattest = or(sent.reattest_every_seconds, default.reattest_every());
    let outlive = or(sent.outlive_broker_seconds, default.outlive_broker());
    Ok(Timing::new(reattest, outlive, silent)?)
}

/// Subnets as they are written.
pub fn subnets(sent: &[String]) -> Result<BTreeSet<Subnet>, ConvertError> {
    sent.iter().map(|subnet| Ok(subnet.parse()?)).collect()
}

/// Products as they are written.
pub fn products(sent: &[String]) -> Result<BTreeSet<ProductName>, ConvertError> {
    sent.iter().map(|name| Ok(name.parse()?)).collect()
}

fn least(sent: &HashMap<String, String>) -> Result<LeastClaims, ConvertError> {
    let one = |(claim, value): (&String, &String)| Ok((claim_from_wire(claim)?, worst_from_wire(value)?));
    sent.iter().map(one).collect::<Result<BTreeMap<_, _>, ConvertError>>().map(LeastClaims::new)
}

/// The worst that is accepted for claims; none where nothing is asked of the claim any more.
pub fn least_changes(
    sent: &HashMap<String, String>,
) -> Result<BTreeMap<Claim, Option<ClaimValue>>, ConvertError> {
    let one = |(claim, value): (&String, &String)| {
        let worst = if value == "none" { None } else { Some(worst_from_wire(value)?) };
        Ok((claim_from_wire(claim)?, worst))
    };
    sent.iter().map(one).collect()
}

fn claim_from_wire(claim: &str) -> Result<Claim, ConvertError> {
    claim.parse().map_err(|_| word("least", claim, "the AR4SI claims, for example executables"))
}

fn worst_from_wire(value: &str) -> Result<ClaimValue, ConvertError> {
    match value {
        "affirming" => Ok(ClaimValue::AFFIRMING),
        "warning" => Ok(ClaimValue::WARNING),
        number => {
            number.parse().map(ClaimValue).map_err(|_| word("least", number, "affirming, warning, a number"))
        }
    }
}

/// A conduit, to send.
#[must_use]
pub fn conduit_to_wire(conduit: &Conduit) -> v1::Conduit {
    v1::Conduit {
        from: conduit.from.to_string(),
        to: conduit.to.to_string(),
        service: conduit.service.to_string(),
        expires_at: conduit.expires.map_or(0, |at| at.0),
        accept_observed: conduit.accept_observed,
        schedule: schedule_to_wire(conduit.schedule.as_ref()),
    }
}

/// The conduit that a message describes.
pub fn conduit_from_wire(sent: Option<&v1::Conduit>) -> Result<Conduit, ConvertError> {
    let sent = sent.ok_or(ConvertError::Missing("conduit"))?;
    let (from, to): (ZoneName, ZoneName) = (sent.from.parse()?, sent.to.parse()?);
    let service: ServiceName = sent.service.parse()?;
    let expires = (sent.expires_at != 0).then_some(UnixTime(sent.expires_at));
    let schedule = schedule_from_wire(&sent.schedule)?;
    Ok(Conduit { from, to, service, schedule, expires, accept_observed: sent.accept_observed })
}

/// The hours of something, to send; empty for always.
#[must_use]
pub fn schedule_to_wire(schedule: Option<&Schedule>) -> String {
    schedule.map(ToString::to_string).unwrap_or_default()
}

/// The hours that a text describes; an empty one means always.
pub fn schedule_from_wire(sent: &str) -> Result<Option<Schedule>, ScheduleError> {
    (!sent.is_empty()).then(|| sent.parse()).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_survives_the_wire() {
        let mut zone = Zone::new("cell-3".parse().unwrap());
        zone.products = BTreeSet::from(["edge-box".parse().unwrap()]);
        zone.intra_zone = IntraZone::Allow;
        zone.software_keys = SoftwareKeys::Allow;
        zone.two_person = true;
        zone.subnets = ["10.1.3.0/24".parse().unwrap()].into();
        zone.drills = Some(policy::zone::DrillBounds::new(Some(5), Some(60)).unwrap());
        zone.function = Some(policy::zone::Function::Safety);
        zone.timing = Timing::new(60, 3600, None).unwrap();
        zone.on_silence = OnSilence::Refuse;
        assert_eq!(zone_from_wire(&zone_to_wire(&zone)), Ok(zone));
    }

    #[test]
    fn a_conduit_survives_the_wire() {
        let conduit = Conduit {
            from: "vendor".parse().unwrap(),
            to: "cell".parse().unwrap(),
            service: "ssh".parse().unwrap(),
            schedule: Some("sun 02:00-06:00 in Europe/Berlin".parse().unwrap()),
            expires: Some(UnixTime(5)),
            accept_observed: true,
        };
        let mut sent = conduit_to_wire(&conduit);
        assert_eq!(conduit_from_wire(Some(&sent)), Ok(conduit));
        sent.schedule = "sunday".into();
        assert!(matches!(conduit_from_wire(Some(&sent)), Err(ConvertError::Schedule(_))));
    }

    #[test]
    fn words_that_mean_nothing_are_refused_by_field() {
        let sent = v1::Zone { name: "a".into(), on_silence: "shout".into(), ..v1::Zone::default() };
        assert_eq!(
            zone_from_wire(&sent).unwrap_err().to_string(),
            "on silence: `shout` is not one of alert, refuse"
        );
        let sent = v1::Zone { name: "a".into(), mode: "permissive".into(), ..v1::Zone::default() };
        assert_eq!(
            zone_from_wire(&sent).unwrap_err().to_string(),
            "mode: `permissive` is not one of observe, enforce"
        );
        let sent = v1::Zone {
            name: "a".into(),
            mode: String::new(),
            software_keys: "yes".into(),
            ..v1::Zone::default()
        };
        assert_eq!(
            zone_from_wire(&sent).unwrap_err().to_string(),
            "software keys: `yes` is not one of refuse, allow"
        );
        let sent = v1::Zone { name: "a".into(), ..v1::Zone::default() };
        assert_eq!(zone_from_wire(&sent).unwrap().software_keys, SoftwareKeys::Refuse, "of an older tool");
        assert!(matches!(conduit_from_wire(None), Err(ConvertError::Missing("conduit"))));
    }
}
