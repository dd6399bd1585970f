//! Boxes that their manufacturer gave an IDevID, with a TPM and without.

use std::fs;

use attestor::tpm::{EsapiTpm, Tpm};
use attestor::tss2_key;
use e2e::{Device, World};
use policy::x509::{der, oid};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SubjectPublicKeyInfo, date_time_ymd,
};

/// `SubjectPublicKeyInfo` of a P-256 key up to its point.
const P256_SPKI: &str = "3059301306072a8648ce3d020106082a8648ce3d030107034200";

/// The manufacturer of the boxes.
struct Maker {
    params: CertificateParams,
    key: KeyPair,
}

impl Maker {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Box Works Root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self { params, key: KeyPair::generate().expect("a key") }
    }

    fn root(&self) -> String {
        self.params.self_signed(&self.key).expect("a root").pem()
    }

    /// The IDevID certificate of the box with this serial number; `policies`: what the maker verified of its key.
    fn certify(&self, key: &impl PublicKeyData, serial: &str, policies: &[&[u8]]) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "EdgeBox 9");
        params.distinguished_name.push(DnType::OrganizationName, "Box Works");
        params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 5]), serial);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.not_after = date_time_ymd(9999, 12, 31);
        let policy =
            |oid: &&[u8]| der::encode(der::SEQUENCE, &[&der::encode(der::OBJECT_IDENTIFIER, &[oid])]);
        let all = policies.iter().map(policy).collect::<Vec<_>>().concat();
        let all = der::encode(der::SEQUENCE, &[&all]);
        params.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 32], all)];
        params.signed_by(key, &Issuer::from_params(&self.params, &self.key)).expect("a certificate").pem()
    }
}

fn give(device: &mut Device, certificate: &str, key: &str) {
    fs::write(device.path("idevid.pem"), certificate).expect("a file of the device");
    fs::write(device.path("idevid.key"), key).expect("a file of the device");
    device.add_end("[idevid]\ncertificate = \"idevid.pem\"\nkey = \"idevid.key\"\n");
}

/// Makes the IDevID key in the TPM, as a factory does.
fn give_in_tpm(device: &mut Device, maker: &Maker, serial: &str) {
    let mut tpm = EsapiTpm::new(device.tpm());
    let key = tpm.create_identity_key().expect("a key in the TPM");
    tpm.release();
    let spki = [&hex(P256_SPKI)[..], key.point()].concat();
    let public = SubjectPublicKeyInfo::from_der(&spki).expect("a P-256 key");
    let policies: [&[u8]; 2] = [oid::TCG_VERIFIED_RESIDENCY, oid::TCG_VERIFIED_FIXED];
    let file = tss2_key::write(&key).expect("a key file");
    give(device, &maker.certify(&public, serial, &policies), &file);
}

fn hex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
    (0..text.len()).step_by(2).map(digit).collect()
}

#[test]
fn a_box_comes_by_its_idevid_with_a_tpm_and_without() {
    let Some((mut world, [mut press, mut meter])) = World::with_devices(["press-1", "meter-4"]) else {
        return;
    };
    let maker = Maker::new();
    // Nobody vouches for the TPMs but the maker of the boxes.
    world.stop_broker();
    let file = world.plant.path("broker.toml");
    let text = fs::read_to_string(&file).expect("broker.toml");
    let others =
        text.lines().filter(|line| !line.starts_with("tpm_roots") && !line.starts_with("idevid_roots"));
    let text: String = others.map(|line| format!("{line}\n")).collect();
    fs::write(&file, format!("idevid_roots = [\"makers.pem\"]\n{text}")).expect("broker.toml");
    fs::write(world.plant.path("makers.pem"), maker.root()).expect("the maker's root");
    world.start_broker();
    world.admin("zone create press --mode observe");
    world.admin("zone create yard --mode observe --least instance-identity=affirming --idevid-admits");

    press.measure("boot-a");
    give_in_tpm(&mut press, &maker, "4711");
    let digest = press.identify()["idevid_digest"].as_str().expect("a digest").to_owned();
    let list = press.path("list.toml");
    let entry = format!("[[device]]\nname = \"press-1\"\nzones = [\"press\"]\nek = \"{digest}\"\n");
    fs::write(&list, entry).expect("a list of devices");
    world.admin(&format!("device import {}", list.display()));
    meter.take_tpm();
    let key = KeyPair::generate().expect("a key");
    give(&mut meter, &maker.certify(&key, "77", &[]), &key.serialize_pem());
    // Nobody registered the meter: the yard takes boxes of that maker by themselves.
    meter.add_top("zones = [\"yard\"]\n");
    let looked = meter.attestor("doctor", &["-o", "json"]);
    let looked: serde_json::Value = serde_json::from_slice(&looked.stdout).expect("doctor prints JSON");
    let findings = looked["findings"].as_array().expect("findings");
    let found = findings.iter().find(|finding| finding["check"] == "idevid").expect("it looks at the IDevID");
    assert_eq!(found["verdict"], "good", "{found}");

    press.start();
    meter.start();
    press.until_state("trusted");
    meter.until_state("trusted");
    for (name, serial, bound_by) in [("press-1", "4711", "certify"), ("meter-4", "77", "without-tpm")] {
        let shown = world.admin(&format!("device show {name}"));
        let idevid = &shown["idevid"];
        assert_eq!((&idevid["serial"], &idevid["bound_by"]), (&serial.into(), &bound_by.into()), "{shown}");
        let inventory = shown["inventory"].as_array().expect("an inventory");
        let model = inventory.iter().find(|value| value["name"] == "model").expect("a model");
        assert_eq!((&model["value"], &model["source"]), (&"EdgeBox 9".into(), &"attested".into()));
    }

    // The stop is the box's: without its state and under another name it is still stopped.
    world.admin("device quarantine meter-4 --reason stolen");
    meter.rename("meter-5");
    meter.reinstall();
    meter.until_status("stopped", |status| status.to_string().contains("meter-4 is quarantined"));
}
