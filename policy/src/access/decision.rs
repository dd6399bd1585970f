//! The decision: a certificate held against ways, authorities, revocations and the time.

use std::collections::BTreeSet;

use super::peer::PeerCertificate;
use super::reason::Reason;
use crate::digest::Digest;
use crate::id::{PlantDomain, ServiceName, SpiffeId, ZoneName};
use crate::time::{UnixTime, Validity};
use crate::zone::{Direction, Role, Way, Ways};

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

/// A peer that may open a service. Only [`decide`] and [`decide_again`] make one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    peer: SpiffeId,
    zone: ZoneName,
    service: ServiceName,
    direction: Direction,
    thumbprint: Digest,
    validity: Validity,
    serial: Vec<u8>,
    /// SHA-256 of the certificate of the authority that signed.
    signer: Digest,
    until: UnixTime,
}

impl Allowed {
    /// The peer.
    #[must_use]
    pub const fn peer(&self) -> &SpiffeId {
        &self.peer
    }

    /// Its zone.
    #[must_use]
    pub const fn zone(&self) -> &ZoneName {
        &self.zone
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
        return refused(None, vec![unlisted(ways)]);
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
    let role = ways.direction().peer();
    let signer = of_peer(view, peer.zone(), role).find(|known| peer.is_signed_by(known.certificate, role));
    let Some(signer) = signer else {
        return refused(Some(id()), vec![unknown(peer.zone(), role, peer.id())]);
    };
    let reasons = against(signer, peer.id(), peer.validity(), peer.serial(), now);
    if !reasons.is_empty() {
        return refused(Some(id()), reasons);
    }
    Decision::Allowed(Allowed {
        peer: id(),
        zone: peer.zone().clone(),
        service: ways.service().clone(),
        direction: ways.direction(),
        thumbprint: peer.thumbprint(),
        validity: peer.validity(),
        serial: peer.serial().to_vec(),
        signer: Digest::of(signer.certificate),
        until: until(way, peer.validity(), now),
    })
}

/// Decides again about a peer that was let in before, for a connection that lives on: the same as [`decide`] about the
/// same certificate, without a signature to check, since neither the certificate nor who signed it can have changed.
#[must_use]
pub fn decide_again(view: &View<'_>, before: &Allowed, now: UnixTime) -> Decision {
    let refused = |reasons| Decision::Refused { peer: Some(before.peer.clone()), reasons };
    let ways = view.ways;
    if !view.listed || *ways.service() != before.service || ways.direction() != before.direction {
        return refused(vec![unlisted(ways)]);
    }
    let way = match ways.open(&before.zone, now) {
        Ok(way) => way,
        Err(refusal) => return refused(vec![refusal.into()]),
    };
    let role = ways.direction().peer();
    let signed = |known: &&KnownAuthority<'_>| Digest::of(known.certificate) == before.signer;
    let Some(signer) = of_peer(view, &before.zone, role).find(signed) else {
        return refused(vec![unknown(&before.zone, role, &before.peer)]);
    };
    let reasons = against(signer, &before.peer, before.validity, &before.serial, now);
    match reasons.is_empty() {
        true => Decision::Allowed(Allowed { until: until(way, before.validity, now), ..before.clone() }),
        false => refused(reasons),
    }
}

fn unlisted(ways: &Ways) -> Reason {
    let (zone, service) = (ways.own().clone(), ways.service().clone());
    match ways.direction() {
        Direction::Inbound => Reason::NotOffered { zone, service },
        Direction::Outbound => Reason::NotReached { zone, service },
    }
}

fn unknown(zone: &ZoneName, role: Role, peer: &SpiffeId) -> Reason {
    Reason::UnknownAuthority { zone: zone.clone(), role, peer: peer.clone() }
}

/// The authorities that may have signed for a peer of `zone`.
fn of_peer<'a>(
    view: &'a View<'_>,
    zone: &'a ZoneName,
    role: Role,
) -> impl Iterator<Item = &'a KnownAuthority<'a>> {
    view.authorities.iter().filter(move |known| known.zone == zone && known.role == role)
}

/// The first second at which it is over if nobody does anything.
fn until(way: &Way, validity: Validity, now: UnixTime) -> UnixTime {
    let end = validity.not_after.plus(1);
    way.hours().next_edge(now).map_or(end, |edge| edge.min(end))
}

/// What speaks against a certificate that `signer` signed.
fn against(
    signer: &KnownAuthority<'_>,
    peer: &SpiffeId,
    validity: Validity,
    serial: &[u8],
    now: UnixTime,
) -> Vec<Reason> {
    let id = || peer.clone();
    let early = (now < validity.not_before).then(|| Reason::NotYet { peer: id(), at: validity.not_before });
    let late = (now > validity.not_after).then(|| Reason::Ended { peer: id(), at: validity.not_after });
    let revoked = signer.revoked.contains(serial);
    let revoked = revoked.then(|| Reason::Revoked { peer: id(), serial: hex::encode(serial) });
    early.into_iter().chain(late).chain(revoked).collect()
}
