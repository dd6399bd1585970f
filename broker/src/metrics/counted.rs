//! What is counted at the event.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use policy::appraisal::finding::FindingKind;
use policy::id::ZoneName;
use policy::time::UnixTime;
use policy::zone::OnSilence;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use proto::v1::DenialReason;

use super::running::Running;
use super::{Labels, PREFIX};
use crate::audit::refusals::HandshakeFault;
use crate::grpc::device::{ATTESTATIONS, ENROLLMENTS};
use crate::grpc::status::reason;
use crate::record::device::Decision;
use crate::session::Refusal;
use crate::store::timed::StoreTimes;

/// Where devices are let in, or turned away for want of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Sessions of unknown devices.
    Enrollment,
    /// Sessions of known devices.
    Attestation,
    /// Connections.
    Connection,
}

impl Door {
    const ALL: [Self; 3] = [Self::Enrollment, Self::Attestation, Self::Connection];

    const fn name(self) -> &'static str {
        match self {
            Self::Enrollment => "enrollment",
            Self::Attestation => "attestation",
            Self::Connection => "connection",
        }
    }
}

/// How an enrollment ended that was not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enrolled {
    /// With certificates.
    Issued,
    /// The device waits for an administrator, newly.
    Pending,
}

impl Enrolled {
    const ALL: [Self; 2] = [Self::Issued, Self::Pending];

    const fn name(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Pending => "pending",
        }
    }
}

/// What certificates are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateKind {
    /// A device that calls.
    Caller,
    /// A device that listens.
    Listener,
    /// A service of a device with its key in software.
    Software,
    /// An administrator.
    Administrator,
    /// The broker's own port.
    Server,
    /// The audit's seals.
    Audit,
}

impl CertificateKind {
    const ALL: [Self; 6] =
        [Self::Caller, Self::Listener, Self::Software, Self::Administrator, Self::Server, Self::Audit];

    const fn name(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Listener => "listener",
            Self::Software => "software",
            Self::Administrator => "administrator",
            Self::Server => "server",
            Self::Audit => "audit",
        }
    }
}

/// What was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signed {
    /// A device's certificate.
    Certificate,
    /// A CRL.
    Crl,
    /// A trust set.
    TrustSet,
    /// A seal of the audit.
    Seal,
    /// A sign of life.
    Heartbeat,
}

impl Signed {
    const ALL: [Self; 5] = [Self::Certificate, Self::Crl, Self::TrustSet, Self::Seal, Self::Heartbeat];

    const fn name(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Crl => "crl",
            Self::TrustSet => "trust-set",
            Self::Seal => "seal",
            Self::Heartbeat => "heartbeat",
        }
    }
}

/// From 50 µs, a signature of a fast processor, to 0.2 s, a key elsewhere.
fn signing_times() -> Histogram {
    Histogram::new(exponential_buckets(50e-6, 2.0, 13))
}

/// What is counted since the broker started.
#[derive(Debug)]
pub struct Metrics {
    /// How long the store takes.
    pub store: StoreTimes,
    /// Enrollments that are worked on.
    pub enrolling: Running,
    /// Attestations that are worked on.
    pub attesting: Running,
    pub(super) registry: Registry,
    watchers: Gauge,
    verdicts: Family<Labels<3>, Counter>,
    silences: Family<Labels<2>, Counter>,
    refusals: Family<Labels<2>, Counter>,
    handshakes: Family<Labels<1>, Counter>,
    enrollments: Family<Labels<1>, Counter>,
    turned_away: Family<Labels<1>, Counter>,
    issued: Family<Labels<1>, Counter>,
    signing: Family<Labels<1>, Histogram>,
    healthy: Gauge,
    places: Family<Labels<1>, Gauge>,
    taken: Family<Labels<1>, Gauge>,
    oldest: Family<Labels<1>, Gauge<f64, AtomicU64>>,
    server_ends: AtomicU64,
    publish_ends: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            store: StoreTimes::default(),
            enrolling: Running::default(),
            attesting: Running::default(),
            watchers: Gauge::default(),
            registry: Registry::default(),
            verdicts: Family::default(),
            silences: Family::default(),
            refusals: Family::default(),
            handshakes: Family::default(),
            enrollments: Family::default(),
            turned_away: Family::default(),
            issued: Family::default(),
            signing: Family::new_with_constructor(signing_times),
            healthy: Gauge::default(),
            places: Family::default(),
            taken: Family::default(),
            oldest: Family::default(),
            server_ends: AtomicU64::new(0),
            publish_ends: AtomicU64::new(0),
        };
        metrics.begin_at_zero();
        metrics.registry = metrics.registered();
        metrics
    }
}

impl Metrics {
    /// A rate is right from the first event on only if the series was there before it.
    fn begin_at_zero(&self) {
        for outcome in Enrolled::ALL {
            drop(self.enrollments.get_or_create(&[("outcome", outcome.name().to_owned())]));
        }
        for fault in HandshakeFault::ALL {
            drop(self.handshakes.get_or_create(&[("reason", fault.name().to_owned())]));
        }
        for door in Door::ALL {
            drop(self.turned_away.get_or_create(&[("door", door.name().to_owned())]));
        }
        for kind in CertificateKind::ALL {
            drop(self.issued.get_or_create(&[("kind", kind.name().to_owned())]));
        }
        for what in Signed::ALL {
            drop(self.signing.get_or_create(&[("what", what.name().to_owned())]));
        }
        for act in ["device.enroll", "device.attest"] {
            for reason in (0..).map_while(|number| DenialReason::try_from(number).ok()) {
                drop(self.refusals.get_or_create(&refusal_labels(act, reason)));
            }
        }
    }

    fn registered(&self) -> Registry {
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register(
            "verdicts",
            "Decisions of zones about attestations; the reason is the first finding against the device",
            self.verdicts.clone(),
        );
        registry.register(
            "silences",
            "Devices that fell silent while others of the zone were heard, and what the zone does about it",
            self.silences.clone(),
        );
        registry.register(
            "refusals",
            "Requests of devices and administrators that were refused",
            self.refusals.clone(),
        );
        registry.register(
            "handshakes_refused",
            "TLS handshakes that were refused, before anybody could know who asks",
            self.handshakes.clone(),
        );
        registry.register(
            "enrollments",
            "Enrollments that ended with a certificate, or began to wait for an administrator",
            self.enrollments.clone(),
        );
        registry.register(
            "turned_away",
            "Sessions and connections that found no place and were told to come again",
            self.turned_away.clone(),
        );
        registry.register("certificates_issued", "Certificates that were issued", self.issued.clone());
        registry.register("signing_seconds", "Time that a signature took", self.signing.clone());
        registry.register("watchers", "Devices that listen for changes now", self.watchers.clone());
        registry.register(
            "healthy",
            "1 if the store keeps what it is given and the issuing key signs, tried every 5 s; 0 if not",
            self.healthy.clone(),
        );
        registry.register(
            "verification_places",
            "Sessions that are worked on at once, at most",
            self.places.clone(),
        );
        registry.register("verifications_running", "Sessions that are worked on now", self.taken.clone());
        registry.register(
            "verification_oldest_seconds",
            "Age of the oldest session that is worked on now; 0 if there is none",
            self.oldest.clone(),
        );
        self.store.register(&mut registry);
        registry
    }

    /// What is true only at the moment when it is shown.
    pub(super) fn look(&self) {
        for (door, running, places) in [
            (Door::Enrollment, &self.enrolling, ENROLLMENTS),
            (Door::Attestation, &self.attesting, ATTESTATIONS),
        ] {
            let label = [("door", door.name().to_owned())];
            let (count, oldest) = running.look();
            self.places.get_or_create(&label).set(gauge(places));
            self.taken.get_or_create(&label).set(gauge(count));
            self.oldest.get_or_create(&label).set(oldest.as_secs_f64());
        }
    }

    /// A zone's decision about a device, with the first finding against it.
    pub fn verdict(&self, zone: &ZoneName, decision: Decision, against: Option<FindingKind>) {
        let (decision, reason) = (decision.name().to_owned(), against.map(word).unwrap_or_default());
        let labels = [("zone", zone.to_string()), ("decision", decision), ("reason", reason)];
        self.verdicts.get_or_create(&labels).inc();
    }

    /// A zone noticed that a device is silent.
    pub fn silence(&self, zone: &ZoneName, on_silence: OnSilence) {
        let labels = [("zone", zone.to_string()), ("on_silence", on_silence.name().to_owned())];
        self.silences.get_or_create(&labels).inc();
    }

    /// A refusal of `act`, the name of an act.
    pub fn refused(&self, act: &'static str, refusal: &Refusal) {
        self.refusals.get_or_create(&refusal_labels(act, reason(refusal))).inc();
    }

    /// A TLS handshake was refused.
    pub fn handshake_refused(&self, fault: HandshakeFault) {
        self.handshakes.get_or_create(&[("reason", fault.name().to_owned())]).inc();
    }

    /// An enrollment ended.
    pub fn enrolled(&self, outcome: Enrolled) {
        self.enrollments.get_or_create(&[("outcome", outcome.name().to_owned())]).inc();
    }

    /// A device listens until what is returned is dropped.
    pub fn watching(&self) -> Watching<'_> {
        self.watchers.inc();
        Watching(&self.watchers)
    }

    /// Somebody found no place.
    pub fn turned_away(&self, door: Door) {
        self.turned_away.get_or_create(&[("door", door.name().to_owned())]).inc();
    }

    /// A certificate was issued.
    pub fn issued(&self, kind: CertificateKind) {
        self.issued.get_or_create(&[("kind", kind.name().to_owned())]).inc();
    }

    /// Signs, and notes how long it took.
    pub fn signing<T>(&self, what: Signed, sign: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let signed = sign();
        self.signing
            .get_or_create(&[("what", what.name().to_owned())])
            .observe(begun.elapsed().as_secs_f64());
        signed
    }

    /// Whether the broker was well when it was tried last.
    pub fn healthy(&self, well: bool) {
        self.healthy.set(well.into());
    }

    /// The broker shows a new certificate of its own.
    pub fn serves_until(&self, not_after: UnixTime) {
        self.server_ends.store(not_after.0, Ordering::Relaxed);
    }

    /// The broker read the operator's certificate for what it publishes.
    pub(crate) fn publishes_until(&self, not_after: UnixTime) {
        self.publish_ends.store(not_after.0, Ordering::Relaxed);
    }

    /// When the operator's certificate for what is published ends; none where there is none.
    pub(crate) fn publish_ends(&self) -> Option<UnixTime> {
        Some(UnixTime(self.publish_ends.load(Ordering::Relaxed))).filter(|end| end.0 > 0)
    }

    /// When the certificate that the broker shows ends; none before it has one.
    pub(crate) fn server_ends(&self) -> Option<UnixTime> {
        Some(UnixTime(self.server_ends.load(Ordering::Relaxed))).filter(|end| end.0 > 0)
    }
}

/// A device listens until this is dropped.
#[derive(Debug)]
pub struct Watching<'a>(&'a Gauge);

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn refusal_labels(act: &str, reason: DenialReason) -> Labels<2> {
    let reason = match reason {
        DenialReason::Unspecified => "INTERNAL",
        named => named.as_str_name().trim_start_matches("DENIAL_REASON_"),
    };
    [("act", act.to_owned()), ("reason", reason.to_owned())]
}

/// A count as a gauge takes it.
pub(super) fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The kind of a finding as results state it.
fn word(kind: FindingKind) -> String {
    let word = serde_json::to_value(kind).ok();
    word.and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}
