//! The Issuance Grant: this key, this device, this zone, until then. An authority signs nothing else.
//!
//! What this module does not promise: that the revisions still hold. The transaction that issues
//! compares them all.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::appraisal::Prover;
use crate::digest::Digest;
use crate::evidence::identity::CertifiedKey;
use crate::evidence::software_key::SoftwareKey;
use crate::id::{DeviceName, PlantDomain, SpiffeId, WorkloadName, ZoneName};
use crate::time::{UnixTime, Validity};
use crate::zone::admission::Trusted;
use crate::zone::model::{SoftwareKeys, Zone};
use crate::zone::trust::Role;

/// Most seconds that `notBefore` may lie before the issue, for peers whose clocks are behind. More
/// would eat up the third of the shortest life after which a certificate is replaced.
pub const MAX_BACKDATE: u64 = 300;
/// Most revisions that a grant records: device, EK, zone, golden set, authority, epoch, with room.
pub const MAX_REVISIONS: usize = 32;

/// A record that the decision rests on, by name, and the revision it had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// The record: `zone/cell-3`.
    pub record: String,
    /// Its revision.
    pub revision: u64,
}

/// A grant is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// The device was trusted in another zone.
    #[error("the device is trusted in zone {trusted}, not in {asked}; attest for {asked}")]
    OtherZone {
        /// Where it is trusted.
        trusted: ZoneName,
        /// Where the certificate was asked for.
        asked: ZoneName,
    },
    /// A backdate that eats up the certificate.
    #[error(
        "certificates may begin at most {MAX_BACKDATE} s in the past; {0} s is too much, set clocks instead"
    )]
    Backdate(u64),
    /// A key outside the TPM in a zone that wants none.
    #[error(
        "zone {0} certifies no software keys; use the key in the TPM, or a zone made with --software-keys allow"
    )]
    SoftwareKeys(ZoneName),
    /// A device's own key outside a TPM, of a device that has one, or the other way round.
    #[error("the key is not where the device proved itself with; a device with a TPM keeps its keys in it")]
    OtherProver,
    /// A key outside the TPM for the device itself as a client.
    #[error("software keys are for servers and workloads; clients use the device's key in the TPM")]
    SoftwareCaller,
    /// The certificate of the device that a software key would end with is over.
    #[error("the device's own certificate ended at {0}; renew that first")]
    Ended(UnixTime),
    /// A decision that rests on nothing, or on more than is compared.
    #[error("a grant records 1 to {MAX_REVISIONS} revisions, not {0}")]
    Revisions(usize),
}

/// What the certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject<'a> {
    /// The plant.
    pub plant: &'a PlantDomain,
    /// The device.
    pub device: &'a DeviceName,
    /// The zone, with the numbers that it has now.
    pub zone: &'a Zone,
    /// The side of connections that the certificate is for.
    pub role: Role,
    /// The device's addresses in the zone, as far as the authority that signs may name them.
    pub addresses: &'a BTreeSet<IpAddr>,
    /// The workload of the device that the certificate names; None: the device itself.
    pub workload: Option<&'a WorkloadName>,
}

impl Subject<'_> {
    fn spiffe_id(&self) -> SpiffeId {
        let domain = self.plant.trust_domain(&self.zone.name);
        match self.workload {
            Some(workload) => domain.workload(self.device, workload),
            None => domain.device(self.device),
        }
    }

    /// Those that the certificate names. They are the device's, and no workload is the device.
    fn addresses(&self) -> BTreeSet<IpAddr> {
        let admitted = self.addresses.iter().copied().filter(|one| self.zone.admits(*one));
        admitted.filter(|_| self.workload.is_none()).collect()
    }
}

/// Leave to issue one certificate. Only [`IssuanceGrant::new`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuanceGrant {
    spiffe_id: SpiffeId,
    zone: ZoneName,
    role: Role,
    spki_der: Vec<u8>,
    spki_digest: Digest,
    validity: Validity,
    addresses: BTreeSet<IpAddr>,
    revisions: Vec<Revision>,
}

impl IssuanceGrant {
    /// Grants `subject` a certificate for `key` from `now` less `backdate` seconds on, for as long as
    /// the zone lets one live, and never beyond the override that the trust rests on.
    pub fn new(
        trusted: &Trusted,
        key: &CertifiedKey,
        subject: &Subject<'_>,
        now: UnixTime,
        backdate: u64,
        revisions: Vec<Revision>,
    ) -> Result<Self, GrantError> {
        demand(trusted, Prover::Tpm)?;
        Self::of_key(trusted, key.spki_der(), subject, now, backdate, revisions)
    }

    /// The same for a key of a device without a TPM, which the zone trusts as such.
    pub fn without_tpm(
        trusted: &Trusted,
        key: &SoftwareKey,
        subject: &Subject<'_>,
        now: UnixTime,
        backdate: u64,
        revisions: Vec<Revision>,
    ) -> Result<Self, GrantError> {
        demand(trusted, Prover::Key)?;
        Self::of_key(trusted, key.spki_der(), subject, now, backdate, revisions)
    }

    /// Grants `subject` a certificate for a key outside the TPM, which ends with the device's own at `device_end`.
    ///
    /// What the device itself is known by is its certificate as a caller, and that key stays in the TPM: beyond
    /// listeners such keys are for workloads, which have names of their own. Refused unless the zone allows them.
    pub fn for_software_key(
        trusted: &Trusted,
        key: &SoftwareKey,
        subject: &Subject<'_>,
        device_end: UnixTime,
        now: UnixTime,
        backdate: u64,
        revisions: Vec<Revision>,
    ) -> Result<Self, GrantError> {
        if subject.zone.software_keys != SoftwareKeys::Allow {
            return Err(GrantError::SoftwareKeys(subject.zone.name.clone()));
        }
        if subject.role != Role::Listener && subject.workload.is_none() {
            return Err(GrantError::SoftwareCaller);
        }
        if device_end <= now {
            return Err(GrantError::Ended(device_end));
        }
        let mut grant = Self::of_key(trusted, key.spki_der(), subject, now, backdate, revisions)?;
        grant.validity.not_after = grant.validity.not_after.min(device_end);
        Ok(grant)
    }

    fn of_key(
        trusted: &Trusted,
        spki_der: Vec<u8>,
        subject: &Subject<'_>,
        now: UnixTime,
        backdate: u64,
        revisions: Vec<Revision>,
    ) -> Result<Self, GrantError> {
        let zone = subject.zone.name.clone();
        if *trusted.zone() != zone {
            return Err(GrantError::OtherZone { trusted: trusted.zone().clone(), asked: zone });
        }
        if backdate > MAX_BACKDATE {
            return Err(GrantError::Backdate(backdate));
        }
        if !(1..=MAX_REVISIONS).contains(&revisions.len()) {
            return Err(GrantError::Revisions(revisions.len()));
        }
        let longest = now.plus(subject.zone.timing.certificate_lifetime());
        let not_after = trusted.until().map_or(longest, |until| longest.min(until));
        Ok(Self {
            spiffe_id: subject.spiffe_id(),
            zone,
            role: subject.role,
            spki_digest: Digest::of(&spki_der),
            spki_der,
            validity: Validity { not_before: now.minus(backdate), not_after },
            addresses: subject.addresses(),
            revisions,
        })
    }

    /// Who the certificate names.
    #[must_use]
    pub const fn spiffe_id(&self) -> &SpiffeId {
        &self.spiffe_id
    }

    /// The zone whose authority signs.
    #[must_use]
    pub const fn zone(&self) -> &ZoneName {
        &self.zone
    }

    /// Which authority of the zone signs.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// The key, as `SubjectPublicKeyInfo` in DER.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        &self.spki_der
    }

    /// The SHA-256 of the key's `SubjectPublicKeyInfo`: what the index of certified keys holds.
    #[must_use]
    pub const fn spki_digest(&self) -> Digest {
        self.spki_digest
    }

    /// From when to when.
    #[must_use]
    pub const fn validity(&self) -> Validity {
        self.validity
    }

    /// The IP addresses that the certificate names; all are in subnets of the zone.
    #[must_use]
    pub const fn addresses(&self) -> &BTreeSet<IpAddr> {
        &self.addresses
    }

    /// What the decision rests on.
    #[must_use]
    pub fn revisions(&self) -> &[Revision] {
        &self.revisions
    }
}

fn demand(trusted: &Trusted, prover: Prover) -> Result<(), GrantError> {
    if trusted.prover() == prover { Ok(()) } else { Err(GrantError::OtherProver) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::renewal::replace_by;

    const NOW: UnixTime = UnixTime(1_800_000_000);

    fn grant(zone: &str, backdate: u64, revisions: usize) -> Result<IssuanceGrant, GrantError> {
        let plant = "plant.example".parse().unwrap();
        let device = "press-7".parse().unwrap();
        let zone = Zone::new(zone.parse().unwrap());
        let addresses = BTreeSet::new();
        let subject = Subject {
            plant: &plant,
            device: &device,
            zone: &zone,
            role: Role::Caller,
            addresses: &addresses,
            workload: None,
        };
        let revision = Revision { record: "zone/cell-3".to_owned(), revision: 4 };
        let trusted = Trusted::for_tests("cell-3".parse().unwrap(), None);
        IssuanceGrant::of_key(&trusted, vec![1, 2, 3], &subject, NOW, backdate, vec![revision; revisions])
    }

    #[test]
    fn a_grant_names_key_device_zone_and_time() {
        let grant = grant("cell-3", 60, 1).unwrap();
        assert_eq!(grant.spiffe_id().to_string(), "spiffe://cell-3.plant.example/device/press-7");
        assert_eq!(grant.spki_digest(), Digest::of(&[1, 2, 3]));
        assert_eq!(grant.validity(), Validity { not_before: NOW.minus(60), not_after: NOW.plus(43_200) });
        let renewal = replace_by(grant.validity());
        assert!(NOW < renewal && grant.validity().not_after.since(renewal) >= 28_800);
    }

    #[test]
    fn a_certificate_ends_with_the_override_that_it_rests_on() {
        let plant = "plant.example".parse().unwrap();
        let device = "press-7".parse().unwrap();
        let zone = Zone::new("cell-3".parse().unwrap());
        let addresses = BTreeSet::new();
        let subject = Subject {
            plant: &plant,
            device: &device,
            zone: &zone,
            role: Role::Caller,
            addresses: &addresses,
            workload: None,
        };
        let not_after = |until| {
            let revision = Revision { record: "zone/cell-3".to_owned(), revision: 4 };
            let trusted = Trusted::for_tests("cell-3".parse().unwrap(), Some(until));
            let grant = IssuanceGrant::of_key(&trusted, vec![1], &subject, NOW, 0, vec![revision]);
            grant.unwrap().validity().not_after
        };
        assert_eq!(not_after(NOW.plus(600)), NOW.plus(600));
        assert_eq!(not_after(NOW.plus(86_400)), NOW.plus(zone.timing.certificate_lifetime()));
    }

    #[test]
    fn trust_in_one_zone_is_none_in_another() {
        let (trusted, asked) = ("cell-3".parse().unwrap(), "cell-4".parse().unwrap());
        assert_eq!(grant("cell-4", 0, 1), Err(GrantError::OtherZone { trusted, asked }));
    }

    fn software_key() -> SoftwareKey {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let csr = params.serialize_request(&key).unwrap();
        SoftwareKey::verify(csr.der(), &Digest::of(csr.der()).0).unwrap()
    }

    #[test]
    fn only_a_device_without_a_tpm_has_its_own_keys_outside_one() {
        let (plant, device) = ("plant.example".parse().unwrap(), "press-7".parse().unwrap());
        let (zone, addresses) = (Zone::new("cell-3".parse().unwrap()), BTreeSet::new());
        let role = Role::Caller;
        let (plant, device, zone, addresses) = (&plant, &device, &zone, &addresses);
        let subject = Subject { plant, device, zone, role, addresses, workload: None };
        let grant = |prover| {
            let trusted = Trusted::for_tests("cell-3".parse().unwrap(), None).by(prover);
            let revisions = vec![Revision { record: "zone/cell-3".to_owned(), revision: 4 }];
            IssuanceGrant::without_tpm(&trusted, &software_key(), &subject, NOW, 0, revisions)
        };
        assert_eq!(grant(Prover::Tpm), Err(GrantError::OtherProver));
        assert_eq!(grant(Prover::Key).unwrap().role(), Role::Caller);
    }

    fn software(zone: &Zone, role: Role, device_end: UnixTime) -> Result<IssuanceGrant, GrantError> {
        outside(zone, role, device_end, None)
    }

    fn outside(
        zone: &Zone,
        role: Role,
        device_end: UnixTime,
        workload: Option<&WorkloadName>,
    ) -> Result<IssuanceGrant, GrantError> {
        let key = software_key();
        let (plant, device) = ("plant.example".parse().unwrap(), "press-7".parse().unwrap());
        let addresses = BTreeSet::from(["10.1.3.7".parse().unwrap(), "10.9.9.9".parse().unwrap()]);
        let subject = Subject { plant: &plant, device: &device, zone, role, addresses: &addresses, workload };
        let revisions = vec![Revision { record: "zone/cell-3".to_owned(), revision: 4 }];
        let trusted = Trusted::for_tests("cell-3".parse().unwrap(), None);
        IssuanceGrant::for_software_key(&trusted, &key, &subject, device_end, NOW, 60, revisions)
    }

    #[test]
    fn a_software_key_is_granted_where_the_zone_says_so_and_ends_with_the_devices_own_certificate() {
        let mut zone = Zone::new("cell-3".parse().unwrap());
        let (soon, late) = (NOW.plus(600), NOW.plus(1_000_000));
        assert_eq!(
            software(&zone, Role::Listener, soon),
            Err(GrantError::SoftwareKeys("cell-3".parse().unwrap())),
            "a zone refuses them unless told"
        );
        zone.software_keys = SoftwareKeys::Allow;
        assert_eq!(software(&zone, Role::Caller, soon), Err(GrantError::SoftwareCaller));
        assert_eq!(software(&zone, Role::Listener, NOW), Err(GrantError::Ended(NOW)));
        assert_eq!(software(&zone, Role::Listener, soon).unwrap().validity().not_after, soon);
        let longest = NOW.plus(zone.timing.certificate_lifetime());
        assert_eq!(software(&zone, Role::Listener, late).unwrap().validity().not_after, longest);
        zone.name = "cell-4".parse().unwrap();
        assert!(matches!(software(&zone, Role::Listener, soon), Err(GrantError::OtherZone { .. })));
    }

    #[test]
    fn a_workload_has_a_name_of_its_own_in_both_roles_and_no_address_of_the_device() {
        let mut zone = Zone::new("cell-3".parse().unwrap());
        zone.subnets = ["10.1.3.0/24".parse().unwrap()].into();
        let (soon, name) = (NOW.plus(600), "hmi".parse().unwrap());
        let refused = outside(&zone, Role::Caller, soon, Some(&name));
        assert_eq!(refused, Err(GrantError::SoftwareKeys("cell-3".parse().unwrap())));
        zone.software_keys = SoftwareKeys::Allow;
        for role in [Role::Caller, Role::Listener] {
            let grant = outside(&zone, role, soon, Some(&name)).unwrap();
            let named = "spiffe://cell-3.plant.example/device/press-7/workload/hmi";
            assert_eq!((grant.spiffe_id().to_string().as_str(), grant.role()), (named, role));
            assert_eq!((grant.validity().not_after, grant.addresses().len()), (soon, 0));
        }
    }

    #[test]
    fn only_addresses_in_subnets_of_the_zone_are_granted() {
        let mut zone = Zone::new("cell-3".parse().unwrap());
        zone.software_keys = SoftwareKeys::Allow;
        let granted = |zone: &Zone| {
            let grant = software(zone, Role::Listener, NOW.plus(600)).unwrap();
            grant.addresses().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(granted(&zone).is_empty(), "a zone without subnets");
        zone.subnets = ["10.1.3.0/24".parse().unwrap()].into();
        assert_eq!(granted(&zone), ["10.1.3.7"]);
    }

    #[test]
    fn backdate_and_revisions_are_bounded() {
        assert_eq!(grant("cell-3", 301, 1), Err(GrantError::Backdate(301)));
        assert_eq!(grant("cell-3", 0, 0), Err(GrantError::Revisions(0)));
        assert_eq!(grant("cell-3", 0, 33), Err(GrantError::Revisions(33)));
    }
}
