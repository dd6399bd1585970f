//! `touchstone golden predict`, run as a program.
#![expect(clippy::unwrap_used, reason = "a test that cannot write its files has failed")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use policy::digest::Digest;

use crate::tool::run;

fn seed(name: &str) -> String {
    format!("{}/../../policy/fuzz/seeds/pe/{name}", env!("CARGO_MANIFEST_DIR"))
}

const NAMED: [&str; 6] = ["golden", "predict", "--product", "edge", "--version", "1.5"];

#[test]
fn a_draft_is_written_and_says_what_it_leaves_open() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("edge.toml");
    let out = out.to_str().unwrap();
    let (uki, loader) = (seed("uki.efi"), seed("unaligned.efi"));
    let ran = run(&[&NAMED[..], &["--uki", &uki, "--boot-loader", &loader, "--out", out]].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.stderr.contains("does not constrain PCR 0, 2, 7") && ran.stderr.contains("both ways"),
        "{ran:?}"
    );
    let shown = run(&["golden", "show", out]);
    assert_eq!(shown.stdout, fs::read_to_string(out).unwrap(), "not canonical");
    let again = ["golden", "predict", "--uki", &uki, "--base", out, "--version", "1.6", "-o", "json"];
    let ran = run(&again);
    assert_eq!((ran.code, &ran.json()["schema"]), (0, &1.into()), "{ran:?}");
    let manifest = ran.json()["manifest"].as_str().unwrap().to_owned();
    assert!(manifest.contains("product = \"edge\"\nversion = \"1.6\"\ncounter = 2\n"), "{manifest}");
    let ran = run(&["golden", "predict", "--uki", &uki, "--base", out, "--version", "1.5"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
    assert!(ran.stderr.contains("are both edge@1.5"), "{ran:?}");
}

#[test]
fn what_is_no_image_is_refused_by_name() {
    for (file, why) in [("kernel.efi", "no stub of systemd's"), ("../attest/README", "No such file")] {
        let file = seed(file);
        let ran = run(&[&NAMED[..], &["--uki", &file]].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
        assert!(ran.stderr.contains(&file) && ran.stderr.contains(why), "{ran:?}");
    }
    assert_eq!(run(&[&NAMED[..], &["--uki", &seed("uki.efi"), "--bank", "sha1"]].concat()).code, 64);
    let nothing = run(&NAMED);
    assert!(nothing.code == 2 && nothing.stderr.contains("name at least one artefact"), "{nothing:?}");
}

fn write(path: &Path, content: &str, mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn files_and_images_are_listed_as_they_will_be_on_the_device() {
    let tree = tempfile::tempdir().unwrap();
    let root = tree.path();
    write(&root.join("usr/bin/press"), "#!/bin/sh\n", 0o755);
    write(&root.join("usr/lib/libpress.so"), "\x7fELF", 0o644);
    write(&root.join("etc/press.conf"), "speed = 1\n", 0o644);
    symlink("/", root.join("loop")).unwrap();
    symlink("usr/bin", root.join("bin")).unwrap();
    symlink("press.conf", root.join("etc/current")).unwrap();
    let (uki, dir) = (seed("uki.efi"), root.to_str().unwrap());
    let image = format!("/opt/plc={}", root.join("etc").display());
    let line = [&NAMED[..], &["--uki", &uki, "--ima-tree", dir, "--image", &image]].concat();
    let ran = run(&line);
    assert_eq!(ran.code, 0, "{ran:?}");
    for path in ["\"/usr/bin/press\"", "\"/usr/lib/libpress.so\"", "\"/opt/plc/press.conf\""] {
        assert_eq!(ran.stdout.matches(path).count(), 1, "{path}: {ran:?}");
    }
    // A link is measured as where it leads.
    let leads = Digest::of(b"press.conf").to_string();
    let (_, link) = ran.stdout.split_once("\"/opt/plc/current\"").unwrap();
    assert!(link.lines().take(2).any(|line| line.contains(&leads)), "{ran:?}");
    assert!(!ran.stdout.contains("\"/etc/press.conf\"") && !ran.stdout.contains("loop"), "{ran:?}");
    assert_eq!(run(&line).stdout, ran.stdout);
    let all = run(&[&line[..], &["--ima-files", "all"]].concat());
    assert!(all.stdout.contains("\"/etc/press.conf\""), "{all:?}");
    let named = format!("plc={}", root.join("etc").display());
    let refused = run(&[&NAMED[..], &["--uki", &uki, "--image", &named]].concat());
    assert!(refused.code == 2 && refused.stderr.contains("this is a folder"), "{refused:?}");
}

#[test]
fn a_package_is_listed_beside_what_it_replaces() {
    let (tree, package) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(&tree.path().join("usr/bin/press"), "#!/bin/sh\n", 0o755);
    write(&tree.path().join("usr/bin/attestor"), "old\n", 0o755);
    write(&package.path().join("usr/bin/attestor"), "new\n", 0o755);
    let base = tree.path().join("base.toml");
    let (all, part, base) =
        (tree.path().to_str().unwrap(), package.path().to_str().unwrap(), base.to_str().unwrap());
    let uki = seed("uki.efi");
    let made = run(&[&NAMED[..], &["--uki", &uki, "--ima-tree", all, "--out", base]].concat());
    assert_eq!(made.code, 0, "{made:?}");
    let next = ["golden", "predict", "--base", base, "--version", "9.9", "--ima-tree", part];
    let added = run(&[&next[..], &["--ima-add"]].concat());
    assert_eq!(added.code, 0, "{added:?}");
    let manifest: toml::Table = added.stdout.parse().unwrap();
    let digests = |path: &str| {
        let files = manifest["ima"]["file"].as_array().unwrap();
        let file = files.iter().find(|file| file["path"].as_str() == Some(path)).unwrap();
        file["digest"].as_array().unwrap().len()
    };
    assert_eq!((digests("/usr/bin/press"), digests("/usr/bin/attestor")), (1, 2), "{added:?}");
    let replaced = run(&next);
    assert!(!replaced.stdout.contains("/usr/bin/press"), "the tree is all that may run: {replaced:?}");
    let alone = run(&[&NAMED[..], &["--ima-tree", part, "--ima-add"]].concat());
    assert!(alone.code == 64 && alone.stderr.contains("--base"), "{alone:?}");
}
