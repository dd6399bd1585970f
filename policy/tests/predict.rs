//! What is predicted of images: hashes that pesign and sbsign compute too, and the rules of a release.
//!
//! The images are fuzzing seeds: some hundred bytes each, made for this, with sections of one line. `signed.efi` is
//! `uki.efi` signed with sbsign.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "the test reads recorded images and asks pesign; one that cannot has failed"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use policy::predict::Phase;
use policy::predict::pe::{Pe, PeError};
use policy::predict::release::{Artefact, Artefacts, PredictError, Predicted, predict};
use policy::predict::uki::{Uki, UkiError};
use policy::reference::manifest::{Expectation, Manifest};
use policy::tpm::alg::{HashAlg, HashValue};
use proptest::prelude::*;

/// What `pesign -h` says of each image.
const KNOWN: [(&str, &str); 5] = [
    ("kernel.efi", "0abb63a5fa5a48cccf0cb28fd4b181d923f5e00317c48acd405c3b70806f5c5f"),
    ("uki.efi", "f35dced2e02c32f23bf86b6d39642174ad81277b5375aedca8e54683f9155d68"),
    ("signed.efi", "f35dced2e02c32f23bf86b6d39642174ad81277b5375aedca8e54683f9155d68"),
    ("profiles.efi", "eb6315e5a566ca99ce09e7d4a4553ec1672f0b5fb8ab78b71ba6b7a6272af0ea"),
    ("unaligned.efi", "2017955ad567e21db365aa351085f02d428814dbdfca4bf6e1404aba73282b90"),
];
/// What `pesign -h` says of `unaligned.efi` once `sbsign` signed it.
const UNALIGNED_SIGNED: &str = "f385f3549dbc0838f9e67c792b9dd7f6a4ec3151f97a4caffa365d3795891063";
/// Offsets in the images: the optional header begins at 88.
const CHECKSUM: usize = 88 + 64;
const CERTIFICATES: usize = 88 + 112 + 4 * 8;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/pe").join(name)
}

fn image(name: &str) -> Vec<u8> {
    fs::read(path(name)).unwrap()
}

fn hash(bytes: &[u8]) -> String {
    Pe::parse(bytes).unwrap().authenticode(HashAlg::Sha256).to_string()
}

#[test]
fn images_have_the_hash_that_signing_tools_compute() {
    for (name, known) in KNOWN {
        assert_eq!(hash(&image(name)), known, "{name}");
    }
    let bytes = image("unaligned.efi");
    let signed = Pe::parse(&bytes).unwrap().authenticode_once_signed(HashAlg::Sha256).unwrap();
    assert_eq!(signed.to_string(), UNALIGNED_SIGNED);
    let bytes = image("signed.efi");
    let pe = Pe::parse(&bytes).unwrap();
    assert!(pe.is_signed() && pe.authenticode_once_signed(HashAlg::Sha256).is_none());
}

#[test]
fn pesign_agrees() {
    let Ok(_) = Command::new("pesign").arg("--help").output() else {
        println!("skipped: pesign is not installed");
        return;
    };
    for (name, _) in KNOWN {
        let output = Command::new("pesign").args(["-h", "-i"]).arg(path(name)).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(said.trim(), format!("hash: {}", hash(&image(name))), "{name}");
    }
}

#[test]
fn what_is_no_whole_image_is_refused_by_reason() {
    let bytes = image("uki.efi");
    assert!(matches!(Pe::parse(b"#!/bin/sh and more text"), Err(PeError::NotPe(_))));
    assert!(matches!(Pe::parse(&bytes[..bytes.len() - 1]), Err(PeError::Read(_))));
    let mut signed = image("signed.efi");
    signed.push(0);
    assert_eq!(Pe::parse(&signed), Err(PeError::Certificates));
    // The first section begins where the second does: more bytes in sections than in the file.
    let mut overlap = bytes.clone();
    let table = 88 + 240;
    let len = u32::try_from(bytes.len()).unwrap();
    overlap[table + 16..table + 20].copy_from_slice(&len.to_le_bytes());
    overlap[table + 20..table + 24].copy_from_slice(&0_u32.to_le_bytes());
    assert_eq!(Pe::parse(&overlap), Err(PeError::Overlap));
    let mut long = bytes;
    long[table + 8..table + 12].copy_from_slice(&u32::MAX.to_le_bytes());
    let pe = Pe::parse(&long).unwrap();
    assert_eq!(pe.sections()[0].content(), Err(PeError::Zeros(".text".to_owned())));
}

#[test]
fn only_images_whose_stub_is_known_are_taken() {
    let bytes = image("uki.efi");
    assert_eq!(Uki::parse(&image("kernel.efi")), Err(UkiError::NoStub));
    assert_eq!(Uki::parse(&swapped(&bytes, b"stub 257", b"stub 251")), Err(UkiError::Old(251)));
    assert_eq!(Uki::parse(&swapped(&bytes, b".uname", b".osrel")), Err(UkiError::Twice(".osrel".to_owned())));
    let no_kernel = swapped(&bytes, b".linux", b".linex");
    assert_eq!(Uki::parse(&no_kernel).unwrap().profile(0), Err(UkiError::NoKernel));
    let wanted = Err(UkiError::NoProfile { wanted: 2, found: 2 });
    assert_eq!(Uki::parse(&image("profiles.efi")).unwrap().profile(2), wanted);
}

fn swapped(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

fn predicted(
    name: &str,
    with: impl FnOnce(&mut Artefacts<'_>),
    base: Option<&Manifest>,
) -> Result<Predicted, PredictError> {
    let bytes = image(name);
    let mut artefacts = Artefacts::default();
    artefacts.ukis.push(Artefact { name: name.to_owned(), bytes: &bytes });
    with(&mut artefacts);
    predict(&artefacts, &[HashAlg::Sha256], "edge@1.5".parse().unwrap(), None, base)
}

/// The digests of a PCR's rules, and whether they are optional.
fn digests(manifest: &Manifest, pcr: u8) -> Vec<(HashValue, bool)> {
    let rules = manifest.events().iter().filter(|rule| rule.pcr.number() == pcr);
    let of = |expectation: &Expectation| match expectation {
        Expectation::OneOf { digests, optional, .. } => {
            digests.iter().map(|digest| (*digest, *optional)).collect::<Vec<_>>()
        }
        Expectation::Absent => Vec::new(),
    };
    rules.flat_map(|rule| of(&rule.expectation)).collect()
}

fn of(text: &[u8]) -> HashValue {
    HashAlg::Sha256.hash(&[text])
}

#[test]
fn sections_are_measured_by_name_and_content_and_a_profile_replaces_them() {
    let manifest = predicted("profiles.efi", |_| (), None).unwrap().manifest;
    let first = digests(&manifest, 11);
    for text in [&b".cmdline\0"[..], b"quiet panic=-1", b".profile\0", b"ID=main\n", b".sbat\0", b".uname\0"]
    {
        assert!(first.contains(&(of(text), false)), "{}", String::from_utf8_lossy(text));
    }
    assert!(!first.iter().any(|(digest, _)| [of(b"rescue"), of(b"code"), of(b".text\0")].contains(digest)));
    let zero = HashValue::repeated(HashAlg::Sha256, 0);
    assert!(manifest.pcrs()[&HashAlg::Sha256].values().all(|values| values.contains(&zero)));

    let manifest = predicted("profiles.efi", |artefacts| artefacts.profile = 1, None).unwrap().manifest;
    let second = digests(&manifest, 11);
    assert!(second.contains(&(of(b"rescue"), false)) && second.contains(&(of(b"ID=rescue\n"), false)));
    assert!(!second.iter().any(|(digest, _)| [of(b"quiet panic=-1"), of(b"ID=main\n")].contains(digest)));
    assert_eq!(digests(&manifest, 12), [(of(b"1\0\0\0"), false)]);
}

#[test]
fn a_phase_asks_for_its_words_and_forbids_later_ones() {
    let any = digests(&predicted("uki.efi", |_| (), None).unwrap().manifest, 11);
    assert!(any.contains(&(of(b"ready"), true)) && any.contains(&(of(b"shutdown"), true)));
    let with = |artefacts: &mut Artefacts<'_>| artefacts.phase = Some(Phase::Sysinit);
    let sysinit = digests(&predicted("uki.efi", with, None).unwrap().manifest, 11);
    assert!(sysinit.contains(&(of(b"enter-initrd"), false)) && sysinit.contains(&(of(b"sysinit"), false)));
    assert!(!sysinit.iter().any(|(digest, _)| *digest == of(b"ready")));
}

#[test]
fn an_earlier_release_gives_what_was_not_predicted_and_nothing_that_was() {
    let (other, early) = ("ab".repeat(32), "cd".repeat(32));
    let base = format!(
        "schema = 1\nproduct = \"edge\"\nversion = \"1.4\"\ncounter = 7\n[pcrs.sha256]\n0 = [\"{other}\"]\n11 = [\"{other}\"]\n\
         [[event]]\npcr = 4\ntype = \"EV_EFI_BOOT_SERVICES_APPLICATION\"\ndigest = [\"{other}\"]\nname = \"old\"\n\
         [[event]]\npcr = 4\ntype = \"EV_EFI_BOOT_SERVICES_APPLICATION\"\ndigest = [\"{early}\"]\nearly = true\nname = \"vendor\"\n"
    );
    let base = Manifest::parse(&base).unwrap();
    let manifest = predicted("uki.efi", |_| (), Some(&base)).unwrap().manifest;
    assert_eq!(manifest.counter(), 8);
    let constrained: Vec<u8> = manifest.constrained().iter().map(|pcr| pcr.number()).collect();
    assert_eq!(constrained, [0, 4, 9, 11, 12]);
    let names: Vec<&str> = manifest.events().iter().filter_map(|rule| rule.name.as_deref()).collect();
    assert!(names.contains(&"vendor") && !names.contains(&"old"), "{names:?}");
    assert!(!manifest.pcrs()[&HashAlg::Sha256].keys().any(|pcr| pcr.number() == 11));
    let bytes = image("uki.efi");
    let artefacts =
        Artefacts { ukis: vec![Artefact { name: String::new(), bytes: &bytes }], ..Artefacts::default() };
    let again = |id: &str, counter| {
        predict(&artefacts, &[HashAlg::Sha256], id.parse().unwrap(), counter, Some(&base))
    };
    assert!(matches!(again("edge@1.4", None), Err(PredictError::SameName(_))));
    assert!(matches!(again("edge@1.5", Some(7)), Err(PredictError::Counter { wanted: 7, known: 7, .. })));
}

#[test]
fn nothing_and_options_of_no_image_are_refused() {
    let none = |artefacts: &Artefacts<'_>| {
        predict(artefacts, &[HashAlg::Sha256], "edge@1".parse().unwrap(), None, None).unwrap_err()
    };
    assert_eq!(none(&Artefacts::default()), PredictError::Nothing);
    assert_eq!(none(&Artefacts { side_cars: true, ..Artefacts::default() }), PredictError::NoImage);
}

proptest! {
    /// Signing changes checksum and certificates, and no hash; any other byte changes it, or the image is refused.
    #[test]
    fn exactly_what_signing_changes_is_left_out(at in 0_usize..1312, to: u8) {
        let mut bytes = image("uki.efi");
        prop_assume!(bytes[at] != to);
        let before = hash(&bytes);
        bytes[at] = to;
        let left_out = (CHECKSUM..CHECKSUM + 4).contains(&at) || (CERTIFICATES..CERTIFICATES + 8).contains(&at);
        if let Ok(pe) = Pe::parse(&bytes) {
            prop_assert_eq!(pe.authenticode(HashAlg::Sha256).to_string() == before, left_out);
        }
    }

    /// Whatever the bytes are, reading them ends.
    #[test]
    fn any_bytes_end(cut in 0_usize..1504, changes in prop::collection::vec((0_usize..560, any::<u8>()), 0..8)) {
        let mut bytes = image("profiles.efi");
        bytes.truncate(cut.max(600));
        for (at, to) in changes {
            bytes[at] = to;
        }
        if let Ok(uki) = Uki::parse(&bytes) {
            let _ = uki.profile(1);
        }
    }
}
