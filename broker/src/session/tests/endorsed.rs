//! A TPM whose manufacturer is known, and what becomes of it when it leaves its EK certificate out.

use policy::evidence::endorsement::{Manufacturer, RootStore, Weight};
use policy::evidence::flaw::DenyRule;
use policy::tpm::public::{EkPublic, PublicKey};
use policy::x509::der;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SubjectPublicKeyInfo, date_time_ymd,
};

use super::plant_of;
use super::tpm::TestTpm;
use crate::admin::tests::Bench;
use crate::record::device::{Tpm, ek_key};
use crate::session::Refusal;

/// `SubjectPublicKeyInfo` of a P-256 key up to its point.
const P256_SPKI: &str = "3059301306072a8648ce3d020106082a8648ce3d030107034200";
/// tcg-kp-EKCertificate.
const EK_PURPOSE: [u64; 5] = [2, 23, 133, 8, 1];

fn params(usage: KeyUsagePurpose) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.key_usages = vec![usage];
    (params.not_before, params.not_after) = (date_time_ymd(2025, 1, 1), date_time_ymd(2035, 1, 1));
    params.use_authority_key_identifier_extension = true;
    params
}

/// A critical subjectAltName with the TCG's attributes of an Infineon TPM.
fn infineon() -> CustomExtension {
    let attributes = [(1, "id:49465800"), (2, "SLB 9670"), (3, "id:073D")].map(|(arc, value): (u8, &str)| {
        let oid = der::encode(der::OBJECT_IDENTIFIER, &[&[0x67, 0x81, 0x05, 0x02, arc]]);
        let value = der::encode(0x0c, &[value.as_bytes()]);
        der::encode(der::SET, &[&der::encode(der::SEQUENCE, &[&oid, &value])])
    });
    let name = der::encode(der::SEQUENCE, &[&attributes.concat()]);
    let names = der::encode(der::SEQUENCE, &[&der::encode(0xa4, &[&name])]);
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 17], names);
    extension.set_criticality(true);
    extension
}

/// A manufacturer's authority, which the plant trusts.
pub(super) struct Maker {
    authority: CertificateParams,
    key: KeyPair,
}

impl Maker {
    /// The one that the plant trusts from now on.
    pub(super) fn trusted_by(bench: &mut Bench) -> Self {
        let (mut authority, key) = (params(KeyUsagePurpose::KeyCertSign), KeyPair::generate().unwrap());
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let mut roots = RootStore::new();
        roots.add("roots.pem", authority.self_signed(&key).unwrap().der()).unwrap();
        bench.plant.roots = roots;
        Self { authority, key }
    }

    /// An EK certificate of Infineon's for the EK with this public area.
    pub(super) fn certify(&self, public: &[u8]) -> Vec<u8> {
        let ek = EkPublic::parse(public).unwrap();
        let PublicKey::Ecc { point, .. } = ek.key() else { panic!("an EK on P-256") };
        let spki = [&hex::decode(P256_SPKI).unwrap()[..], point].concat();
        let mut leaf = params(KeyUsagePurpose::KeyAgreement);
        leaf.distinguished_name = rcgen::DistinguishedName::new();
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(EK_PURPOSE.to_vec())];
        leaf.custom_extensions = vec![infineon()];
        let spki = SubjectPublicKeyInfo::from_der(&spki).unwrap();
        let certificate = leaf.signed_by(&spki, &Issuer::from_params(&self.authority, &self.key)).unwrap();
        certificate.der().to_vec()
    }
}

/// An EK certificate of Infineon's for `tpm`, below a root that the plant trusts from now on.
fn certify(bench: &mut Bench, tpm: &TestTpm) -> Vec<u8> {
    Maker::trusted_by(bench).certify(tpm.ek_public())
}

fn rule(manufacturer: Manufacturer) -> DenyRule {
    DenyRule { manufacturer, firmware_before: None, weight: Weight::Broken, why: "open bus".to_owned() }
}

/// What the device is refused for when it sends this EK certificate; nothing if the zone trusts it.
async fn refused_for(bench: &Bench, tpm: &mut TestTpm, ek_certificate: &[u8]) -> Vec<String> {
    tpm.booted.ek_certificate = ek_certificate.to_vec();
    match tpm.enroll(&bench.plant, "press-7").await {
        Ok(_) => Vec::new(),
        Err(Refusal::ReferenceMismatch { findings, .. }) => {
            findings.into_iter().map(|finding| finding.sentence).collect()
        }
        Err(other) => panic!("refused for another reason: {other:?}"),
    }
}

#[tokio::test]
async fn a_registered_tpm_does_not_escape_a_rule_by_leaving_its_certificate_out() {
    let mut tpm = TestTpm::new();
    let (mut bench, _) = plant_of(&tpm, true).await;
    let certificate = certify(&mut bench, &tpm);
    bench.plant.config.tpm_deny = vec![rule(Manufacturer::INFINEON)];
    let named = ["tpm_deny: the broker's tpm_deny names TPMs by Infineon: open bus"];
    for sent in [&certificate[..], &[], &[0x30, 0x00]] {
        assert_eq!(refused_for(&bench, &mut tpm, sent).await, named, "{} bytes", sent.len());
    }
    let known: Tpm = bench.read(ek_key(&tpm.ek_digest())).await;
    assert_eq!((known.manufacturer(), known.registered), (Some(Manufacturer::INFINEON), true));
}

#[tokio::test]
async fn while_there_are_rules_a_registered_tpm_of_nobody_is_held_suspect() {
    let mut tpm = TestTpm::new();
    let (mut bench, _) = plant_of(&tpm, true).await;
    let certificate = certify(&mut bench, &tpm);
    assert_eq!(refused_for(&bench, &mut tpm, &[]).await, [""; 0], "without rules nothing is asked");
    bench.plant.config.tpm_deny = vec![rule(Manufacturer::NUVOTON)];
    let found = refused_for(&bench, &mut tpm, &[]).await;
    assert!(
        matches!(&found[..], [one] if one.contains("cannot tell whose this TPM is; let the device send its EK certificate")),
        "{found:?}"
    );
    assert_eq!(refused_for(&bench, &mut tpm, &certificate).await, [""; 0], "the rule is against others");
    assert_eq!(refused_for(&bench, &mut tpm, &[]).await, [""; 0], "it stays known");
}
