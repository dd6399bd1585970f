//! A maker of boxes, and a box with its IDevID.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use policy::digest::Digest;
use policy::evidence::endorsement::{RootStore, ValidityPolicy};
use policy::evidence::{Purpose, devid, qualifying_data};
use policy::x509::{der, oid};
use proto::v1;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SignatureAlgorithm, date_time_ymd,
};

use crate::admin::tests::NOW;
use crate::session::tests::tpm::{IDENTITY_ATTRIBUTES, TestTpm, public_area, tpm2b};

/// A manufacturer's root.
pub(super) struct Maker {
    params: CertificateParams,
    key: KeyPair,
    pub(super) der: Vec<u8>,
}

impl Maker {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(9999, 12, 31));
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { params, key, der }
    }

    pub(super) fn roots(&self) -> RootStore {
        let mut roots = RootStore::new();
        roots.add("makers.pem", &self.der).unwrap();
        roots
    }

    /// A certificate of a box with changes.
    pub(super) fn certify(
        &self,
        key: &impl PublicKeyData,
        serial: &str,
        policies: &[&[u8]],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "EdgeBox 9");
        params.distinguished_name.push(DnType::OrganizationName, "Box Works");
        params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 5]), serial);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        (params.not_before, params.not_after) = (date_time_ymd(2025, 1, 1), date_time_ymd(9999, 12, 31));
        let each = policies
            .iter()
            .map(|policy| der::encode(der::SEQUENCE, &[&der::encode(der::OBJECT_IDENTIFIER, &[policy])]));
        let all = der::encode(der::SEQUENCE, &[&each.collect::<Vec<_>>().concat()]);
        params.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 32], all)];
        change(&mut params);
        params.signed_by(key, &Issuer::from_params(&self.params, &self.key)).unwrap().der().to_vec()
    }

    /// A box whose IDevID key is in its TPM, as its maker says.
    pub(super) fn in_tpm(&self, serial: &str) -> TestBox {
        self.made(serial, &[oid::TCG_VERIFIED_RESIDENCY, oid::TCG_VERIFIED_FIXED])
    }

    /// A box whose IDevID key is wherever it is.
    pub(super) fn in_file(&self, serial: &str) -> TestBox {
        self.made(serial, &[])
    }

    fn made(&self, serial: &str, policies: &[&[u8]]) -> TestBox {
        let key = Key(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap());
        TestBox { certificate: self.certify(&key, serial, policies, |_| {}), key }
    }
}

pub(super) struct Key(pub(super) EcdsaKeyPair);

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }
    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

/// A box as its maker delivered it.
pub(super) struct TestBox {
    pub(super) key: Key,
    pub(super) certificate: Vec<u8>,
}

impl TestBox {
    /// What names it in registers.
    pub(super) fn digest(&self, maker: &Maker) -> Digest {
        let idevid =
            devid::verify_idevid(&self.certificate, &[], &maker.roots(), NOW, ValidityPolicy::AtTime)
                .unwrap();
        idevid.certificate().box_digest()
    }

    pub(super) fn public(&self) -> Vec<u8> {
        public_area(IDENTITY_ATTRIBUTES, self.key.der_bytes())
    }

    /// Its identity for this challenge and statement, which says nothing of a TPM.
    pub(super) fn identity(&self, sealed: &[u8], statement: &[u8]) -> v1::ManufacturerIdentity {
        let data = qualifying_data(Purpose::DeviceIdentity, sealed, statement);
        let raw = self.key.0.sign(&SystemRandom::new(), &data).unwrap();
        let (r, s) = raw.as_ref().split_at(32);
        v1::ManufacturerIdentity {
            certificate: self.certificate.clone(),
            signature: [&[0x00, 0x18, 0x00, 0x0b][..], &tpm2b(r), &tpm2b(s)].concat(),
            ..v1::ManufacturerIdentity::default()
        }
    }

    /// The answer of a device with its identity, whose key the AK of `tpm` certifies.
    pub(super) fn shown_by(&self, tpm: &mut TestTpm, request: v1::CompleteRequest) -> v1::CompleteRequest {
        let public = self.public();
        let certify = tpm.certify(&request.sealed, &request.statement, &public);
        let idevid = v1::ManufacturerIdentity {
            certify_signature: tpm.sign(&certify),
            certify,
            public,
            ..self.identity(&request.sealed, &request.statement)
        };
        v1::CompleteRequest { idevid: Some(idevid), ..request }
    }
}
