//! Certificates from grants, and the records that go with them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use policy::appraisal::Prover;
use policy::digest::Digest;
use policy::grant::{IssuanceGrant, Revision, Subject};
use policy::id::{DeviceName, ZoneName};
use policy::time::UnixTime;
use policy::zone::{Role, Trusted, Zone};
use proto::v1;

use super::proof::{OwnKey, ProvenKey};
use super::{Refusal, role_to_wire};
use crate::authority;
use crate::ca::{Issuer, Serial};
use crate::metrics::Signed;
use crate::plant::Plant;
use crate::record::device::{
    CertifiedKeyOwner, HeldCertificate, HeldCertificates, Holder, MAX_HELD, certified_key, held_key,
    held_place, held_prefix,
};
use crate::record::zone::{AuthorityRecord, RevokedCertificate, revoked_key};
use crate::record::{Held, fetch, list, stored};
use crate::store::Txn;
use crate::trust;

/// What a device is granted in one zone, and under which revisions.
#[derive(Debug)]
pub struct Grants<'a> {
    /// The device.
    pub device: &'a DeviceName,
    /// The zone.
    pub zone: &'a Held<Zone>,
    /// Proof that the zone trusts it.
    pub trusted: &'a Trusted,
    /// Records that the decision rests on besides zone and authority: compared in the transaction.
    pub revisions: &'a [Revision],
    /// IP addresses that the device has in the zone.
    pub addresses: BTreeSet<IpAddr>,
}

/// What a zone gives for the keys that are for it.
#[derive(Debug, Default)]
pub struct Issued {
    /// The certificates.
    pub svids: Vec<v1::Svid>,
    /// Why there are none, though there are keys: an attestation is good without certificates, too.
    pub refused: Option<Refusal>,
}

/// Issues a certificate for each of `keys` that is for this zone. The certificates are worth nothing
/// before `txn` is committed: it records them and compares every revision.
pub async fn issue(
    plant: &Plant,
    grants: &Grants<'_>,
    keys: &[ProvenKey],
    txn: Txn,
    now: UnixTime,
) -> Result<(Issued, Txn), Refusal> {
    let zone = &grants.zone.record.name;
    let mut svids = Vec::new();
    let (mut held, mut drafted) = (held(plant, grants.device, zone).await?, txn.clone());
    for proven in keys.iter().filter(|key| key.zone == *zone) {
        let (svid, certificate, next) = issue_one(plant, grants, proven, drafted, now).await?;
        drafted = next;
        held.certificates.push(certificate);
        svids.push(svid);
    }
    if svids.is_empty() {
        return Ok((Issued::default(), txn));
    }
    let view = trust::view(plant).await.map_err(Refusal::internal)?;
    if grants.trusted.prover() == Prover::Key {
        drafted = forget_ended(drafted, &held, now);
    }
    held.certificates
        .retain(|held| held.validity.not_after > now && view.believes(zone, held.role, held.generation));
    if let Err(refusal) = unhurried(&held, &grants.zone.record, MAX_HELD, now) {
        return Ok((Issued { svids: Vec::new(), refused: Some(refusal) }, txn));
    }
    for role in [Role::Caller, Role::Listener] {
        while held.certificates.iter().filter(|held| held.role == role).count() > MAX_HELD {
            let Some(oldest) = held.certificates.iter().position(|held| held.role == role) else { break };
            let certificate = held.certificates.remove(oldest);
            drafted = revoke_one(drafted, grants.device, zone, &certificate, now, "superseded")?;
        }
    }
    let txn = drafted
        .unchanged(grants.zone.key.clone(), grants.zone.version)
        .put(held_key(grants.device, zone), stored(&held)?);
    Ok((Issued { svids, refused: None }, txn))
}

/// Forgets a key in software of each role whose certificate ended: it comes no more. One for each that is certified is
/// as many as end, and fits a transaction for many zones; the sweep finds the others.
fn forget_ended(txn: Txn, held: &HeldCertificates, now: UnixTime) -> Txn {
    let ended = |role: &Role| {
        held.certificates.iter().find(|held| held.role == *role && held.validity.not_after <= now)
    };
    let ended = [Role::Caller, Role::Listener].iter().filter_map(ended);
    ended.fold(txn, |txn, ended| txn.delete(certified_key(&ended.spki)))
}

/// Refuses a device that asks for certificates faster than it can need them: each that is superseded
/// makes a CRL longer that others must read. One with other addresses is needed at once, and comes no more often
/// than somebody changes them.
pub(super) fn unhurried(
    held: &HeldCertificates,
    zone: &Zone,
    most: usize,
    now: UnixTime,
) -> Result<(), Refusal> {
    for role in [Role::Caller, Role::Listener] {
        let of_role: Vec<_> = held.certificates.iter().filter(|held| held.role == role).collect();
        let Some((newest, older)) = of_role.split_last() else { continue };
        // An honest device comes after a third of a certificate's life, with some tries in between. A certificate
        // that rests on an override or on a deprecated release lives shorter than the zone says.
        let life = newest.validity.not_after.since(now).min(zone.timing.certificate_lifetime());
        let least = (life / 12).max(1);
        let began = older.last().map_or(UnixTime(0), |before| before.validity.not_before);
        let same = older.last().is_some_and(|before| before.addresses == newest.addresses);
        if same && of_role.len() > most && newest.validity.not_before.since(began) < least {
            let seconds = u32::try_from(least).unwrap_or(u32::MAX);
            let why = format!("it holds {most} certificates of {} already", zone.name);
            return Err(Refusal::TryLater { why, seconds });
        }
    }
    Ok(())
}

async fn held(plant: &Plant, device: &DeviceName, zone: &ZoneName) -> Result<HeldCertificates, Refusal> {
    let held: Option<Held<HeldCertificates>> = fetch(plant.store.as_ref(), held_key(device, zone)).await?;
    Ok(held.map(|held| held.record).unwrap_or_default())
}

async fn issue_one(
    plant: &Plant,
    grants: &Grants<'_>,
    proven: &ProvenKey,
    txn: Txn,
    now: UnixTime,
) -> Result<(v1::Svid, HeldCertificate, Txn), Refusal> {
    let zone = &grants.zone.record;
    let signing = Signing::of(plant, grants, proven.role).await?;
    let domain = plant.domain();
    let addresses = &signing.permitted(grants);
    let subject =
        Subject { plant: &domain, device: grants.device, zone, role: proven.role, addresses, workload: None };
    let (backdate, revisions) = (plant.config.backdate, signing.revisions(grants));
    let trusted = grants.trusted;
    let grant = match &proven.key {
        OwnKey::Tpm(key) => IssuanceGrant::new(trusted, key, &subject, now, backdate, revisions),
        OwnKey::Software(key) => IssuanceGrant::without_tpm(trusted, key, &subject, now, backdate, revisions),
    };
    let grant = grant.map_err(Refusal::internal)?;
    let (svid, certificate) = signing.sign(plant, &grant, None)?;
    let owner = owner(grants, proven, certificate.validity.not_after);
    let txn = match &proven.key {
        OwnKey::Tpm(key) => claim_key(plant, txn, &key.spki_digest(), &owner).await?,
        OwnKey::Software(key) => claim_new_key(plant, txn, &key.spki_digest(), &owner).await?,
    };
    Ok((svid, certificate, signing.expected(txn)))
}

/// The authority of a zone and role that signs today.
pub(super) struct Signing {
    authority: Held<AuthorityRecord>,
    issuer: Arc<Issuer>,
}

impl Signing {
    /// That of the zone of `grants`.
    pub(super) async fn of(plant: &Plant, grants: &Grants<'_>, role: Role) -> Result<Self, Refusal> {
        let zone = &grants.zone.record.name;
        let authority = authority::active(plant, zone, role).await.map_err(Refusal::internal)?;
        let issuer = authority::issuer(plant, &authority).map_err(Refusal::internal)?;
        Ok(Self { authority, issuer })
    }

    /// What a grant that it signs rests on.
    pub(super) fn revisions(&self, grants: &Grants<'_>) -> Vec<Revision> {
        let revision = |record: &String, version: crate::store::Revision| Revision {
            record: record.clone(),
            revision: version.0,
        };
        let mut revisions = grants.revisions.to_vec();
        revisions.push(revision(&grants.zone.key, grants.zone.version));
        revisions.push(revision(&self.authority.key, self.authority.version));
        revisions
    }

    /// The addresses that the authority may name: peers refuse a certificate with any other.
    pub(super) fn permitted(&self, grants: &Grants<'_>) -> BTreeSet<IpAddr> {
        let all = grants.addresses.iter().copied();
        all.filter(|address| self.authority.record.permits(*address)).collect()
    }

    /// `txn`, if the authority is still the one that signs.
    pub(super) fn expected(&self, txn: Txn) -> Txn {
        txn.unchanged(self.authority.key.clone(), self.authority.version)
    }

    /// The certificate that is granted, for the device and for its record; `holder` has the key in software.
    pub(super) fn sign(
        &self,
        plant: &Plant,
        grant: &IssuanceGrant,
        holder: Option<&Holder>,
    ) -> Result<(v1::Svid, HeldCertificate), Refusal> {
        let serial = plant.serial().map_err(Refusal::internal)?;
        let issued = plant.metrics.signing(Signed::Certificate, || self.issuer.issue(grant, serial));
        let issued = issued.map_err(Refusal::internal)?;
        let (service, workload) = match holder {
            Some(Holder::Service(service)) => (Some(service.clone()), None),
            Some(Holder::Workload(workload)) => (None, Some(workload.clone())),
            None => (None, None),
        };
        let svid = v1::Svid {
            zone: grant.zone().to_string(),
            role: role_to_wire(grant.role()).into(),
            chain: vec![issued.der],
            not_before: issued.validity.not_before.0,
            not_after: issued.validity.not_after.0,
            spki_digest: grant.spki_digest().0.to_vec(),
            service: service.as_ref().map(ToString::to_string).unwrap_or_default(),
            workload: workload.as_ref().map(ToString::to_string).unwrap_or_default(),
        };
        let certificate = HeldCertificate {
            role: grant.role(),
            generation: self.authority.record.generation,
            serial: serial.hex(),
            spki: grant.spki_digest(),
            validity: issued.validity,
            service,
            workload,
            addresses: grant.addresses().clone(),
        };
        Ok((svid, certificate))
    }
}

fn owner(grants: &Grants<'_>, proven: &ProvenKey, end: UnixTime) -> CertifiedKeyOwner {
    let until = match proven.key {
        OwnKey::Tpm(_) => None,
        OwnKey::Software(_) => Some(end),
    };
    CertifiedKeyOwner { device: grants.device.clone(), zone: proven.zone.clone(), role: proven.role, until }
}

/// Claims a key for one device, zone and role; refuses one that is claimed for another.
async fn claim_key(
    plant: &Plant,
    txn: Txn,
    spki: &Digest,
    owner: &CertifiedKeyOwner,
) -> Result<Txn, Refusal> {
    let key = certified_key(spki);
    match fetch::<CertifiedKeyOwner>(plant.store.as_ref(), key.clone()).await? {
        None => Ok(txn.absent(key.clone()).put(key, stored(owner)?)),
        Some(held) if held.record == *owner => Ok(txn.unchanged(key, held.version)),
        Some(held) => Err(Refusal::Conflict(format!(
            "an identity key is certified for {} in {} already; make a new key for each zone and role",
            held.record.device, held.record.zone
        ))),
    }
}

/// Claims a key in software, which is certified once: whoever copied it has it until its certificate ends, and no longer.
async fn claim_new_key(
    plant: &Plant,
    txn: Txn,
    spki: &Digest,
    owner: &CertifiedKeyOwner,
) -> Result<Txn, Refusal> {
    let key = certified_key(spki);
    match fetch::<CertifiedKeyOwner>(plant.store.as_ref(), key.clone()).await? {
        None => Ok(txn.absent(key.clone()).put(key, stored(owner)?)),
        Some(_) => Err(Refusal::Conflict(format!(
            "a key of {} for {} is certified already; make a new key for each certificate",
            owner.device, owner.zone
        ))),
    }
}

/// Serials of the certificates that `device` holds now.
pub async fn valid_serials(
    plant: &Plant,
    device: &DeviceName,
    now: UnixTime,
) -> Result<Vec<Vec<u8>>, Refusal> {
    let all: Vec<Held<HeldCertificates>> = list(plant.store.as_ref(), &held_prefix(device)).await?;
    // One under an authority that is distrusted is worth nothing: told so, the device comes for another.
    let view = trust::view(plant).await.map_err(Refusal::internal)?;
    let prefix = held_prefix(device);
    let mut valid = Vec::new();
    for held in &all {
        let Some((zone, _)) = held.key.strip_prefix(&prefix).and_then(held_place) else { continue };
        let holds = |one: &&HeldCertificate| {
            one.validity.not_after > now && view.believes(&zone, one.role, one.generation)
        };
        valid.extend(
            held.record.certificates.iter().filter(holds).filter_map(|one| hex::decode(&one.serial).ok()),
        );
    }
    Ok(valid)
}

/// Revokes every certificate that `device` holds in `zones` and that has not ended. Returns how many.
pub async fn revoke(
    plant: &Plant,
    mut txn: Txn,
    device: &DeviceName,
    zones: impl Fn(&ZoneName) -> bool,
    now: UnixTime,
    reason: &str,
) -> Result<(usize, Txn), Refusal> {
    let mut count = 0;
    let prefix = held_prefix(device);
    let all: Vec<Held<HeldCertificates>> = list(plant.store.as_ref(), &prefix).await?;
    for held in all {
        let place = held.key.strip_prefix(&prefix).and_then(held_place);
        let (zone, holder) = place.ok_or_else(|| Refusal::internal(format!("store key {}", held.key)))?;
        let living = held.record.certificates.iter().any(|held| held.validity.not_after > now);
        // What one once had makes the transaction no longer.
        if !zones(&zone) || (holder.is_some() && !living) {
            continue;
        }
        let (revoked, next) = revoke_all(txn, device, &zone, held, now, reason)?;
        (count, txn) = (count + revoked, next);
    }
    Ok((count, txn))
}

/// Revokes the certificates of one record that have not ended, and removes it. Returns how many.
pub(crate) fn revoke_all(
    mut txn: Txn,
    device: &DeviceName,
    zone: &ZoneName,
    held: Held<HeldCertificates>,
    now: UnixTime,
    reason: &str,
) -> Result<(usize, Txn), Refusal> {
    let mut count = 0;
    for certificate in held.record.certificates.iter().filter(|held| held.validity.not_after > now) {
        txn = revoke_one(txn, device, zone, certificate, now, reason)?;
        count += 1;
    }
    Ok((count, txn.unchanged(held.key.clone(), held.version).delete(held.key)))
}

/// Revokes a certificate of `device` in `zone`.
pub(crate) fn revoke_one(
    txn: Txn,
    device: &DeviceName,
    zone: &ZoneName,
    certificate: &HeldCertificate,
    now: UnixTime,
    reason: &str,
) -> Result<Txn, Refusal> {
    let serial = Serial::from_hex(&certificate.serial)
        .ok_or_else(|| Refusal::internal(format!("serial {} of {device}", certificate.serial)))?;
    let record = RevokedCertificate {
        device: device.clone(),
        at: now,
        reason: reason.to_owned(),
        not_after: certificate.validity.not_after,
    };
    Ok(txn.put(revoked_key(zone, certificate.role, certificate.generation, serial), stored(&record)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::time::Validity;

    const NOW: UnixTime = UnixTime(1_800_000_000);

    fn certificates(ages: &[u64], left: u64) -> HeldCertificates {
        let certificate = |age: &u64| HeldCertificate {
            role: Role::Caller,
            generation: 1,
            serial: String::new(),
            spki: Digest([0; 32]),
            validity: Validity { not_before: NOW.minus(*age), not_after: NOW.plus(left) },
            service: None,
            workload: None,
            addresses: std::collections::BTreeSet::new(),
        };
        HeldCertificates { certificates: ages.iter().map(certificate).collect() }
    }

    #[test]
    fn certificates_are_not_issued_faster_than_they_can_be_needed() {
        let zone = Zone::new("cell-3".parse().unwrap());
        let slow = zone.timing.certificate_lifetime() / 12;
        let held = certificates(&[4 * slow, 3 * slow, 2 * slow, slow, 0], 12 * slow);
        unhurried(&held, &zone, MAX_HELD, NOW).unwrap();
        unhurried(&certificates(&[4, 3, 2, 1], 12 * slow), &zone, MAX_HELD, NOW).unwrap();
        let hurried = certificates(&[4, 3, 2, 1, 0], 12 * slow);
        let refusal = unhurried(&hurried, &zone, MAX_HELD, NOW).unwrap_err();
        assert!(
            matches!(&refusal, Refusal::TryLater { why, .. } if why == "it holds 4 certificates of cell-3 already")
        );
    }

    /// An override of four hours in a zone whose certificates live twelve: each of its certificates ends with it.
    #[test]
    fn a_device_is_not_held_up_when_all_its_certificates_end_at_once() {
        let zone = Zone::new("cell-3".parse().unwrap());
        let end = NOW.plus(4 * 3600);
        let issued = |held: &mut HeldCertificates, at: UnixTime| {
            let mut certificate = certificates(&[0], 0).certificates.remove(0);
            certificate.validity = Validity { not_before: at, not_after: end };
            held.certificates.push(certificate);
            unhurried(held, &zone, MAX_HELD, at)
        };
        let (mut now, mut held) = (NOW, HeldCertificates::default());
        while end.since(now) > 60 {
            issued(&mut held, now).unwrap();
            let more = held.certificates.len().saturating_sub(MAX_HELD);
            held.certificates.drain(..more);
            now = now.plus(end.since(now) / 3);
        }
        issued(&mut held, now).unwrap();
        let refusal = issued(&mut held, now).unwrap_err();
        assert!(matches!(refusal, Refusal::TryLater { seconds: 1..60, .. }), "{refusal:?}");
    }
}
