//! Signature forms that the workshop cannot make, made by the openssl command.
#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "these tests run openssl in a folder")]

use std::process::Command;

use policy::evidence::endorsement::RootStore;
use policy::x509::signature::{self, SignatureError, Strength};
use policy::x509::{Certificate, oid};

/// A self-signed RSA authority with these signature options; nothing where openssl is not installed.
fn self_signed(name: &str, options: &[&str]) -> Option<Vec<u8>> {
    let folder = std::env::temp_dir();
    let file = |what: &str| folder.join(format!("touchstone-{name}-{}.{what}", std::process::id()));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-outform", "der"])
        .args(["-subj", "/CN=Root"])
        .args(options)
        .arg("-keyout")
        .arg(file("key"))
        .arg("-out")
        .arg(file("der"))
        .output();
    let certificate = match made {
        Ok(output) => {
            assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
            std::fs::read(file("der")).unwrap()
        }
        Err(error) => {
            eprintln!("skipped: openssl does not run here: {error}");
            return None;
        }
    };
    for what in ["key", "der"] {
        std::fs::remove_file(file(what)).unwrap();
    }
    Some(certificate)
}

/// How a self-signed certificate's signature is judged under its own key.
fn own_signature(der: &[u8]) -> Result<Strength, SignatureError> {
    let certificate = Certificate::parse(der).unwrap();
    signature::verify(&certificate, &certificate)
}

#[test]
fn pss_signatures_with_a_salt_as_long_as_the_hash_are_verified() {
    for hash in ["sha256", "sha384", "sha512"] {
        let option = format!("-{hash}");
        let options = [&option, "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:-1"];
        let Some(mut der) = self_signed(hash, &options) else { return };
        assert_eq!(own_signature(&der), Ok(Strength::Sha2));
        *der.last_mut().unwrap() ^= 1;
        assert_eq!(own_signature(&der), Err(SignatureError::Wrong));
    }
}

#[test]
fn pss_signatures_with_other_parameters_are_refused_by_name() {
    let options = ["-sha256", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:20"];
    let Some(der) = self_signed("salt", &options) else { return };
    let algorithm = format!("{} with its parameters", oid::text(oid::RSASSA_PSS));
    assert_eq!(own_signature(&der), Err(SignatureError::Algorithm(algorithm)));
}

#[test]
fn a_root_signed_with_sha_1_is_an_anchor_though_nothing_else_may_be() {
    let Some(der) = self_signed("sha1", &["-sha1"]) else { return };
    assert_eq!(own_signature(&der), Err(SignatureError::Sha1));
    let mut roots = RootStore::new();
    roots.add("old.der", &der).unwrap();
    assert_eq!((roots.anchors(), roots.intermediates()), (1, 0));
}
