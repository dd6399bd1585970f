//! Trust sets: what each device is to believe, computed from zones, conduits, authorities and
//! revocations, and signed under the plant root.
//!
//! Every change that can alter a trust set raises the trust head in its own transaction ([`raise`]);
//! the head orders trust sets, and what is read under one head is kept until the next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use policy::access::KnownAuthority;
use policy::digest::Digest;
use policy::id::{DeviceName, ServiceName, ZoneName};
use policy::time::UnixTime;
use policy::zone::{
    AuthorityRef, Conduit, Direction, Placement, Role, Segmentation, TrustFile, Zone, compile,
};
use prost::Message;
use proto::{convert, v1};

use crate::access::GrantKey;
use crate::authority::{self, AuthorityError};
use crate::ca::{CaError, Revoked, Serial};
use crate::metrics::Signed;
use crate::plant::Plant;
use crate::record::device::{Admission, DEVICE, Device, device_key};
use crate::record::plant::{TRUST, TrustHead};
use crate::record::zone::{
    AUTHORITY, AuthorityRecord, AuthorityState, CONDUIT, RevokedCertificate, ZONE, revoked_prefix,
};
use crate::record::{Held, RecordError, fetch, list, stored};
use crate::session::{Refusal, role_to_wire};
use crate::store::{Revision, Txn};

/// What the signature of a trust set begins with, so that it means nothing else.
const LABEL: &[u8] = b"touchstone/v1/trust-set\0";

/// A trust set cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The store cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// An authority cannot be used.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A CRL or signature cannot be made.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// Zones and conduits contradict each other.
    #[error("zones and conduits do not fit together: {0}")]
    Zones(String),
    /// The key for grants cannot be shown.
    #[error("the key for grants cannot be shown")]
    GrantKey(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No such device.
    #[error("there is no device {0}")]
    Device(DeviceName),
    /// The trust head is missing.
    #[error("the store holds no trust head; restore the last backup")]
    Head,
}

/// An authority that is believed, with its CRL.
#[derive(Debug)]
struct Believed {
    of: AuthorityRef,
    wire: v1::Authority,
    /// Names what is revoked, whatever the CRL's bytes: a CRL is signed anew in every view.
    revoked: Digest,
    /// Serial numbers of what is revoked.
    serials: BTreeSet<Vec<u8>>,
}

/// Everything that trust sets are made of, as of one trust head.
#[derive(Debug)]
pub struct View {
    version: Revision,
    /// Part of every CRL's number.
    epoch: u64,
    head: TrustHead,
    zones: Segmentation,
    offers: BTreeMap<ZoneName, BTreeSet<ServiceName>>,
    authorities: Vec<Believed>,
    /// Public keys of grants, as a JWK Set; empty before the first grant.
    grant_keys: String,
}

/// The view that was read last.
#[derive(Debug, Default)]
pub struct ViewCache(Mutex<Option<Arc<View>>>);

/// Adds a raise of the trust head to a transaction that alters trust sets.
pub async fn raise(plant: &Plant, txn: Txn, now: UnixTime) -> Result<Txn, Refusal> {
    Ok(raised(plant, txn, now).await?.0)
}

/// The same, with the sequence that trust sets have from then on.
pub async fn raised(plant: &Plant, txn: Txn, now: UnixTime) -> Result<(Txn, u64), Refusal> {
    let held: Held<TrustHead> = fetch(plant.store.as_ref(), TRUST.to_owned())
        .await?
        .ok_or_else(|| Refusal::internal(TrustError::Head))?;
    let next = TrustHead { n: held.record.n.saturating_add(1), at: now };
    let sequence = sequence(plant.keys.load().epoch, &next);
    Ok((txn.unchanged(TRUST, held.version).put(TRUST, stored(&next)?), sequence))
}

/// Zones and conduits as they stand.
pub async fn segmentation(plant: &Plant) -> Result<Segmentation, TrustError> {
    let zones: Vec<Held<Zone>> = list(plant.store.as_ref(), ZONE).await?;
    let conduits: Vec<Held<Conduit>> = list(plant.store.as_ref(), CONDUIT).await?;
    let (zones, conduits) = (zones.into_iter().map(|z| z.record), conduits.into_iter().map(|c| c.record));
    Segmentation::new(zones.collect(), conduits.collect())
        .map_err(|faults| TrustError::Zones(faults.to_string()))
}

/// The same, with the revision of the trust head: every change of zones and conduits raises it, so a transaction
/// that compares it rests on them.
pub async fn segmentation_at(plant: &Plant) -> Result<(Segmentation, Revision), Refusal> {
    let head: Option<Held<TrustHead>> = fetch(plant.store.as_ref(), TRUST.to_owned()).await?;
    let head = head.ok_or_else(|| Refusal::internal(TrustError::Head))?;
    Ok((segmentation(plant).await.map_err(Refusal::internal)?, head.version))
}

/// The view of now; read again only when the trust head moved.
pub async fn view(plant: &Plant) -> Result<Arc<View>, TrustError> {
    let head: Held<TrustHead> =
        fetch(plant.store.as_ref(), TRUST.to_owned()).await?.ok_or(TrustError::Head)?;
    let epoch = plant.keys.load().epoch;
    let known = plant.views.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(view) = known.filter(|view| (view.version, view.epoch) == (head.version, epoch)) {
        return Ok(view);
    }
    let view = Arc::new(View {
        version: head.version,
        epoch,
        zones: segmentation(plant).await?,
        offers: offers(&list(plant.store.as_ref(), DEVICE).await?),
        authorities: authorities(plant, &head.record, epoch).await?,
        grant_keys: grant_keys(plant).await?,
        head: head.record,
    });
    *plant.views.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&view));
    Ok(view)
}

async fn grant_keys(plant: &Plant) -> Result<String, TrustError> {
    let found = GrantKey::find(plant).await.map_err(|error| TrustError::GrantKey(Box::new(error)))?;
    let set = found.map(|key| serde_json::to_string(&key.jwks())).transpose();
    Ok(set.map_err(|error| TrustError::GrantKey(Box::new(error)))?.unwrap_or_default())
}

/// The services that devices of each zone offer.
pub(crate) fn offers(devices: &[Held<Device>]) -> BTreeMap<ZoneName, BTreeSet<ServiceName>> {
    let mut offers: BTreeMap<ZoneName, BTreeSet<ServiceName>> = BTreeMap::new();
    for device in devices.iter().filter(|held| held.record.admission == Admission::Admitted) {
        for zone in &device.record.zones {
            offers.entry(zone.clone()).or_default().extend(services(&device.record));
        }
    }
    offers
}

/// Where `device` stands in `zone`.
pub(crate) fn placement(
    device: &Device,
    zone: &ZoneName,
    offers: &BTreeMap<ZoneName, BTreeSet<ServiceName>>,
) -> Placement {
    Placement {
        zone: zone.clone(),
        offers: services(device),
        zone_offers: offers.get(zone).cloned().unwrap_or_default(),
    }
}

/// The services that a device offers.
pub(crate) fn services(device: &Device) -> BTreeSet<ServiceName> {
    device.services.keys().filter_map(|name| name.parse().ok()).collect()
}

async fn authorities(plant: &Plant, head: &TrustHead, epoch: u64) -> Result<Vec<Believed>, TrustError> {
    let records: Vec<Held<AuthorityRecord>> = list(plant.store.as_ref(), AUTHORITY).await?;
    let mut believed = Vec::new();
    for held in records.iter().filter(|held| held.record.state != AuthorityState::Distrusted) {
        let record = &held.record;
        let revoked = revoked(plant, record).await?;
        let number = sequence(epoch, head);
        let issuer = authority::issuer(plant, held)?;
        let crl = plant.metrics.signing(Signed::Crl, || issuer.crl(number, head.at, &revoked))?;
        believed.push(Believed {
            of: AuthorityRef { zone: record.zone.clone(), role: record.role },
            wire: v1::Authority {
                zone: record.zone.to_string(),
                role: role_to_wire(record.role).into(),
                generation: record.generation,
                certificate: record.certificate.0.clone(),
                crl,
            },
            revoked: names(&revoked),
            serials: revoked.iter().map(|entry| entry.serial.bytes().to_vec()).collect(),
        });
    }
    Ok(believed)
}

/// Certificates that `authority` revoked; one that ended is refused by its date and left out.
async fn revoked(plant: &Plant, authority: &AuthorityRecord) -> Result<Vec<Revoked>, TrustError> {
    let prefix = revoked_prefix(&authority.zone, authority.role, authority.generation);
    let records: Vec<Held<RevokedCertificate>> = list(plant.store.as_ref(), &prefix).await?;
    let now = plant.now();
    Ok(records
        .iter()
        .filter(|held| held.record.not_after >= now)
        .filter_map(|held| {
            let serial = Serial::from_hex(held.key.strip_prefix(&prefix)?)?;
            Some(Revoked { serial, at: held.record.at })
        })
        .collect())
}

fn names(revoked: &[Revoked]) -> Digest {
    Digest::of(revoked.iter().map(|entry| entry.serial.hex()).collect::<Vec<_>>().join(" ").as_bytes())
}

/// A digest of what the trust set of `device` says, without sequence, date and signatures: two sets
/// with the same content need not both be sent.
pub async fn content(plant: &Plant, device: &DeviceName) -> Result<Digest, TrustError> {
    let held = device_record(plant, device).await?;
    let view = view(plant).await?;
    let mut set = view.trust_set(&held.record, plant.keys.load().epoch, plant.now())?;
    (set.sequence, set.issued_at) = (0, 0);
    for authority in &mut set.authorities {
        let revoked =
            view.authorities.iter().find(|known| known.wire == *authority).map(|known| known.revoked);
        authority.crl = revoked.map(|digest| digest.0.to_vec()).unwrap_or_default();
    }
    Ok(Digest::of(&set.encode_to_vec()))
}

async fn device_record(plant: &Plant, device: &DeviceName) -> Result<Held<Device>, TrustError> {
    let held = fetch(plant.store.as_ref(), device_key(device)).await?;
    held.ok_or_else(|| TrustError::Device(device.clone()))
}

/// The trust set of one device, as of now.
pub async fn signed(plant: &Plant, device: &DeviceName) -> Result<v1::SignedTrustSet, TrustError> {
    let held = device_record(plant, device).await?;
    let view = view(plant).await?;
    let keys = plant.keys.load();
    let trust_set = view.trust_set(&held.record, keys.epoch, plant.now())?.encode_to_vec();
    let message = [LABEL, trust_set.as_slice()].concat();
    Ok(v1::SignedTrustSet {
        signature: plant.metrics.signing(Signed::TrustSet, || keys.issuing.sign(&message))?,
        trust_set,
        issuing_certificate: keys.issuing.certificate().to_vec(),
        nobody_certificate: keys.nobody.clone(),
        nobody_crl: keys.nobody_crl.clone(),
    })
}

/// Orders trust sets and CRLs over restores, too.
const fn sequence(epoch: u64, head: &TrustHead) -> u64 {
    (epoch << 40) | head.n
}

impl View {
    /// Sequence of the trust sets made from this view.
    #[must_use]
    pub const fn sequence(&self, epoch: u64) -> u64 {
        sequence(epoch, &self.head)
    }

    /// When the next conduit opens or closes: trust sets change then without anybody's doing.
    #[must_use]
    pub fn next_edge(&self, now: UnixTime) -> Option<UnixTime> {
        self.zones.conduits().iter().filter_map(|conduit| conduit.hours().next_edge(now)).min()
    }

    /// Seconds between two attestations of a device in these zones; none if it is in no zone.
    pub(crate) fn reattest_every(&self, zones: &[ZoneName]) -> Option<u64> {
        zones.iter().filter_map(|zone| self.zones.zone(zone)).map(|zone| zone.timing.reattest_every()).min()
    }

    /// The devices' trust set: every authority that one of its files names, once.
    pub fn trust_set(&self, device: &Device, epoch: u64, now: UnixTime) -> Result<v1::TrustSet, TrustError> {
        let mut set = v1::TrustSet {
            sequence: self.sequence(epoch),
            issued_at: now.0,
            device: device.name.to_string(),
            grant_keys: self.grant_keys.clone(),
            ..v1::TrustSet::default()
        };
        let mut indices: BTreeMap<usize, u32> = BTreeMap::new();
        for zone in &device.zones {
            let placement = placement(device, zone, &self.offers);
            let files = compile(&self.zones, &placement, now)
                .map_err(|error| TrustError::Zones(error.to_string()))?;
            for file in &files.files {
                set.files.push(self.wire_file(zone, file, &mut indices, &mut set.authorities));
            }
            set.timings.extend(self.zones.zone(zone).map(convert::timing_to_wire));
        }
        Ok(set)
    }

    fn wire_file(
        &self,
        zone: &ZoneName,
        file: &TrustFile,
        known: &mut BTreeMap<usize, u32>,
        sent: &mut Vec<v1::Authority>,
    ) -> v1::TrustFile {
        let direction = match file.direction {
            Direction::Inbound => v1::Direction::Inbound,
            Direction::Outbound => v1::Direction::Outbound,
        };
        let authorities = file.believed.authorities().flat_map(|of| self.indices(of, known, sent)).collect();
        let mut openings = Vec::new();
        for opening in &file.openings {
            let indices = self.indices(&opening.authority, known, sent).into_iter();
            openings.extend(indices.map(|authority| v1::Opening {
                authority,
                schedule: convert::schedule_to_wire(opening.schedule.as_ref()),
                expires_at: opening.expires.map_or(0, |at| at.0),
            }));
        }
        let (zone, service) = (zone.to_string(), file.service.to_string());
        let ways = file.ways.iter().map(convert::way_to_wire).collect();
        v1::TrustFile { zone, service, direction: direction.into(), authorities, openings, ways }
    }

    /// Where each generation of an authority stands among those sent, which it joins.
    fn indices(
        &self,
        of: &AuthorityRef,
        known: &mut BTreeMap<usize, u32>,
        sent: &mut Vec<v1::Authority>,
    ) -> Vec<u32> {
        let named = self.authorities.iter().enumerate().filter(|(_, believed)| believed.of == *of);
        named
            .map(|(at, believed)| {
                *known.entry(at).or_insert_with(|| {
                    sent.push(believed.wire.clone());
                    u32::try_from(sent.len().saturating_sub(1)).unwrap_or(u32::MAX)
                })
            })
            .collect()
    }

    /// The revision that it was read at: a transaction that compares it rests on everything here.
    pub(crate) const fn version(&self) -> Revision {
        self.version
    }

    /// Zones and conduits.
    pub(crate) const fn zones(&self) -> &Segmentation {
        &self.zones
    }

    /// Where `device` stands in `zone`.
    pub(crate) fn placement(&self, device: &Device, zone: &ZoneName) -> Placement {
        placement(device, zone, &self.offers)
    }

    /// Whether a device of `zone` offers `service`.
    pub(crate) fn is_offered(&self, zone: &ZoneName, service: &ServiceName) -> bool {
        self.offers.get(zone).is_some_and(|services| services.contains(service))
    }

    /// The authorities with what they revoked, as one decides by them.
    pub(crate) fn known(&self) -> Vec<KnownAuthority<'_>> {
        let known = |one| {
            let Believed { of, wire, serials, .. }: &Believed = one;
            KnownAuthority { zone: &of.zone, role: of.role, certificate: &wire.certificate, revoked: serials }
        };
        self.authorities.iter().map(known).collect()
    }

    /// The CRL of each authority that is believed, DER.
    pub(crate) fn crls(&self) -> impl Iterator<Item = (&AuthorityRef, &[u8])> {
        self.authorities.iter().map(|believed| (&believed.of, believed.wire.crl.as_slice()))
    }

    /// Whether certificates of this authority are believed by anybody.
    #[must_use]
    pub fn believes(&self, zone: &ZoneName, role: Role, generation: u32) -> bool {
        let named =
            |one: &Believed| (&one.of.zone, one.of.role, one.wire.generation) == (zone, role, generation);
        self.authorities.iter().any(named)
    }

    /// Authorities that sign client certificates, DER: the Watch service accepts devices under these.
    pub fn callers(&self) -> impl Iterator<Item = (&ZoneName, &[u8])> {
        self.authorities
            .iter()
            .filter(|believed| believed.of.role == Role::Caller)
            .map(|believed| (&believed.of.zone, believed.wire.certificate.as_slice()))
    }
}
