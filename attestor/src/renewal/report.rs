//! The status file, kept true while the driver runs.

use std::io;

use policy::time::UnixTime;

use super::attester::Attester;
use super::machine::Standing;
use crate::role::Seat;
use crate::software_key::{HeldSoftwareKey, SoftwareSeat};
use crate::state::State;
use crate::status::{BrokerStatus, CertificateStatus, SCHEMA, SoftwareKeyStatus, Status, Word, ended};
use crate::svid::HeldSvid;
use crate::uptime::Uptime;

/// What the driver knows beyond state and machine.
#[derive(Debug)]
pub(super) struct Reporter {
    word: Word,
    since: UnixTime,
    /// Whether the broker answered the last time it was asked; None: it was not asked yet.
    pub(super) reachable: Option<bool>,
    /// The Watch stream is open.
    pub(super) watching: bool,
    /// What went wrong here at the last try.
    pub(super) problem: Option<String>,
}

impl Reporter {
    pub(super) const fn new(now: UnixTime) -> Self {
        Self { word: Word::Starting, since: now, reachable: None, watching: false, problem: None }
    }

    /// Writes the status, and gives it. A failure is logged: a device works without being looked at.
    pub(super) fn write(&mut self, attester: &Attester, standing: Standing, stopped: bool) -> Status {
        let now = attester.now();
        let word = match word(standing) {
            Word::Trusted | Word::Holding if !attester.keeper.read(State::holds_any) => Word::Refused,
            word => word,
        };
        if word != self.word {
            (self.word, self.since) = (word, now);
            tracing::info!(verdict = word.as_str(), "the device is now {}", word.as_str());
        }
        let status = attester.keeper.read(|state| self.status(attester, state, now, stopped)).at(now);
        if let Err(error) = ensure_dir(attester).and_then(|()| status.write(attester.sink.dir())) {
            let dir = attester.sink.dir().display();
            tracing::error!(%error, "the status cannot be written to {dir}; free space or correct its owner");
        }
        status
    }

    /// What is wrong, the worst of it. That a state was lost is told beside it: no exchange mends that but one that brings
    /// certificates. So is why the broker is away of a device whose certificates ended: it may be the clock here, too.
    fn problem(&self, attester: &Attester, state: &State, now: UnixTime) -> Option<String> {
        let away = self.reachable == Some(false);
        let ended = state.last_end().filter(|end| away && *end < now).map(|end| ended(false, end, now));
        let wrong = attester.clock_doubt().or_else(|| beside(ended, self.problem.clone()));
        beside(wrong.or_else(|| attester.boot.doubt()), state.lost.clone())
    }

    fn status(&self, attester: &Attester, state: &State, now: UnixTime, stopped: bool) -> Status {
        Status {
            schema: SCHEMA,
            device: state.device.clone().or_else(|| attester.config.device.clone()),
            zones: state.zones.clone(),
            state: self.word,
            since: self.since,
            certificates: state.holding().map(|(seat, svid)| certificate(seat, svid, now)).collect(),
            software_keys: state
                .holding_software_keys()
                .map(|(seat, held)| software_key(seat, held, now))
                .collect(),
            refused_keys: state.refused_keys.clone(),
            last_attestation: state.last_attestation,
            broker: BrokerStatus {
                address: attester.client.broker().to_string(),
                reachable: self.reachable == Some(true),
                asked: self.reachable.is_some(),
                watching: self.watching,
                heard: attester.heard.ago().map(|ago| now.minus(ago.as_secs())),
            },
            denial: state.refusal.clone(),
            wanted: state.wanted.clone(),
            images: attester.prover.images().map(|images| images.status()),
            failing_hooks: attester.failing(),
            unbound: attester.unbound.words(),
            problem: self.problem(attester, state, now),
            trust_sequence: state.trust_sequence,
            written_at: now,
            written_up: Some(Uptime::now()),
            stopped,
        }
    }
}

fn beside(first: Option<String>, second: Option<String>) -> Option<String> {
    match (first, second) {
        (Some(first), Some(second)) => Some(format!("{first}; besides, {second}")),
        (first, second) => first.or(second),
    }
}

fn ensure_dir(attester: &Attester) -> io::Result<()> {
    crate::durable::make_dir(attester.sink.dir(), 0o755)
}

const fn word(standing: Standing) -> Word {
    match standing {
        Standing::Starting => Word::Starting,
        Standing::Enrolling => Word::Enrolling,
        Standing::Trusted => Word::Trusted,
        Standing::Holding => Word::Holding,
        Standing::Pending => Word::Pending,
        Standing::Refused => Word::Refused,
        Standing::Quarantined => Word::Quarantined,
    }
}

fn software_key(seat: &SoftwareSeat, held: &HeldSoftwareKey, now: UnixTime) -> SoftwareKeyStatus {
    let svid = held.svid();
    SoftwareKeyStatus {
        seat: seat.clone(),
        serial: hex::encode(svid.serial()),
        not_after: svid.not_after(),
        hours_left: svid.not_after().since(now) / 3600,
    }
}

fn certificate(seat: &Seat, svid: &HeldSvid, now: UnixTime) -> CertificateStatus {
    CertificateStatus {
        zone: seat.zone.clone(),
        role: seat.role,
        serial: hex::encode(svid.serial()),
        not_after: svid.not_after(),
        hours_left: svid.not_after().since(now) / 3600,
    }
}
