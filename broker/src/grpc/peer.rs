//! Who is on the other end of a connection, by its certificate alone.
//!
//! Administrators come from the issuing key, devices from a zone's caller authority, and each is
//! verified against its own anchors: a zone's authority never makes an administrator.

use std::sync::Arc;

use policy::digest::Digest;
use policy::id::{PlantDomain, SpiffeId, ZoneName};
use policy::time::{UnixTime, Validity};
use rustls::pki_types::CertificateDer;
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::ca::profile::ADMINISTRATOR_EKU_DER;
use crate::session::Refusal;

/// The peer of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// It showed no certificate: it may enroll and attest.
    Anonymous,
    /// A device under its certificate of one zone.
    Device(Arc<DevicePeer>),
    /// An administrator.
    Administrator(Arc<AdministratorPeer>),
}

/// A device as its certificate names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevicePeer {
    /// Who it is.
    pub id: SpiffeId,
    /// Its zone.
    pub zone: ZoneName,
    /// Serial of the certificate, hex.
    pub serial: String,
    /// Digest of the certificate of the authority that signed it.
    pub authority: Digest,
    /// When the certificate ends: the connection ends with it.
    pub not_after: UnixTime,
}

/// An administrator as the certificate names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdministratorPeer {
    /// Name.
    pub name: String,
    /// Digest of the certified key; the administrator's record must name it.
    pub spki: Digest,
    /// When the certificate ends.
    pub not_after: UnixTime,
}

/// What client certificates are verified against.
#[derive(Debug, Default)]
pub struct Anchors {
    /// The plant's domain.
    pub plant: Option<PlantDomain>,
    /// Certificate of the issuing key, DER.
    pub issuing: Vec<u8>,
    /// Caller authorities by zone, DER.
    pub callers: Vec<(ZoneName, Vec<u8>)>,
}

/// A client certificate is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the client certificate is not accepted: {0}")]
pub struct PeerError(String);

impl Anchors {
    /// The peer that shows `leaf`.
    pub fn identify(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Peer, PeerError> {
        let plant = self.plant.as_ref().ok_or_else(|| PeerError("the broker is starting".to_owned()))?;
        let fields = Fields::read(leaf)?;
        match verify(leaf, chain, &self.issuing, KeyUsage::required(ADMINISTRATOR_EKU_DER), now) {
            Ok(()) => fields.administrator(plant),
            // Whoever's it is, a person is to hear that it has ended, and not that it is no device's.
            Err(error @ (webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. })) => {
                Err(PeerError(format!("{error:?}")))
            }
            Err(_) => self.device(leaf, fields, plant, now),
        }
    }

    /// The device that shows `leaf`, under an authority of the very zone that it names.
    fn device(
        &self,
        leaf: &CertificateDer<'_>,
        fields: Fields,
        plant: &PlantDomain,
        now: UnixTime,
    ) -> Result<Peer, PeerError> {
        let (zone, id) = SpiffeId::parse(&fields.uri, plant).map_err(|error| PeerError(error.to_string()))?;
        let mut reason = PeerError(format!("zone {zone} has no authority here"));
        for (_, anchor) in self.callers.iter().filter(|(of, _)| *of == zone) {
            match verify(leaf, &[], anchor, KeyUsage::client_auth(), now) {
                Ok(()) => {
                    let not_after = fields.validity.not_after;
                    let authority = Digest::of(anchor);
                    let peer = DevicePeer { id, zone, serial: fields.serial, authority, not_after };
                    return Ok(Peer::Device(Arc::new(peer)));
                }
                Err(error) => reason = PeerError(format!("{error:?}")),
            }
        }
        Err(reason)
    }
}

fn verify(
    leaf: &CertificateDer<'_>,
    chain: &[CertificateDer<'_>],
    anchor: &[u8],
    usage: KeyUsage,
    now: UnixTime,
) -> Result<(), webpki::Error> {
    let anchor = CertificateDer::from(anchor);
    let anchors = [anchor_from_trusted_cert(&anchor)?];
    let now = rustls::pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(now.0));
    // The anchor itself may be among what the client sends; it is no intermediate.
    let chain: Vec<CertificateDer<'_>> = chain.iter().filter(|cert| **cert != anchor).cloned().collect();
    EndEntityCert::try_from(leaf)?
        .verify_for_usage(ALL_VERIFICATION_ALGS, &anchors, &chain, now, usage, None, None)
        .map(drop)
}

/// What a client certificate says.
struct Fields {
    uri: String,
    serial: String,
    spki: Digest,
    validity: Validity,
}

impl Fields {
    fn read(leaf: &CertificateDer<'_>) -> Result<Self, PeerError> {
        let refuse = |_| PeerError("it cannot be read".to_owned());
        let certificate = Certificate::from_der(leaf).map_err(refuse)?;
        let tbs = certificate.tbs_certificate();
        let (_, names) = tbs
            .get_extension::<SubjectAltName>()
            .map_err(refuse)?
            .ok_or_else(|| PeerError("it has no subject alternative name".to_owned()))?;
        let mut uris = names.0.iter().filter_map(|name| match name {
            GeneralName::UniformResourceIdentifier(uri) => Some(uri.to_string()),
            _ => None,
        });
        let (Some(uri), None) = (uris.next(), uris.next()) else {
            return Err(PeerError("it does not have exactly one URI".to_owned()));
        };
        let instant = |time: x509_cert::time::Time| UnixTime(time.to_unix_duration().as_secs());
        let spki = tbs.subject_public_key_info().to_der().map_err(refuse)?;
        let validity = Validity {
            not_before: instant(tbs.validity().not_before),
            not_after: instant(tbs.validity().not_after),
        };
        Ok(Self {
            uri,
            serial: hex::encode(tbs.serial_number().as_bytes()),
            spki: Digest::of(&spki),
            validity,
        })
    }

    fn administrator(self, plant: &PlantDomain) -> Result<Peer, PeerError> {
        let prefix = crate::ca::profile::administrator_uri(plant, "");
        let name = self.uri.strip_prefix(&prefix).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| PeerError("it names no administrator of this plant".to_owned()))?;
        Ok(Peer::Administrator(Arc::new(AdministratorPeer {
            name: name.to_owned(),
            spki: self.spki,
            not_after: self.validity.not_after,
        })))
    }
}

impl Peer {
    /// The device of the connection; a refusal for everybody else.
    pub fn device(&self) -> Result<&DevicePeer, Refusal> {
        match self {
            Self::Device(device) => Ok(device),
            Self::Anonymous | Self::Administrator(_) => {
                Err(Refusal::NotPermitted("this call needs the device's own certificate".to_owned()))
            }
        }
    }

    /// The administrator of the connection; a refusal for everybody else.
    pub fn administrator(&self) -> Result<&AdministratorPeer, Refusal> {
        match self {
            Self::Administrator(administrator) => Ok(administrator),
            Self::Anonymous | Self::Device(_) => {
                Err(Refusal::NotPermitted("this call needs an administrator's certificate".to_owned()))
            }
        }
    }
}

#[cfg(test)]
mod tests;
