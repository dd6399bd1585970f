//! Keys outside the TPM, for workloads and for servers that cannot use one inside: certified through their device.
//!
//! Promises: such a key is stated, so the device's TPM vouched for it together with what it booted; its holder signed
//! the request; it was never certified before; its certificate ends with the device's own. It is recorded with the
//! device, so whatever revokes the device's certificates revokes it too.
//! Does not promise that nobody copied it: that is what a zone accepts that allows such keys.

mod issue;

use std::collections::BTreeMap;

use policy::budget::MAX_SOFTWARE_KEYS;
use policy::evidence::software_key::{SoftwareKey, SoftwareKeyError};
use policy::id::{NameError, ServiceName, ZoneName};
use policy::zone::Role;
use proto::v1;

use super::Refusal;
use super::proof::ProvenKey;
use crate::record::device::{Holder, MAX_ZONES};
use policy::cause::chain;

pub(super) use self::issue::issue;

/// Most software keys in a request: those of one device in each of its zones, which need not all allow them.
const MAX_OFFERED: usize = MAX_SOFTWARE_KEYS * MAX_ZONES;

/// A software key that is to be certified.
#[derive(Debug)]
pub struct OfferedKey {
    /// The zone it is for.
    pub zone: ZoneName,
    /// What it is for.
    pub holder: Holder,
    /// The side of connections that it is for: a service listens.
    pub role: Role,
    /// The key, stated and in the hands of whoever asks.
    pub key: SoftwareKey,
}

/// A key that gets no certificate.
#[derive(Debug)]
pub struct RefusedKey {
    /// The zone it was for.
    pub zone: ZoneName,
    /// What a software key was for, on which side of connections; none: the device's own keys of the zone.
    pub key: Option<(Holder, Role)>,
    /// Why.
    pub refusal: Refusal,
}

/// Verifies the software keys of a request against what the device `stated` of them. Each is for a workload or one of
/// the `services` that it offers, and none is any of its keys `inside` the TPM.
pub(super) fn verified(
    sent: &[v1::SoftwareKey],
    stated: &[v1::StatedSoftwareKey],
    services: &BTreeMap<String, u16>,
    inside: &[ProvenKey],
) -> Result<Vec<OfferedKey>, Refusal> {
    if sent.len() > MAX_OFFERED {
        return Err(malformed(&format!("{} are sent, at most {MAX_OFFERED} are taken", sent.len())));
    }
    if sent.len() != stated.len() {
        return Err(not_stated());
    }
    let mut offered: Vec<OfferedKey> = Vec::new();
    for (sent, stated) in sent.iter().zip(stated) {
        let key = one(sent, stated, services)?;
        if offered.iter().any(|other| (&other.zone, &other.holder) == (&key.zone, &key.holder)) {
            return Err(malformed(&format!("two for {} in {}", key.holder, key.zone)));
        }
        let digest = key.key.spki_digest();
        let twice = offered.iter().any(|other| other.key.spki_digest() == digest)
            || inside.iter().any(|other| other.key.spki_digest() == digest);
        if twice {
            return Err(Refusal::Conflict(format!(
                "the software key for {} in {} is offered for something else too; make a new key for each",
                key.holder, key.zone
            )));
        }
        offered.push(key);
    }
    Ok(offered)
}

fn one(
    sent: &v1::SoftwareKey,
    stated: &v1::StatedSoftwareKey,
    services: &BTreeMap<String, u16>,
) -> Result<OfferedKey, Refusal> {
    let same =
        (&sent.zone, &sent.service, &sent.workload) == (&stated.zone, &stated.service, &stated.workload);
    if !same || sent.role != stated.role {
        return Err(not_stated());
    }
    let zone: ZoneName = sent.zone.parse().map_err(misnamed)?;
    let (holder, role) = holder(sent, services)?;
    let key = SoftwareKey::verify(&sent.csr, &stated.csr_digest)
        .map_err(|error| not_proven(&zone, &holder, &error))?;
    Ok(OfferedKey { zone, holder, role, key })
}

/// What a key is for, and on which side of connections.
fn holder(sent: &v1::SoftwareKey, services: &BTreeMap<String, u16>) -> Result<(Holder, Role), Refusal> {
    if sent.workload.is_empty() {
        let service: ServiceName = sent.service.parse().map_err(misnamed)?;
        return match services.contains_key(service.as_str()) {
            true => Ok((Holder::Service(service), Role::Listener)),
            false => {
                Err(malformed(&format!("the device does not offer {service}; offer it, or ask for no key")))
            }
        };
    }
    if !sent.service.is_empty() {
        return Err(malformed("one is for a workload and a service; ask for one key for each"));
    }
    let role = match sent.role() {
        v1::Role::Caller => Role::Caller,
        v1::Role::Listener => Role::Listener,
        v1::Role::Unspecified => return Err(malformed("one for a workload has no role")),
    };
    Ok((Holder::Workload(sent.workload.parse().map_err(misnamed)?), role))
}

fn misnamed(error: NameError) -> Refusal {
    malformed(&error.to_string())
}

fn malformed(why: &str) -> Refusal {
    Refusal::malformed(format!("software keys: {why}"))
}

fn not_stated() -> Refusal {
    Refusal::EvidenceInvalid("the statement's software keys are not those of this session".to_owned())
}

fn not_proven(zone: &ZoneName, holder: &Holder, error: &SoftwareKeyError) -> Refusal {
    Refusal::EvidenceInvalid(format!("software key for {holder} in {zone}: {}", chain(error)))
}

#[cfg(test)]
mod tests {
    use policy::digest::Digest;
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    type Offer = (Vec<v1::SoftwareKey>, Vec<v1::StatedSoftwareKey>);

    fn offer(keys: &[(&str, &str, &KeyPair)]) -> Offer {
        let one = |(zone, service, key): &(&str, &str, &KeyPair)| {
            let (zone, service) = ((*zone).to_owned(), (*service).to_owned());
            let mut params = CertificateParams::default();
            params.distinguished_name = rcgen::DistinguishedName::new();
            let csr = params.serialize_request(*key).unwrap().der().to_vec();
            let csr_digest = Digest::of(&csr).0.to_vec();
            let (zone_too, service_too) = (zone.clone(), service.clone());
            let stated = v1::StatedSoftwareKey {
                zone: zone_too,
                service: service_too,
                csr_digest,
                ..Default::default()
            };
            (v1::SoftwareKey { zone, service, csr, ..v1::SoftwareKey::default() }, stated)
        };
        keys.iter().map(one).unzip()
    }

    fn refusal((sent, stated): &Offer) -> Refusal {
        let services = BTreeMap::from([("hmi".to_owned(), 443), ("opcua".to_owned(), 4840)]);
        verified(sent, stated, &services, &[]).unwrap_err()
    }

    #[test]
    fn a_workload_states_its_side_of_connections_and_no_service() {
        let key = KeyPair::generate().unwrap();
        let of = |workload: &str, role: v1::Role, service: &str| {
            let (mut sent, mut stated) = offer(&[("press", service, &key)]);
            (sent[0].workload, sent[0].role) = (workload.to_owned(), role.into());
            (stated[0].workload, stated[0].role) = (workload.to_owned(), role.into());
            (sent, stated)
        };
        let (sent, stated) = of("hmi", v1::Role::Caller, "");
        let taken = verified(&sent, &stated, &BTreeMap::new(), &[]).unwrap();
        assert_eq!(taken[0].holder, Holder::Workload("hmi".parse().unwrap()), "it offers no service");
        assert_eq!(taken[0].role, Role::Caller);
        let (mut sent, stated) = of("hmi", v1::Role::Caller, "");
        sent[0].role = v1::Role::Listener.into();
        let other = refusal(&(sent, stated));
        assert!(matches!(other, Refusal::EvidenceInvalid(why) if why.contains("statement's")), "other role");
        let (mut sent, stated) = of("hmi", v1::Role::Caller, "");
        sent[0].workload = "historian".into();
        let other = refusal(&(sent, stated));
        assert!(matches!(other, Refusal::EvidenceInvalid(why) if why.contains("statement's")), "other name");
        for (offer, why) in [
            (of("hmi", v1::Role::Unspecified, ""), "has no role"),
            (of("hmi", v1::Role::Caller, "opcua"), "a workload and a service"),
            (of("a/b", v1::Role::Caller, ""), "no workload name"),
        ] {
            assert!(matches!(refusal(&offer), Refusal::Malformed(said) if said.contains(why)), "{why}");
        }
    }

    #[test]
    fn each_refusal_has_its_reason() {
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let good = offer(&[("press", "hmi", &key), ("press", "opcua", &other)]);
        let services = BTreeMap::from([("hmi".to_owned(), 443), ("opcua".to_owned(), 4840)]);
        assert_eq!(verified(&good.0, &good.1, &services, &[]).unwrap().len(), 2);

        let (sent, mut stated) = good.clone();
        stated.pop();
        assert!(
            matches!(refusal(&(sent, stated)), Refusal::EvidenceInvalid(why) if why.contains("statement's"))
        );
        let (mut sent, stated) = good.clone();
        sent[0].zone = "vision".to_owned();
        assert!(
            matches!(refusal(&(sent, stated)), Refusal::EvidenceInvalid(why) if why.contains("statement's"))
        );
        let (mut sent, stated) = good.clone();
        (sent[0].csr, sent[1].csr) = (good.0[1].csr.clone(), good.0[0].csr.clone());
        assert!(
            matches!(refusal(&(sent, stated)), Refusal::EvidenceInvalid(why) if why.contains("does not name this request"))
        );

        let foreign = offer(&[("press", "ssh", &key)]);
        assert!(matches!(refusal(&foreign), Refusal::Malformed(why) if why.contains("does not offer ssh")));
        let doubled = offer(&[("press", "hmi", &key), ("press", "hmi", &other)]);
        assert!(matches!(refusal(&doubled), Refusal::Malformed(why) if why.contains("two for hmi in press")));
        let shared = offer(&[("press", "hmi", &key), ("press", "opcua", &key)]);
        assert!(matches!(refusal(&shared), Refusal::Conflict(why) if why.contains("something else too")));
        let flood = (vec![v1::SoftwareKey::default(); MAX_OFFERED + 1], Vec::new());
        assert!(matches!(refusal(&flood), Refusal::Malformed(why) if why.contains("at most 32")));
    }
}
