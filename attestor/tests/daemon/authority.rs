//! The plant's side of trust: root, issuing key, zone authorities, certificates and signed trust sets.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use attestor::ports::{Clock, System};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use prost::Message;
use proto::v1;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// An authority with its key.
pub(crate) struct Authority {
    pub(crate) certificate: Vec<u8>,
    params: CertificateParams,
    key: KeyPair,
}

fn base(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2040, 1, 1);
    params.use_authority_key_identifier_extension = true;
    params
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = base(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params
}

impl Authority {
    fn self_signed(name: &str) -> Self {
        let (params, key) = (authority_params(name), KeyPair::generate().unwrap());
        let certificate = params.self_signed(&key).unwrap().der().to_vec();
        Self { certificate, params, key }
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }

    fn sign(&self, params: &CertificateParams, key: &impl PublicKeyData) -> Vec<u8> {
        params.signed_by(key, &self.issuer()).unwrap().der().to_vec()
    }

    fn crl(&self) -> Vec<u8> {
        let crl = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2020, 1, 1),
            next_update: rcgen::date_time_ymd(2040, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        crl.signed_by(&self.issuer()).unwrap().der().to_vec()
    }
}

/// A plant with one zone, `press`, and its peers' zone `cell`.
pub(crate) struct Plant {
    root: Authority,
    issuing: Authority,
    /// The one that takes its place.
    next_issuing: Authority,
    pub(crate) callers: Authority,
    listeners: Authority,
    cell: Authority,
    nobody: Authority,
    /// Certificates of devices begin now; otherwise so long ago that they are always due to be replaced.
    pub(crate) fresh: AtomicBool,
    /// Servers of the plant show a certificate that has ended.
    pub(crate) ended: AtomicBool,
    issued: AtomicU64,
}

impl Plant {
    pub(crate) fn new() -> Self {
        let root = Authority::self_signed("plant.example plant root");
        let under_root = |name: &str| {
            let (params, key) = (authority_params(name), KeyPair::generate().unwrap());
            Authority { certificate: root.sign(&params, &key), params, key }
        };
        Self {
            issuing: under_root("plant.example issuing 1"),
            next_issuing: under_root("plant.example issuing 2"),
            root,
            callers: Authority::self_signed("press.plant.example caller 1"),
            listeners: Authority::self_signed("press.plant.example listener 1"),
            cell: Authority::self_signed("cell.plant.example caller 1"),
            nobody: Authority::self_signed("plant.example nobody"),
            fresh: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            issued: AtomicU64::new(0),
        }
    }

    pub(crate) fn root_pem(&self) -> String {
        pem::encode(&pem::Pem::new("CERTIFICATE", self.root.certificate.as_slice()))
    }

    /// Chain and key of the broker's TLS server.
    pub(crate) fn server(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut params = base("broker.control.plant.example");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        if self.ended.load(Ordering::SeqCst) {
            params.not_after = rcgen::date_time_ymd(2026, 1, 1);
        }
        params.subject_alt_names = vec![SanType::DnsName("broker.control.plant.example".try_into().unwrap())];
        let leaf = self.issuing.sign(&params, &key);
        let chain = [leaf, self.issuing.certificate.clone()].map(CertificateDer::from).to_vec();
        (chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }

    /// A certificate for a key that press-1 asked one for.
    pub(crate) fn issue(&self, asked: &v1::IdentityKey) -> v1::Svid {
        self.certify(&asked.csr, &asked.zone, asked.role())
    }

    /// A certificate for a software key of press-1.
    pub(crate) fn issue_outside(&self, asked: &v1::SoftwareKey) -> v1::Svid {
        let svid = self.certify(&asked.csr, &asked.zone, v1::Role::Listener);
        v1::Svid { service: asked.service.clone(), ..svid }
    }

    fn certify(&self, csr: &[u8], zone: &str, role: v1::Role) -> v1::Svid {
        let request = rcgen::CertificateSigningRequestParams::from_der(&csr.into()).unwrap();
        let uri = format!("spiffe://{zone}.plant.example/device/press-1");
        let mut params = base("press-1.press.plant.example");
        params.serial_number = Some(SerialNumber::from(self.issued.fetch_add(1, Ordering::SeqCst) + 1));
        if self.fresh.load(Ordering::SeqCst) {
            params.not_before = (UNIX_EPOCH + Duration::from_secs(System::default().now().0)).into();
        }
        params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into().unwrap())];
        let (authority, usage) = match role {
            v1::Role::Listener => (&self.listeners, ExtendedKeyUsagePurpose::ServerAuth),
            _ => (&self.callers, ExtendedKeyUsagePurpose::ClientAuth),
        };
        params.extended_key_usages = vec![usage];
        v1::Svid {
            zone: zone.to_owned(),
            role: role.into(),
            chain: vec![authority.sign(&params, &request.public_key)],
            ..v1::Svid::default()
        }
    }

    /// The trust set of press-1: `cell` may open opcua if `open`.
    pub(crate) fn trust(&self, sequence: u64, open: bool) -> v1::SignedTrustSet {
        self.sign_trust(&self.issuing, sequence, open, Vec::new())
    }

    /// The trust set of press-1: `cell` may open opcua until `end`.
    pub(crate) fn trust_until(&self, sequence: u64, end: u64) -> v1::SignedTrustSet {
        self.sign_trust(
            &self.issuing,
            sequence,
            true,
            vec![v1::Opening { expires_at: end, ..v1::Opening::default() }],
        )
    }

    /// The same under the issuing key that takes the place of the first.
    pub(crate) fn trust_by_next(&self, sequence: u64, open: bool) -> v1::SignedTrustSet {
        self.sign_trust(&self.next_issuing, sequence, open, Vec::new())
    }

    fn sign_trust(
        &self,
        issuing: &Authority,
        sequence: u64,
        open: bool,
        openings: Vec<v1::Opening>,
    ) -> v1::SignedTrustSet {
        let authority = v1::Authority {
            zone: "cell".into(),
            role: v1::Role::Caller.into(),
            generation: 1,
            certificate: self.cell.certificate.clone(),
            crl: self.cell.crl(),
        };
        let set = v1::TrustSet {
            sequence,
            issued_at: 1_780_000_000,
            authorities: vec![authority],
            files: vec![v1::TrustFile {
                zone: "press".into(),
                service: "opcua".into(),
                direction: v1::Direction::Inbound.into(),
                authorities: if open { vec![0] } else { Vec::new() },
                openings,
                ways: Vec::new(),
            }],
            timings: vec![v1::ZoneTiming {
                zone: "press".into(),
                reattest_every_seconds: 600,
                outlive_broker_seconds: 28_800,
                silent_after_seconds: 1800,
                ..v1::ZoneTiming::default()
            }],
            device: "press-1".into(),
            grant_keys: String::new(),
        };
        let trust_set = set.encode_to_vec();
        let message = [b"touchstone/v1/trust-set\0".as_slice(), &trust_set].concat();
        let key = issuing.key.serialize_der();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &key).unwrap();
        v1::SignedTrustSet {
            signature: key.sign(&SystemRandom::new(), &message).unwrap().as_ref().to_vec(),
            trust_set,
            issuing_certificate: issuing.certificate.clone(),
            nobody_certificate: self.nobody.certificate.clone(),
            nobody_crl: self.nobody.crl(),
        }
    }
}
