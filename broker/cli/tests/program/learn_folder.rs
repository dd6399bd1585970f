//! `touchstone golden learn --from-evidence`, run as a program.

use crate::evidence::{Evidence, MAGIC, NONCE, QUOTE};
use crate::tool::run;

#[test]
fn what_varies_is_left_out_and_said() {
    let boot = Evidence::of("boot-a");
    let ran = run(&["golden", "learn", "--from-evidence", boot.folder()]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains("PCRs 1, 3, 5, 6, 8, 10, 14, 15 differ"), "{ran:?}");
    assert!(ran.stderr.contains("the PCR values that were learned are unproven"), "{ran:?}");
    let unused = format!("12 = [\"{}\"]", "00".repeat(32));
    for line in ["version = \"1\"", "counter = 1", "pcr = 4", "pcr = 11", &unused] {
        assert!(ran.stdout.contains(line), "{line}: {ran:?}");
    }
    let named = ["--product", "edge", "--version", "2.1", "--counter", "9"];
    let ran = run(&[&["golden", "learn", "--from-evidence", boot.folder()], named.as_slice()].concat());
    for line in ["product = \"edge\"", "version = \"2.1\"", "counter = 9"] {
        assert!(ran.stdout.contains(line), "{line}: {ran:?}");
    }
}

#[test]
fn several_folders_keep_what_agrees() {
    let (a, b) = (Evidence::of("boot-a"), Evidence::of("boot-b"));
    let ran = run(&["golden", "learn", "--from-evidence", a.folder(), "--from-evidence", b.folder()]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(!ran.stdout.contains("pcr = 4") && ran.stdout.contains("pcr = 9"), "{ran:?}");
    assert!(
        ran.stderr.contains("PCR 4 is left out, its events differ") && ran.stderr.contains(b.folder()),
        "{ran:?}"
    );
    assert!(ran.stderr.contains("does not constrain PCR 4, so no device becomes affirming"), "{ran:?}");
    a.write("both.toml", ran.stdout.as_bytes());
    let ran = a.appraise(a.path("both.toml").to_str().unwrap_or_default(), &[]);
    assert_eq!((ran.code, &ran.json()["verdict"]), (3, &"warning".into()), "{ran:?}");
}

#[test]
fn one_of_several_is_learned_if_that_is_asked_for_and_whole() {
    let (a, b) = (Evidence::of("boot-a"), Evidence::of("boot-b"));
    let line = ["golden", "learn", "--from-evidence", a.folder(), "--from-evidence", b.folder(), "--one-of"];
    let ran = run(&line);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains("variant = \"boot 1\"") && ran.stdout.contains("pcr = 4"), "{ran:?}");
    assert!(ran.stderr.contains("PCR 4, 11 may be as in each of these boots"), "{ran:?}");
    for boot in [&a, &b] {
        boot.write("both.toml", ran.stdout.as_bytes());
        let ran = boot.appraise(boot.path("both.toml").to_str().unwrap_or_default(), &[]);
        assert_eq!((ran.code, &ran.json()["verdict"]), (0, &"affirming".into()), "{ran:?}");
    }
}

#[test]
fn two_boots_under_one_key_are_one_device_and_what_differs_is_refused() {
    let (a, b) = (Evidence::of("boot-a"), Evidence::of("boot-b"));
    let key = a.quote();
    b.write("ak.pub", &a.read("ak.pub")).write("nonce.bin", NONCE);
    b.sign(&key, &b.attest(MAGIC, QUOTE, NONCE));
    let line = ["golden", "learn", "--from-evidence", a.folder(), "--from-evidence", b.folder(), "--one-of"];
    let ran = run(&line);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains("PCR 4 is left out, it is not stable: two boots of"), "{ran:?}");
    assert!(ran.stderr.contains("EV_EFI_BOOT_SERVICES_APPLICATION sha256:"), "{ran:?}");
    assert!(!ran.stdout.contains("pcr = 4") && ran.stdout.contains("pcr = 9"), "{ran:?}");
}

#[test]
fn a_key_is_one_however_it_is_written_down() {
    let (a, b) = (Evidence::of("boot-a"), Evidence::of("boot-b"));
    let key = a.quote();
    b.write("nonce.bin", NONCE).sign(&key, &b.attest(MAGIC, QUOTE, NONCE));
    let line = ["golden", "learn", "--from-evidence", a.folder(), "--from-evidence", b.folder(), "--one-of"];
    for written in [key.pem().into_bytes(), a.read("ak.pub")[2..].to_vec()] {
        b.write("ak.pub", &written);
        let ran = run(&line);
        assert!(ran.stderr.contains("PCR 4 is left out, it is not stable: two boots of"), "{ran:?}");
    }
}

#[test]
fn a_counter_that_no_manifest_holds_is_bad_usage() {
    let boot = Evidence::of("boot-a");
    let learn = |counter| run(&["golden", "learn", "--from-evidence", boot.folder(), "--counter", counter]);
    assert!(learn("9223372036854775807").stdout.contains("counter = 9223372036854775807"));
    let ran = learn("9223372036854775808");
    assert_eq!((ran.code, ran.stdout.as_str()), (64, ""), "{ran:?}");
}

#[test]
fn a_workbench_is_warned_of_in_the_draft_and_beside_it() {
    let boot = Evidence::of("boot-c");
    let ran = run(&["golden", "learn", "--from-evidence", boot.folder()]);
    assert_eq!(ran.code, 0, "{ran:?}");
    for text in ["Secure Boot is off on", "trusts a key for tests in db: CN=Touchstone test vector db"] {
        assert!(ran.stdout.contains(text) && ran.stderr.contains(text), "{text}: {ran:?}");
    }
    assert!(ran.stdout.starts_with("# warning: "), "{ran:?}");
    boot.write("draft.toml", ran.stdout.as_bytes());
    let shown = run(&["golden", "show", boot.path("draft.toml").to_str().unwrap_or_default()]);
    assert!(shown.code == 0 && shown.stdout.starts_with("schema = 1"), "{shown:?}");
    let ran = run(&["golden", "learn", "--from-evidence", boot.folder(), "-o", "json"]);
    assert!(
        ran.json()["warnings"][0].as_str().is_some_and(|text| text.contains("Secure Boot is off")),
        "{ran:?}"
    );
}

#[test]
fn nothing_is_learned_from_a_bad_quote_or_a_foreign_log() {
    let boot = Evidence::of("boot-a");
    let key = boot.quote();
    boot.sign(&key, &boot.attest(MAGIC, QUOTE, b"another nonce"));
    let learn = || run(&["golden", "learn", "--from-evidence", boot.folder()]);
    let ran = learn();
    assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{ran:?}");
    assert!(ran.stderr.contains("answers the nonce"), "{ran:?}");

    boot.quote();
    let ran = learn();
    assert_eq!((ran.code, ran.stderr.contains("unproven")), (0, false), "{ran:?}");
    boot.write("eventlog.bin", &Evidence::of("boot-b").read("eventlog.bin"));
    let ran = learn();
    assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{ran:?}");
    assert!(ran.stderr.contains("the firmware log explains PCR 4"), "{ran:?}");

    boot.remove("nonce.bin");
    let ran = learn();
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
}

#[test]
fn a_device_and_a_folder_are_not_learned_from_together() {
    let boot = Evidence::of("boot-a");
    for line in [
        &["golden", "learn"][..],
        &["golden", "learn", "--from", "press-7"],
        &["golden", "learn", "--from", "press-7", "--from-evidence", boot.folder()],
    ] {
        assert_eq!(run(line).code, 64, "{line:?}");
    }
}
