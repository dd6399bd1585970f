//! Certificates for software keys, and the records that go with them.

use policy::budget::MAX_SOFTWARE_KEYS;
use policy::grant::{IssuanceGrant, Subject};
use policy::id::{DeviceName, ServiceName, ZoneName};
use policy::time::UnixTime;
use policy::zone::Role;
use proto::v1;

use super::{OfferedKey, RefusedKey};
use crate::plant::Plant;
use crate::record::device::{
    CertifiedKeyOwner, HeldCertificates, certified_key, held_key, held_place, held_prefix, held_service_key,
};
use crate::record::{Held, fetch, list, stored};
use crate::session::Refusal;
use crate::session::issue::{Grants, Signing, revoke_one, unhurried};
use crate::store::Txn;

/// Certificates of one service that a device may hold at once for its software keys. It replaces one after a third
/// of its life, so an honest device holds three.
const MAX_HELD: usize = 3;

/// What came of the software keys of one zone.
#[derive(Debug, Default)]
pub(in crate::session) struct Answered {
    /// The certificates.
    pub(in crate::session) svids: Vec<v1::Svid>,
    /// The keys that got none.
    pub(in crate::session) refused: Vec<RefusedKey>,
}

/// Issues a certificate for each of `offered` that is for a zone of `granted`, or says why it gets none: a key that a
/// zone does not want is no reason to take the device's own certificates away. `own` are those that the device gets in
/// the same transaction.
pub(in crate::session) async fn issue(
    plant: &Plant,
    granted: &[Grants<'_>],
    offered: &[OfferedKey],
    own: &[v1::Svid],
    mut txn: Txn,
    now: UnixTime,
) -> Result<(Answered, Txn), Refusal> {
    let mut answered = Answered::default();
    let Some(first) = granted.first().filter(|_| !offered.is_empty()) else { return Ok((answered, txn)) };
    let mut places = Places::of(plant, first.device).await?;
    for grants in granted {
        let zone = &grants.zone.record.name;
        let wanted: Vec<&OfferedKey> = offered.iter().filter(|key| key.zone == *zone).collect();
        if wanted.is_empty() {
            continue;
        }
        let signing = Signing::of(plant, grants, Role::Listener).await?;
        let (end, next) = own_end(plant, grants, own, txn, now).await?;
        txn = signing.expected(next).unchanged(grants.zone.key.clone(), grants.zone.version);
        for key in wanted {
            // Before the draft, which takes a place: a key that is refused leaves it to the next.
            let drafted = match unclaimed(plant, key).await {
                Ok(()) => draft(plant, grants, key, &signing, end, &mut places, now),
                Err(refusal) => Err(refusal),
            };
            match drafted {
                Ok(draft) => {
                    txn = claim(txn, grants, key)?;
                    txn = draft.keep(grants, txn, now)?;
                    answered.svids.push(draft.svid);
                }
                Err(
                    refusal @ (Refusal::NotPermitted(_) | Refusal::TryLater { .. } | Refusal::Conflict(_)),
                ) => {
                    let (zone, service) = (zone.clone(), Some(key.service.clone()));
                    answered.refused.push(RefusedKey { zone, service, refusal });
                }
                Err(other) => return Err(other),
            }
        }
    }
    Ok((answered, txn))
}

/// When the device's own certificate as a listener of the zone ends; a time that is over if it has none.
async fn own_end(
    plant: &Plant,
    grants: &Grants<'_>,
    own: &[v1::Svid],
    txn: Txn,
    now: UnixTime,
) -> Result<(UnixTime, Txn), Refusal> {
    let zone = grants.zone.record.name.as_str();
    if let Some(svid) = own.iter().find(|svid| svid.zone == zone && svid.role() == v1::Role::Listener) {
        return Ok((UnixTime(svid.not_after), txn));
    }
    let key = held_key(grants.device, &grants.zone.record.name);
    let Some(held) = fetch::<HeldCertificates>(plant.store.as_ref(), key).await? else {
        return Ok((now, txn));
    };
    let listeners = held.record.certificates.iter().filter(|held| held.role == Role::Listener);
    let end = listeners.map(|held| held.validity.not_after).max().unwrap_or(now);
    Ok((end, txn.unchanged(held.key, held.version)))
}

/// A signed certificate and the record that it will be kept in.
struct Draft {
    svid: v1::Svid,
    service: ServiceName,
    held: HeldCertificates,
    /// A record of a service that has no certificate any more; it makes room.
    stale: Option<String>,
}

/// The certificate for a key, or the refusal that the device is told.
fn draft(
    plant: &Plant,
    grants: &Grants<'_>,
    key: &OfferedKey,
    signing: &Signing,
    end: UnixTime,
    places: &mut Places,
    now: UnixTime,
) -> Result<Draft, Refusal> {
    let domain = plant.domain();
    let zone = &grants.zone.record;
    let addresses = &signing.permitted(grants);
    let subject = Subject { plant: &domain, device: grants.device, zone, role: Role::Listener, addresses };
    let (backdate, revisions) = (plant.config.backdate, signing.revisions(grants));
    let grant =
        IssuanceGrant::for_software_key(grants.trusted, &key.key, &subject, end, now, backdate, revisions)
            .map_err(|error| Refusal::NotPermitted(error.to_string()))?;
    let (mut held, stale) = places.take(key, now)?;
    let (svid, certificate) = signing.sign(plant, &grant, Some(key.service.clone()))?;
    held.certificates.push(certificate);
    unhurried(&held, zone, MAX_HELD, now)?;
    Ok(Draft { svid, service: key.service.clone(), held, stale })
}

impl Draft {
    /// Records the certificate: at most three writes, so that they fit the transaction beside everything else.
    fn keep(&self, grants: &Grants<'_>, mut txn: Txn, now: UnixTime) -> Result<Txn, Refusal> {
        let (device, zone) = (grants.device, &grants.zone.record.name);
        let mut held = self.held.clone();
        if held.certificates.len() > MAX_HELD {
            let oldest = held.certificates.remove(0);
            txn = match oldest.validity.not_after > now {
                true => revoke_one(txn, device, zone, &oldest, now, "superseded")?,
                false => txn.delete(certified_key(&oldest.spki)),
            };
        }
        if let Some(stale) = &self.stale {
            txn = txn.delete(stale.clone());
        }
        Ok(txn.put(held_service_key(device, zone, &self.service), stored(&held)?))
    }
}

/// Refuses a key that was certified before: every certificate has a key of its own.
async fn unclaimed(plant: &Plant, key: &OfferedKey) -> Result<(), Refusal> {
    let index = certified_key(&key.key.spki_digest());
    match fetch::<CertifiedKeyOwner>(plant.store.as_ref(), index).await? {
        None => Ok(()),
        Some(held) => Err(Refusal::Conflict(format!(
            "the software key for {} in {} is certified for {} in {} already; make a new key for each certificate",
            key.service, key.zone, held.record.device, held.record.zone
        ))),
    }
}

/// Claims a key that is [`unclaimed`]; the transaction fails if somebody else claims it meanwhile.
fn claim(txn: Txn, grants: &Grants<'_>, key: &OfferedKey) -> Result<Txn, Refusal> {
    let index = certified_key(&key.key.spki_digest());
    let (device, zone) = (grants.device.clone(), key.zone.clone());
    let owner = CertifiedKeyOwner { device, zone, role: Role::Listener };
    Ok(txn.absent(index.clone()).put(index, stored(&owner)?))
}

/// The records of a device's software keys in all its zones.
struct Places {
    records: Vec<(ZoneName, ServiceName, Held<HeldCertificates>)>,
    /// Services that begin to have a certificate with this transaction.
    begun: usize,
}

impl Places {
    async fn of(plant: &Plant, device: &DeviceName) -> Result<Self, Refusal> {
        let prefix = held_prefix(device);
        let all: Vec<Held<HeldCertificates>> = list(plant.store.as_ref(), &prefix).await?;
        let record = |held: Held<HeldCertificates>| {
            let (zone, service) = held_place(held.key.strip_prefix(&prefix)?)?;
            Some((zone, service?, held))
        };
        Ok(Self { records: all.into_iter().filter_map(record).collect(), begun: 0 })
    }

    /// What is recorded for the service of `key`, and the record that makes room for it; refused when the device has
    /// software keys for too many services.
    fn take(
        &mut self,
        key: &OfferedKey,
        now: UnixTime,
    ) -> Result<(HeldCertificates, Option<String>), Refusal> {
        let lives =
            |held: &HeldCertificates| held.certificates.iter().any(|one| one.validity.not_after > now);
        let same = |zone: &ZoneName, service: &ServiceName| (zone, service) == (&key.zone, &key.service);
        let others = self.records.iter().filter(|(zone, service, _)| !same(zone, service));
        let others = others.filter(|(.., held)| lives(&held.record)).count();
        if others.saturating_add(self.begun) >= MAX_SOFTWARE_KEYS {
            return Err(Refusal::NotPermitted(format!(
                "the device has software keys for {MAX_SOFTWARE_KEYS} services and may have no more; let fewer have \
                 key = \"software\", the certificates of the others end by themselves"
            )));
        }
        let own = self.records.iter().find(|(zone, service, _)| same(zone, service));
        if let Some((.., held)) = own {
            let held = held.record.clone();
            self.begun = self.begun.saturating_add(usize::from(!lives(&held)));
            return Ok((held, None));
        }
        self.begun = self.begun.saturating_add(1);
        let stale = self.records.iter().position(|(zone, _, held)| *zone == key.zone && !lives(&held.record));
        Ok((HeldCertificates::default(), stale.map(|at| self.records.remove(at).2.key)))
    }
}
