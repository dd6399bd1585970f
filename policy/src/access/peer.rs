//! The certificate that a peer showed, as far as it can be read by itself: nothing in it is believed yet.

use super::reason::Reason;
use crate::digest::Digest;
use crate::id::{PlantDomain, SpiffeId, ZoneName};
use crate::time::Validity;
use crate::x509::certificate::Certificate;
use crate::x509::der::DerError;
use crate::x509::{extension, oid, signature};
use crate::zone::Role;

/// id-kp-serverAuth and id-kp-clientAuth (RFC 5280, section 4.2.1.12).
const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];

/// A certificate that names one device of this plant, or one workload on it.
#[derive(Clone, Debug)]
pub struct PeerCertificate<'a> {
    certificate: Certificate<'a>,
    zone: ZoneName,
    id: SpiffeId,
}

impl<'a> PeerCertificate<'a> {
    /// Reads one DER certificate. Exactly one URI must be in it, the SPIFFE ID of a device of `plant` or of a
    /// workload on one (X509-SVID, section 2).
    pub fn parse(der: &'a [u8], plant: &PlantDomain) -> Result<Self, Reason> {
        let malformed = |error: DerError| Reason::Malformed(error.to_string());
        let certificate = Certificate::parse(der).map_err(malformed)?;
        let names = certificate.extension(oid::SUBJECT_ALT_NAME).map(|found| found.value);
        let uris = names.map(extension::parse_uris).transpose().map_err(malformed)?.unwrap_or_default();
        let [uri] = uris.as_slice() else {
            return Err(Reason::Foreign(format!("it has {} URIs and should have one", uris.len())));
        };
        let uri = str::from_utf8(uri).map_err(|_| Reason::Foreign("its URI is no text".to_owned()))?;
        let (zone, id) =
            SpiffeId::parse_peer(uri, plant).map_err(|error| Reason::Foreign(error.to_string()))?;
        Ok(Self { certificate, zone, id })
    }

    /// Whom it names.
    #[must_use]
    pub const fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The zone that it names.
    #[must_use]
    pub const fn zone(&self) -> &ZoneName {
        &self.zone
    }

    /// When it holds; the last second is part of it.
    #[must_use]
    pub const fn validity(&self) -> Validity {
        self.certificate.validity()
    }

    /// Its serial number as it stands in the certificate.
    #[must_use]
    pub const fn serial(&self) -> &'a [u8] {
        self.certificate.serial()
    }

    /// SHA-256 of the whole certificate: `x5t#S256` (RFC 8705, section 3.1).
    #[must_use]
    pub fn thumbprint(&self) -> Digest {
        Digest::of(self.certificate.der())
    }

    /// Whether `authority`, a certificate in DER, signed it, and as one for this side of a connection.
    #[must_use]
    pub(super) fn is_signed_by(&self, authority: &[u8], role: Role) -> bool {
        let Ok(authority) = Certificate::parse(authority) else { return false };
        authority.subject() == self.certificate.issuer()
            && self.is_leaf_for(role)
            && signature::verify(&self.certificate, &authority).is_ok()
    }

    /// Whether it says that it is for this side, and no authority itself.
    fn is_leaf_for(&self, role: Role) -> bool {
        let value = |oid| self.certificate.extension(oid).map(|found| found.value);
        let usage = match role {
            Role::Caller => CLIENT_AUTH,
            Role::Listener => SERVER_AUTH,
        };
        let purposes = value(oid::EXTENDED_KEY_USAGE).and_then(|value| extension::parse_purposes(value).ok());
        let basic = value(oid::BASIC_CONSTRAINTS).map(extension::parse_basic_constraints);
        purposes.is_some_and(|purposes| purposes.contains(&usage))
            && basic.is_some_and(|basic| basic.is_ok_and(|basic| !basic.ca))
    }
}
