//! A zone's authorities as a SPIFFE bundle (SPIFFE Trust Domain and Bundle, section 4).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use policy::id::ZoneName;
use policy::x509::Certificate;
use policy::x509::spki::{Curve, SubjectKey};
use serde::Serialize;

use super::REFRESH;
use crate::trust::View;

/// A zone cannot be published.
#[derive(Debug, thiserror::Error)]
pub(super) enum BundleError {
    /// Every authority is distrusted.
    #[error(
        "zone {0} has no authority that is believed, and an empty bundle would distrust everything for good; make one with `touchstone authority rotate {0}`"
    )]
    Empty(ZoneName),
    /// An authority's certificate is not what zones have.
    #[error("an authority of zone {0} has no P-256 key")]
    Key(ZoneName),
    /// It cannot be written.
    #[error("the bundle cannot be written")]
    Json(#[from] serde_json::Error),
}

/// The bundle: a JWK Set with two more members.
#[derive(Serialize)]
struct Bundle {
    spiffe_sequence: u64,
    spiffe_refresh_hint: u64,
    keys: Vec<Key>,
}

/// An authority as a JWK (RFC 7517, section 4).
#[derive(Serialize)]
struct Key {
    kty: &'static str,
    crv: &'static str,
    x: String,
    y: String,
    r#use: &'static str,
    x5c: [String; 1],
}

/// The bundle of `zone`: both its authorities, in every generation that is believed. It has no direction; who needs
/// one uses trust files.
pub(super) fn of(view: &View, zone: &ZoneName, epoch: u64) -> Result<String, BundleError> {
    let known = view.known();
    let own = known.iter().filter(|known| known.zone == zone);
    let keys = own
        .map(|known| key(known.certificate).ok_or_else(|| BundleError::Key(zone.clone())))
        .collect::<Result<Vec<_>, _>>()?;
    if keys.is_empty() {
        return Err(BundleError::Empty(zone.clone()));
    }
    let bundle = Bundle { spiffe_sequence: view.sequence(epoch), spiffe_refresh_hint: REFRESH, keys };
    Ok(serde_json::to_string(&bundle)?)
}

fn key(der: &[u8]) -> Option<Key> {
    let certificate = Certificate::parse(der).ok()?;
    let SubjectKey::Ec { curve: Curve::P256, point } = SubjectKey::parse(certificate.spki()).ok()? else {
        return None;
    };
    // Uncompressed (SEC 1, section 2.3.3): a byte 4, then both coordinates.
    let (x, y) = point.get(1..)?.split_at_checked(Curve::P256.coordinate_len())?;
    Some(Key {
        kty: "EC",
        crv: "P-256",
        x: URL_SAFE_NO_PAD.encode(x),
        y: URL_SAFE_NO_PAD.encode(y),
        r#use: "x509-svid",
        x5c: [STANDARD.encode(der)],
    })
}
