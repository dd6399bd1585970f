//! What a program has at a moment: its certificates and keys, and whom it may believe.
//!
//! A program that several entries fit gets a certificate for each, told apart by hint. But whom it believes is one list
//! without a direction and without a service (SPIFFE_Workload_API.md, section 5.2), and not every library looks at what a
//! certificate is for: go-spiffe does not. So a server that believed whom it opens would let them in, conduit or not.
//! Entries are therefore served together only if the same zones are at the other end of each; otherwise the first
//! entry is served alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use policy::id::{PlantDomain, TrustDomain, WorkloadName};
use policy::time::UnixTime;
use proto::workload as pb;
use zeroize::Zeroizing;

use crate::config::{Program, Workload};
use crate::state::State;
use crate::trust::Place;

/// How long an offer is taken to be the same without a look at the clock, which may be set meanwhile.
const LOOK: Duration = Duration::from_secs(60);

/// Everything that a program gets.
#[derive(Clone, PartialEq, Eq)]
pub struct Offer {
    identities: Vec<Identity>,
    /// Authorities (DER) by the SPIFFE ID of their trust domain.
    believed: BTreeMap<String, BTreeSet<Vec<u8>>>,
    crls: BTreeSet<Vec<u8>>,
    /// What stands for a zone that does not believe itself: an authority whose key nobody holds.
    nobody: Vec<u8>,
    /// Entries that fit the program too and are not served.
    left_out: Vec<WorkloadName>,
}

/// One certificate with its key.
#[derive(Clone, PartialEq, Eq)]
struct Identity {
    id: String,
    /// The SPIFFE ID of its trust domain.
    domain: String,
    /// DER, leaf first, one after another.
    chain: Vec<u8>,
    /// PKCS#8, DER.
    key: Zeroizing<Vec<u8>>,
    hint: WorkloadName,
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<&String> = self.identities.iter().map(|identity| &identity.id).collect();
        f.debug_struct("Offer").field("ids", &ids).finish_non_exhaustive()
    }
}

/// Why a workload gets nothing now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Withheld {
    /// No entry is about the caller.
    #[error("no identity issued: no [[workload]] in attestor.toml has uid {uid} and gid {gid}")]
    Unknown {
        /// The user that it runs as.
        uid: u32,
        /// The group.
        gid: u32,
    },
    /// The device lost trust.
    #[error("no identity issued: the device is refused ({0}); see touchstone-attestor status")]
    Refused(String),
    /// The certificate is worth nothing any more.
    #[error(
        "no identity issued: the certificate of workload {0} was taken back, with the device's own of its zone; see \
         touchstone-attestor status"
    )]
    Void(String),
    /// The device is in no such zone.
    #[error(
        "no identity issued: the device is not in the zone of workload {0}; correct zone in attestor.toml"
    )]
    Elsewhere(String),
    /// What it holds was proved by another boot.
    #[error("no identity issued: {0}")]
    OtherBoot(String),
    /// The broker certifies no key for it.
    #[error("no identity issued: {0}")]
    NotCertified(String),
    /// The device has not got the certificate yet.
    #[error("the device has no certificate for workload {0} yet; ask again")]
    NotYet(String),
    /// The certificate has ended, and the broker is away.
    #[error("the certificate of workload {name} ended at {at}; the device needs the broker to replace it")]
    Ended {
        /// The workload.
        name: String,
        /// The last second of its certificate.
        at: UnixTime,
    },
}

impl Offer {
    /// What `program` has in this state at `now`, and how long that is so if nothing happens.
    pub fn of(
        state: &State,
        plant: &PlantDomain,
        program: &Program,
        now: UnixTime,
    ) -> Result<(Self, Duration), Withheld> {
        let (mut offer, mut lasts) = Self::of_entry(state, plant, &program.first, now)?;
        for entry in &program.others {
            match Self::of_entry(state, plant, entry, now) {
                Ok((other, until)) if other.zones().eq(offer.zones()) => {
                    offer.add(other);
                    lasts = lasts.min(until);
                }
                _ => offer.left_out.push(entry.name.clone()),
            }
        }
        Ok((offer, lasts))
    }

    fn of_entry(
        state: &State,
        plant: &PlantDomain,
        workload: &Workload,
        now: UnixTime,
    ) -> Result<(Self, Duration), Withheld> {
        if let Some(refusal) = state.distrusted() {
            return Err(Withheld::Refused(refusal.reason.clone()));
        }
        let name = || workload.name.to_string();
        if state.zones.is_empty() {
            return Err(Withheld::NotYet(name()));
        }
        let seat = workload.seat(&state.zones).ok_or_else(|| Withheld::Elsewhere(name()))?;
        if state.void.contains(&seat.own()) {
            return Err(Withheld::Void(name()));
        }
        let (Some(held), Some(trust)) = (state.software_keys.get(&seat), &state.trust) else {
            let refused = state.refused_keys.iter().find(|key| key.seat == seat);
            let refused = refused.map(|key| Withheld::NotCertified(key.message.clone()));
            return Err(refused.unwrap_or_else(|| Withheld::NotYet(name())));
        };
        let end = held.svid().not_after();
        if end < now {
            return Err(Withheld::Ended { name: name(), at: end });
        }
        let (service, direction) = (workload.service.clone(), workload.role.direction());
        let place = Place { zone: seat.zone.clone(), service, direction };
        let (mut believed, mut crls) = (BTreeMap::<String, BTreeSet<Vec<u8>>>::new(), BTreeSet::new());
        for (zone, authority) in trust.believed(&place, now) {
            let bundle = believed.entry(spiffe_id(&plant.trust_domain(zone))).or_default();
            bundle.insert(authority.certificate.clone());
            crls.insert(authority.crl.clone());
        }
        let domain = plant.trust_domain(&seat.zone);
        let id = state.device.as_ref().map(|device| domain.workload(device, &workload.name).to_string());
        let identity = Identity {
            id: id.ok_or_else(|| Withheld::NotYet(name()))?,
            domain: spiffe_id(&domain),
            chain: held.svid().chain().concat(),
            key: Zeroizing::new(held.key().pkcs8().to_vec()),
            hint: workload.name.clone(),
        };
        let nobody = trust.nobody().certificate.clone();
        let offer = Self { identities: vec![identity], believed, crls, nobody, left_out: Vec::new() };
        let edge = trust.next_edge(now).map_or(end.plus(1), |edge| edge.min(end.plus(1)));
        Ok((offer, LOOK.min(Duration::from_secs(edge.since(now)))))
    }

    /// The zones at the other end, as trust domains.
    fn zones(&self) -> impl Iterator<Item = &String> {
        self.believed.keys()
    }

    fn add(&mut self, other: Self) {
        self.identities.extend(other.identities);
        for (domain, authorities) in other.believed {
            self.believed.entry(domain).or_default().extend(authorities);
        }
        self.crls.extend(other.crls);
    }

    /// Entries that fit the program too and are not served with the first.
    #[must_use]
    pub fn left_out(&self) -> &[WorkloadName] {
        &self.left_out
    }

    /// The certificates with their keys, the bundles of their zones, and those of other zones.
    #[must_use]
    pub fn svids(&self) -> pb::X509svidResponse {
        let mut federated = self.bundles().bundles;
        let own: BTreeSet<&String> = self.identities.iter().map(|identity| &identity.domain).collect();
        let own: BTreeMap<&String, Vec<u8>> =
            own.into_iter().map(|domain| (domain, federated.remove(domain).unwrap_or_default())).collect();
        let svid = |identity: &Identity| pb::X509svid {
            spiffe_id: identity.id.clone(),
            x509_svid: identity.chain.clone(),
            x509_svid_key: identity.key.to_vec(),
            bundle: own.get(&identity.domain).cloned().unwrap_or_default(),
            hint: identity.hint.to_string(),
        };
        let svids = self.identities.iter().map(svid).collect();
        pb::X509svidResponse { svids, crl: self.crls.iter().cloned().collect(), federated_bundles: federated }
    }

    /// The bundles alone: authorities in DER, one after another. That of its own zone must not be empty: where the zone
    /// does not believe itself, nobody holds the key of the one that stands there.
    #[must_use]
    pub fn bundles(&self) -> pb::X509BundlesResponse {
        let concat = |all: &BTreeSet<Vec<u8>>| all.iter().flatten().copied().collect::<Vec<u8>>();
        let believed = self.believed.iter().map(|(domain, all)| (domain.clone(), concat(all)));
        let mut bundles: BTreeMap<String, Vec<u8>> = believed.collect();
        for identity in &self.identities {
            bundles.entry(identity.domain.clone()).or_insert_with(|| self.nobody.clone());
        }
        pb::X509BundlesResponse {
            crl: self.crls.iter().cloned().collect(),
            bundles: bundles.into_iter().collect(),
        }
    }
}

/// The SPIFFE ID of a trust domain (SPIFFE-ID, section 2.1).
fn spiffe_id(domain: &TrustDomain) -> String {
    format!("spiffe://{domain}")
}

#[cfg(test)]
pub(super) mod tests;
