//! Authorize: a Relying Party asks whether a peer may open a service, and gets a decision and, if wanted, a grant.
//!
//! `policy::access` decides; here is what it decides from, read under one trust head. A device decides the same from
//! its trust set. What this module does not promise: that a grant ends when its peer is revoked meanwhile; it lives at
//! most five minutes.

mod grant;

use policy::access::{AccessGrant, Allowed, Audience, Decision, View as Known, decide};
use policy::id::{ServiceName, ZoneName};
use policy::time::UnixTime;
use policy::zone::{Direction, Ways};

pub use self::grant::{GrantKey, Grants};
use crate::audit::Event;
use crate::audit::grants::Issued;
use crate::grpc::peer::DevicePeer;
use crate::plant::Plant;
use crate::record::device::Device;
use crate::record::plant::TRUST;
use crate::session::Refusal;
use crate::session::standing::{Standing, standing};
use crate::store::{Txn, TxnError};
use crate::trust::{self, View};

/// How often a grant is decided anew when zones, conduits or revocations changed in between.
const ATTEMPTS: usize = 4;
/// Seconds after which whoever met changes every time asks again.
const BUSY: u32 = 1;

/// A question of a Relying Party.
#[derive(Debug, Clone)]
pub struct Question {
    /// The certificate that the peer showed, DER.
    pub certificate: Vec<u8>,
    /// The service.
    pub service: ServiceName,
    /// Who opens it.
    pub direction: Direction,
    /// The Relying Party's zone that it is about; none: that of its certificate.
    pub zone: Option<ZoneName>,
    /// Whether a grant is wanted.
    pub grant: bool,
}

/// The answer.
#[derive(Debug)]
pub struct Answer {
    /// Whether the peer may, and why not.
    pub decision: Decision,
    /// The grant, if it was wanted and the peer may.
    pub grant: Option<Granted>,
}

/// A signed grant.
#[derive(Debug)]
pub struct Granted {
    /// JWT.
    pub token: String,
    /// When it ends.
    pub expires: UnixTime,
}

/// Answers the device behind `caller`.
pub async fn authorize(plant: &Plant, caller: &DevicePeer, question: &Question) -> Result<Answer, Refusal> {
    if question.grant && question.direction == Direction::Outbound {
        return Err(Refusal::malformed(
            "a grant is for a peer that opens a service of the device that asks; ask without a grant"
                .to_owned(),
        ));
    }
    for _ in 0..ATTEMPTS {
        // Before the rest is read: making the key raises the trust head.
        let key = if question.grant { Some(open_key(plant).await?) } else { None };
        let view = trust::view(plant).await.map_err(Refusal::internal)?;
        let device = relying(plant, caller).await?;
        let zone = question.zone.as_ref().unwrap_or(&caller.zone);
        let now = plant.now();
        let decision = decided(plant, &view, &device, zone, question, now)?;
        let grant = match (&decision, key) {
            (Decision::Allowed(allowed), Some(key)) => {
                let audience = plant.domain().trust_domain(zone).device(&device.name);
                let audience = Audience { device: audience, service: question.service.clone() };
                let Some(granted) = issue(plant, &view, &key, allowed, &audience, now).await? else {
                    continue;
                };
                Some(granted)
            }
            _ => None,
        };
        return Ok(Answer { decision, grant });
    }
    let why = "zones, conduits or revocations changed while it was decided".to_owned();
    Err(Refusal::TryLater { why, seconds: BUSY })
}

async fn open_key(plant: &Plant) -> Result<GrantKey, Refusal> {
    GrantKey::open(plant).await.map_err(Refusal::internal)
}

/// The device that asks, if its certificate still holds.
async fn relying(plant: &Plant, caller: &DevicePeer) -> Result<Device, Refusal> {
    match standing(plant, caller).await? {
        Standing::Holds { device, .. } => Ok(device.record),
        Standing::Distrusted => Err(Refusal::NotPermitted(format!(
            "the certificate of {} is of an authority that is distrusted; attest again",
            caller.id.device()
        ))),
        Standing::Lost(denial) => Err(Refusal::NotPermitted(format!(
            "the certificate of {} does not hold any more: {}",
            caller.id.device(),
            denial.message
        ))),
    }
}

fn decided(
    plant: &Plant,
    view: &View,
    device: &Device,
    zone: &ZoneName,
    question: &Question,
    now: UnixTime,
) -> Result<Decision, Refusal> {
    if !device.zones.contains(zone) {
        return Err(Refusal::NotPermitted(format!("{} is not in zone {zone}", device.name)));
    }
    let (service, direction) = (&question.service, question.direction);
    let ways = Ways::of(view.zones(), zone, service, direction).map_err(Refusal::internal)?;
    let known = Known {
        plant: &plant.domain(),
        listed: view.placement(device, zone).lists(view.zones(), service, direction),
        ways: &ways,
        authorities: &view.known(),
    };
    Ok(decide(&known, &question.certificate, now))
}

/// Signs a grant. The first for a certificate and service is on record before it leaves, under the trust head that it
/// was decided under; none if that moved.
async fn issue(
    plant: &Plant,
    view: &View,
    key: &GrantKey,
    allowed: &Allowed,
    audience: &Audience,
    now: UnixTime,
) -> Result<Option<Granted>, Refusal> {
    let claims = AccessGrant::new(allowed, &plant.domain(), audience, now).map_err(Refusal::internal)?;
    let token = key.sign(&claims).map_err(Refusal::internal)?;
    let granted = Granted { token, expires: UnixTime(claims.exp) };
    let issued = Issued { audience: claims.aud.clone(), certificate: allowed.thumbprint() };
    if plant.grants.again(&issued, now) {
        return Ok(Some(granted));
    }
    let (device, peer) = (audience.device.device(), allowed.peer());
    let text = format!("{peer} may open {} until {}", audience.service, granted.expires);
    let event = Event::new(now, device.as_str(), "grant.issue", peer.device().as_str(), &text);
    let txn = Txn::new().unchanged(TRUST, view.version()).audit(event.entry());
    match plant.store.transact(txn).await {
        Ok(_) => {
            plant.grants.first(issued, device, peer.device(), now);
            Ok(Some(granted))
        }
        Err(TxnError::Conflict { .. }) => Ok(None),
        Err(error) => Err(Refusal::internal(error)),
    }
}

#[cfg(test)]
mod tests;
