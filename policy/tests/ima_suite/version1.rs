//! Version 1 signatures, made by evmctl 1.4 with a key of 2048 bits that was not kept:
//! `evmctl ima_sign --rsa --hashalgo sha256 --sigfile --key KEY FILE`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use policy::eventlog::ima::key::{ImaKey, ImaKeyError};
use policy::eventlog::ima::list::ImaList;
use policy::eventlog::ima::signature::{FileSignatureError, verify};
use proptest::prelude::*;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, PublicKeyData};

use crate::rig::{list, n_ng, record, sha256, signed_file};

const PUBLIC: &str = "\
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAs0Zo9ljlN70jPJT2z51Kkpbam6z8X//mKzNa1nRdZPY9sE/shCP2fU7o\
JoGO9Vr83Qcg+DXX+V4Kwx6SUsXq2J1Yhai0aKQmBYBYT+O3wVviFEVQwxJ+N0aKqcpvkYjTVeHUuixQ0JYhVhBf4+eqRzqiuGrO\
TWEMjqqGAiEMNJjPsf9o9lYgxe49aev3mbUqRVB4yffjxacckOKTsnt0SWKJufk7QROjaTJG2wzCFL5p3RIYOUixby8ekfqyExYl\
5FVfLjLL7vuKyiw9nFdIO4DbY15AcalDSwKqvNqZMd2ULfC5PvKG8IrwZIWTC++nKMslSdwOxpjJqYmqetFVIQIDAQAB";
/// `security.ima` of a file with the content [`CONTENT`].
const SIGNATURE: &str = "\
03013206086b0001f22d646fb70ee816010800462b3cc2cdb35b83a0951297f6551229bbf48e574befe6691c9c647e55b44e\
f19bd422617cff437d656f9046ab01108add8c72854bf3cdbb9735891501ce6485f783b00f966ce2126e9132cac1589f1403\
954c962135f91cfec4efbb0e24e5b276e8bf6ac65e7a2e3ff5eb231dc9f765941f1fbbc6a1c1f94c11a4c5fc82692937156e\
715a7b8eb825bad3825dc22b412c857532ba8288f44d22f9c7a55fd95881c18ee9699e3626e79b8ec58bc0e1aab72788ea8f\
8315d4bd9d0352dc246e5ce6c6ec79a071b4bb04636cc402189c1fa3695218f86d564c34829ec5a6f321541243bd462c1833\
cb4f0509a25da90ba2f76816c6b9746b1e40204ce13c71a1b4";
const CONTENT: &str = "#!/bin/sh";
/// The end of the key's id in the header.
const ID: u32 = 0xb70e_e816;

fn public() -> Vec<u8> {
    STANDARD.decode(PUBLIC).unwrap()
}

fn signature() -> Vec<u8> {
    hex::decode(SIGNATURE).unwrap()
}

fn judge(content: &str, signature: Vec<u8>, keys: &[ImaKey]) -> Result<(), FileSignatureError> {
    let bytes = list(&[signed_file("/bin/x", content, signature)]);
    let record = ImaList::parse(&bytes, 0).unwrap().records().next().unwrap().unwrap();
    verify(&record.fields, keys)
}

fn listed() -> Vec<ImaKey> {
    vec![ImaKey::parse_version1(&public()).unwrap()]
}

#[test]
fn a_key_that_is_listed_for_it_vouches() {
    assert_eq!(judge(CONTENT, signature(), &listed()), Ok(()));
    assert_eq!(judge("another", signature(), &listed()), Err(FileSignatureError::Wrong(ID)));
}

#[test]
fn a_key_that_is_not_listed_for_it_does_not() {
    let modern = vec![ImaKey::parse(&public()).unwrap()];
    assert_eq!(judge(CONTENT, signature(), &modern), Err(FileSignatureError::Version1));
    assert_eq!(judge(CONTENT, signature(), &[]), Err(FileSignatureError::Version1));
    let other = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap().subject_public_key_info();
    let other = vec![ImaKey::parse_version1(&other).unwrap()];
    assert_eq!(judge(CONTENT, signature(), &other), Err(FileSignatureError::UnknownKey(ID)));
    let p256 = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap().subject_public_key_info();
    assert_eq!(ImaKey::parse_version1(&p256), Err(ImaKeyError::NotRsa));
}

#[test]
fn it_vouches_for_content_and_for_nothing_else() {
    let verity = [b"verity:sha256:\0", sha256(CONTENT.as_bytes()).as_bytes()].concat();
    let bytes = list(&[record("ima-sigv2", &[verity, n_ng("/bin/x"), signature()])]);
    let record = ImaList::parse(&bytes, 0).unwrap().records().next().unwrap().unwrap();
    assert_eq!(verify(&record.fields, &listed()), Err(FileSignatureError::OtherDigest));
    // Under the type of an EVM signature it is none.
    let mut evm = signature();
    evm[0] = 5;
    assert_eq!(judge(CONTENT, evm, &listed()), Err(FileSignatureError::Version1));
}

#[test]
fn a_cut_or_longer_signature_is_malformed() {
    for len in 2..signature().len() {
        let cut = judge(CONTENT, signature()[..len].to_vec(), &listed());
        assert!(matches!(cut, Err(FileSignatureError::Malformed(_))), "{len}: {cut:?}");
    }
    let longer = judge(CONTENT, [signature(), vec![0]].concat(), &listed());
    assert!(matches!(longer, Err(FileSignatureError::Malformed(_))), "{longer:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn every_bit_is_covered(at in 0_usize..274, bit in 0_u8..8) {
        let mut flipped = signature();
        flipped[at] ^= 1 << bit;
        prop_assert!(judge(CONTENT, flipped, &listed()).is_err(), "byte {at}, bit {bit}");
    }
}
