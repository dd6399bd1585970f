//! Exit codes and messages of the program where no broker answers.

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
