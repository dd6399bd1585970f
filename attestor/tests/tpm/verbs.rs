//! Every verb of the TPM port on a software TPM, and what each leaves behind: nothing.

use std::fs;

use crate::support::{Device, SECRET, assert_signed, attested, make_credential, name_of, sized_at};
use attestor::commands::{Format, identify};
use attestor::testing::command;
use attestor::tpm::{
    Credential, EkTemplate, EndorsementKey, EsapiTpm, PcrBank, PcrIndex, PcrSelection, Tpm, TpmFault,
};
use aws_lc_rs::digest::{SHA256, digest};

const SHA256_BANK: PcrBank = PcrBank::Sha256;

fn pcr(index: u8) -> PcrIndex {
    PcrIndex::try_from(index).unwrap()
}

#[test]
fn endorsement_keys_come_with_the_manufacturers_certificates() {
    let Some(device) = Device::make(&["openssl"]) else { return };
    let mut tpm = device.esapi();
    let endorsement = tpm.endorsement().unwrap();
    tpm.release();
    device.assert_clean("endorsement");

    let templates: Vec<_> = endorsement.keys.iter().map(|key| key.template.name()).collect();
    assert_eq!(templates, ["L-1", "H-3"]);
    assert_eq!(endorsement.manufacturer.to_be_bytes(), *b"IBM\0");
    assert!(endorsement.chain.is_empty(), "swtpm stores no chain");
    for key in &endorsement.keys {
        assert_certified(&device, key);
    }
}

/// What an administrator registers, and what a technician tells models apart by.
#[tokio::test(flavor = "multi_thread")]
async fn identify_prints_the_model_and_every_certificate() {
    let Some(device) = Device::make(&["tpm2_nvdefine", "tpm2_nvwrite"]) else { return };
    // Of a key of a kind that devices do not enroll by.
    let folder = tempfile::tempdir().unwrap();
    let stored = folder.path().join("p521");
    fs::write(&stored, [0x30, 0x03, 0x02, 0x01, 0x05]).unwrap();
    let attributes = "ownerread|ownerwrite|authread|authwrite";
    device.tool("tpm2_nvdefine", &["0x1c00018", "-C", "o", "-s", "5", "-a", attributes]);
    device.tool("tpm2_nvwrite", &["0x1c00018", "-C", "o", "-i", stored.to_str().unwrap()]);
    let said = identify(Some(device.swtpm.address()), None, Format::Json).await.unwrap();
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["manufacturer"], "IBM");
    assert!(said["vendor"].as_str().unwrap().contains("SW"), "{said:#}");
    let revision: f64 = said["spec_revision"].as_str().unwrap().parse().unwrap();
    assert!((1.16..2.0).contains(&revision), "{said:#}");
    let certificates = said["ek_certificates"].as_array().unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let found: Vec<_> =
        certificates.iter().map(|one| text(&one["nv_index"]) + " " + &text(&one["ek_type"])).collect();
    assert_eq!(found, ["0x01c00016 p384", "0x01c00002 rsa2048", "0x01c00018 p521"]);
    assert_eq!(certificates[0]["certificate"], said["ek_certificate"], "that of the key that enrolls");
    assert_eq!(certificates[0]["ek_digest"], said["ek_digest"]);
    assert_eq!(certificates[1]["ek_digest"], said["other_ek_digests"][0]);
    let words = identify(Some(device.swtpm.address()), None, Format::Text).await.unwrap();
    for line in
        ["p384 at 0x01c00016, of sha256:", "p521 at 0x01c00018, no device enrolls by a key of this kind"]
    {
        assert!(words.contains(&format!("in the tpm    {line}")), "{words}");
    }
}

/// The certificate leads to the manufacturer's root and is about the key in the public area.
fn assert_certified(device: &Device, key: &EndorsementKey) {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let root = file("root", device.manufacturer.root_certificate().unwrap().as_bytes());
    let issuer = file("issuer", device.manufacturer.issuing_certificate().unwrap().as_bytes());
    let certificate = file("ek", key.certificate.as_ref().unwrap());
    let pem = device.tool("openssl", &["x509", "-inform", "DER", "-in", &certificate]);
    let leaf = file("leaf", &pem);
    let verdict = device.tool("openssl", &["verify", "-CAfile", &root, "-untrusted", &issuer, &leaf]);
    assert!(String::from_utf8_lossy(&verdict).contains("OK"));

    let text = device.tool("openssl", &["x509", "-in", &leaf, "-noout", "-text"]);
    let printed: String = String::from_utf8(text).unwrap().split_whitespace().collect();
    // The last coordinate or the modulus ends the public area; openssl prints it with colons.
    let unique = hex::encode(&key.public[key.public.len() - 48..]);
    assert!(printed.replace(':', "").contains(&unique), "{}", key.template.name());
}

#[test]
fn the_attestation_key_is_restricted_and_opens_credentials_of_both_endorsement_keys() {
    let Some(device) = Device::make(&["tpm2_makecredential"]) else { return };
    let mut tpm = device.esapi();
    let attestation_key = tpm.attestation_key().unwrap();
    tpm.release();
    device.assert_clean("attestation_key");
    assert_eq!(attestation_key[..8], [0x00, 0x23, 0x00, 0x0b, 0x00, 0x05, 0x04, 0x72]);

    let endorsement = tpm.endorsement().unwrap();
    for key in &endorsement.keys {
        tpm.release();
        let credential = make_credential(&device, &key.public, &name_of(&attestation_key));
        let secret = tpm.activate(key.template, &credential).unwrap();
        assert_eq!(*secret, SECRET, "{}", key.template.name());
        tpm.release();
        device.assert_clean("activate");
    }
}

#[test]
fn a_credential_for_another_attestation_key_does_not_open() {
    let Some(device) = Device::make(&["tpm2_makecredential"]) else { return };
    let mut tpm = device.esapi();
    let endorsement = tpm.endorsement().unwrap();
    tpm.release();
    for key in &endorsement.keys {
        let credential = make_credential(&device, &key.public, &name_of(b"another key"));
        let refusal = tpm.activate(key.template, &credential).unwrap_err();
        assert!(matches!(refusal.fault, TpmFault::CredentialOfAnotherTpm { .. }), "{refusal}");
        device.assert_clean("a refused activate");
    }
    let oversize = Credential { id_object: vec![0; 5000], encrypted_secret: vec![] };
    let refusal = tpm.activate(EkTemplate::L1, &oversize).unwrap_err();
    assert!(matches!(refusal.fault, TpmFault::Malformed { .. }), "{refusal}");
}

#[test]
fn pcrs_are_read_extended_and_quoted() {
    let Some(device) = Device::make(&[]) else { return };
    let mut tpm = device.esapi();
    let event = digest(&SHA256, b"an image");
    tpm.extend(pcr(13), SHA256_BANK, event.as_ref()).unwrap();
    tpm.release();
    device.assert_clean("extend");

    let values = tpm.read_pcrs(SHA256_BANK, PcrSelection::QUOTED).unwrap();
    tpm.release();
    device.assert_clean("read_pcrs");
    assert_eq!(values.len(), 16);
    let expected = digest(&SHA256, &[&[0; 32], event.as_ref()].concat());
    assert_eq!(values[13].digest, expected.as_ref());
    assert_eq!(values[12].digest, [0; 32]);

    let key = tpm.attestation_key().unwrap();
    let quote = tpm.quote(&[7; 32], SHA256_BANK, PcrSelection::QUOTED).unwrap();
    tpm.release();
    device.assert_clean("quote");
    assert_signed(&quote, &key);
    let attested = attested(&quote.attest);
    assert_eq!(attested.kind, [0x80, 0x18]);
    assert_eq!(attested.extra_data, [7; 32]);
    // One selection: SHA-256, three bytes of bits, then the digest.
    assert_eq!(attested.body[..10], [0, 0, 0, 1, 0x00, 0x0b, 3, 0xff, 0xff, 0x00]);
    let all: Vec<u8> = values.into_iter().flat_map(|value| value.digest).collect();
    assert_eq!(sized_at(attested.body, 10).0, digest(&SHA256, &all).as_ref());
    assert_eq!(attested.firmware_version, tpm.endorsement().unwrap().firmware_version);
}

#[test]
fn a_bank_that_the_tpm_does_not_keep_is_named() {
    let Some(device) = Device::make(&[]) else { return };
    let mut tpm = device.esapi();
    let missing = |fault| matches!(fault, TpmFault::BankMissing { bank: PcrBank::Sha512 });
    assert!(missing(tpm.read_pcrs(PcrBank::Sha512, PcrSelection::QUOTED).unwrap_err().fault));
    assert!(missing(tpm.quote(&[], PcrBank::Sha512, PcrSelection::QUOTED).unwrap_err().fault));
    assert_eq!(tpm.read_pcrs(PcrBank::Sha384, PcrSelection::QUOTED).unwrap()[0].digest, [0; 48]);

    let nothing: PcrSelection = [].into_iter().collect();
    let refusal = tpm.quote(&[], SHA256_BANK, nothing).unwrap_err();
    assert!(matches!(refusal.fault, TpmFault::Malformed { .. }), "{refusal}");
    let refusal = tpm.extend(pcr(13), SHA256_BANK, &[0; 48]).unwrap_err();
    assert!(matches!(refusal.fault, TpmFault::Malformed { .. }), "{refusal}");
}

#[test]
fn an_identity_key_is_certified_and_signs() {
    let Some(device) = Device::make(&[]) else { return };
    let mut tpm = device.esapi();
    let key = tpm.create_identity_key().unwrap();
    tpm.release();
    device.assert_clean("create_identity_key");
    assert_eq!(key.parent(), 0x8100_0001);
    assert_eq!(key.public_area()[..8], [0x00, 0x23, 0x00, 0x0b, 0x00, 0x04, 0x04, 0x72]);

    let certification = tpm.certify(&key, &[9; 32]).unwrap();
    tpm.release();
    device.assert_clean("certify");
    assert_signed(&certification, &tpm.attestation_key().unwrap());
    let attested = attested(&certification.attest);
    assert_eq!(attested.kind, [0x80, 0x17]);
    assert_eq!(attested.extra_data, [9; 32]);
    assert_eq!(sized_at(attested.body, 0).0, name_of(key.public_area()));

    let hash: [u8; 32] = digest(&SHA256, b"message").as_ref().try_into().unwrap();
    let signature = tpm.sign_digest(&key, &hash).unwrap();
    tpm.release();
    device.assert_clean("sign_digest");
    let public = aws_lc_rs::signature::UnparsedPublicKey::new(
        &aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1,
        key.point(),
    );
    public.verify(b"message", &signature).unwrap();
    assert_ne!(tpm.create_identity_key().unwrap().point(), key.point());
}

#[test]
fn a_storage_key_of_another_program_is_left_alone() {
    let Some(device) = Device::make(&["tpm2_createprimary", "tpm2_evictcontrol"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let context = folder.path().join("primary").display().to_string();
    // The usual template of these tools does not set noDA.
    device.tool("tpm2_createprimary", &["-Q", "-C", "o", "-c", &context]);
    device.tool("tpm2_evictcontrol", &["-Q", "-C", "o", "-c", &context, "0x81000001"]);
    device.tool("tpm2_flushcontext", &["-t"]);

    let mut tpm = device.esapi();
    let key = tpm.create_identity_key().unwrap();
    assert_eq!(key.parent(), 0x8100_5453);
    tpm.sign_digest(&key, &[1; 32]).unwrap();
    tpm.release();

    // A storage key that lost its place comes back by itself.
    device.tool("tpm2_evictcontrol", &["-Q", "-C", "o", "-c", "0x81005453"]);
    tpm.sign_digest(&key, &[1; 32]).unwrap();
}

#[test]
fn a_password_on_a_hierarchy_is_named() {
    let Some(device) = Device::make(&["tpm2_changeauth"]) else { return };
    device.tool("tpm2_changeauth", &["-c", "endorsement", "secret"]);
    let refusal = device.esapi().attestation_key().unwrap_err();
    assert!(matches!(refusal.fault, TpmFault::PasswordSet { .. }), "{refusal}");
    assert!(refusal.to_string().contains("tpm2_changeauth"), "{refusal}");
}

/// The path a device takes, without a kernel TPM: a pseudo terminal that leads to the software TPM.
#[test]
fn a_device_stays_open_and_works_the_same() {
    let Some(device) = Device::make(&["socat"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let node = folder.path().join("tpm");
    let attestor::tpm::TpmAddress::Swtpm(socket) = device.swtpm.address() else { return };
    let mut socat = command("socat")
        .arg(format!("pty,raw,echo=0,link={}", node.display()))
        .arg(format!("tcp:{socket}"))
        .spawn()
        .unwrap();
    while !node.exists() {
        assert!(socat.try_wait().unwrap().is_none(), "socat ended early");
        std::thread::yield_now();
    }
    let mut tpm = EsapiTpm::new(format!("device:{}", node.display()).parse().unwrap());
    let key = tpm.create_identity_key().unwrap();
    for _ in 0..5 {
        tpm.release();
        tpm.quote(&[1; 32], SHA256_BANK, PcrSelection::QUOTED).unwrap();
        tpm.sign_digest(&key, &[1; 32]).unwrap();
    }
    drop(tpm);
    socat.kill().unwrap();
    socat.wait().unwrap();
    device.assert_clean("use as a device");
}
