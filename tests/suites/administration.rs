//! What an administrator does, and what it means on the device.

use std::fs;
use std::path::Path;

use e2e::{World, until};
use serde_json::{Value, json};

fn token(world: &World, line: &str) -> String {
    let made = world.admin(format!("token create --zone press {line}").trim());
    made["token"].as_str().unwrap_or_else(|| panic!("no token in {made:#}")).to_owned()
}

fn denied(reason: &str) -> impl Fn(&Value) -> bool {
    let state = if reason == "QUARANTINED" { "quarantined" } else { "refused" };
    move |status| status["state"] == state && status["denial"]["reason"] == reason
}

#[test]
fn quarantine_revokes_at_once_says_why_and_readmission_heals() {
    let Some((world, [mut press])) = World::with_devices(["press-1"]) else { return };
    world.admin("zone create press --mode observe --intra-zone allow");
    world.register(&press, "press");
    press.offer("opcua");
    press.measure("boot-a");
    press.start();
    press.until_status("watching", |status| {
        status["state"] == "trusted" && status["broker"]["watching"] == true
    });

    let done = world.admin("device quarantine press-1 --reason stolen");
    assert_eq!(done["revoked"], 2, "one certificate for each role: {done:#}");
    // The zone proves itself every 15 minutes: the broker told the device.
    let status = press.until_status("told", denied("QUARANTINED"));
    let message = status["denial"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("stolen") && message.contains("alice"), "{message}");
    assert_eq!(status["certificates"], json!([]));
    assert_eq!(world.admin("device show press-1")["state"], "quarantined");
    let why = world.admin("device why press-1");
    assert!(why["why"][0].as_str().is_some_and(|why| why.contains("stolen")), "{why:#}");

    world.admin("device readmit press-1 --reason found");
    press.until_state("trusted");
}

#[test]
fn a_join_token_is_for_one_device_and_a_name_for_one_tpm() {
    let Some((world, [mut first, mut second])) = World::with_devices(["press-1", "press-2"]) else { return };
    world.admin("zone create press --mode observe --token-admits");
    let ek = first.identify()["ek_digest"].as_str().expect("identify names the EK").to_owned();
    let used = token(&world, "--for 1h");
    let bound = token(&world, &format!("--ek {ek}"));
    first.measure("boot-a");
    first.give_token(&used);
    first.start();
    first.until_state("trusted");

    second.measure("boot-a");
    second.give_token(&bound);
    second.start();
    let status = second.until_status("refused with another's token", denied("NOT_ADMITTED"));
    assert!(
        status["denial"]["message"].as_str().is_some_and(|m| m.contains("for another TPM")),
        "{status:#}"
    );

    second.stop();
    second.rename("press-1");
    second.give_token(&token(&world, "--for 1h"));
    second.start();
    let status = second.until_status("refused under another's name", denied("CONFLICT"));
    let message = status["denial"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("press-1 belongs to another TPM"), "{message}");

    second.stop();
    second.rename("press-2");
    second.give_token(&used);
    second.start();
    second.until_status("refused with a used token", denied("NOT_ADMITTED"));
    let names = world.admin("device list")["devices"].as_array().map(Vec::len);
    assert_eq!(names, Some(1), "no refusal made a device");

    second.stop();
    second.give_token(&token(&world, "--for 1h"));
    second.start();
    second.until_state("trusted");
}

#[test]
fn a_closed_conduit_leaves_nobody_in_the_trust_file() {
    let Some((world, [mut press])) = World::with_devices(["press-1"]) else { return };
    world.admin("zone create press --mode observe");
    world.admin("zone create vision --product camera-box");
    world.register(&press, "press");
    press.offer("opcua");
    press.offer("ssh");
    press.measure("boot-a");
    press.start();
    press.until_state("trusted");
    let file = |service: &str| press.delivered("press", &format!("services/{service}/inbound.pem"));
    let read = |path: &Path| fs::read_to_string(path).map_err(|error| error.to_string());
    let nobody = until("trust files are delivered", || read(&file("opcua")));

    world.admin("conduit allow --from vision --to press --service opcua");
    let open = until("vision may open opcua", || {
        read(&file("opcua")).and_then(|now| if now == nobody { Err("nobody may".into()) } else { Ok(now) })
    });
    assert!(open.contains("BEGIN CERTIFICATE"));
    assert_eq!(read(&file("ssh")).as_ref(), Ok(&nobody), "the conduit is for one service");

    world.admin("conduit close --from vision --to press --service opcua");
    until("nobody may open opcua", || {
        read(&file("opcua")).and_then(|now| if now == nobody { Ok(()) } else { Err("somebody may".into()) })
    });
}

#[test]
fn an_older_golden_release_is_refused_as_a_rollback() {
    let Some((world, [mut press])) = World::with_devices(["press-1"]) else { return };
    world.admin("zone create press --product edge-box");
    world.register(&press, "press");
    press.measure("boot-a");
    press.start();
    press.until_status("refused", denied("REFERENCE_MISMATCH"));
    world.make_golden("press-1", "edge-box", "1.0.0");
    press.until_state("trusted");
    press.stop();

    let manifest = fs::read_to_string(world.plant.run_path("edge-box-1.0.0.toml")).expect("a manifest");
    let older = world.plant.run_path("older.toml");
    fs::write(&older, manifest.replace("1.0.0", "0.9.0")).expect("a file in the run folder");
    let (older, signed) = (older.display(), world.plant.run_path("older.dsse.json").display().to_string());
    world.admin(&format!("golden sign {older} --out {signed}"));
    let before = world.store();
    let said = world.tool(&["golden", "apply", &signed, "--yes"]).refused(3);
    assert!(said.contains("rollback") && said.contains("edge-box"), "{said}");
    assert_eq!(world.store(), before, "a refusal changes nothing");
}

#[test]
fn dry_runs_change_nothing() {
    let Some((world, [mut press])) = World::with_devices(["press-1"]) else { return };
    world.admin("zone create press --mode observe --product edge-box");
    world.admin("zone create vision --product camera-box");
    world.register(&press, "press");
    press.measure("boot-a");
    press.start();
    press.until_state("trusted");
    press.stop();
    let manifest = world.plant.run_path("edge-box.toml").display().to_string();
    let signed = world.plant.run_path("edge-box.dsse.json").display().to_string();
    world.admin(&format!("golden learn --from press-1 --product edge-box --version 1.0.0 --out {manifest}"));
    world.admin(&format!("golden sign {manifest} --out {signed}"));
    let ek = format!("sha256:{}", "ab".repeat(32));
    let list = world.plant.run_path("supplier.toml");
    let text = format!("[[device]]\nname = \"press-9\"\nzones = [\"press\"]\nek = \"{ek}\"\n");
    fs::write(&list, text).expect("a file in the run folder");

    let joins = token(&world, "");
    let revoked = joins.split('.').nth(1).expect("an id");
    let before = world.store();
    for line in [
        "zone create lab --product edge-box".to_owned(),
        "conduit allow --from vision --to press --service opcua".to_owned(),
        "token create --zone press".to_owned(),
        format!("token revoke {revoked}"),
        "device quarantine press-1 --reason test".to_owned(),
        "device attest press-1".to_owned(),
        format!("device import {}", list.display()),
        format!("golden apply {signed}"),
    ] {
        world.admin(&format!("{line} --dry-run"));
        assert_eq!(world.store(), before, "`{line} --dry-run` changed something");
    }
}
