//! What shells and `man` read, read by them where they are installed, and the contexts of several plants.
#![expect(clippy::unwrap_used, reason = "a test that cannot write its files has failed")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use proto::v1::{
    DenialReason, Device, GetStatusResponse, ListConduitsResponse, ListDevicesResponse, ListReleasesResponse,
    ListZonesResponse,
};

use crate::fake_broker::FakeBroker;
use crate::tool::{Ran, run, run_at};

/// Whether `program` is installed; where it is not, the test says so.
fn installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

#[test]
fn completion_loads_in_the_shells() {
    let folder = tempfile::tempdir().unwrap();
    let loads = [
        ("bash", "source \"$0\" && complete -p touchstone"),
        ("zsh", "autoload -Uz compinit && compinit -D && source \"$0\" && (( $+functions[_touchstone] ))"),
        ("fish", "source $argv[1]; and complete -C 'touchstone dev' | string match -q 'device*'"),
    ];
    for (shell, load) in loads {
        let script = run(&["completion", shell]);
        assert_eq!(script.code, 0, "{script:?}");
        let path = folder.path().join(shell);
        fs::write(&path, script.stdout).unwrap();
        if installed(shell) {
            let loaded = Command::new(shell).arg("-c").arg(load).arg(&path).output().unwrap();
            assert!(loaded.status.success(), "{shell}: {loaded:?}");
        }
    }
}

#[test]
fn every_command_has_a_man_page() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("man1");
    let ran = run(&["man", "--out", out.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{ran:?}");
    for page in ["touchstone.1", "touchstone-device.1", "touchstone-device-why.1", "touchstone-context-use.1"]
    {
        let text = fs::read_to_string(out.join(page)).unwrap();
        assert!(text.contains(".SH SYNOPSIS"), "{page}: {text}");
    }
    let written = fs::read_dir(&out).unwrap().count();
    assert!(ran.stdout.ends_with(&format!("{written} man pages\n")), "{written}: {ran:?}");
    if installed("man") {
        let page = out.join("touchstone-device-why.1");
        let shown = Command::new("man").args(["-l", "-P", "cat"]).arg(page).output().unwrap();
        // A system that took the pages of its packages away has a `man` that renders none.
        let text = String::from_utf8_lossy(&shown.stdout);
        assert!(!shown.status.success() || text.contains("why") || text.contains("minimized"), "{shown:?}");
    }
}

fn context(folder: &Path, plant: &str) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("context.toml"), format!("plant = \"{plant}\"\naddress = \"x:1\"\n")).unwrap();
    for name in ["plant-root.pem", "admin.pem", "admin.key"] {
        fs::write(folder.join(name), name).unwrap();
    }
}

#[test]
fn contexts_are_added_used_shown_and_removed() {
    let home = tempfile::tempdir().unwrap();
    let at = |arguments: &[&str]| -> Ran { run_at(home.path(), arguments) };
    let below = home.path().join("touchstone");
    context(&below.join("context"), "south.example");
    context(&home.path().join("stick"), "north.example");
    let stick = home.path().join("stick");
    let add = ["context", "add", "north", stick.to_str().unwrap()];

    assert_eq!(at(&[&add[..], &["--dry-run"]].concat()).code, 0);
    assert!(!below.join("north").exists());
    let ran = at(&add);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    let key = fs::metadata(below.join("north/admin.key")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    let twice = at(&add);
    assert_eq!(
        (twice.code, twice.stderr.contains("there is a context north already")),
        (3, true),
        "{twice:?}"
    );

    assert_eq!(at(&["context", "show", "-o", "json"]).json()["plant"], "south.example");
    assert_eq!(at(&["context", "use", "north"]).code, 0);
    let list = at(&["context", "list"]);
    assert_eq!(
        list.stdout,
        "CONTEXT  USED  PLANT          BROKER\ncontext  -     south.example  x:1\nnorth    now   north.example  x:1\n"
    );
    let named = at(&["--context", "context", "context", "show", "-o", "yaml"]);
    assert!(
        named.stdout.contains("schema: 1\n") && named.stdout.contains("plant: south.example\n"),
        "{named:?}"
    );

    let used = at(&["context", "remove", "north", "--yes"]);
    assert_eq!((used.code, used.stderr.contains("north is in use")), (3, true), "{used:?}");
    let unsure = at(&["context", "remove", "context"]);
    assert_eq!((unsure.code, below.join("context/admin.key").exists()), (64, true), "{unsure:?}");
    assert_eq!(at(&["context", "remove", "context", "--yes"]).code, 0);
    assert!(!below.join("context").exists());
    let gone = at(&["context", "use", "context"]);
    assert_eq!((gone.code, gone.stderr.contains("there is north")), (3, true), "{gone:?}");
}

#[test]
fn yaml_is_the_same_document_as_json() {
    let broker = FakeBroker::start();
    let answer = GetStatusResponse { plant: "plant.example".to_owned(), ..GetStatusResponse::default() };
    broker.answers("get_status", &answer);
    let ran = broker.run(&["status", "-o", "yaml"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.stdout.starts_with("schema: 1\n") && ran.stdout.contains("plant: plant.example\n"),
        "{ran:?}"
    );
}

#[test]
fn a_mistyped_name_is_answered_with_the_nearest() {
    let broker = FakeBroker::start();
    broker.denies("get_device", DenialReason::NotFound, "there is no device pres-7");
    let device = Device { name: "press-7".to_owned(), ..Device::default() };
    broker.answers("list_devices", &ListDevicesResponse { devices: vec![device], ..Default::default() });
    broker.answers("list_zones", &ListZonesResponse::default());
    broker.answers("list_releases", &ListReleasesResponse::default());
    broker.answers("list_conduits", &ListConduitsResponse::default());
    let ran = broker.run(&["device", "show", "pres-7"]);
    let told = "touchstone: there is no device pres-7\ndid you mean press-7?\n";
    assert_eq!((ran.code, ran.stderr.as_str()), (3, told), "{ran:?}");
}

#[test]
fn watching_needs_a_terminal_or_json() {
    for arguments in [&["status", "--watch"][..], &["status", "--watch", "-o", "yaml"]] {
        let ran = run(arguments);
        assert_eq!((ran.code, ran.stderr.contains("\nsay -o json")), (64, true), "{ran:?}");
    }
}
