//! Certificates for software keys, and the records that go with them.

use policy::budget::MAX_SOFTWARE_KEYS;
use policy::grant::{IssuanceGrant, Subject};
use policy::id::{DeviceName, ZoneName};
use policy::time::UnixTime;
use policy::zone::Role;
use proto::v1;

use super::{OfferedKey, RefusedKey};
use crate::plant::Plant;
use crate::record::device::{
    CertifiedKeyOwner, HeldCertificates, Holder, certified_key, held_key, held_outside_key, held_place,
    held_prefix,
};
use crate::record::{Held, fetch, list, stored};
use crate::session::issue::{Grants, Signing, revoke_one, unhurried};
use crate::session::{Refusal, role_to_wire};
use crate::store::Txn;

/// Certificates of one holder that a device may hold at once for its software keys. It replaces one after a third
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
        for role in [Role::Caller, Role::Listener] {
            let wanted = offered.iter().filter(|key| key.zone == *zone && key.role == role);
            let wanted: Vec<&OfferedKey> = wanted.collect();
            if !wanted.is_empty() {
                let own = Own { svids: own, role };
                txn = issue_in(plant, grants, &wanted, own, (&mut places, &mut answered), txn, now).await?;
            }
        }
    }
    Ok((answered, txn))
}

/// The certificates that the device itself gets in the same transaction, and the side that is asked about.
#[derive(Clone, Copy)]
struct Own<'a> {
    svids: &'a [v1::Svid],
    role: Role,
}

/// The same for keys of one zone and role, of which there is at least one.
async fn issue_in(
    plant: &Plant,
    grants: &Grants<'_>,
    wanted: &[&OfferedKey],
    own: Own<'_>,
    (places, answered): (&mut Places, &mut Answered),
    txn: Txn,
    now: UnixTime,
) -> Result<Txn, Refusal> {
    let signing = Signing::of(plant, grants, own.role).await?;
    let (end, next) = own_end(plant, grants, own, txn, now).await?;
    let mut txn = signing.expected(next).unchanged(grants.zone.key.clone(), grants.zone.version);
    for key in wanted {
        // Before the draft, which takes a place: a key that is refused leaves it to the next.
        let drafted = match unclaimed(plant, key).await {
            Ok(()) => draft(plant, grants, key, &signing, end, places, now),
            Err(refusal) => Err(refusal),
        };
        match drafted {
            Ok(draft) => {
                txn = claim(txn, grants, key, UnixTime(draft.svid.not_after))?;
                txn = draft.keep(grants, txn, now)?;
                answered.svids.push(draft.svid);
            }
            Err(refusal @ (Refusal::NotPermitted(_) | Refusal::TryLater { .. } | Refusal::Conflict(_))) => {
                let (zone, key) = (key.zone.clone(), Some((key.holder.clone(), key.role)));
                answered.refused.push(RefusedKey { zone, key, refusal });
            }
            Err(other) => return Err(other),
        }
    }
    Ok(txn)
}

/// When the device's own certificate of the zone and role ends; a time that is over if it has none.
async fn own_end(
    plant: &Plant,
    grants: &Grants<'_>,
    own: Own<'_>,
    txn: Txn,
    now: UnixTime,
) -> Result<(UnixTime, Txn), Refusal> {
    let zone = grants.zone.record.name.as_str();
    let role = role_to_wire(own.role);
    if let Some(svid) = own.svids.iter().find(|svid| svid.zone == zone && svid.role() == role) {
        return Ok((UnixTime(svid.not_after), txn));
    }
    let key = held_key(grants.device, &grants.zone.record.name);
    let Some(held) = fetch::<HeldCertificates>(plant.store.as_ref(), key).await? else {
        return Ok((now, txn));
    };
    let of_role = held.record.certificates.iter().filter(|held| held.role == own.role);
    let end = of_role.map(|held| held.validity.not_after).max().unwrap_or(now);
    Ok((end, txn.unchanged(held.key, held.version)))
}

/// A signed certificate and the record that it will be kept in.
struct Draft {
    svid: v1::Svid,
    holder: Holder,
    held: HeldCertificates,
    /// A record of a holder that has no certificate any more; it makes room.
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
    let workload = match &key.holder {
        Holder::Workload(workload) => Some(workload),
        Holder::Service(_) => None,
    };
    let subject =
        Subject { plant: &domain, device: grants.device, zone, role: key.role, addresses, workload };
    let (backdate, revisions) = (plant.config.backdate, signing.revisions(grants));
    let grant =
        IssuanceGrant::for_software_key(grants.trusted, &key.key, &subject, end, now, backdate, revisions)
            .map_err(|error| Refusal::NotPermitted(error.to_string()))?;
    let (mut held, stale) = places.take(key, now)?;
    let (svid, certificate) = signing.sign(plant, &grant, Some(&key.holder))?;
    held.certificates.push(certificate);
    unhurried(&held, zone, MAX_HELD, now)?;
    Ok(Draft { svid, holder: key.holder.clone(), held, stale })
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
        Ok(txn.put(held_outside_key(device, zone, &self.holder), stored(&held)?))
    }
}

/// Refuses a key that was certified before: every certificate has a key of its own.
async fn unclaimed(plant: &Plant, key: &OfferedKey) -> Result<(), Refusal> {
    let index = certified_key(&key.key.spki_digest());
    match fetch::<CertifiedKeyOwner>(plant.store.as_ref(), index).await? {
        None => Ok(()),
        Some(held) => Err(Refusal::Conflict(format!(
            "the software key for {} in {} is certified for {} in {} already; make a new key for each certificate",
            key.holder, key.zone, held.record.device, held.record.zone
        ))),
    }
}

/// Claims a key that is [`unclaimed`]; the transaction fails if somebody else claims it meanwhile.
fn claim(txn: Txn, grants: &Grants<'_>, key: &OfferedKey, end: UnixTime) -> Result<Txn, Refusal> {
    let index = certified_key(&key.key.spki_digest());
    let (device, zone) = (grants.device.clone(), key.zone.clone());
    let owner = CertifiedKeyOwner { device, zone, role: key.role, until: Some(end) };
    Ok(txn.absent(index.clone()).put(index, stored(&owner)?))
}

/// The records of a device's software keys in all its zones.
struct Places {
    records: Vec<(ZoneName, Holder, Held<HeldCertificates>)>,
    /// Holders that begin to have a certificate with this transaction.
    begun: usize,
}

impl Places {
    async fn of(plant: &Plant, device: &DeviceName) -> Result<Self, Refusal> {
        let prefix = held_prefix(device);
        let all: Vec<Held<HeldCertificates>> = list(plant.store.as_ref(), &prefix).await?;
        let record = |held: Held<HeldCertificates>| {
            let (zone, holder) = held_place(held.key.strip_prefix(&prefix)?)?;
            Some((zone, holder?, held))
        };
        Ok(Self { records: all.into_iter().filter_map(record).collect(), begun: 0 })
    }

    /// What is recorded for the holder of `key`, and the record that makes room for it; refused when the device has
    /// software keys for too many.
    fn take(
        &mut self,
        key: &OfferedKey,
        now: UnixTime,
    ) -> Result<(HeldCertificates, Option<String>), Refusal> {
        let lives =
            |held: &HeldCertificates| held.certificates.iter().any(|one| one.validity.not_after > now);
        let same = |zone: &ZoneName, holder: &Holder| (zone, holder) == (&key.zone, &key.holder);
        let others = self.records.iter().filter(|(zone, holder, _)| !same(zone, holder));
        let others = others.filter(|(.., held)| lives(&held.record)).count();
        if others.saturating_add(self.begun) >= MAX_SOFTWARE_KEYS {
            return Err(Refusal::NotPermitted(format!(
                "the device has software keys for {MAX_SOFTWARE_KEYS} services and workloads and may have no more; let \
                 fewer have key = \"software\" or a [[workload]], the certificates of the others end by themselves"
            )));
        }
        let own = self.records.iter().find(|(zone, holder, _)| same(zone, holder));
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
