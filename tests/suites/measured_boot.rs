//! What `golden predict` says of an image, against a real boot of it: firmware, boot stub, Linux and a TPM in a virtual
//! machine, started now and not recorded before.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use e2e::{kernel_package, program, run};

/// What the recorder says when something is not installed, or cannot be downloaded.
const MISSING: i32 = 77;
/// A boot without keys, so that nothing is needed that Debian does not package.
const BOOT: &str = "boot-d";

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

/// Boots an image and leaves it in `work`, its evidence in `out`; or says why that cannot be done here.
fn record(work: &Path, out: &Path) -> Result<(), String> {
    let kernel = kernel_package()?;
    let mut recorder = Command::new(vectors().join("record"));
    recorder.env("BOOTS", BOOT).env("KERNEL_A", kernel).env("WORK", work);
    let output = recorder.env("TOUCHSTONE", program("touchstone")).arg(out).output();
    let Output { status, stderr, stdout } = output.map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&stderr).trim().replace('\n', "; ");
    match status.code() {
        Some(0) => Ok(()),
        Some(MISSING) => Err(said),
        _ => panic!("the recorder failed: {said} {}", String::from_utf8_lossy(&stdout)),
    }
}

/// Predicts a release of the image, everything else as in `base`, and appraises the boot by it.
fn appraised(work: &Path, image: &Path, boot: &str, base: &str) -> (Option<i32>, String) {
    let release = work.join("release.toml");
    let (image, release) = (image.to_str().unwrap(), release.to_str().unwrap());
    let ran = run(
        "touchstone",
        &["golden", "predict", "--uki", image, "--base", base, "--version", "1", "--out", release],
    );
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let ran = run("touchstone", &["appraise", "--evidence", boot, "--golden", release, "-o", "json"]);
    (ran.status.code(), String::from_utf8_lossy(&ran.stdout).into_owned())
}

#[test]
fn a_prediction_of_an_image_agrees_with_its_measured_boot() {
    // A short path: a socket of the TPM lies in it.
    let folder = tempfile::Builder::new().prefix("boot").tempdir_in("/tmp").unwrap();
    let (work, out) = (folder.path().join("work"), folder.path().join("out"));
    fs::create_dir_all(&work).unwrap();
    if let Err(why) = record(&work, &out) {
        println!("skipped: {why}");
        return;
    }
    let boot = out.join(BOOT);
    let (boot, base) = (boot.to_str().unwrap(), work.join("base.toml"));
    let base = base.to_str().unwrap();
    let named = ["--product", "vector", "--version", "0", "--out", base];
    let ran = run("touchstone", &[&["golden", "learn", "--from-evidence", boot], &named[..]].concat());
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));

    let image = work.join("uki-A-signed.efi");
    let (code, said) = appraised(&work, &image, boot, base);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("\"verdict\": \"affirming\""), "{said}");

    let mut bytes = fs::read(&image).unwrap();
    let option = b"panic=-1 quiet";
    let at = bytes.windows(option.len()).rposition(|window| window == option).unwrap();
    bytes[at] = b'P';
    let other = work.join("other.efi");
    fs::write(&other, bytes).unwrap();
    let (code, said) = appraised(&work, &other, boot, base);
    assert_eq!(code, Some(3), "{said}");
    for name in ["unified kernel image", "section .cmdline", "kernel command line"] {
        assert!(said.contains(name), "{name}: {said}");
    }
}
