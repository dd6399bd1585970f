//! What the device says of itself to people and monitors on the spot: `status.json` beside the trust files.
//!
//! Promises: the file is replaced whole; it never calls a device trusted whose certificates have ended; a reader
//! sees when the attestor that wrote it stopped. Does not promise authenticity: it is for people at the device,
//! peers look at certificates.

mod words;

use std::path::Path;

use policy::id::{DeviceName, ZoneName};
use policy::time::UnixTime;
use proto::v1;
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::hooks::FailingHook;
use crate::images::ImagesStatus;
use crate::role::Role;
use crate::software_key::SoftwareSeat;
use crate::uptime::Uptime;
use crate::wanted::Wanted;

pub(crate) use words::ended;
pub use words::remedy;

/// Name of the file in the delivery folder.
pub const FILE: &str = "status.json";
/// Version of its form.
pub const SCHEMA: u32 = 1;
/// Seconds between two writes of an unchanged status, so that a reader sees that the writer lives.
pub const ALIVE_EVERY: u64 = 30;
/// Seconds after which an old status means that its writer is gone.
const STALE_AFTER: u64 = 3 * ALIVE_EVERY;
/// Longest status file in bytes: findings are bounded below, the rest is small.
const MAX_FILE: u64 = 1024 * 1024;
/// Most findings kept of one refusal; a technician starts with the first.
const MAX_FINDINGS: usize = 64;
/// What the contract puts before each reason.
const REASON_PREFIX: &str = "DENIAL_REASON_";
/// Longest text taken from the broker, in characters.
const MAX_TEXT: usize = 500;

/// What `touchstone-attestor status` shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The name of the device, the one it asks for while it has none.
    pub device: Option<DeviceName>,
    /// Its zones.
    pub zones: Vec<ZoneName>,
    /// Where it stands.
    pub state: Word,
    /// Since when.
    pub since: UnixTime,
    /// Its certificates.
    pub certificates: Vec<CertificateStatus>,
    /// Its software keys with their certificates.
    #[serde(default)]
    pub software_keys: Vec<SoftwareKeyStatus>,
    /// The software keys that got no certificate.
    #[serde(default)]
    pub refused_keys: Vec<RefusedKey>,
    /// When its last good attestation was.
    pub last_attestation: Option<UnixTime>,
    /// The broker, as seen from here.
    pub broker: BrokerStatus,
    /// The last refusal, until an attestation is good again.
    pub denial: Option<Refusal>,
    /// The release that the broker wants the device to run.
    #[serde(default)]
    pub wanted: Option<Wanted>,
    /// Hooks that did not end well: their software may go on by old files.
    #[serde(default)]
    pub failing_hooks: Vec<FailingHook>,
    /// Where it should listen and does not: local software does not find there what it asks for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unbound: Vec<String>,
    /// What it measures itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<ImagesStatus>,
    /// What went wrong on the device itself at the last try, and what to do.
    pub problem: Option<String>,
    /// Sequence of the trust set that is delivered; 0: none.
    pub trust_sequence: u64,
    /// When this was written.
    pub written_at: UnixTime,
    /// The same by the machine's uptime; None: by an attestor of before this was said.
    #[serde(default)]
    pub written_up: Option<Uptime>,
    /// The attestor stopped in order after writing this.
    pub stopped: bool,
}

/// Where the device stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    /// Nothing is known yet.
    Starting,
    /// The plant does not know the device yet; it asks for a place and its first certificates.
    Enrolling,
    /// The last attestation was good.
    Trusted,
    /// The certificates hold, but the last attestation got no answer, or one that says nothing of them.
    Holding,
    /// An administrator must admit the device.
    Pending,
    /// The broker refused it, or its certificates have ended.
    Refused,
    /// It was stopped: by an administrator, or because there are two of it.
    Quarantined,
}

impl Word {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Starting,
        Self::Enrolling,
        Self::Trusted,
        Self::Holding,
        Self::Pending,
        Self::Refused,
        Self::Quarantined,
    ];

    /// The word in lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Enrolling => "enrolling",
            Self::Trusted => "trusted",
            Self::Holding => "holding",
            Self::Pending => "pending",
            Self::Refused => "refused",
            Self::Quarantined => "quarantined",
        }
    }
}

/// One certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// Its zone.
    pub zone: ZoneName,
    /// Its role.
    pub role: Role,
    /// Its serial number, hex.
    pub serial: String,
    /// Last second at which it holds.
    pub not_after: UnixTime,
    /// Whole hours left when this was written or read.
    pub hours_left: u64,
}

/// One software key's certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoftwareKeyStatus {
    /// What the key is for.
    #[serde(flatten)]
    pub seat: SoftwareSeat,
    /// Its certificate's serial number, hex.
    pub serial: String,
    /// Last second at which it holds.
    pub not_after: UnixTime,
    /// Whole hours left when this was written or read.
    pub hours_left: u64,
}

/// A software key that got no certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedKey {
    /// What it was for.
    #[serde(flatten)]
    pub seat: SoftwareSeat,
    /// The broker's reason, such as `NOT_PERMITTED`.
    pub reason: String,
    /// The broker's sentence.
    pub message: String,
}

impl RefusedKey {
    /// What the broker said about the key at `seat`.
    #[must_use]
    pub fn new(seat: SoftwareSeat, denial: &v1::Denial) -> Self {
        let reason = denial.reason().as_str_name().trim_start_matches(REASON_PREFIX).to_owned();
        Self { seat, reason, message: text(&denial.message) }
    }
}

/// The broker, as seen from the device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerStatus {
    /// Host and port.
    pub address: String,
    /// It answered the last time it was asked.
    pub reachable: bool,
    /// It was asked since the attestor started.
    #[serde(default = "asked_of_before")]
    pub asked: bool,
    /// The Watch stream is open.
    pub watching: bool,
    /// When it gave its last sign of life, signed by it.
    #[serde(default)]
    pub heard: Option<UnixTime>,
}

impl Status {
    /// What is told of an attestor that cannot begin, because of this `problem`.
    pub(crate) fn of_start(
        device: Option<DeviceName>,
        broker: String,
        problem: String,
        now: UnixTime,
    ) -> Self {
        Self {
            schema: SCHEMA,
            device,
            zones: Vec::new(),
            state: Word::Starting,
            since: now,
            certificates: Vec::new(),
            software_keys: Vec::new(),
            refused_keys: Vec::new(),
            last_attestation: None,
            broker: BrokerStatus {
                address: broker,
                reachable: false,
                asked: false,
                watching: false,
                heard: None,
            },
            denial: None,
            wanted: None,
            failing_hooks: Vec::new(),
            unbound: Vec::new(),
            images: None,
            problem: Some(problem),
            trust_sequence: 0,
            written_at: now,
            written_up: Some(Uptime::now()),
            stopped: false,
        }
    }
}

/// Attestors of before this was said are taken to have asked.
const fn asked_of_before() -> bool {
    true
}

/// A refusal as the broker gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Its reason, such as `REFERENCE_MISMATCH`.
    pub reason: String,
    /// The broker's sentence.
    pub message: String,
    /// What to do about it at the device.
    pub remedy: String,
    /// When it came.
    pub at: UnixTime,
    /// What the appraisal found.
    pub findings: Vec<FindingStatus>,
}

/// One finding of an appraisal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingStatus {
    /// The claim that it counts against.
    pub claim: String,
    /// The PCR.
    pub pcr: Option<u32>,
    /// Position of the event in the log, from 0.
    pub event: Option<u32>,
    /// TCG name of the event's type.
    pub event_type: String,
    /// What the golden release calls it.
    pub subject: String,
    /// Hex digests that would be accepted.
    pub expected: Vec<String>,
    /// Hex digest that was seen; empty: none.
    pub seen: String,
    /// The golden release it was compared with.
    pub release: String,
    /// One sentence.
    pub message: String,
}

impl Refusal {
    /// Why, as the broker said it.
    #[must_use]
    pub fn reason(&self) -> v1::DenialReason {
        let name = format!("{REASON_PREFIX}{}", self.reason);
        v1::DenialReason::from_str_name(&name).unwrap_or_default()
    }

    /// A refusal that came at `at`.
    #[must_use]
    pub fn new(denial: &v1::Denial, at: UnixTime) -> Self {
        let reason = denial.reason();
        let mut message = text(&denial.message);
        if reason == v1::DenialReason::ClockSkew && denial.broker_time != 0 {
            message.push_str(&format!(
                " (the broker's clock shows {}, this one {at})",
                UnixTime(denial.broker_time)
            ));
        }
        Self {
            reason: reason.as_str_name().trim_start_matches(REASON_PREFIX).to_owned(),
            message,
            remedy: words::remedy_of(denial),
            at,
            findings: denial.findings.iter().take(MAX_FINDINGS).map(FindingStatus::new).collect(),
        }
    }
}

impl FindingStatus {
    fn new(finding: &v1::Finding) -> Self {
        Self {
            claim: text(&finding.claim),
            pcr: finding.pcr,
            event: finding.event,
            event_type: text(&finding.event_type),
            subject: text(&finding.subject),
            expected: finding.expected.iter().take(8).map(|digest| text(digest)).collect(),
            seen: text(&finding.seen),
            release: text(&finding.release),
            message: text(&finding.message),
        }
    }
}

/// Text of a peer, made fit for a terminal.
fn text(raw: &str) -> String {
    raw.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}

/// The status cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadStatusError {
    /// There is none.
    #[error(
        "there is no status at {file}: the attestor has not run here; start it with systemctl start \
         --no-block touchstone-attestor, or name its configuration with --config"
    )]
    Missing {
        /// The file.
        file: String,
    },
    /// The system does not give it.
    #[error("the status {file} cannot be read: {source}; run this as a user who may")]
    Unreadable {
        /// The file.
        file: String,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// It is not a status of this version.
    #[error("the status {file} is malformed: {reason}; restart the attestor, which writes it anew")]
    Malformed {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
}

/// Why a device is trusted for what it still holds alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold<'a> {
    /// The broker did not answer the last time it was asked.
    BrokerAway,
    /// The broker refused it, which says nothing of its certificates; the broker's reason.
    Refused(&'a str),
    /// The broker answers, and for another reason there is no new proof; `problem` says more.
    NotAttested,
}

/// Whether a program that writes what it says at least every [`ALIVE_EVERY`] seconds, and wrote last at `written`, still
/// ran `now`.
#[must_use]
pub(crate) fn is_live(written: Option<&Uptime>, now: &Uptime) -> bool {
    written.is_some_and(|written| written.is_within(STALE_AFTER, now))
}

impl Status {
    /// Why a device that is [holding](Word::Holding) does.
    pub(crate) fn hold(&self) -> Hold<'_> {
        match &self.denial {
            _ if self.broker.asked && !self.broker.reachable => Hold::BrokerAway,
            Some(refusal) => Hold::Refused(&refusal.reason),
            None => Hold::NotAttested,
        }
    }

    /// Writes it into the delivery folder.
    pub fn write(&self, dir: &Path) -> std::io::Result<()> {
        let mut json = serde_json::to_vec_pretty(self).map_err(std::io::Error::other)?;
        json.push(b'\n');
        durable::show(&dir.join(FILE), &json, 0o644)
    }

    /// Reads it from the delivery folder and brings the hours up to `now`.
    pub fn read(dir: &Path, now: UnixTime) -> Result<Self, ReadStatusError> {
        let path = dir.join(FILE);
        let file = path.display().to_string();
        let bytes = match durable::read_bounded(&path, MAX_FILE) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(ReadStatusError::Missing { file });
            }
            Err(source) => return Err(ReadStatusError::Unreadable { file, source }),
        };
        let status: Self = serde_json::from_slice(&bytes)
            .map_err(|error| ReadStatusError::Malformed { file, reason: error.to_string() })?;
        Ok(status.at(now))
    }

    /// The same status at a later time: hours are counted again, and nobody is trusted whose certificates all ended, or who has none.
    #[must_use]
    pub fn at(mut self, now: UnixTime) -> Self {
        // A clock that was never set shows less than the attestor knew.
        let now = now.max(self.written_at);
        for certificate in &mut self.certificates {
            certificate.hours_left = certificate.not_after.since(now) / 3600;
        }
        for key in &mut self.software_keys {
            key.hours_left = key.not_after.since(now) / 3600;
        }
        if let Word::Trusted | Word::Holding = self.state {
            match self.last_end() {
                Some(end) if end < now => {
                    (self.state, self.since) = (Word::Refused, end);
                    let ended = ended(self.broker.reachable, end, now);
                    self.problem.get_or_insert(ended);
                }
                None => {
                    self.state = Word::Refused;
                    self.problem.get_or_insert_with(|| words::NO_CERTIFICATE.to_owned());
                }
                Some(_) => {
                    if let Some(ended) = words::ended_in_part(&self, now) {
                        self.problem.get_or_insert(ended);
                    }
                }
            }
        }
        self
    }

    /// When the last certificate ends.
    fn last_end(&self) -> Option<UnixTime> {
        self.certificates.iter().map(|certificate| certificate.not_after).max()
    }

    /// When the next certificate ends that has not ended `now`.
    fn next_end(&self, now: UnixTime) -> Option<UnixTime> {
        self.certificates.iter().map(|certificate| certificate.not_after).filter(|end| now <= *end).min()
    }

    /// Whether the attestor that wrote it still ran `now`. The wall clock is not asked: it may have jumped.
    #[must_use]
    pub fn is_live(&self, now: &Uptime) -> bool {
        !self.stopped && is_live(self.written_up.as_ref(), now)
    }

    /// Whether the attestor had heard the broker at most `most` seconds before `now`. Since it wrote, the machine's uptime counts: a wall
    /// clock that is set back would make an old word a young one. What it heard later than it wrote is taken for a small correction
    /// of the clock, or for nothing.
    #[must_use]
    pub fn heard_within(&self, most: u64, now: &Uptime) -> bool {
        let Some((heard, up)) = self.broker.heard.zip(self.written_up.as_ref()) else { return false };
        let before = self.written_at.since(heard);
        let is_near = before <= most && heard.since(self.written_at) <= most;
        is_near && up.is_within(most.saturating_sub(before), now)
    }

    /// The state in a sentence, with the reason where it is not as it should be.
    #[must_use]
    pub fn sentence(&self, now: UnixTime) -> String {
        words::sentence(self, now)
    }

    /// The status in words, for people; `live`: the attestor that wrote it still runs.
    #[must_use]
    pub fn describe(&self, now: UnixTime, live: bool) -> String {
        words::describe(self, now, live)
    }
}

#[cfg(test)]
pub(crate) mod tests;
