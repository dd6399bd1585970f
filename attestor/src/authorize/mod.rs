//! May this peer open this service? Answered from what the broker delivered, with or without the broker.
//!
//! ```text
//! touchstone-attestor authorize --peer-cert FILE --service S      one question              (commands/authorize.rs)
//! GET /authorize?service=S on loopback or a Unix socket           for nginx's auth_request  (listener.rs)
//! ```
//!
//! Promises: the same decision, with the same reasons, as the broker's Authorize under the same trust set; whatever
//! cannot be decided is refused. Does not promise that the peer holds the key of the certificate: whoever asks saw the
//! TLS handshake, and passes on what was shown there.

mod grant;
pub mod listener;
mod shown;

use policy::access::{Allowed, Audience, Decision};
use policy::id::{PlantDomain, ServiceName, ZoneName};
use policy::time::UnixTime;
use serde::Serialize;

pub use self::grant::GrantFault;
pub use self::shown::{MAX_SHOWN, certificate, escaped};
use crate::state::{Keeper, MAKE_ROOM, State, UNSAVED};
use crate::trust::{About, Direction, TrustSet};

/// A question.
#[derive(Debug, Clone)]
pub struct Question {
    /// The certificate that the peer showed, DER; None if it showed none.
    pub certificate: Option<Vec<u8>>,
    /// The service.
    pub service: ServiceName,
    /// Who opens it.
    pub direction: Direction,
    /// The device's zone that it is about; None: of those that have the service, and in which the device's certificate
    /// holds, the one that it has been in longest, as if it asked the broker by that certificate.
    pub zone: Option<ZoneName>,
    /// A grant of the broker that the peer brings along.
    pub grant: Option<String>,
    /// Whether it must bring one.
    pub grant_required: bool,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// Whether the peer may.
    pub allowed: bool,
    /// SPIFFE ID of the peer, a device or a workload on one, as its certificate names it. Believe it only if it is
    /// allowed.
    pub peer: Option<String>,
    /// The device's zone.
    pub zone: Option<ZoneName>,
    /// The service.
    pub service: ServiceName,
    /// The first second at which it is over if nobody does anything.
    pub until: Option<UnixTime>,
    /// Why not; empty if it may.
    pub reasons: Vec<Told>,
}

/// A reason in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Told {
    /// One word, for programs.
    pub code: &'static str,
    /// A sentence.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

impl Told {
    pub(crate) fn new(code: &'static str, message: &str, remedy: &str) -> Vec<Self> {
        vec![Self { code, message: message.to_owned(), remedy: remedy.to_owned() }]
    }

    /// The reasons of a decision in words.
    pub(crate) fn of(reasons: Vec<policy::access::Reason>) -> Vec<Self> {
        let told = |reason: policy::access::Reason| Self {
            code: reason.code(),
            message: reason.to_string(),
            remedy: reason.remedy(),
        };
        reasons.into_iter().map(told).collect()
    }
}

impl Answer {
    /// The answer for people.
    #[must_use]
    pub fn words(&self) -> String {
        let peer = self.peer.as_deref().unwrap_or("the peer");
        let (service, zone) = (&self.service, self.zone.as_ref().map(|zone| format!(" in zone {zone}")));
        let zone = zone.unwrap_or_default();
        let mut text = match self.until {
            Some(until) => format!("{peer} may open {service}{zone}, until {until}\n"),
            None => format!("{peer} may not open {service}{zone}\n"),
        };
        for reason in &self.reasons {
            text.push_str(&format!("- {}\n  What to do: {}\n", reason.message, reason.remedy));
        }
        text
    }
}

/// Answers from what `keeper` has of the state of the device; refuses everybody if that may not be all that counts.
#[must_use]
pub fn answer_by(keeper: &Keeper, plant: &PlantDomain, question: &Question, now: UnixTime) -> Answer {
    if keeper.is_outdated() {
        let reasons = Told::new("state-outdated", UNSAVED, MAKE_ROOM);
        let service = question.service.clone();
        return Answer { allowed: false, peer: None, zone: None, service, until: None, reasons };
    }
    keeper.read(|state| answer(state, plant, question, now))
}

/// Answers from the state of the device.
#[must_use]
pub fn answer(state: &State, plant: &PlantDomain, question: &Question, now: UnixTime) -> Answer {
    let service = question.service.clone();
    let mut answer =
        Answer { allowed: false, peer: None, zone: None, service, until: None, reasons: Vec::new() };
    match decided(state, plant, question, now, &mut answer) {
        Ok(allowed) => {
            answer.allowed = true;
            answer.until = Some(allowed.until());
        }
        Err(reasons) => answer.reasons = reasons,
    }
    answer
}

/// What allows the peer, or why it may not; what is known by then is filled in.
fn decided(
    state: &State,
    plant: &PlantDomain,
    question: &Question,
    now: UnixTime,
    answer: &mut Answer,
) -> Result<Allowed, Vec<Told>> {
    let trust = state.trust.as_ref().ok_or_else(|| {
        Told::new(
            "no-trust-set",
            "this device has no trust set yet",
            "touchstone-attestor status says why it is not trusted",
        )
    })?;
    let asked = question.zone.as_ref();
    let zone = own_zone(state, trust, (&question.service, question.direction), asked, now)?;
    answer.zone = Some(zone.clone());
    let certificate = question.certificate.as_deref().ok_or_else(|| {
        Told::new(
            "no-certificate-shown",
            "the peer showed no certificate",
            "let the peer show its caller.pem, and the server ask for it (ssl_verify_client)",
        )
    })?;
    let about = About { zone: &zone, service: &question.service, direction: question.direction };
    match trust.decide(plant, &about, certificate, now) {
        Decision::Refused { peer, reasons } => {
            answer.peer = peer.map(|peer| peer.to_string());
            Err(Told::of(reasons))
        }
        Decision::Allowed(allowed) => {
            answer.peer = Some(allowed.peer().to_string());
            granted(state, trust, plant, question, &zone, &allowed, now)?;
            Ok(allowed)
        }
    }
}

/// The zone of this device that has the service: the one that is `asked` for; or, of those in which its certificate for
/// that side holds, the one that it has been in longest. So a device that moves is where it was until it is out.
pub(crate) fn own_zone(
    state: &State,
    trust: &TrustSet,
    (service, direction): (&ServiceName, Direction),
    asked: Option<&ZoneName>,
    now: UnixTime,
) -> Result<ZoneName, Vec<Told>> {
    if let Some(zone) = asked {
        return match state.zones.contains(zone) {
            true => Ok(zone.clone()),
            false => Err(Told::new(
                "not-in-zone",
                &format!("this device is not in zone {zone}"),
                "name one of the zones that touchstone-attestor status shows",
            )),
        };
    }
    let has = |zone: &&ZoneName| trust.listing(service, direction).any(|listing| listing == *zone);
    let having = || state.zones.iter().filter(has);
    let holds = |zone: &&ZoneName| {
        let mut own =
            state.holding().filter(|(seat, _)| seat.zone == **zone && seat.role.direction() == direction);
        own.any(|(_, svid)| svid.holds(now))
    };
    // A service that is nowhere is nowhere in the first zone either, and that is the reason then.
    let zone = having().find(holds).or_else(|| having().next()).or(state.zones.first());
    zone.cloned().ok_or_else(|| {
        Told::new("no-zone", "this device is in no zone", "touchstone device admit NAME --zone ZONE")
    })
}

/// Passes if no grant is needed, or the one that was brought along is good.
fn granted(
    state: &State,
    trust: &TrustSet,
    plant: &PlantDomain,
    question: &Question,
    zone: &ZoneName,
    allowed: &Allowed,
    now: UnixTime,
) -> Result<(), Vec<Told>> {
    const REMEDY: &str =
        "ask the broker's Authorize for a new grant for this device, service and certificate";
    let Some(token) = &question.grant else {
        return match question.grant_required {
            true => Err(Told::new("no-grant", "the peer brought no grant along", REMEDY)),
            false => Ok(()),
        };
    };
    let device = state.device.as_ref().ok_or_else(|| {
        let remedy = "touchstone-attestor status says why it is not trusted";
        Told::new("no-device", "this device has no name yet", remedy)
    })?;
    let audience =
        Audience { device: plant.trust_domain(zone).device(device), service: question.service.clone() };
    let verified = grant::verify(token, trust.grant_keys())
        .and_then(|grant| Ok(grant.verify(plant, &audience, allowed.peer(), &allowed.thumbprint(), now)?));
    verified.map_err(|fault| Told::new("grant", &fault.to_string(), REMEDY))
}

#[cfg(test)]
pub(crate) mod tests;
