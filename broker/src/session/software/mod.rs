//! Keys outside the TPM, for servers that cannot use one inside: certified through their device.
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
use proto::v1;

use super::Refusal;
use super::proof::ProvenKey;
use crate::record::device::MAX_ZONES;
use policy::cause::chain;

pub(super) use self::issue::issue;

/// Most software keys in a request: those of one device in each of its zones, which need not all allow them.
const MAX_OFFERED: usize = MAX_SOFTWARE_KEYS * MAX_ZONES;

/// A software key that is to be certified.
#[derive(Debug)]
pub struct OfferedKey {
    /// The zone it is for.
    pub zone: ZoneName,
    /// The service it is for.
    pub service: ServiceName,
    /// The key, stated and in the hands of whoever asks.
    pub key: SoftwareKey,
}

/// A key that gets no certificate.
#[derive(Debug)]
pub struct RefusedKey {
    /// The zone it was for.
    pub zone: ZoneName,
    /// The service that a software key was for; none: the device's own keys of the zone.
    pub service: Option<ServiceName>,
    /// Why.
    pub refusal: Refusal,
}

/// Verifies the software keys of a request against what the device `stated` of them. Each is for one of the
/// `services` that it offers, and none is any of its keys `inside` the TPM.
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
        if offered.iter().any(|other| (&other.zone, &other.service) == (&key.zone, &key.service)) {
            return Err(malformed(&format!("two for {} in {}", key.service, key.zone)));
        }
        let digest = key.key.spki_digest();
        let twice = offered.iter().any(|other| other.key.spki_digest() == digest)
            || inside.iter().any(|other| other.key.spki_digest() == digest);
        if twice {
            return Err(Refusal::Conflict(format!(
                "the software key for {} in {} is offered for something else too; make a new key for each",
                key.service, key.zone
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
    if (&sent.zone, &sent.service) != (&stated.zone, &stated.service) {
        return Err(not_stated());
    }
    let name = |error: NameError| malformed(&error.to_string());
    let zone: ZoneName = sent.zone.parse().map_err(name)?;
    let service: ServiceName = sent.service.parse().map_err(name)?;
    if !services.contains_key(service.as_str()) {
        return Err(malformed(&format!("the device does not offer {service}; offer it, or ask for no key")));
    }
    let key = SoftwareKey::verify(&sent.csr, &stated.csr_digest)
        .map_err(|error| not_proven(&zone, &service, &error))?;
    Ok(OfferedKey { zone, service, key })
}

fn malformed(why: &str) -> Refusal {
    Refusal::malformed(format!("software keys: {why}"))
}

fn not_stated() -> Refusal {
    Refusal::EvidenceInvalid("the statement's software keys are not those of this session".to_owned())
}

fn not_proven(zone: &ZoneName, service: &ServiceName, error: &SoftwareKeyError) -> Refusal {
    Refusal::EvidenceInvalid(format!("software key for {service} in {zone}: {}", chain(error)))
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
            let csr = CertificateParams::default().serialize_request(*key).unwrap().der().to_vec();
            let csr_digest = Digest::of(&csr).0.to_vec();
            let stated = v1::StatedSoftwareKey { zone: zone.clone(), service: service.clone(), csr_digest };
            (v1::SoftwareKey { zone, service, csr }, stated)
        };
        keys.iter().map(one).unzip()
    }

    fn refusal((sent, stated): &Offer) -> Refusal {
        let services = BTreeMap::from([("hmi".to_owned(), 443), ("opcua".to_owned(), 4840)]);
        verified(sent, stated, &services, &[]).unwrap_err()
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
