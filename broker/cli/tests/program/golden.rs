//! `touchstone golden sign` and `show` on files, run as a program.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its files has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::num::NonZeroU8;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use policy::reference::dsse::Envelope;
use policy::reference::keys::{ReleaseKey, ReleaseKeys};
use rcgen::PublicKeyData;
use tempfile::TempDir;

use crate::tool::{Ran, run};

const MANIFEST: &str = "\
# learned from press-7
schema = 1
product = \"edge\"
version = \"1.4\"
counter = 7
[[event]]
pcr = 4
type = \"EV_EFI_BOOT_SERVICES_APPLICATION\"
digest = [\"9a53b62e6012dea31e9da599eeb7802c60bd2775c6355b49de06c812fbecc41d\"]
name = \"kernel\"
";

/// A folder with a manifest and a release key.
pub(crate) struct Desk(TempDir);

impl Desk {
    pub(crate) fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        fs::write(desk.path("edge.toml"), MANIFEST).unwrap();
        desk
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn key(&self, name: &str) -> ReleaseKey {
        let key = rcgen::KeyPair::generate().unwrap();
        fs::write(self.path(name), key.serialize_pem()).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
        ReleaseKey::from_spki(&key.subject_public_key_info(), BTreeSet::from(["edge".parse().unwrap()]))
            .unwrap()
    }

    pub(crate) fn sign(&self, file: &str, key: &str) -> Ran {
        run(&["golden", "sign", &self.path(file), "--key", &self.path(key), "-o", "json"])
    }
}

pub(crate) fn verify(path: &str, keys: Vec<ReleaseKey>, threshold: u8) -> BTreeSet<policy::digest::Digest> {
    let envelope = Envelope::parse(&fs::read(Path::new(path)).unwrap()).unwrap();
    let keys = ReleaseKeys::new(keys, NonZeroU8::new(threshold).unwrap()).unwrap();
    envelope.verify(&keys).unwrap().signers().clone()
}

#[test]
fn a_signed_manifest_verifies_and_a_second_signature_is_added() {
    let desk = Desk::new();
    let (first, second) = (desk.key("first.key"), desk.key("second.key"));
    let ran = desk.sign("edge.toml", "first.key");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!((&ran.json()["schema"], &ran.json()["release"]), (&1.into(), &"edge@1.4".into()));
    assert_eq!(ran.json()["key_id"], first.id().to_string());
    let signed = desk.path("edge.toml.dsse.json");
    assert_eq!(verify(&signed, vec![first.clone()], 1), BTreeSet::from([first.id()]));

    let ran = desk.sign("edge.toml.dsse.json", "second.key");
    assert_eq!(ran.code, 0, "{ran:?}");
    let both = BTreeSet::from([first.id(), second.id()]);
    assert_eq!(verify(&signed, vec![first, second], 2), both);

    let before = fs::read(&signed).unwrap();
    let ran = desk.sign("edge.toml.dsse.json", "second.key");
    assert_eq!((ran.code, &ran.json()["already"]), (0, &true.into()), "{ran:?}");
    assert_eq!(fs::read(&signed).unwrap(), before, "one person is not two");
}

#[test]
fn show_prints_the_canonical_manifest_and_tells_the_rest_aside() {
    let desk = Desk::new();
    desk.key("release.key");
    desk.sign("edge.toml", "release.key");
    let plain = run(&["golden", "show", &desk.path("edge.toml")]);
    let signed = run(&["golden", "show", &desk.path("edge.toml.dsse.json")]);
    assert_eq!((plain.code, signed.code), (0, 0), "{plain:?} {signed:?}");
    assert_eq!(plain.stdout, signed.stdout);
    assert!(plain.stderr.contains("edge@1.4: counter 7") && plain.stderr.contains("not signed"), "{plain:?}");
    assert!(signed.stderr.contains("claims to be signed by"), "{signed:?}");
}

#[test]
fn a_faulty_manifest_names_its_line() {
    let desk = Desk::new();
    desk.key("release.key");
    fs::write(desk.path("edge.toml"), MANIFEST.replace("pcr = 4", "pcr = 24")).unwrap();
    let ran = desk.sign("edge.toml", "release.key");
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("edge.toml") && ran.stderr.contains("line 7"), "{ran:?}");
    assert!(!Path::new(&desk.path("edge.toml.dsse.json")).exists());
}

#[test]
fn a_release_key_that_others_may_read_is_not_used() {
    let desk = Desk::new();
    desk.key("release.key");
    fs::set_permissions(desk.path("release.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let ran = desk.sign("edge.toml", "release.key");
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains(&format!("\nchmod 600 {}", desk.path("release.key"))), "{ran:?}");
}
