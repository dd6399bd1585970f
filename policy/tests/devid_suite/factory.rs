//! A maker of boxes: IDevID and IAK certificates to order, and the keys in the box.
#![expect(clippy::disallowed_types, clippy::unwrap_used, reason = "test keys need randomness")]

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use policy::evidence::devid::{DevIdError, Iak, IdevId, verify_iak, verify_idevid};
use policy::evidence::endorsement::{RootStore, ValidityPolicy};
use policy::tpm::public::{AttestationKey, Public};
use policy::x509::{der, oid};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SignatureAlgorithm, date_time_ymd,
};

pub(crate) const AT: &str = "2026-06-01T00:00:00Z";

/// The policies of an IAK certificate.
pub(crate) const IAK_POLICIES: [&[u8]; 3] =
    [oid::TCG_VERIFIED_RESIDENCY, oid::TCG_VERIFIED_FIXED, oid::TCG_VERIFIED_RESTRICTED];

/// A P-256 key of a box.
pub(crate) struct Key(EcdsaKeyPair);

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }
    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl Key {
    pub(crate) fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    /// `TPMT_PUBLIC`: restricted for an AK, else an IDevID key.
    fn public(&self, restricted: bool) -> Vec<u8> {
        let head = if restricted {
            "0023000b00050072000000100018000b00030010"
        } else {
            "0023000b00040072000000100018000b00030010"
        };
        let mut public = hex::decode(head).unwrap();
        let (x, y) = self.der_bytes().strip_prefix(&[4]).unwrap().split_at(32);
        for coordinate in [x, y] {
            public.extend([0, 32]);
            public.extend(coordinate);
        }
        public
    }

    pub(crate) fn ak(&self) -> AttestationKey {
        AttestationKey::accept(&self.public(true)).unwrap()
    }

    pub(crate) fn idevid_public(&self) -> Vec<u8> {
        self.public(false)
    }

    /// `TPMT_SIGNATURE`.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let raw = self.0.sign(&SystemRandom::new(), message).unwrap();
        let (r, s) = raw.as_ref().split_at(32);
        [&[0, 0x18, 0, 0x0b, 0, 32], r, &[0, 32], s].concat()
    }

    /// TPM2_Certify of the key with this public area: attest and signature.
    pub(crate) fn certify(&self, public: &[u8], qualifying_data: [u8; 32]) -> (Vec<u8>, Vec<u8>) {
        let name = Public::parse(public).unwrap().name().to_bytes();
        let mut attest = hex::decode("ff544347801700000020").unwrap();
        attest.extend(qualifying_data);
        // Clock, resetCount, restartCount, safe, firmwareVersion.
        attest.extend([0; 16]);
        attest.push(1);
        attest.extend([0; 8]);
        for name in [&name, &name] {
            attest.extend(u16::try_from(name.len()).unwrap().to_be_bytes());
            attest.extend(name);
        }
        let signature = self.sign(&attest);
        (attest, signature)
    }
}

/// A manufacturer's root.
pub(crate) struct Maker {
    params: CertificateParams,
    key: KeyPair,
    pub(crate) der: Vec<u8>,
}

impl Maker {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(9999, 12, 31);
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { params, key, der }
    }

    pub(crate) fn store(&self) -> RootStore {
        let mut store = RootStore::new();
        store.add("oem.pem", &self.der).unwrap();
        store
    }

    /// A device's certificate with changes.
    pub(crate) fn device(
        &self,
        key: &Key,
        serial: &str,
        policies: &[&[u8]],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "box");
        params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 5]), serial);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.not_before = date_time_ymd(2025, 1, 1);
        // 802.1AR-2018, section 8.7: never.
        params.not_after = date_time_ymd(9999, 12, 31);
        params.custom_extensions = vec![policies_of(policies)];
        change(&mut params);
        let issuer = Issuer::from_params(&self.params, &self.key);
        params.signed_by(key, &issuer).unwrap().der().to_vec()
    }

    pub(crate) fn idevid(&self, key: &Key, serial: &str) -> IdevId {
        let policies = [oid::TCG_VERIFIED_RESIDENCY, oid::TCG_VERIFIED_FIXED];
        self.judge(&self.device(key, serial, &policies, |_| {})).unwrap()
    }

    pub(crate) fn iak(&self, key: &Key, serial: &str) -> Iak {
        self.judge_iak(&self.device(key, serial, &IAK_POLICIES, |_| {})).unwrap()
    }

    /// Judges an IDevID certificate under this maker's root.
    pub(crate) fn judge(&self, der: &[u8]) -> Result<IdevId, DevIdError> {
        verify_idevid(der, &[], &self.store(), AT.parse().unwrap(), ValidityPolicy::AtTime)
    }

    /// Judges an IAK certificate under this maker's root.
    pub(crate) fn judge_iak(&self, der: &[u8]) -> Result<Iak, DevIdError> {
        verify_iak(der, &[], &self.store(), AT.parse().unwrap(), ValidityPolicy::AtTime)
    }
}

fn policies_of(policies: &[&[u8]]) -> CustomExtension {
    let each = policies
        .iter()
        .map(|policy| der::encode(der::SEQUENCE, &[&der::encode(der::OBJECT_IDENTIFIER, &[policy])]));
    let all = der::encode(der::SEQUENCE, &[&each.collect::<Vec<_>>().concat()]);
    CustomExtension::from_oid_content(&[2, 5, 29, 32], all)
}

/// A critical subjectAltName with a hardwareModuleName and a permanentIdentifier.
pub(crate) fn box_names(hardware_serial: &[u8], identifier: &str) -> CustomExtension {
    let tpm_2 = der::encode(der::OBJECT_IDENTIFIER, &[&[0x67, 0x81, 0x05, 0x01, 0x02]]);
    let module = der::encode(der::SEQUENCE, &[&tpm_2, &der::encode(der::OCTET_STRING, &[hardware_serial])]);
    let assigner = der::encode(der::OBJECT_IDENTIFIER, &[&[0x67, 0x81, 0x05, 0x0c, 0x01]]);
    let permanent = der::encode(der::SEQUENCE, &[&der::encode(0x0c, &[identifier.as_bytes()]), &assigner]);
    let other = |oid: &[u8], value: &[u8]| {
        der::encode(0xa0, &[&der::encode(der::OBJECT_IDENTIFIER, &[oid]), &der::encode(0xa0, &[value])])
    };
    let names = [other(oid::HARDWARE_MODULE_NAME, &module), other(oid::PERMANENT_IDENTIFIER, &permanent)];
    let content = der::encode(der::SEQUENCE, &[&names.concat()]);
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 17], content);
    extension.set_criticality(true);
    extension
}
