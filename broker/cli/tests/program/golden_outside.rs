//! `touchstone golden payload` and `attach` with keys and signatures of openssl, by the very commands of the README.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its files has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use policy::reference::keys::ReleaseKey;

use crate::golden::{Desk, verify};
use crate::tool::{Ran, run};

impl Desk {
    /// Runs openssl in the desk's folder.
    fn openssl(&self, line: &str) {
        let arguments: Vec<&str> = line.split(' ').collect();
        let output = Command::new("openssl").args(&arguments).current_dir(self.path("")).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A key of openssl with its public half in `NAME.pub`.
    fn outside(&self, name: &str, algorithm: &str) -> ReleaseKey {
        self.openssl(&format!("genpkey {algorithm} -out {name}.key"));
        self.openssl(&format!("pkey -in {name}.key -pubout -out {name}.pub"));
        let pem = fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap();
        ReleaseKey::from_pem(&pem, BTreeSet::from(["edge".parse().unwrap()])).unwrap()
    }

    fn payload(&self, file: &str) -> Ran {
        run(&["golden", "payload", &self.path(file), "--out", &self.path("edge.payload"), "-o", "json"])
    }

    fn attach(&self, file: &str, signature: &str, public: &str) -> Ran {
        let (file, signature, public) = (self.path(file), self.path(signature), self.path(public));
        run(&["golden", "attach", &file, "--signature", &signature, "--public", &public, "-o", "json"])
    }
}

const P256: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256";
const ED25519: &str = "-algorithm ED25519";
const SIGN_P256: &str = "dgst -sha256 -sign first.key -out first.sig edge.payload";
const SIGN_ED25519: &str = "pkeyutl -sign -rawin -inkey second.key -in edge.payload -out second.sig";

#[test]
fn signatures_of_openssl_are_attached_one_after_the_other() {
    let desk = Desk::new();
    let (first, second) = (desk.outside("first", P256), desk.outside("second", ED25519));
    let ran = desk.payload("edge.toml");
    assert_eq!((ran.code, &ran.json()["release"]), (0, &"edge@1.4".into()), "{ran:?}");
    let bytes = fs::read(desk.path("edge.payload")).unwrap();
    assert!(bytes.starts_with(b"DSSEv1 42 application/vnd.touchstone.release.v1+toml "), "{ran:?}");
    assert_eq!(run(&["golden", "payload", &desk.path("edge.toml")]).stdout.into_bytes(), bytes);
    desk.openssl(SIGN_P256);
    desk.openssl(SIGN_ED25519);

    let ran = desk.attach("edge.toml", "first.sig", "first.pub");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!((&ran.json()["key_id"], &ran.json()["schema"]), (&first.id().to_string().into(), &1.into()));
    let signed = desk.path("edge.toml.dsse.json");
    assert_eq!(verify(&signed, vec![first.clone()], 1), BTreeSet::from([first.id()]));
    // What is to be signed is the same from the envelope.
    desk.payload("edge.toml.dsse.json");
    assert_eq!(fs::read(desk.path("edge.payload")).unwrap(), bytes);
    let ran = desk.attach("edge.toml.dsse.json", "second.sig", "second.pub");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(
        verify(&signed, vec![first.clone(), second.clone()], 2),
        BTreeSet::from([first.id(), second.id()])
    );

    // Made again it is another signature, and still the same person.
    desk.openssl(SIGN_P256);
    let ran = desk.attach("edge.toml.dsse.json", "first.sig", "first.pub");
    assert_eq!((ran.code, &ran.json()["already"]), (0, &true.into()), "{ran:?}");
}

#[test]
fn what_was_not_signed_by_the_key_is_not_attached() {
    let desk = Desk::new();
    desk.outside("first", P256);
    desk.outside("second", ED25519);
    desk.payload("edge.toml");
    desk.openssl(SIGN_P256);
    let refused = |signature: &str, public: &str, said: &str| {
        let ran = desk.attach("edge.toml", signature, public);
        assert!(ran.code == 2 && ran.stderr.contains(said), "{signature} {public}: {ran:?}");
    };
    refused("first.sig", "second.pub", "sign the very bytes that `touchstone golden payload` writes");
    refused("edge.payload", "first.pub", "this is no signature by the key");
    refused("first.sig", "first.key", "this is a private key: keep it to yourself");
    refused("first.sig", "edge.toml", "this is no public key");
    desk.openssl("dgst -sha256 -sign first.key -out first.sig edge.toml");
    refused("first.sig", "first.pub", "this is no signature by the key");
    assert!(!fs::exists(desk.path("edge.toml.dsse.json")).unwrap());
}

#[test]
fn an_ed25519_key_of_openssl_signs_in_the_tool() {
    let desk = Desk::new();
    let key = desk.outside("second", ED25519);
    let ran = desk.sign("edge.toml", "second.key");
    assert_eq!((ran.code, &ran.json()["key_id"]), (0, &key.id().to_string().into()), "{ran:?}");
    let signed = desk.path("edge.toml.dsse.json");
    assert_eq!(verify(&signed, vec![key.clone()], 1), BTreeSet::from([key.id()]));
    desk.openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out other.key");
    let ran = desk.sign("edge.toml", "other.key");
    assert!(ran.code == 2 && ran.stderr.contains("no P-256 or Ed25519 private key"), "{ran:?}");
}
