//! A rollout on real attestors: told one after the other, halted by a failing health command, rolled back.

use std::fs;

use e2e::{Device, World, until};
use serde_json::Value;

/// Gives the device a health command that says what the file `healthy` says, and an updater that writes down what it
/// is told.
fn equip(device: &mut Device) {
    let script = |name: &str, text: &str| {
        use std::os::unix::fs::PermissionsExt;
        let file = device.path(name);
        fs::write(&file, format!("#!/bin/sh\n{text}\n")).expect("a file in the device's folder");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("a mode");
        file.display().to_string()
    };
    let well = device.path("well").display().to_string();
    let told = device.path("told").display().to_string();
    let health = script("health", &format!("test -e {well}"));
    let update = script("update", &format!("echo \"$1 $TOUCHSTONE_PRODUCT@$TOUCHSTONE_VERSION\" >> {told}"));
    fs::write(&well, "").expect("a file in the device's folder");
    device.add_top(&format!("on_wanted = [\"{update}\", \"--now\"]\n"));
    device.add_end(&format!("[health]\ncommand = [\"{health}\"]\ntimeout = 5\n"));
}

fn told(device: &Device) -> String {
    fs::read_to_string(device.path("told")).unwrap_or_default()
}

fn until_told(device: &Device, lines: &str) {
    until(&format!("{} is told {lines:?}", device.name()), || match told(device) {
        told if told == lines => Ok(()),
        told => Err(format!("it was told {told:?}")),
    });
}

/// The one rollout, once `wanted` says so.
fn until_rollout(world: &World, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    until(&format!("the rollout is {what}"), || {
        let rollout = world.admin("golden rollout status edge-box")["rollouts"][0].clone();
        if wanted(&rollout) { Ok(rollout) } else { Err(format!("{rollout:#}")) }
    })
}

#[test]
fn a_rollout_goes_from_device_to_device_halts_by_itself_and_is_rolled_back() {
    let Some((mut world, [mut first, mut second])) = World::with_devices(["press-1", "press-2"]) else {
        return;
    };
    world.admin("zone create press --product edge-box --reattest-every 10s");
    for device in [&mut first, &mut second] {
        world.register(device, "press");
        equip(device);
    }
    // Both boots are golden: what the first device boots first, then what it boots next.
    first.measure("boot-a");
    first.start();
    first.until_state("refused");
    world.make_golden("press-1", "edge-box", "1.0.0");
    first.until_state("trusted");
    first.reboot("boot-b");
    first.until_state("refused");
    world.make_golden("press-1", "edge-box", "2.0.0");
    first.until_state("trusted");
    first.reboot("boot-a");
    second.measure("boot-a");
    second.start();
    for device in [&first, &second] {
        until(&format!("{} runs 1.0.0", device.name()), || {
            let shown = world.admin(&format!("device show {}", device.name()));
            match shown["attested"]["release"] == "edge-box@1.0.0" && shown["state"] == "trusted" {
                true => Ok(()),
                false => Err(format!("{shown:#}")),
            }
        });
    }

    world.admin("golden want edge-box@1.0.0");
    until_told(&first, "--now edge-box@1.0.0\n");
    let line = "golden rollout edge-box@2.0.0 --wave 100%";
    let said = world.tool(&line.split(' ').collect::<Vec<_>>()).refused(64);
    assert!(said.contains("--yes") && said.contains("--plan"), "{said}");
    let plan = world.admin(&format!("{line} --plan"));
    assert_eq!(plan["waves"][0]["names"], serde_json::json!(["press-1", "press-2"]), "{plan:#}");
    assert_eq!(
        (&plan["waves"][0]["devices"], &plan["from"]),
        (&2.into(), &"edge-box@1.0.0".into()),
        "{plan:#}"
    );
    world.admin(&format!("{line} --yes"));
    until_told(&first, "--now edge-box@1.0.0\n--now edge-box@2.0.0\n");
    let status = first.until_status("shown what is wanted", |status| status["wanted"]["version"] == "2.0.0");
    assert_eq!(status["wanted"]["product"], "edge-box");
    let file = fs::read(first.path("deliver/wanted.json")).expect("wanted.json is delivered");
    let file: Value = serde_json::from_slice(&file).expect("wanted.json is JSON");
    assert_eq!((&file["schema"], &file["version"]), (&1.into(), &"2.0.0".into()));
    // A restart of the broker loses nothing and tells nobody twice.
    world.stop_broker();
    world.start_broker();
    until_rollout(&world, "waiting for press-1", |rollout| rollout["devices"][0]["stage"] == "told");
    assert!(!told(&second).contains("2.0.0"), "one at a time: {}", told(&second));

    first.reboot("boot-b");
    until_told(&second, "--now edge-box@1.0.0\n--now edge-box@2.0.0\n");
    assert_eq!(until_rollout(&world, "there", |_| true)["waves"][0]["running"], 1);
    fs::remove_file(second.path("well")).expect("a file of the device");
    second.reboot("boot-b");
    let halted = until_rollout(&world, "halted", |rollout| rollout["state"] == "halted");
    assert!(
        halted["reason"].as_str().is_some_and(|why| why.ends_with("did not fail before: press-2")),
        "{halted:#}"
    );
    assert_eq!(halted["waves"][0]["unhealthy"], 1, "{halted:#}");
    let watched = world.tool(&["golden", "rollout", "status", "edge-box", "--watch"]);
    assert_eq!(watched.code, 1, "a halted rollout needs you: {watched:?}");
    let page = world.tool(&["status"]);
    let needed = page.json["needs_you"][0]["message"].as_str().unwrap_or_default();
    assert!(needed.contains("rollout edge-box/1 to edge-box@2.0.0 is halted"), "{needed}");
    assert_eq!(world.admin("device show press-2")["state"], "trusted", "health is no matter of trust");

    world.admin("golden rollback edge-box --then retired");
    until_told(&second, "--now edge-box@1.0.0\n--now edge-box@2.0.0\n--now edge-box@1.0.0\n");
    let state = |world: &World| world.admin("golden show edge-box@2.0.0")["state"].clone();
    first.reboot("boot-a");
    first.until_state("trusted");
    assert_ne!(state(&world), "retired", "press-2 still runs it");
    second.reboot("boot-a");
    until_rollout(&world, "rolled back", |rollout| rollout["state"] == "rolled-back");
    assert_eq!(state(&world), "retired");
    second.until_state("trusted");
    let events = world.admin("audit list").to_string();
    for action in ["rollout.start", "rollout.tell", "rollout.proven", "rollout.halt", "rollout.rolled-back"] {
        assert!(events.contains(action), "{action} is not in the audit chain");
    }
}
