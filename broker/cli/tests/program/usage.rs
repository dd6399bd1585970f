//! Exit codes and messages of the program where no broker answers.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::tool::run;

#[test]
fn help_and_version_are_answers() {
    let help = run(&["--help"]);
    assert_eq!(help.code, 0);
    assert!(help.stdout.contains("Exit codes:") && help.stdout.contains("device why press-7"), "{help:?}");
    let version = run(&["--version"]);
    assert_eq!((version.code, version.stdout.starts_with("touchstone ")), (0, true));
}

#[test]
fn bad_usage_is_64() {
    for line in [&["device"][..], &["frobnicate"], &["zone", "show", "Cell_3"], &["status", "-o", "xml"], &[]]
    {
        assert_eq!(run(line).code, 64, "{line:?}");
    }
}

#[test]
fn restore_and_apply_do_nothing_without_yes() {
    let restore = run(&["restore", "/nonexistent"]);
    assert_eq!(restore.code, 64, "{restore:?}");
    assert!(restore.stderr.contains("--yes"), "{restore:?}");
    let apply = run(&["golden", "apply", "/nonexistent"]);
    assert_eq!(apply.code, 64, "{apply:?}");
    assert!(apply.stderr.contains("--yes"), "{apply:?}");
}

#[test]
fn a_missing_context_says_how_to_name_one() {
    let ran = run(&["--context", "/nonexistent", "status"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.starts_with("touchstone: /nonexistent/context.toml: "), "{ran:?}");
    assert!(ran.stderr.contains("TOUCHSTONE_CONTEXT"), "{ran:?}");
}

#[test]
fn completion_is_a_script() {
    let ran = run(&["completion", "bash"]);
    assert_eq!((ran.code, ran.stdout.contains("_touchstone")), (0, true), "{ran:?}");
}

/// A context that is whole, so that the program comes as far as dialling.
#[test]
fn an_absent_broker_is_4_and_a_readable_key_is_2() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("context.toml"), "plant = \"plant.example\"\naddress = \"127.0.0.1:1\"\n").unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(["admin".to_owned()]).unwrap().self_signed(&key).unwrap();
    for name in ["plant-root.pem", "admin.pem"] {
        fs::write(path(name), certificate.pem()).unwrap();
    }
    fs::write(path("admin.key"), key.serialize_pem()).unwrap();
    let status = ["--context", folder.path().to_str().unwrap(), "status"];

    fs::set_permissions(path("admin.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let ran = run(&status);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("\nchmod 600 "), "{ran:?}");

    fs::set_permissions(path("admin.key"), fs::Permissions::from_mode(0o600)).unwrap();
    let ran = run(&status);
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(ran.stderr.contains("the broker at 127.0.0.1:1 cannot be reached"), "{ran:?}");
}
