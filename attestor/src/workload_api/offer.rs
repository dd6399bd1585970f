//! What a workload has at a moment: its certificate and key, and whom it may believe.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use policy::id::{PlantDomain, TrustDomain};
use policy::time::UnixTime;
use proto::workload as pb;
use zeroize::Zeroizing;

use crate::config::Workload;
use crate::role::Role;
use crate::state::State;
use crate::trust::{Direction, Place};

/// How long an offer is taken to be the same without a look at the clock, which may be set meanwhile.
const LOOK: Duration = Duration::from_secs(60);
/// Refusals that say that the device is not trusted. Others are about one attempt, and what it holds goes on to count.
const LOST: [&str; 6] =
    ["REFERENCE_MISMATCH", "QUARANTINED", "RETIRED", "NOT_ADMITTED", "NOT_ENDORSED", "NOT_FOUND"];

/// Everything that a workload gets.
#[derive(Clone, PartialEq, Eq)]
pub struct Offer {
    id: String,
    /// DER, leaf first, one after another.
    chain: Vec<u8>,
    /// PKCS#8, DER.
    key: Zeroizing<Vec<u8>>,
    own: String,
    /// Authorities (DER, one after another) by the SPIFFE ID of their trust domain; its own is among them.
    bundles: BTreeMap<String, Vec<u8>>,
    crls: Vec<Vec<u8>>,
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer").field("id", &self.id).finish_non_exhaustive()
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
    /// What `workload` has in this state at `now`, and how long that is so if nothing happens.
    pub fn of(
        state: &State,
        plant: &PlantDomain,
        workload: &Workload,
        now: UnixTime,
    ) -> Result<(Self, Duration), Withheld> {
        let lost = |reason: &str| state.lost_trust() || LOST.contains(&reason);
        if let Some(refusal) = state.refusal.as_ref().filter(|refusal| lost(&refusal.reason)) {
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
        let direction = match workload.role {
            Role::Listener => Direction::Inbound,
            Role::Caller => Direction::Outbound,
        };
        let place = Place { zone: seat.zone.clone(), service: workload.service.clone(), direction };
        let (mut bundles, mut crls) = (BTreeMap::<String, Vec<u8>>::new(), Vec::new());
        for (zone, authority) in trust.believed(&place, now) {
            let bundle = bundles.entry(spiffe_id(&plant.trust_domain(zone))).or_default();
            bundle.extend_from_slice(&authority.certificate);
            crls.push(authority.crl.clone());
        }
        let domain = plant.trust_domain(&seat.zone);
        let own = spiffe_id(&domain);
        // A bundle must not be empty: where the zone does not believe itself, nobody holds the key of this one.
        bundles.entry(own.clone()).or_insert_with(|| trust.nobody().certificate.clone());
        let id = state.device.as_ref().map(|device| domain.workload(device, &workload.name).to_string());
        let offer = Self {
            id: id.ok_or_else(|| Withheld::NotYet(name()))?,
            chain: held.svid().chain().concat(),
            key: Zeroizing::new(held.key().pkcs8().to_vec()),
            own,
            bundles,
            crls,
        };
        let edge = trust.next_edge(now).map_or(end.plus(1), |edge| edge.min(end.plus(1)));
        Ok((offer, LOOK.min(Duration::from_secs(edge.since(now)))))
    }

    /// The certificate with its key, its zone's bundle, and those of other zones.
    #[must_use]
    pub fn svids(&self, hint: &str) -> pb::X509svidResponse {
        let mut federated = self.bundles.clone();
        let bundle = federated.remove(&self.own).unwrap_or_default();
        let svid = pb::X509svid {
            spiffe_id: self.id.clone(),
            x509_svid: self.chain.clone(),
            x509_svid_key: self.key.to_vec(),
            bundle,
            hint: hint.to_owned(),
        };
        pb::X509svidResponse {
            svids: vec![svid],
            crl: self.crls.clone(),
            federated_bundles: federated.into_iter().collect(),
        }
    }

    /// The bundles alone.
    #[must_use]
    pub fn bundles(&self) -> pb::X509BundlesResponse {
        pb::X509BundlesResponse {
            crl: self.crls.clone(),
            bundles: self.bundles.clone().into_iter().collect(),
        }
    }
}

/// The SPIFFE ID of a trust domain (SPIFFE-ID, section 2.1).
fn spiffe_id(domain: &TrustDomain) -> String {
    format!("spiffe://{domain}")
}

#[cfg(test)]
pub(super) mod tests;
