//! What each kind of certificate looks like (RFC 5280).
//!
//! Everything is set here and nothing comes from a CSR: names, validity and usages are the broker's
//! own, so a request cannot widen what it gets.

use std::collections::BTreeSet;
use std::net::IpAddr;

use policy::audit::seal::AUDIT_EKU;
use policy::id::{PlantDomain, SpiffeId, TrustDomain, common_name};
use policy::issuing::issuing_name;
use policy::time::{UnixTime, Validity};
use policy::zone::{NameConstraint, Role, Subnet};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyUsagePurpose, SanType, SerialNumber,
};
use time::OffsetDateTime;
use x509_cert::der::Encode;
use x509_cert::der::asn1::{Ia5String, OctetString};
use x509_cert::ext::pkix::NameConstraints;
use x509_cert::ext::pkix::constraints::name::GeneralSubtree;
use x509_cert::ext::pkix::name::GeneralName;

use super::CaError;

/// Extended key usage of an administrator's certificate (an OID of our own under the UUID arc 2.25).
pub const ADMINISTRATOR_EKU: &[u64] = &[2, 25, 1_152_921_504_606_846_977];
/// The content octets of [`ADMINISTRATOR_EKU`] in DER, as verifiers compare them.
pub const ADMINISTRATOR_EKU_DER: &[u8] = &[0x69, 0x90, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01];
const NAME_CONSTRAINTS_OID: &[u64] = &[2, 5, 29, 30];

/// A random serial: 16 bytes, positive, not zero (RFC 5280, section 4.1.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Serial([u8; 16]);

impl Serial {
    /// The serial made of 16 random bytes.
    #[must_use]
    pub const fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[0] = bytes[0] & 0x3f | 0x40;
        Self(bytes)
    }

    /// The serial that `hex` spells.
    #[must_use]
    pub fn from_hex(hex: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(hex, &mut bytes).ok().map(|()| Self(bytes))
    }

    /// The bytes as they stand in a certificate.
    #[must_use]
    pub const fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// 32 hex digits.
    #[must_use]
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }

    pub(super) fn to_rcgen(self) -> SerialNumber {
        SerialNumber::from_slice(&self.0)
    }
}

pub(super) fn instant(at: UnixTime) -> Result<OffsetDateTime, CaError> {
    let seconds = i64::try_from(at.0).map_err(|_| CaError::Time(at))?;
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| CaError::Time(at))
}

fn base(common_name: &str, validity: Validity, serial: Serial) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    params.not_before = instant(validity.not_before)?;
    params.not_after = instant(validity.not_after)?;
    params.serial_number = Some(serial.to_rcgen());
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn authority(
    common_name: &str,
    validity: Validity,
    serial: Serial,
    path: BasicConstraints,
) -> Result<CertificateParams, CaError> {
    let mut params = base(common_name, validity, serial)?;
    params.is_ca = IsCa::Ca(path);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// The plant root: signs issuing certificates only, is kept offline.
pub fn plant_root(
    plant: &PlantDomain,
    validity: Validity,
    serial: Serial,
) -> Result<CertificateParams, CaError> {
    authority(&format!("{plant} plant root"), validity, serial, BasicConstraints::Constrained(1))
}

/// The broker's issuing certificate: signs the broker's and the administrators' certificates, and,
/// with digitalSignature, trust sets. Its subject has its number, by which devices know which one is the newest.
pub fn issuing(
    plant: &PlantDomain,
    generation: u32,
    validity: Validity,
    serial: Serial,
) -> Result<CertificateParams, CaError> {
    let name = issuing_name(plant, generation);
    let mut params = authority(&name, validity, serial, BasicConstraints::Constrained(0))?;
    params.key_usages.push(KeyUsagePurpose::DigitalSignature);
    Ok(params)
}

/// What an authority of a zone is confined to besides the zone's DNS names.
#[derive(Debug, Clone, Copy)]
pub struct Confined<'a> {
    /// How it says so.
    pub constraint: NameConstraint,
    /// The addresses that it may name.
    pub subnets: &'a BTreeSet<Subnet>,
}

/// An authority of a zone: self-signed, subject unique by trust domain, role and generation,
/// constrained to the zone's DNS names and subnets.
pub fn zone_authority(
    domain: &TrustDomain,
    role: Role,
    generation: u32,
    confined: Confined<'_>,
    validity: Validity,
    serial: Serial,
) -> Result<CertificateParams, CaError> {
    let role = match role {
        Role::Caller => "caller",
        Role::Listener => "listener",
    };
    // A distinguished name longer than 64 bytes is cut to its digest, like a leaf's.
    let name = common_name(&format!("{domain} {role} {generation}"));
    let mut params = authority(&name, validity, serial, BasicConstraints::Constrained(0))?;
    let subnets = confined.subnets;
    match confined.constraint {
        NameConstraint::Critical => params.custom_extensions.push(name_constraints(domain, subnets, true)?),
        NameConstraint::NonCritical => {
            params.custom_extensions.push(name_constraints(domain, subnets, false)?);
        }
        NameConstraint::Off => {}
    }
    Ok(params)
}

/// The authority whose key nobody kept: what a service trusts that nobody may reach.
pub fn nobody(plant: &PlantDomain, validity: Validity, serial: Serial) -> Result<CertificateParams, CaError> {
    authority(&format!("{plant} nobody"), validity, serial, BasicConstraints::Constrained(0))
}

/// A device's certificate in a zone (X.509-SVID, sections 2 to 4).
pub fn leaf(
    id: &SpiffeId,
    role: Role,
    addresses: &BTreeSet<IpAddr>,
    validity: Validity,
    serial: Serial,
) -> Result<CertificateParams, CaError> {
    let dns = id.dns_name();
    let mut params = base(&common_name(&dns), validity, serial)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![match role {
        Role::Caller => ExtendedKeyUsagePurpose::ClientAuth,
        Role::Listener => ExtendedKeyUsagePurpose::ServerAuth,
    }];
    params.subject_alt_names = vec![
        SanType::URI(id.to_string().try_into().map_err(CaError::Build)?),
        SanType::DnsName(dns.try_into().map_err(CaError::Build)?),
    ];
    params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
    Ok(params)
}

/// The broker's own TLS server certificate.
pub fn broker_server(
    plant: &PlantDomain,
    validity: Validity,
    serial: Serial,
) -> Result<CertificateParams, CaError> {
    let name = plant.broker_name();
    let mut params = base(&common_name(&name), validity, serial)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.subject_alt_names = vec![SanType::DnsName(name.try_into().map_err(CaError::Build)?)];
    Ok(params)
}

/// An administrator's client certificate.
pub fn administrator(
    plant: &PlantDomain,
    name: &str,
    validity: Validity,
    serial: Serial,
) -> Result<CertificateParams, CaError> {
    let mut params = base(&common_name(name), validity, serial)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::Other(ADMINISTRATOR_EKU.to_vec())];
    let uri = administrator_uri(plant, name);
    params.subject_alt_names = vec![SanType::URI(uri.try_into().map_err(CaError::Build)?)];
    Ok(params)
}

/// The certificate of the key that seals the audit, and does nothing else.
pub fn audit(plant: &PlantDomain, validity: Validity, serial: Serial) -> Result<CertificateParams, CaError> {
    let mut params = base(&common_name(&format!("{plant} audit")), validity, serial)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(AUDIT_EKU.to_vec())];
    Ok(params)
}

/// The URI that names an administrator in a certificate.
#[must_use]
pub fn administrator_uri(plant: &PlantDomain, name: &str) -> String {
    format!("spiffe://control.{plant}/admin/{name}")
}

/// Permits the zone's DNS names and subnets, and excludes every other IP address: a constraint that says nothing of
/// addresses would leave them free.
fn name_constraints(
    domain: &TrustDomain,
    subnets: &BTreeSet<Subnet>,
    critical: bool,
) -> Result<CustomExtension, CaError> {
    let subtree = |base| GeneralSubtree { base, minimum: 0, maximum: None };
    let address = |octets: Vec<u8>| {
        OctetString::new(octets)
            .map(|octets| subtree(GeneralName::IpAddress(octets)))
            .map_err(CaError::Encode)
    };
    let dns = Ia5String::new(domain.as_str()).map_err(CaError::Encode)?;
    let mut permitted = vec![subtree(GeneralName::DnsName(dns))];
    for subnet in subnets {
        permitted.push(address(subnet.octets())?);
    }
    // A family is excluded whole where none of it is permitted.
    let mut excluded = Vec::new();
    for (is_v4, every) in [(true, vec![0; 8]), (false, vec![0; 32])] {
        if !subnets.iter().any(|subnet| subnet.is_v4() == is_v4) {
            excluded.push(address(every)?);
        }
    }
    let constraints = NameConstraints {
        permitted_subtrees: Some(permitted),
        excluded_subtrees: (!excluded.is_empty()).then_some(excluded),
    };
    let der = constraints.to_der().map_err(CaError::Encode)?;
    let mut extension = CustomExtension::from_oid_content(NAME_CONSTRAINTS_OID, der);
    extension.set_criticality(critical);
    Ok(extension)
}
