//! Why a device is in its state, and what to do about it.

use policy::appraisal::AppraisalRecord;
use policy::id::ZoneName;
use policy::time::UnixTime;
use policy::zone::OnSilence;

use super::stop::join_command;
use super::view::{DeviceView, Seen, State};
use crate::record::device::{Decision, Pending, Quarantine};

/// Most sentences: the telling ones come first.
const MAX_SENTENCES: usize = 20;

/// Reasons, and the command that would help.
#[derive(Debug, PartialEq, Eq)]
pub struct Why {
    /// One sentence each, the most telling first.
    pub sentences: Vec<String>,
    /// The next command; empty if nothing needs doing.
    pub next_command: String,
}

/// Why `seen` is in its state, given what the appraisal found.
#[must_use]
pub fn why(seen: &Seen, records: &[AppraisalRecord], now: UnixTime) -> Why {
    match seen {
        Seen::Pending(pending) => waiting(pending),
        Seen::Device(view) => {
            let mut why = of_device(view, records, now);
            why.sentences.truncate(MAX_SENTENCES);
            why
        }
    }
}

fn waiting(pending: &Pending) -> Why {
    let asks =
        pending.name.as_ref().map_or_else(String::new, |name| format!(" and asks for the name {name}"));
    Why {
        sentences: vec![format!(
            "a TPM ({}) with EK {} proved itself on {}{asks}; nobody has admitted it yet",
            pending.tpm, pending.ek, pending.since
        )],
        next_command: admit_command(pending),
    }
}

/// The command that admits `pending`.
#[must_use]
pub fn admit_command(pending: &Pending) -> String {
    let name = if pending.name.is_none() { " --as NAME" } else { "" };
    let zone = if pending.zones.is_empty() { " --zone ZONE" } else { "" };
    format!("touchstone device admit {}{zone}{name}", pending.ek)
}

fn of_device(view: &DeviceView, records: &[AppraisalRecord], now: UnixTime) -> Why {
    let name = &view.device.name;
    let why = |sentence: String, next_command: String| Why { sentences: vec![sentence], next_command };
    match view.state {
        State::Retired => why(
            format!("{name} was retired; its TPM is barred"),
            format!("touchstone device readmit {name} --reason TEXT"),
        ),
        State::Quarantined => {
            let stop = view.tpm.quarantine.as_ref();
            let text = stop.map_or_else(String::new, |s| format!(" on {} by {}: {}", s.at, s.by, s.reason));
            let first = format!("{name} was quarantined{text}");
            if stop.is_some_and(Quarantine::is_clone_alarm) {
                return copied(view, first);
            }
            why(first, format!("touchstone device readmit {name} --reason TEXT"))
        }
        State::Registered => why(
            format!(
                "{name} is registered with EK {} and has not come yet; start the attestor on it",
                view.device.ek
            ),
            String::new(),
        ),
        State::Refused => appraised(view, records, "refused"),
        State::Silent => silent(view, now),
        State::Pending if !view.attested.as_ref().is_some_and(|attested| attested.clone_alarm) => why(
            format!(
                "a zone of {name} was removed ({}); say where it belongs",
                view.device.zones.iter().map(ZoneName::as_str).collect::<Vec<_>>().join(", ")
            ),
            format!("touchstone device admit {name} --zone ZONE"),
        ),
        State::Pending => why(
            format!(
                "clone alarm: {name} came with counters that do not follow those of its last proof; its TPM was cleared, or this is a copy"
            ),
            format!("touchstone device expect-clear {name} --reason TEXT"),
        ),
        State::Trusted => trusted(view, records),
    }
}

/// A device without a TPM of which there are two: a person looks at it, and then it joins again.
fn copied(view: &DeviceView, first: String) -> Why {
    let name = &view.device.name;
    let (second, next_command) = match view.device.ak {
        Some(_) => (
            format!(
                "somebody else has its files, or a copy of its disk was put back: find out which box is {name} and how it \
                 was copied; readmitting ends the keys of both"
            ),
            format!("touchstone device readmit {name} --reason TEXT"),
        ),
        None => (
            "it was readmitted, and the keys of both ended; delete the state of the right box and let it join again with a \
             new token, which lifts the quarantine"
                .to_owned(),
            join_command(&view.device),
        ),
    };
    Why { sentences: vec![first, second], next_command }
}

fn silent(view: &DeviceView, now: UnixTime) -> Why {
    let name = &view.device.name;
    let age = view.attested.as_ref().map_or(0, |attested| now.since(attested.at));
    let mut sentences = vec![format!(
        "{name} last proved itself {age} s ago, longer than its zone allows; it is off, cut off, or its attestor is stopped"
    )];
    if let Some(attested) = &view.attested {
        sentences.extend(attested.lost.clone());
        let alerting = attested.silent.iter().filter(|(_, done)| **done == OnSilence::Alert);
        sentences.extend(alerting.map(|(zone, _)| {
            format!(
                "zone {zone} heard others meanwhile; what the device holds there stays in force until it ends"
            )
        }));
    }
    Why { sentences, next_command: format!("touchstone device attest {name}") }
}

fn trusted(view: &DeviceView, records: &[AppraisalRecord]) -> Why {
    let name = &view.device.name;
    if view.device.zones.is_empty() {
        return Why {
            sentences: vec![format!("{name} is in no zone, so it gets no certificate")],
            next_command: format!("touchstone device admit {name} --zone ZONE"),
        };
    }
    match view.attested.as_ref().map(|attested| attested.decision) {
        Some(Decision::WouldRefuse) => {
            appraised(view, records, "trusted only because its zone observes; enforcing would refuse it")
        }
        _ => {
            let release = view.attested.as_ref().and_then(|attested| attested.release.as_deref());
            let text = release.map_or_else(String::new, |release| format!("; it runs {release}"));
            Why {
                sentences: vec![format!("{name} proved what it booted and every zone accepts it{text}")],
                next_command: String::new(),
            }
        }
    }
}

fn appraised(view: &DeviceView, records: &[AppraisalRecord], what: &str) -> Why {
    let name = &view.device.name;
    let mut sentences = vec![format!("{name} is {what}")];
    sentences.extend(view.attested.as_ref().and_then(|attested| attested.lost.clone()));
    for record in records {
        let against = record.findings.iter().filter(|finding| !finding.kind.is_notice());
        for sentence in against.map(|finding| &finding.sentence) {
            if !sentences.contains(sentence) {
                sentences.push(sentence.clone());
            }
        }
        if record.findings_left_out > 0 {
            sentences.push(format!("{} more reasons in zone {}", record.findings_left_out, record.zone));
        }
    }
    Why { sentences, next_command: format!("touchstone device attest {name}") }
}
