//! Signatures of files, made as evmctl makes them.

use policy::eventlog::ima::key::{ImaKey, ImaKeyError};
use policy::eventlog::ima::list::ImaList;
use policy::eventlog::ima::signature::{FileSignatureError, verify};
use policy::tpm::alg::{HashAlg, HashValue};
use rcgen::{
    CertificateParams, IsCa, KeyIdMethod, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_ECDSA_P521_SHA512, PKCS_RSA_SHA256, PublicKeyData, SignatureAlgorithm, SigningKey,
};

use crate::rig::{Written, d_ng, file, list, n_ng, record, sha256, signed_file};

const CONTENT: &str = "#!/bin/sh";

struct Signer {
    key: KeyPair,
    alg: HashAlg,
    id: [u8; 4],
}

impl Signer {
    fn new(kind: &'static SignatureAlgorithm, alg: HashAlg) -> Self {
        let key = KeyPair::generate_for(kind).unwrap();
        let digest = HashAlg::Sha1.hash(&[key.der_bytes()]);
        let id = *digest.as_bytes().last_chunk().unwrap();
        Self { key, alg, id }
    }

    fn p256() -> Self {
        Self::new(&PKCS_ECDSA_P256_SHA256, HashAlg::Sha256)
    }

    fn trusted(&self) -> Vec<ImaKey> {
        vec![ImaKey::parse(&self.key.subject_public_key_info()).unwrap()]
    }

    /// `struct signature_v2_hdr` and a signature over `message`.
    fn sign(&self, kind: u8, version: u8, message: &[u8]) -> Vec<u8> {
        let signature = self.key.sign(message).unwrap();
        let len = u16::try_from(signature.len()).unwrap().to_be_bytes();
        [&[kind, version, self.hash_id()], &self.id[..], &len, &signature].concat()
    }

    fn hash_id(&self) -> u8 {
        [2, 4, 5, 6][HashAlg::ALL.iter().position(|alg| *alg == self.alg).unwrap()]
    }

    /// A version 3 signature over a digest.
    fn sign_id(&self, kind: u8, digest: &HashValue) -> Vec<u8> {
        self.sign(kind, 3, &[&[kind, self.hash_id()], digest.as_bytes()].concat())
    }

    fn digest(&self) -> HashValue {
        self.alg.hash(&[CONTENT.as_bytes()])
    }

    fn sig(&self, signature: Vec<u8>) -> Written {
        record("ima-sig", &[d_ng(&self.digest()), n_ng("/bin/x"), signature])
    }

    fn sigv2(&self, of: &str, signature: Vec<u8>) -> Written {
        let digest = [of.as_bytes(), b":", &d_ng(&self.digest())].concat();
        record("ima-sigv2", &[digest, n_ng("/bin/x"), signature])
    }
}

fn judge(written: Written, keys: &[ImaKey]) -> Result<(), FileSignatureError> {
    let bytes = list(&[written]);
    let record = ImaList::parse(&bytes, 0).unwrap().records().next().unwrap().unwrap();
    verify(&record.fields, keys)
}

#[test]
fn every_kind_of_key_vouches_in_both_versions() {
    for (kind, alg) in [
        (&PKCS_ECDSA_P256_SHA256, HashAlg::Sha256),
        (&PKCS_ECDSA_P384_SHA384, HashAlg::Sha384),
        (&PKCS_RSA_SHA256, HashAlg::Sha256),
    ] {
        let signer = Signer::new(kind, alg);
        let keys = signer.trusted();
        let version_2 = signer.sign(3, 2, CONTENT.as_bytes());
        let version_3 = signer.sign_id(3, &signer.digest());
        for signature in [version_2, version_3] {
            assert_eq!(judge(signer.sig(signature.clone()), &keys), Ok(()));
            assert_eq!(judge(signer.sigv2("ima", signature.clone()), &keys), Ok(()));
            let other = judge(signer.sigv2("verity", signature), &keys);
            assert_eq!(other, Err(FileSignatureError::OtherDigest));
        }
        let verity = signer.sign_id(6, &signer.digest());
        assert_eq!(judge(signer.sigv2("verity", verity.clone()), &keys), Ok(()));
        assert_eq!(judge(signer.sig(verity.clone()), &keys), Ok(()));
        assert_eq!(judge(signer.sigv2("ima", verity), &keys), Err(FileSignatureError::OtherDigest));
    }
}

#[test]
fn a_changed_file_or_signature_is_wrong() {
    let signer = Signer::p256();
    let keys = signer.trusted();
    let id = u32::from_be_bytes(signer.id);
    let good = signer.sign(3, 2, CONTENT.as_bytes());
    let changed = signed_file("/bin/x", "another", good.clone());
    assert_eq!(judge(changed, &keys), Err(FileSignatureError::Wrong(id)));
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    assert_eq!(judge(signer.sig(flipped), &keys), Err(FileSignatureError::Wrong(id)));
    // One version's signature under the other's header, and one type's under the other's.
    let mut relabelled = good;
    relabelled[1] = 3;
    assert_eq!(judge(signer.sig(relabelled), &keys), Err(FileSignatureError::Wrong(id)));
    let mut as_verity = signer.sign_id(3, &signer.digest());
    as_verity[0] = 6;
    assert_eq!(judge(signer.sigv2("verity", as_verity), &keys), Err(FileSignatureError::Wrong(id)));
    let impostor = Signer { id: signer.id, ..Signer::p256() };
    let forged = impostor.sig(impostor.sign(3, 2, CONTENT.as_bytes()));
    assert_eq!(judge(forged, &keys), Err(FileSignatureError::Wrong(id)));
}

#[test]
fn headers_are_refused_by_what_is_wrong_with_them() {
    let signer = Signer::p256();
    let keys = signer.trusted();
    let good = signer.sign(3, 2, CONTENT.as_bytes());
    let with = |at: usize, byte: u8| {
        let mut changed = good.clone();
        changed[at] = byte;
        judge(signer.sig(changed), &keys).unwrap_err()
    };
    assert_eq!(judge(file("/bin/x", CONTENT), &keys), Err(FileSignatureError::Unsigned));
    assert_eq!(with(1, 1), FileSignatureError::Version1);
    assert_eq!(with(1, 4), FileSignatureError::Unknown { kind: 3, version: 4 });
    assert_eq!(with(0, 6), FileSignatureError::Unknown { kind: 6, version: 2 });
    assert_eq!(with(0, 5), FileSignatureError::Unknown { kind: 5, version: 2 });
    assert_eq!(with(2, 2), FileSignatureError::Algorithm(2));
    assert_eq!(with(2, 5), FileSignatureError::OtherDigest);
    let unknown = u32::from_be_bytes(signer.id) ^ 1;
    assert_eq!(with(6, signer.id[3] ^ 1), FileSignatureError::UnknownKey(unknown));
    assert!(matches!(with(8, 1), FileSignatureError::Malformed(_)));
    let longer = [good.clone(), vec![0]].concat();
    assert!(matches!(judge(signer.sig(longer), &keys), Err(FileSignatureError::Malformed(_))));
    let no_digest = record("ima-sig", &[b"md5:\0".to_vec(), n_ng("/bin/x"), good]);
    assert_eq!(judge(no_digest, &keys), Err(FileSignatureError::NoDigest));
}

/// A record of a file with a label, whose `security.ima` is `ima`, as EVM signs it.
fn evm(signer: &Signer, ima: &[u8], version: u8) -> Written {
    let label = b"system_u:object_r:bin_t:s0\0";
    let values = [&label[..], ima].concat();
    let (uid, gid, mode) = (1000_u32.to_le_bytes(), 100_u32.to_le_bytes(), 0o100_755_u16.to_le_bytes());
    let attributes = [&values[..], &[0; 12], &uid, &gid, &mode, &[0; 2]].concat();
    let signature = match version {
        2 => signer.sign(5, 2, &attributes),
        _ => signer.sign_id(5, &signer.alg.hash(&[&attributes])),
    };
    let lengths = [label.len(), ima.len()].map(|n| u32::try_from(n).unwrap().to_le_bytes()).concat();
    record(
        "evm-sig",
        &[
            d_ng(&signer.digest()),
            n_ng("/bin/x"),
            signature,
            b"security.selinux|security.ima\0".to_vec(),
            lengths,
            values,
            uid.to_vec(),
            gid.to_vec(),
            mode.to_vec(),
        ],
    )
}

#[test]
fn an_evm_signature_vouches_for_the_content_through_security_ima() {
    let signer = Signer::p256();
    let keys = signer.trusted();
    let digest = [&[4, signer.hash_id()], signer.digest().as_bytes()].concat();
    let signature = signer.sign(3, 2, CONTENT.as_bytes());
    for version in [2, 3] {
        assert_eq!(judge(evm(&signer, &digest, version), &keys), Ok(()));
        assert_eq!(judge(evm(&signer, &signature, version), &keys), Ok(()));
    }
    let other = [&[4, signer.hash_id()], sha256(b"another").as_bytes()].concat();
    assert_eq!(judge(evm(&signer, &other, 2), &keys), Err(FileSignatureError::OtherDigest));
    let id = u32::from_be_bytes(signer.id);
    for (field, wrong) in [(5, vec![7; 61]), (6, vec![0; 4]), (8, vec![0xff, 0x81])] {
        let mut changed = evm(&signer, &digest, 2);
        changed.fields[field] = wrong;
        assert_eq!(judge(changed, &keys), Err(FileSignatureError::Wrong(id)), "field {field}");
    }
    // Names and lengths are not signed: they must fit, and security.ima be there once.
    for (field, wrong) in [
        (3, b"security.selinux|security.imb\0".to_vec()),
        (3, b"security.ima|security.ima\0".to_vec()),
        (3, b"security.ima\0".to_vec()),
        (4, vec![1, 0, 0, 0]),
        (6, vec![0; 3]),
    ] {
        let mut changed = evm(&signer, &digest, 2);
        changed.fields[field] = wrong;
        assert_eq!(judge(changed, &keys), Err(FileSignatureError::Attributes), "field {field}");
    }
}

#[test]
fn a_certificate_names_its_key_by_its_identifier() {
    let mut signer = Signer::p256();
    signer.id = [0xca, 0xfe, 0xba, 0xbe];
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_identifier_method = KeyIdMethod::PreSpecified([&[1; 16], &signer.id[..]].concat());
    let certificate = params.self_signed(&signer.key).unwrap();
    let written = signer.sig(signer.sign(3, 2, CONTENT.as_bytes()));
    assert_eq!(judge(written.clone(), &[ImaKey::parse(certificate.der()).unwrap()]), Ok(()));
    let bare = judge(written, &signer.trusted());
    assert_eq!(bare, Err(FileSignatureError::UnknownKey(0xcafe_babe)));
}

#[test]
fn what_is_no_key_is_refused() {
    assert!(matches!(ImaKey::parse(b"no key"), Err(ImaKeyError::Malformed(_))));
    assert_eq!(ImaKey::parse(&[0x30; 5000]), Err(ImaKeyError::TooLong(5000)));
    let p521 = KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512).unwrap().subject_public_key_info();
    assert_eq!(ImaKey::parse(&p521), Err(ImaKeyError::Curve("P-521")));
}
