//! The status in words that a technician can act on.

use std::fmt::Write;

use policy::time::UnixTime;
use proto::v1::{Denial, DenialReason};

use super::{CertificateStatus, FindingStatus, Hold, Refusal, Status, Word};
use crate::images::ImagesStatus;
use crate::wanted::Wanted;

/// What to do at the device about a refusal. Exhaustive: a new reason must choose its words.
#[must_use]
pub const fn remedy(reason: DenialReason) -> &'static str {
    match reason {
        DenialReason::Unspecified => "see the broker's log",
        DenialReason::Malformed => "update attestor and broker to the same release",
        DenialReason::MustReattest | DenialReason::TryLater => "nothing: the device asks again by itself",
        DenialReason::EvidenceInvalid => {
            "restart the device; if it stays so, its firmware log or TPM is faulty: replace the device"
        }
        DenialReason::ReferenceMismatch => {
            "bring back the approved firmware, kernel or image, or have an engineer approve the new one with \
             `touchstone golden learn`"
        }
        DenialReason::NotAdmitted => {
            "have an administrator run `touchstone device admit`, or put a join token on the device"
        }
        DenialReason::Quarantined => {
            "find out why with `touchstone device why`; an administrator ends it with `touchstone device readmit`"
        }
        DenialReason::Retired => "take the device out of the plant, or have an administrator admit it anew",
        DenialReason::ClockSkew => {
            "set the clock that is wrong, of the broker or of the device, or mend its time source"
        }
        DenialReason::Conflict => "another TPM holds this name: choose another `device` in attestor.toml",
        DenialReason::UnsupportedVersion => "update the attestor",
        DenialReason::NotEndorsed => {
            "give the output of `touchstone-attestor identify` to an administrator, who registers it with \
             `touchstone device import`"
        }
        DenialReason::NotPermitted => "correct `zones` in attestor.toml, or ask an administrator for them",
        DenialReason::NotFound => "nothing: the device enrolls again by itself",
        // Only administrators are told so.
        DenialReason::Waits => "nothing: an administrator approves it with `touchstone change approve`",
    }
}

/// The same, where the broker says which release the device should run.
pub(super) fn remedy_of(denial: &Denial) -> String {
    let remedy = remedy(denial.reason());
    let wanted = denial.wanted.as_ref().and_then(|wanted| Wanted::try_from(wanted).ok());
    wanted.map_or_else(
        || remedy.to_owned(),
        |wanted| format!("install {wanted}, which is wanted of it; or {remedy}"),
    )
}

/// Of a device that proved itself and has nothing for that yet.
pub(super) const NO_CERTIFICATE: &str =
    "the device has no certificate; it asks the broker for one by itself, whose log says what is in the way";

/// Of a device whose certificates all ended; `reachable`: the broker answers.
pub(crate) fn ended(reachable: bool, end: UnixTime, now: UnixTime) -> String {
    let none = no_new_ones(reachable);
    format!(
        "the certificates ended at {end}, the clock here shows {now}, and {none}; if the clock is wrong, set it"
    )
}

/// Why there is no certificate in the place of one that ended, and what to do.
const fn no_new_ones(reachable: bool) -> &'static str {
    match reachable {
        true => {
            "the broker answers and gave no new ones; `touchstone device why` says why, the device asks again by itself"
        }
        false => {
            "the broker gave no new ones; bring the network to the broker back, the device renews by itself"
        }
    }
}

/// The zones whose certificates ended while others hold.
pub(super) fn ended_in_part(status: &Status, now: UnixTime) -> Option<String> {
    let ended = status.certificates.iter().filter(|certificate| certificate.not_after < now);
    let mut ended: Vec<String> = ended
        .map(|certificate| format!("of zone {} at {}", certificate.zone, certificate.not_after))
        .collect();
    ended.dedup();
    (!ended.is_empty()).then(|| {
        format!("certificates ended: {}, and {}", ended.join(", "), no_new_ones(status.broker.reachable))
    })
}

pub(super) fn describe(status: &Status, now: UnixTime, live: bool) -> String {
    let mut out = String::new();
    let name = status.device.as_ref().map_or("(no name yet)", |device| device.as_str());
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{name}: {} since {}", headline(status, now), status.since);
    if !live {
        let _ = writeln!(
            out,
            "  the attestor does not run (last sign {}); start it: systemctl start --no-block touchstone-attestor",
            status.written_at
        );
    }
    for certificate in &status.certificates {
        let _ = writeln!(
            out,
            "  certificate   {} {}, until {} ({})",
            certificate.zone,
            certificate.role,
            certificate.not_after,
            left(certificate, now)
        );
    }
    for key in &status.software_keys {
        let _ = writeln!(
            out,
            "  software key  {}, until {} ({} h left)",
            key.seat, key.not_after, key.hours_left
        );
    }
    for key in &status.refused_keys {
        let _ = writeln!(out, "  no key        {}: {} {}", key.seat, key.reason, key.message);
    }
    if let Some(at) = status.last_attestation {
        let _ = writeln!(out, "  attested      {at}");
    }
    let reachable = match (status.broker.asked, status.broker.reachable) {
        (_, true) => "answers",
        (true, false) => "does not answer",
        (false, false) => "was not asked yet",
    };
    let watching = if status.broker.watching { ", watching" } else { "" };
    let _ = writeln!(out, "  broker        {} {reachable}{watching}", status.broker.address);
    if let Some(wanted) = &status.wanted {
        let _ = writeln!(out, "  wanted        {wanted}");
    }
    if let Some(refusal) = &status.denial {
        describe_refusal(&mut out, refusal);
    }
    for hook in &status.failing_hooks {
        let _ = writeln!(
            out,
            "  hook          {} failed: {}; what it is for may go on as before; mend its program, it runs again by itself",
            hook.name, hook.message
        );
    }
    for unbound in &status.unbound {
        let _ = writeln!(out, "  not open      {unbound}");
    }
    if let Some(images) = &status.images {
        describe_images(&mut out, images, now);
    }
    if let Some(problem) = &status.problem {
        let _ = writeln!(out, "  problem       {problem}");
    }
    out
}

fn left(certificate: &CertificateStatus, now: UnixTime) -> String {
    match certificate.not_after < now {
        true => "ended".to_owned(),
        false => format!("{} h left", certificate.hours_left),
    }
}

fn describe_images(out: &mut String, images: &ImagesStatus, now: UnixTime) {
    let _ = writeln!(out, "  images        {} measured, log of {} entries", images.measured, images.entries);
    if let Some(path) = &images.measuring {
        let _ = writeln!(out, "                {path} is being measured");
    }
    for waiting in &images.waiting {
        let minutes = now.since(waiting.since) / 60;
        let _ = writeln!(out, "                {} waits to be measured again ({minutes} min)", waiting.path);
    }
    for problem in &images.problems {
        let _ = writeln!(out, "                {problem}");
    }
}

pub(super) fn sentence(status: &Status, now: UnixTime) -> String {
    let denial = status.denial.as_ref().filter(|_| matches!(status.state, Word::Refused | Word::Quarantined));
    let why = match status.state {
        Word::Holding if status.hold() == Hold::NotAttested => status.problem.clone(),
        Word::Trusted | Word::Holding => ended_in_part(status, now),
        Word::Starting | Word::Enrolling | Word::Pending | Word::Refused | Word::Quarantined => {
            denial.map(|denial| denial.message.clone()).or_else(|| status.problem.clone())
        }
    };
    let headline = headline(status, now);
    why.map_or_else(|| headline.clone(), |why| format!("{headline}: {why}"))
}

fn headline(status: &Status, now: UnixTime) -> String {
    match (status.state, status.next_end(now)) {
        (Word::Holding, Some(end)) => {
            let why = match status.hold() {
                Hold::BrokerAway => "broker away".to_owned(),
                Hold::Refused(reason) => format!("refused: {reason}"),
                Hold::NotAttested => "no new proof".to_owned(),
            };
            format!("trusted ({why}, {} h left)", end.since(now) / 3600)
        }
        (Word::Enrolling, _) => "enrolling (the plant does not know it yet)".to_owned(),
        (Word::Pending, _) => "pending (an administrator must admit it)".to_owned(),
        (word, _) => word.as_str().to_owned(),
    }
}

fn describe_refusal(out: &mut String, refusal: &Refusal) {
    let _ = writeln!(out, "  refused       {} at {}: {}", refusal.reason, refusal.at, refusal.message);
    for finding in &refusal.findings {
        let _ = writeln!(out, "                {}", describe_finding(finding));
    }
    let _ = writeln!(out, "  what to do    {}", refusal.remedy);
}

fn describe_finding(finding: &FindingStatus) -> String {
    let mut out = String::new();
    if let Some(pcr) = finding.pcr {
        let _ = write!(out, "PCR {pcr} ");
    }
    if let Some(event) = finding.event {
        let _ = write!(out, "event {event} {} ", finding.event_type);
    }
    let _ = write!(out, "{}: {}", finding.subject, finding.message);
    if !finding.expected.is_empty() {
        let _ = write!(out, " (expected {})", finding.expected.join(" or "));
    }
    if !finding.seen.is_empty() {
        let _ = write!(out, " (seen {})", finding.seen);
    }
    out
}
