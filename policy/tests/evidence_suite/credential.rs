//! Structures of a real TPM implementation: swtpm 0.7.1, driven by tpm2-tools 5.4.
//!
//! The credentials were made here of the fixed seed and ephemeral key below and opened in that TPM
//! with TPM2_ActivateCredential, which gave the secret back for all three endorsement keys; what was
//! opened then is the known answer now.

use aws_lc_rs::agreement::{ECDH_P256, ECDH_P384, PrivateKey, UnparsedPublicKey, agree};
use policy::evidence::identity::{CertifiedKey, IdentityKeyError};
use policy::tpm::alg::HashAlg;
use policy::tpm::attest::{Attest, QuotedSelection};
use policy::tpm::clock::ClockInfo;
use policy::tpm::credential::{CredentialError, Seed, ecc_encrypted_secret, ecc_seed, id_object};
use policy::tpm::pcr::PcrSelection;
use policy::tpm::public::{AttestationKey, EkPublic, Name, Public, PublicKey};
use policy::tpm::signature::Signature;

/// `TPM2B_PUBLIC` of the attestation key, and its Name as the TPM says it.
const AK: &str = "00580023000b00050472000000100018000b000300100020aaee1ed4081d98303a6fc32603012541991b0798e44e278bf955b84cecf7b5790020a1f9a11a4220bfb6c0434ed6ff2aa65b9cf4cac6c13effb5a24a965506b57490";
const AK_NAME: &str = "000b0944141801fd0ae9070b35ce81b6a5c4fd88ee51631f01ebe68a0922d8d71c17";
const IDENTITY: &str = "00560023000b00040472000000100010000300100020fa1a6516a6fc9c0b64fc356f168c2df066db5fd0a200df0bc41928aaaa73edbb0020eb3870e9af45d400dfd83db45b3a2cf891ae6b222d955a6112036abf94b3080e";
const QUOTE: &str = "ff54434780180022000b06ec5fdb3dc906917f9df53608a87bd042387fde300f408d0fe1a2ba19e5a37000205a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a0000000000004079000000010000000001201910230016363600000001000b03ffff000020cc7f863500b2ff1b13fbfe033260796eadfea96a5c8cc33d156ff0102d44ec65";
const QUOTE_SIGNATURE: &str = "0018000b002034acba005426030a7dcd8623d54e2ebeea1e2060fbedba24adc41c5f9cbb0300002062ca3d16e4c9846895c6d57a77712c87293515451cb64f0560e8ebf0e2635841";
const CERTIFY: &str = "ff54434780170022000b06ec5fdb3dc906917f9df53608a87bd042387fde300f408d0fe1a2ba19e5a370000400ff55aa00000000000040b200000001000000000120191023001636360022000b2ba8e0c5a977303b9e958b2e5f2ce5fb8bb98b4baf69fa7a00f0203c2be98b9a0022000b99412b80907ca3ba944a64de000ad20e63a52125afc823aaa874514d1d9cb5c3";
const CERTIFY_SIGNATURE: &str = "0018000b0020554a0c0f65640b136ce10cc9dd12a2f765d451ab6b0729fc8ee782a6d16320ae0020466bef87d35ef129ae0ff269a8bf93e463a35c19f782ea97117d67cde153bbfe";
const EK_RSA: &str = "013a0001000b000300b20020837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa00060080004300100800000000000100d707f186924242a755d7a39eb6eb13c9bf882e1a3a0e13b94904bf0011015110d05051b9e3fee0e5313076be96feb3b2d883be2fbb33f9887d862388ad3409eb541f14c93984e0555fc2f9e039ac738cc85dca975b0a9e6d2764852da392c1bd2b97806557ba99d072a691b73ebf4ed947f27d9bb08829141eb1d0424cebbbe233c55527b7d0e83f58d2ee1ca30f2d22a9c3024354a3e7815efb34d88063dfbba39d84459401ed41f8dc7758d586fb37002204276d65a852a9e26d702e3beea39d5ed33dc0f323e17db701b6a3940b8ae19cb786aca551dfe11b09eca904a95ca26d8faa761084caf4d526f733abd557ab52165e3ca9319eb44e70357a76dfcd";
const EK_P256: &str = "007a0023000b000300b20020837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa0006008000430010000300100020cf83f2908edadf8d13d9f2fbcc66b4efb6b3d85d9b20d8e24c321a505fceb7540020f310e575883a0fcb64960cd9ae9bb9d27b3ddf69ce9e01e46c6dfb6fdc58465f";
const EK_P384: &str = "00aa0023000c000300f20030b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e120006010000430010000400100030993e1aa1e7c11d8a5923af75bfbed42c7903f5f53794ad5cd21839580c0ec66e2f7507251f8c7569749b2288fa0fc56200306a01e09e0d8852c323c5e0f4c8e6517902792a7eadb08ae52f314e4c159b69e505d8f80478324601f55cc2bd2e6d6794";

const SECRET: [u8; 32] = [0x42; 32];

/// The `TPMT_PUBLIC` in a `TPM2B_PUBLIC`.
fn tpmt(sized: &str) -> Vec<u8> {
    Public::parse_2b(&hex::decode(sized).unwrap()).unwrap().as_bytes().to_vec()
}

fn bytes(digits: &str) -> Vec<u8> {
    hex::decode(digits).unwrap()
}

fn ak() -> AttestationKey {
    AttestationKey::accept(&tpmt(AK)).unwrap()
}

#[test]
fn a_tpms_quote_is_read_and_verified() {
    let (attest, signature) = (bytes(QUOTE), bytes(QUOTE_SIGNATURE));
    Signature::parse(&signature).unwrap().verify(&ak(), &attest).unwrap();
    let parsed = Attest::parse(&attest).unwrap();
    assert_eq!(parsed.extra_data, [0x5a; 32]);
    let clock = ClockInfo { clock_ms: 16_505, reset_count: 1, restart_count: 0, safe: true };
    assert_eq!((parsed.clock, parsed.firmware_version), (clock, 0x2019_1023_0016_3636));
    let asked = QuotedSelection::of(&PcrSelection::quoted(HashAlg::Sha256));
    assert_eq!(parsed.quote().unwrap().selections, [asked]);
}

#[test]
fn a_tpms_certification_names_the_key() {
    let (attest, signature) = (bytes(CERTIFY), bytes(CERTIFY_SIGNATURE));
    Signature::parse(&signature).unwrap().verify(&ak(), &attest).unwrap();
    let parsed = Attest::parse(&attest).unwrap();
    let name = Public::parse(&tpmt(IDENTITY)).unwrap().name();
    assert_eq!(parsed.certify().unwrap().name, name.to_bytes());
    // tpm2_certify sets qualifying data of its own.
    let error = CertifiedKey::verify(&tpmt(IDENTITY), &attest, &signature, &ak(), [0; 32]).unwrap_err();
    assert_eq!(error, IdentityKeyError::QualifyingData);
}

#[test]
fn the_name_is_the_tpms() {
    assert_eq!(Name::parse(&bytes(AK_NAME)), Ok(ak().name()));
}

#[test]
fn a_credential_for_an_rsa_key_is_the_one_that_a_tpm_opened() {
    let ek = EkPublic::parse(&tpmt(EK_RSA)).unwrap();
    assert_eq!(ek.template(), "L-1");
    let seed = Seed::new(&ek, &[7; 32]).unwrap();
    let blob = id_object(&ek, &seed, &ak().name(), &SECRET).unwrap();
    assert_eq!(
        hex::encode(blob),
        "00202a911146f00f149e55ffb8bccf0592ac227c1b9e995bf9e642d0accd72bab9a2ceff32caf7f1927ca965482fc0439134ef141dd3ad51bce4f6b7591fa9714bf7f674"
    );
}

/// Encrypted secret and blob for an ECC key and a fixed ephemeral key.
fn ecc_credential(ek: &EkPublic) -> (Vec<u8>, Vec<u8>) {
    let PublicKey::Ecc { point, .. } = ek.key() else { panic!("an ECC key") };
    let (algorithm, private) =
        if point.len() == 65 { (&ECDH_P256, vec![3; 32]) } else { (&ECDH_P384, vec![3; 48]) };
    let private = PrivateKey::from_private_key(algorithm, &private).unwrap();
    let ephemeral = private.compute_public_key().unwrap();
    let peer = UnparsedPublicKey::new(algorithm, point);
    let seed =
        agree(&private, peer, CredentialError::Backend, |z| ecc_seed(ek, z, ephemeral.as_ref())).unwrap();
    let blob = id_object(ek, &seed, &ak().name(), &SECRET).unwrap();
    (ecc_encrypted_secret(ek, ephemeral.as_ref()).unwrap(), blob)
}

#[test]
fn credentials_for_ecc_keys_are_those_that_a_tpm_opened() {
    for (ek, template, expected) in [
        (
            EK_P256,
            "L-2",
            "00200d2af333545747ab30bf549e731d739056ea4417f52d6a274a01e532cd6e663a643a73d482301fc09205a3a96328141e647df22de0a9ae053d17dfeeec3bc09ef733",
        ),
        (
            EK_P384,
            "H-3",
            "0030d9c56088fa288911706b35059742831d6b29bdf2cd80100b3408c931db97185d803e1d04fa2e63c7b251923adf1a48c7de6b13e4d0c8964b66e8ea0e7caff5e297af7a107a80dab6ea0b0f7021c757e0618e",
        ),
    ] {
        let ek = EkPublic::parse(&tpmt(ek)).unwrap();
        assert_eq!(ek.template(), template);
        let (secret, blob) = ecc_credential(&ek);
        assert_eq!(hex::encode(blob), expected);
        // Two coordinates, each with its length.
        let PublicKey::Ecc { point, .. } = ek.key() else { panic!("an ECC key") };
        assert_eq!(secret.len(), point.len() - 1 + 4);
    }
}

#[test]
fn seeds_and_points_of_another_size_are_refused() {
    let rsa = EkPublic::parse(&tpmt(EK_RSA)).unwrap();
    let ecc = EkPublic::parse(&tpmt(EK_P256)).unwrap();
    let short = CredentialError::SeedLen { expected: 32, found: 20 };
    assert_eq!(Seed::new(&rsa, &[0; 20]).unwrap_err(), short);
    assert_eq!(ecc_seed(&rsa, &[0; 32], &[4; 65]).unwrap_err(), CredentialError::NotEcc);
    assert_eq!(ecc_seed(&ecc, &[0; 48], &[4; 65]).unwrap_err(), CredentialError::Curve);
    assert_eq!(ecc_seed(&ecc, &[0; 32], &[4; 97]).unwrap_err(), CredentialError::Curve);
    assert_eq!(ecc_encrypted_secret(&ecc, &[2; 65]).unwrap_err(), CredentialError::Curve);
}
