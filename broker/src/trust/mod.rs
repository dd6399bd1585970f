//! Trust sets: what each device is to believe, computed from zones, conduits, authorities and
//! revocations, and signed under the plant root.
//!
//! Every change that can alter a trust set raises the trust head in its own transaction ([`raise`]);
//! the head orders trust sets, and what is read under one head is kept until the next.

mod offers;
mod revoked;
mod set;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use policy::access::KnownAuthority;
use policy::digest::Digest;
use policy::id::{DeviceName, ServiceName, ZoneName};
use policy::time::UnixTime;
use policy::zone::{AuthorityRef, Conduit, Placement, Role, Segmentation, Zone};
use prost::Message as _;
use proto::v1;
use tokio::sync::Mutex;

pub(crate) use self::offers::Offer;
use self::offers::{Offers, ZoneOffers};
use self::revoked::revoked;
use self::set::Made;
pub use self::set::{TrustSet, trust_set};
use crate::access::GrantKey;
use crate::authority::{self, AuthorityError};
use crate::ca::{CaError, Revoked};
use crate::metrics::Signed;
use crate::plant::Plant;
use crate::record::device::{Device, device_key};
use crate::record::plant::{TRUST, TrustHead};
use crate::record::zone::{AUTHORITY, AuthorityRecord, AuthorityState, CONDUIT, ZONE};
use crate::record::{Held, RecordError, fetch, list, stored};
use crate::session::{Refusal, role_to_wire};
use crate::store::{Revision, Txn};

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
    /// The same as a trust set has it, encoded.
    encoded: Vec<u8>,
    /// Names what it says, whatever the CRL's bytes: a CRL is signed anew in every view.
    content: Digest,
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
    offers: ZoneOffers,
    authorities: Vec<Believed>,
    /// Where the generations of each stand there.
    places: BTreeMap<AuthorityRef, Vec<usize>>,
    /// Every generation of a zone's authorities, those that nobody believes any more too.
    generations: BTreeMap<ZoneName, Vec<(Role, u32)>>,
    made: Made,
    /// Public keys of grants, as a JWK Set; empty before the first grant.
    grant_keys: String,
}

/// The view that was made last, and what the next one is made of.
#[derive(Debug, Default)]
pub struct ViewCache {
    last: ArcSwapOption<View>,
    offers: Mutex<Offers>,
}

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

/// The view of now; made again only when the trust head moved.
pub async fn view(plant: &Plant) -> Result<Arc<View>, TrustError> {
    if let Some(view) = known(plant, &head(plant).await?) {
        return Ok(view);
    }
    // One makes it. Who comes meanwhile, which is every device when trust moves, waits for that.
    let mut offers = plant.views.offers.lock().await;
    let head = head(plant).await?;
    if let Some(view) = known(plant, &head) {
        return Ok(view);
    }
    offers.follow(plant, head.version).await?;
    let epoch = plant.keys.load().epoch;
    let records: Vec<Held<AuthorityRecord>> = list(plant.store.as_ref(), AUTHORITY).await?;
    let mut generations: BTreeMap<ZoneName, Vec<(Role, u32)>> = BTreeMap::new();
    for record in records.iter().map(|held| &held.record) {
        generations.entry(record.zone.clone()).or_default().push((record.role, record.generation));
    }
    let authorities = authorities(plant, &records, &head.record, epoch).await?;
    let mut places: BTreeMap<AuthorityRef, Vec<usize>> = BTreeMap::new();
    for (at, believed) in authorities.iter().enumerate() {
        places.entry(believed.of.clone()).or_default().push(at);
    }
    let view = Arc::new(View {
        version: head.version,
        epoch,
        zones: segmentation(plant).await?,
        offers: offers.by_zone(),
        authorities,
        places,
        generations,
        grant_keys: grant_keys(plant).await?,
        head: head.record,
        made: Made::default(),
    });
    plant.views.last.store(Some(Arc::clone(&view)));
    Ok(view)
}

async fn grant_keys(plant: &Plant) -> Result<String, TrustError> {
    let found = GrantKey::find(plant).await.map_err(|error| TrustError::GrantKey(Box::new(error)))?;
    let set = found.map(|key| serde_json::to_string(&key.jwks())).transpose();
    Ok(set.map_err(|error| TrustError::GrantKey(Box::new(error)))?.unwrap_or_default())
}

async fn head(plant: &Plant) -> Result<Held<TrustHead>, TrustError> {
    fetch(plant.store.as_ref(), TRUST.to_owned()).await?.ok_or(TrustError::Head)
}

/// The view that was made last, if it is of this head.
fn known(plant: &Plant, head: &Held<TrustHead>) -> Option<Arc<View>> {
    let epoch = plant.keys.load().epoch;
    plant.views.last.load_full().filter(|view| (view.version, view.epoch) == (head.version, epoch))
}

/// What every device offers, by name, and what is offered in each zone.
pub(crate) async fn offers(plant: &Plant) -> Result<(Vec<(DeviceName, Arc<Offer>)>, ZoneOffers), TrustError> {
    let mut offers = plant.views.offers.lock().await;
    offers.follow(plant, plant.store.revision()).await?;
    Ok((offers.devices(), offers.by_zone()))
}

/// Takes in what changed since the last view, so that the next one is made at once. Does nothing while one is made.
pub(crate) async fn keep_up(plant: &Plant) {
    let Ok(mut offers) = plant.views.offers.try_lock() else { return };
    if let Err(error) = offers.keep_up(plant).await {
        tracing::warn!(%error, "what devices offer is read when it is needed");
    }
}

async fn authorities(
    plant: &Plant,
    records: &[Held<AuthorityRecord>],
    head: &TrustHead,
    epoch: u64,
) -> Result<Vec<Believed>, TrustError> {
    let mut believed = Vec::new();
    // One that has ended vouches for nothing, and a CRL of now would end before it begins.
    let counts = |record: &AuthorityRecord| {
        record.state != AuthorityState::Distrusted && record.not_after > head.at.max(plant.now())
    };
    for held in records.iter().filter(|held| counts(&held.record)) {
        let record = &held.record;
        let revoked = revoked(plant, record).await?;
        let number = sequence(epoch, head);
        let issuer = authority::issuer(plant, held)?;
        let crl = plant.metrics.signing(Signed::Crl, || issuer.crl(number, head.at, &revoked))?;
        let wire = v1::Authority {
            zone: record.zone.to_string(),
            role: role_to_wire(record.role).into(),
            generation: record.generation,
            certificate: record.certificate.0.clone(),
            crl,
        };
        let content = v1::Authority { crl: names(&revoked).0.to_vec(), ..wire.clone() };
        believed.push(Believed {
            of: AuthorityRef { zone: record.zone.clone(), role: record.role },
            encoded: v1::TrustSet { authorities: vec![wire.clone()], ..Default::default() }.encode_to_vec(),
            content: Digest::of(&content.encode_to_vec()),
            wire,
            serials: revoked.iter().map(|entry| entry.serial.bytes().to_vec()).collect(),
        });
    }
    Ok(believed)
}

fn names(revoked: &[Revoked]) -> Digest {
    Digest::of(revoked.iter().map(|entry| entry.serial.hex()).collect::<Vec<_>>().join(" ").as_bytes())
}

/// The signed trust set of one device, as of now.
pub async fn signed(plant: &Plant, device: &DeviceName) -> Result<v1::SignedTrustSet, TrustError> {
    let held: Option<Held<Device>> = fetch(plant.store.as_ref(), device_key(device)).await?;
    let held = held.ok_or_else(|| TrustError::Device(device.clone()))?;
    trust_set(plant, &held.record).await?.signed(plant)
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

    /// When the trust head was raised: every edge until then is told.
    pub(crate) const fn raised_at(&self) -> UnixTime {
        self.head.at
    }

    /// Seconds between two attestations of a device in these zones; none if it is in no zone.
    pub(crate) fn reattest_every(&self, zones: &[ZoneName]) -> Option<u64> {
        zones.iter().filter_map(|zone| self.zones.zone(zone)).map(|zone| zone.timing.reattest_every()).min()
    }

    /// Zones and conduits.
    pub(crate) const fn zones(&self) -> &Segmentation {
        &self.zones
    }

    /// Every generation of the authorities of `zone`, believed or not.
    pub(crate) fn generations(&self, zone: &ZoneName) -> &[(Role, u32)] {
        self.generations.get(zone).map_or(&[], Vec::as_slice)
    }

    /// The revision that it was read at: a transaction that compares it rests on everything here.
    pub(crate) const fn version(&self) -> Revision {
        self.version
    }

    /// Where `device` stands in `zone`.
    pub(crate) fn placement(&self, device: &Device, zone: &ZoneName) -> Placement {
        Offer::of(device).placement(zone, &self.offers)
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
