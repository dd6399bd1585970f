//! Files that a device runs, told by the IMA list and confirmed by PCR 10.

use std::fmt::Write;

use e2e::{World, digest_of};
use serde_json::json;

const INTRUDER: &str = "/tmp/intruder";

fn ima_section(files: &[(&str, &str)]) -> String {
    let mut section = "[ima]\n".to_owned();
    for (path, content) in files {
        let digest = digest_of(content);
        writeln!(section, "[[ima.file]]\npath = \"{path}\"\ndigest = [\"sha256:{digest}\"]")
            .expect("text is written");
    }
    section
}

/// Records of a list of some MiB: longer than a request may be.
const LONG: usize = 20_000;

#[test]
fn a_list_that_no_message_holds_comes_in_parts() {
    let Some((world, [mut press])) = World::with_devices(["press-1"]) else { return };
    world.admin("zone create press --product edge-box --reattest-every 10s --intra-zone allow");
    world.register(&press, "press");
    press.measure("boot-a");
    press.start_ima();
    press.execute_many(LONG);
    assert!(press.ima_list().len() > proto::MAX_REQUEST);
    press.start();
    press.until_state("refused");
    world.make_golden_with("press-1", "edge-box", "1", "[ima]\nexclude = [\"/usr/lib/python3/**\"]\n");
    press.until_state("trusted");
    press.execute(INTRUDER, "intruder 1");
    press.until_state("refused");
    let why = world.admin("device why press-1");
    let findings = why["findings"].as_array().expect("a refusal has findings");
    let named = findings.iter().find(|finding| finding["subject"] == INTRUDER);
    let said = named.and_then(|named| named["message"].as_str()).unwrap_or_else(|| panic!("{why:#}"));
    assert!(said.contains(&format!("IMA record {LONG}")), "{said}");
}

#[test]
fn a_device_is_trusted_for_the_files_that_its_release_lists() {
    let Some((world, [mut press])) = World::with_devices(["press-1"]) else { return };
    world.admin("zone create press --product edge-box --reattest-every 10s --intra-zone allow");
    world.register(&press, "press");
    press.measure("boot-a");
    press.start_ima();
    press.execute("/usr/bin/press", "press 1");
    press.start();
    press.until_state("refused");
    let section = ima_section(&[("/usr/bin/press", "press 1")]);
    world.make_golden_with("press-1", "edge-box", "1.0.0", &section);
    press.until_state("trusted");

    let before = press.ima_list();
    press.execute(INTRUDER, "intruder 1");
    let refused = press.until_state("refused");
    assert_eq!(refused["denial"]["reason"], "REFERENCE_MISMATCH", "{refused:#}");
    let why = world.admin("device why press-1");
    let findings = why["findings"].as_array().expect("a refusal has findings");
    let named = findings.iter().find(|finding| finding["subject"] == INTRUDER);
    let named = named.unwrap_or_else(|| panic!("nobody names {INTRUDER}: {why:#}"));
    let digest = json!(format!("sha256:{}", digest_of("intruder 1")));
    assert_eq!((&named["pcr"], &named["seen"]), (&json!(10), &digest), "{named:#}");

    // The record is taken off the list; the TPM remembers it.
    press.stop();
    press.set_ima_list(&before);
    press.start();
    let refused = press.until_status("refused for its list", |status| {
        status["state"] == "refused" && status["denial"]["reason"] == "EVIDENCE_INVALID"
    });
    let said = refused["denial"]["message"].as_str().unwrap_or_default();
    assert!(said.contains("the IMA list is not confirmed by the quote"), "{refused:#}");
    assert!(said.contains("PCR 10") && said.contains("all 2 records"), "{refused:#}");
}
