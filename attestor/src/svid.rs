//! Certificates that the broker issued to this device, taken only if they are what was asked for.
//!
//! Promises: a [`HeldSvid`] certifies the TPM key it was asked for, names this device in this zone, and has not
//! ended. Does not promise: that a peer accepts it; the zone's authority is the peers' matter.

use policy::id::{DeviceName, PlantDomain, SpiffeId, WorkloadName};
use policy::time::{UnixTime, Validity};
use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::role::Seat;

/// Most certificates in a chain: leaf, an intermediate and one to spare for rotations.
const MAX_CHAIN: usize = 4;
/// Longest certificate in bytes; one of ours takes about 600.
const MAX_CERTIFICATE: usize = 8 * 1024;

/// A certificate of this device with its chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldSvid {
    chain: Vec<Vec<u8>>,
    point: Vec<u8>,
    serial: Vec<u8>,
    not_before: UnixTime,
    not_after: UnixTime,
}

/// A certificate is not what the device asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SvidError {
    /// The chain is empty, too long, or a certificate in it cannot be read.
    #[error("the certificate for {seat} cannot be read; tell the administrator of the broker")]
    Malformed {
        /// What it was for.
        seat: Seat,
    },
    /// It certifies another key.
    #[error("the certificate for {seat} is for another key than the device's; the device asks again")]
    OtherKey {
        /// What it was for.
        seat: Seat,
    },
    /// It names another device or zone.
    #[error("the certificate for {seat} does not name {expected}; tell the administrator of the broker")]
    OtherName {
        /// What it was for.
        seat: Seat,
        /// The SPIFFE ID that it should have.
        expected: String,
    },
    /// It has ended already.
    #[error(
        "the certificate for {seat} ended at {not_after}, and the clock here shows {now}; compare the clocks of \
         device and broker"
    )]
    Ended {
        /// What it was for.
        seat: Seat,
        /// Its end.
        not_after: UnixTime,
        /// The time here.
        now: UnixTime,
    },
}

/// What a certificate must say to be taken.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The zone and role it is for.
    pub seat: &'a Seat,
    /// The point of the device's key, uncompressed.
    pub point: &'a [u8],
    /// The plant.
    pub plant: &'a PlantDomain,
    /// The device.
    pub device: &'a DeviceName,
    /// The workload on it that the certificate must name instead; None: the device itself.
    pub workload: Option<&'a WorkloadName>,
}

impl Asked<'_> {
    fn id(&self) -> SpiffeId {
        let domain = self.plant.trust_domain(&self.seat.zone);
        match self.workload {
            Some(workload) => domain.workload(self.device, workload),
            None => domain.device(self.device),
        }
    }
}

impl HeldSvid {
    /// Takes a chain (DER, leaf first) that must be what was `asked` for and must not have ended `now`.
    pub fn accept(chain: Vec<Vec<u8>>, asked: &Asked<'_>, now: UnixTime) -> Result<Self, SvidError> {
        let held = Self::recall(chain, asked)?;
        match held.not_after < now {
            true => Err(SvidError::Ended { seat: asked.seat.clone(), not_after: held.not_after, now }),
            false => Ok(held),
        }
    }

    /// The same for a chain of the state file, which may have ended meanwhile.
    pub fn recall(chain: Vec<Vec<u8>>, asked: &Asked<'_>) -> Result<Self, SvidError> {
        let seat = || asked.seat.clone();
        let malformed = || SvidError::Malformed { seat: seat() };
        let bounded = chain.len() <= MAX_CHAIN && chain.iter().all(|der| der.len() <= MAX_CERTIFICATE);
        let leaf = chain.first().filter(|_| bounded).ok_or_else(malformed)?;
        let leaf = Certificate::from_der(leaf).map_err(|_| malformed())?;
        let tbs = leaf.tbs_certificate();
        if tbs.subject_public_key_info().subject_public_key.raw_bytes() != asked.point {
            return Err(SvidError::OtherKey { seat: seat() });
        }
        let expected = asked.id();
        if !names(&leaf, &expected) {
            return Err(SvidError::OtherName { seat: seat(), expected: expected.to_string() });
        }
        let validity = tbs.validity();
        Ok(Self {
            point: asked.point.to_vec(),
            serial: tbs.serial_number().as_bytes().to_vec(),
            not_before: UnixTime(validity.not_before.to_unix_duration().as_secs()),
            not_after: UnixTime(validity.not_after.to_unix_duration().as_secs()),
            chain,
        })
    }

    /// DER, leaf first; at least one.
    #[must_use]
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    /// The point of the certified key, uncompressed.
    #[must_use]
    pub fn point(&self) -> &[u8] {
        &self.point
    }

    /// The leaf's serial number, big-endian.
    #[must_use]
    pub fn serial(&self) -> &[u8] {
        &self.serial
    }

    /// When it holds.
    #[must_use]
    pub const fn validity(&self) -> Validity {
        Validity { not_before: self.not_before, not_after: self.not_after }
    }

    /// Whether it has begun by `now`, and has not ended.
    #[must_use]
    pub fn holds(&self, now: UnixTime) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }

    /// First second at which it holds.
    #[must_use]
    pub const fn not_before(&self) -> UnixTime {
        self.not_before
    }

    /// Last second at which it holds.
    #[must_use]
    pub const fn not_after(&self) -> UnixTime {
        self.not_after
    }
}

fn names(leaf: &Certificate, expected: &SpiffeId) -> bool {
    let Ok(Some((_, names))) = leaf.tbs_certificate().get_extension::<SubjectAltName>() else { return false };
    let mut uris = names.0.iter().filter_map(|name| match name {
        GeneralName::UniformResourceIdentifier(uri) => Some(uri.as_str()),
        _ => None,
    });
    uris.next() == Some(expected.to_string().as_str()) && uris.next().is_none()
}

/// SHA-256 of a certificate's SubjectPublicKeyInfo; None if it is no certificate.
#[must_use]
pub fn spki_digest(certificate: &[u8]) -> Option<policy::digest::Digest> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let spki = certificate.tbs_certificate().subject_public_key_info().to_der().ok()?;
    Some(policy::digest::Digest::of(&spki))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PublicKeyData, SanType};

    use super::*;

    fn certificate(uri: &str, key: &KeyPair) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 1, 2);
        params.self_signed(key).unwrap().der().to_vec()
    }

    const URI: &str = "spiffe://press.plant.example/device/press-1";
    const DURING: UnixTime = UnixTime(1_767_225_600 + 60);

    fn accept(uri: &str, other_key: bool, now: UnixTime) -> Result<HeldSvid, SvidError> {
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let seat = Seat { zone: "press".parse().unwrap(), role: crate::role::Role::Caller };
        let point = if other_key { other.der_bytes() } else { key.der_bytes() };
        let (plant, device) = ("plant.example".parse().unwrap(), "press-1".parse().unwrap());
        let asked = Asked { seat: &seat, point, plant: &plant, device: &device, workload: None };
        HeldSvid::accept(vec![certificate(uri, &key)], &asked, now)
    }

    #[test]
    fn the_certificate_that_was_asked_for_is_taken() {
        let held = accept(URI, false, DURING).unwrap();
        assert_eq!(
            (held.not_before(), held.not_after().since(held.not_before())),
            (UnixTime(1_767_225_600), 86_400)
        );
    }

    #[test]
    fn others_are_refused_by_reason() {
        assert!(matches!(accept(URI, true, DURING), Err(SvidError::OtherKey { .. })));
        let late = UnixTime(1_767_225_600 + 100_000);
        assert!(matches!(accept(URI, false, late), Err(SvidError::Ended { .. })));
        for uri in
            ["spiffe://cell.plant.example/device/press-1", "spiffe://press.plant.example/device/press-2"]
        {
            assert!(matches!(accept(uri, false, DURING), Err(SvidError::OtherName { .. })));
        }
    }

    #[test]
    fn an_empty_chain_is_refused() {
        let seat = Seat { zone: "press".parse().unwrap(), role: crate::role::Role::Caller };
        let (plant, device) = ("plant.example".parse().unwrap(), "press-1".parse().unwrap());
        let asked = Asked { seat: &seat, point: &[], plant: &plant, device: &device, workload: None };
        assert!(matches!(HeldSvid::accept(Vec::new(), &asked, DURING), Err(SvidError::Malformed { .. })));
    }
}
