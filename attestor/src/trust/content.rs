//! What a trust set says, read strictly: its names become file names, its indices choose whom to believe.

use std::collections::BTreeSet;
use std::time::Duration;

use policy::id::{NameError, ZoneName};
use policy::time::UnixTime;
use policy::zone::model::{MAX_CONDUITS, MAX_ZONES as ZONES_OF_PLANT};
use policy::zone::{GateFail, GateRules, MAX_GENERATIONS};
use prost::Message;
use proto::{convert, v1};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};

use super::{Authority, Believed, Direction, Expected, Opening, TrustError, TrustFile, TrustSet};
use crate::config::MAX_ZONES;
use crate::role::Role;

/// Most authorities in a set: what a device that meets every zone of the largest plant believes.
const MAX_AUTHORITIES: usize = 2 * ZONES_OF_PLANT * MAX_GENERATIONS;
/// Most trust files: two for each conduit of the largest plant.
const MAX_FILES: usize = 2 * MAX_CONDUITS;
/// Longest JWK Set with keys of grants, in bytes: a key takes some 250.
const MAX_GRANT_KEYS: usize = 8 * 1024;

pub(super) fn parse(
    signed: v1::SignedTrustSet,
    expected: &Expected<'_>,
    issuing_number: u32,
) -> Result<TrustSet, TrustError> {
    let set = v1::TrustSet::decode(signed.trust_set.as_slice())
        .map_err(|error| TrustError::Malformed(error.to_string()))?;
    if set.device != expected.device.as_str() {
        let named = set.device.chars().take(80).flat_map(char::escape_debug).collect();
        return Err(TrustError::OtherDevice { named, device: expected.device.clone() });
    }
    let bounded = set.authorities.len() <= MAX_AUTHORITIES
        && set.files.len() <= MAX_FILES
        && set.files.iter().all(|file| file.openings.len() <= MAX_AUTHORITIES)
        && set.files.iter().all(|file| file.ways.len() <= MAX_AUTHORITIES)
        && set.grant_keys.len() <= MAX_GRANT_KEYS
        && set.timings.len() <= MAX_ZONES;
    if !bounded {
        return Err(malformed("it has more authorities, files or zones than any device"));
    }
    let nobody = authority(&signed.nobody_certificate, &signed.nobody_crl, "of nobody")?;
    let authorities = set.authorities.iter().map(believed).collect::<Result<_, _>>()?;
    let files = set.files.iter().map(|found| file(found, &set)).collect::<Result<Vec<_>, _>>()?;
    let places: BTreeSet<_> = files.iter().map(|file| (&file.zone, &file.service, file.direction)).collect();
    if places.len() != files.len() {
        return Err(malformed("a trust file is listed twice"));
    }
    let reattest_every = set.timings.iter().map(interval).collect::<Result<_, _>>()?;
    let gates = set.timings.iter().map(gate).collect::<Result<_, _>>()?;
    let (sequence, issued_at) = (set.sequence, UnixTime(set.issued_at));
    let grant_keys = set.grant_keys;
    Ok(TrustSet {
        signed,
        issuing_number,
        sequence,
        issued_at,
        authorities,
        files,
        nobody,
        reattest_every,
        gates,
        grant_keys,
    })
}

fn malformed(what: &str) -> TrustError {
    TrustError::Malformed(what.to_owned())
}

fn interval(timing: &v1::ZoneTiming) -> Result<(ZoneName, Duration), TrustError> {
    let zone = timing.zone.parse().map_err(|error: NameError| TrustError::Malformed(error.to_string()))?;
    Ok((zone, Duration::from_secs(timing.reattest_every_seconds.into())))
}

fn gate(timing: &v1::ZoneTiming) -> Result<(ZoneName, GateRules), TrustError> {
    let zone = timing.zone.parse().map_err(|error: NameError| TrustError::Malformed(error.to_string()))?;
    let fail = if timing.gate_fail_closed { GateFail::Closed } else { GateFail::Open };
    let rules = GateRules::new(timing.gate_drain_seconds.into(), fail);
    Ok((zone, rules.map_err(|error| TrustError::Malformed(error.to_string()))?))
}

fn authority(certificate: &[u8], crl: &[u8], zone: &str) -> Result<Authority, TrustError> {
    let zone: String = zone.chars().take(80).flat_map(char::escape_debug).collect();
    webpki::anchor_from_trusted_cert(&CertificateDer::from(certificate))
        .map_err(|_| TrustError::Malformed(format!("the authority {zone} cannot be read")))?;
    // One CRL missing beside its authority, and OpenSSL refuses every peer.
    webpki::BorrowedCertRevocationList::from_der(CertificateRevocationListDer::from(crl).as_ref())
        .map_err(|_| TrustError::Malformed(format!("the CRL of the authority {zone} cannot be read")))?;
    Ok(Authority { certificate: certificate.to_vec(), crl: crl.to_vec() })
}

/// An authority of a zone, with what it revoked.
fn believed(found: &v1::Authority) -> Result<Believed, TrustError> {
    let authority = authority(&found.certificate, &found.crl, &found.zone)?;
    let unreadable = |_| malformed("the CRL of an authority cannot be read");
    let crl = CertificateRevocationListDer::from(found.crl.as_slice());
    let crl = webpki::BorrowedCertRevocationList::from_der(crl.as_ref()).map_err(unreadable)?;
    let entries = crl.into_iter().map(|entry| entry.map(|entry| entry.serial_number.to_vec()));
    Ok(Believed {
        authority,
        zone: found.zone.parse().map_err(|error: NameError| TrustError::Malformed(error.to_string()))?,
        role: Role::from_wire(found.role()).ok_or_else(|| malformed("an authority has no role"))?,
        revoked: entries.collect::<Result<_, _>>().map_err(unreadable)?,
    })
}

fn file(found: &v1::TrustFile, set: &v1::TrustSet) -> Result<TrustFile, TrustError> {
    let name = |error: NameError| TrustError::Malformed(error.to_string());
    let (direction, believed) = match found.direction() {
        v1::Direction::Inbound => (Direction::Inbound, Role::Caller),
        v1::Direction::Outbound => (Direction::Outbound, Role::Listener),
        v1::Direction::Unspecified => return Err(malformed("a trust file has no direction")),
    };
    let named = |index: u32| {
        let index = usize::try_from(index).map_err(|_| malformed("an index is too large"))?;
        let authority = set
            .authorities
            .get(index)
            .ok_or_else(|| malformed("a trust file names an authority that is not in the set"))?;
        // A caller's authority in an outbound file would turn a one-way conduit round.
        if Role::from_wire(authority.role()) != Some(believed) {
            return Err(malformed("a trust file believes an authority of the other direction"));
        }
        Ok(index)
    };
    let openings = found.openings.iter().map(|one| opening(one, named(one.authority)?));
    let openings = openings.collect::<Result<Vec<_>, _>>()?;
    let always = |index: &usize| openings.iter().all(|opening| opening.authority != *index);
    let authorities = found.authorities.iter().map(|index| named(*index));
    let authorities: Vec<usize> = authorities.collect::<Result<Vec<_>, _>>()?;
    let authorities = authorities.into_iter().filter(always).collect();
    let ways = found.ways.iter().map(convert::way_from_wire).collect::<Result<_, _>>();
    Ok(TrustFile {
        zone: found.zone.parse().map_err(name)?,
        service: found.service.parse().map_err(name)?,
        direction,
        authorities,
        openings,
        ways: ways.map_err(|error| TrustError::Malformed(error.to_string()))?,
    })
}

/// Hours that cannot be read are no hours: whoever does not know when to close must not open.
fn opening(found: &v1::Opening, authority: usize) -> Result<Opening, TrustError> {
    let schedule = convert::schedule_from_wire(&found.schedule);
    let schedule = schedule.map_err(|error| TrustError::Malformed(error.to_string()))?;
    let expires = (found.expires_at != 0).then_some(UnixTime(found.expires_at));
    Ok(Opening { authority, schedule, expires })
}
