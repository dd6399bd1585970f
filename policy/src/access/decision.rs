//! The decision: a certificate held against ways, authorities, revocations and the time.

use std::collections::BTreeSet;

use super::peer::PeerCertificate;
use super::reason::Reason;
use crate::digest::Digest;
use crate::id::{PlantDomain, ServiceName, SpiffeId, ZoneName};
use crate::time::UnixTime;
use crate::zone::{Direction, Role, Ways};

/// An authority that is believed, with what it revoked.
#[derive(Clone, Copy, Debug)]
pub struct KnownAuthority<'a> {
    /// Its zone.
    pub zone: &'a ZoneName,
    /// What it signs.
    pub role: Role,
    /// Its certificate, DER.
    pub certificate: &'a [u8],
    /// Serial numbers of the certificates that it revoked, as they stand in them.
    pub revoked: &'a BTreeSet<Vec<u8>>,
}

/// What whoever decides knows.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The plant.
    pub plant: &'a PlantDomain,
    /// Whether the device that is asked has a trust file for the service in this direction: [`Placement::lists`].
    ///
    /// [`Placement::lists`]: crate::zone::Placement::lists
    pub listed: bool,
    /// Who may open the service, or whom it may be opened of.
    pub ways: &'a Ways,
    /// The authorities of at least every zone with a way that has not ended.
    pub authorities: &'a [KnownAuthority<'a>],
}

/// Whether the peer may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may.
    Allowed(Allowed),
    /// It may not.
    Refused {
        /// Whom the certificate names, if it can be read. Proven only if an authority signed it.
        peer: Option<SpiffeId>,
        /// Why; never empty.
        reasons: Vec<Reason>,
    },
}

/// A peer that may open a service. Only [`decide`] makes one, and only a grant uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    peer: SpiffeId,
    service: ServiceName,
    direction: Direction,
    thumbprint: Digest,
    until: UnixTime,
}

impl Allowed {
    /// The peer.
    #[must_use]
    pub const fn peer(&self) -> &SpiffeId {
        &self.peer
    }

    /// The service.
    #[must_use]
    pub const fn service(&self) -> &ServiceName {
        &self.service
    }

    /// Who opens it.
    #[must_use]
    pub const fn direction(&self) -> Direction {
        self.direction
    }

    /// SHA-256 of the peer's certificate.
    #[must_use]
    pub const fn thumbprint(&self) -> Digest {
        self.thumbprint
    }

    /// The first second at which it is over if nobody does anything: the certificate ends, or the way closes.
    #[must_use]
    pub const fn until(&self) -> UnixTime {
        self.until
    }
}

/// Decides about the peer that showed the certificate `der`, at `now`.
///
/// First whether the service is there and open to the zone that the certificate names; then, of a peer that would be
/// let in, everything that is wrong with the certificate.
#[must_use]
pub fn decide(view: &View<'_>, der: &[u8], now: UnixTime) -> Decision {
    let refused = |peer, reasons| Decision::Refused { peer, reasons };
    let ways = view.ways;
    if !view.listed {
        let (zone, service) = (ways.own().clone(), ways.service().clone());
        let reason = match ways.direction() {
            Direction::Inbound => Reason::NotOffered { zone, service },
            Direction::Outbound => Reason::NotReached { zone, service },
        };
        return refused(None, vec![reason]);
    }
    let peer = match PeerCertificate::parse(der, view.plant) {
        Ok(peer) => peer,
        Err(reason) => return refused(None, vec![reason]),
    };
    let id = || peer.id().clone();
    let way = match ways.open(peer.zone(), now) {
        Ok(way) => way,
        Err(refusal) => return refused(Some(id()), vec![refusal.into()]),
    };
    let reasons = against(view, &peer, now);
    if !reasons.is_empty() {
        return refused(Some(id()), reasons);
    }
    let end = peer.validity().not_after.plus(1);
    Decision::Allowed(Allowed {
        peer: id(),
        service: ways.service().clone(),
        direction: ways.direction(),
        thumbprint: peer.thumbprint(),
        until: way.hours().next_edge(now).map_or(end, |edge| edge.min(end)),
    })
}

/// What speaks against the certificate.
fn against(view: &View<'_>, peer: &PeerCertificate<'_>, now: UnixTime) -> Vec<Reason> {
    let role = view.ways.direction().peer();
    let id = || peer.id().clone();
    let of_zone = |known: &&KnownAuthority<'_>| known.zone == peer.zone() && known.role == role;
    let mut known = view.authorities.iter().filter(of_zone);
    let Some(signer) = known.find(|known| peer.is_signed_by(known.certificate, role)) else {
        return vec![Reason::UnknownAuthority { zone: peer.zone().clone(), role, peer: id() }];
    };
    let (validity, serial) = (peer.validity(), peer.serial());
    let early = (now < validity.not_before).then(|| Reason::NotYet { peer: id(), at: validity.not_before });
    let late = (now > validity.not_after).then(|| Reason::Ended { peer: id(), at: validity.not_after });
    let revoked = signer.revoked.contains(serial);
    let revoked = revoked.then(|| Reason::Revoked { peer: id(), serial: hex::encode(serial) });
    early.into_iter().chain(late).chain(revoked).collect()
}
