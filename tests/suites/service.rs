//! The attestor as a service: ready means trusted, a sign of life means progress, and the units are tight.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use e2e::{ServiceManager, World, missing_tool, until};
use tempfile::TempDir;

/// How often the tests' service manager wants a sign of life.
const WATCHDOG: Duration = Duration::from_secs(2);
/// Most exposure that `systemd-analyze security` may find in a unit, in tenths: 0 is none, 100 is all.
const MOST_EXPOSURE: u32 = 19;

#[test]
fn ready_means_trusted_also_without_the_broker_while_the_boot_is_the_same() {
    let Some((mut world, [mut device])) = World::with_devices(["press-1"]) else { return };
    let mut manager = ServiceManager::of(&mut device, WATCHDOG);
    world.admin("zone create press --product edge-box --reattest-every 10s");
    world.register(&device, "press");
    device.measure("boot-a");
    device.start();
    device.until_state("refused");
    let before = manager.until("STATUS=refused: ");
    assert!(!before.iter().any(|line| line == "READY=1" || line == "WATCHDOG=1"), "{before:#?}");
    let waiting = manager.until("EXTEND_TIMEOUT_USEC=");
    assert!(
        !waiting.iter().any(|line| line == "READY=1"),
        "a refused device may start for days: {waiting:#?}"
    );

    world.make_golden("press-1", "edge-box", "1.0.0");
    manager.until("READY=1");
    assert_eq!(manager.until("STATUS="), ["STATUS=trusted"]);
    manager.until("WATCHDOG=1");
    manager.until("WATCHDOG=1");
    device.stop();
    manager.until("STOPPING=1");

    world.stop_broker();
    device.reboot("boot-a");
    let before = manager.until("READY=1");
    assert!(!before.iter().any(|line| line == "STATUS=trusted"), "{before:#?}");
    assert!(manager.until("STATUS=").concat().starts_with("STATUS=trusted (broker away, "));
    assert_eq!(device.status()["state"], "holding");

    // Another kernel, and nobody to ask about it.
    device.reboot("boot-b");
    let heard = manager.until("STATUS=starting: the broker");
    assert!(!heard.iter().any(|line| line == "READY=1"), "{heard:#?}");
    device.until_status("not sure of its boot", |status| status["state"] == "starting");
    let log = std::fs::read_to_string(device.path("attestor.log")).expect("a log");
    assert!(log.contains("PCR 4, 7 differs from") || log.contains("PCR 4 differs from"), "{log}");
    device.reboot("boot-a");
    manager.until("READY=1");
    world.start_broker();
    manager.until("STATUS=trusted");
}

#[test]
fn a_tpm_that_hangs_ends_the_signs_of_life() {
    let Some((world, [mut device])) = World::with_devices(["press-1"]) else { return };
    let mut manager = ServiceManager::of(&mut device, WATCHDOG);
    world.admin("zone create press --mode observe --least instance-identity=affirming --reattest-every 5s");
    world.register(&device, "press");
    device.add_top("tpm_deadline = 10\n");
    device.measure("boot-a");
    device.start();
    manager.until("READY=1");
    device.freeze_tpm();
    // The caller's deadline holds, and the thread of the TPM is named.
    device.until_status("waiting for its TPM", |status| {
        status["problem"].as_str().is_some_and(|problem| problem.contains("TPM") && problem.contains("10 s"))
    });
    manager.until("WATCHDOG=1");
    let ended = device.until_ended();
    assert_eq!(ended.code(), Some(1), "{}", device.last_words());
    manager.until("STOPPING=1");
    let after = manager.heard();
    assert!(!after.iter().any(|line| line == "WATCHDOG=1"), "{after:#?}");
    device.thaw_tpm();
    device.start();
    manager.until("READY=1");
}

#[test]
fn the_machine_hears_of_each_state_the_safe_one_first_and_the_plant_of_hooks_that_fail() {
    let Some((mut world, [mut device])) = World::with_devices(["press-1"]) else { return };
    world.stop_broker();
    world.plant.add_top("metrics = \"127.0.0.1:0\"\n");
    world.start_broker();
    world.admin("zone create press --product edge-box --reattest-every 5s");
    world.register(&device, "press");
    let log = device.path("told");
    let hook = |name: &str, end: &str| {
        let line = "echo $1:$TOUCHSTONE_STATE:$TOUCHSTONE_REASON:$TOUCHSTONE_DEVICE >>$0; exit $2";
        format!("command = [\"/bin/sh\", \"-c\", \"{line}\", \"{}\", \"{name}\", \"{end}\"]\n", log.display())
    };
    device.add_end(&format!("[safe_state]\n{}", hook("safe", "0")));
    device.add_end(&format!("[[on_state]]\nname = \"lamp\"\nstates = [\"trusted\"]\n{}", hook("lamp", "3")));
    device.add_end(&format!("[[on_state]]\nname = \"log\"\n{}", hook("log", "0")));
    let told = |lines: &[&str]| {
        until("the hooks are told", || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let told: Vec<&str> = text.lines().collect();
            (told.len() >= lines.len()).then_some(()).ok_or(text.clone())?;
            let fitting = told.iter().zip(lines).all(|(told, line)| *told == format!("{line}:press-1"));
            fitting.then_some(()).ok_or(text.clone())
        });
    };
    device.measure("boot-a");
    device.start();
    told(&[
        "log:enrolling:NOT_ENROLLED",
        "safe:refused:REFERENCE_MISMATCH",
        "log:refused:REFERENCE_MISMATCH",
    ]);
    world.make_golden("press-1", "edge-box", "1.0.0");
    let trusted = [
        "log:enrolling:NOT_ENROLLED",
        "safe:refused:REFERENCE_MISMATCH",
        "log:refused:REFERENCE_MISMATCH",
        "lamp:trusted:",
        "log:trusted:",
    ];
    told(&trusted);
    until("the broker knows of the lamp", || {
        let shown = world.admin("device show press-1");
        (shown["failing_hooks"] == serde_json::json!(["lamp"])).then_some(()).ok_or(format!("{shown:#}"))
    });
    until("the broker counts it", || {
        let samples = world.metrics();
        let count = samples.get("touchstone_devices_with_failing_hooks{zone=\"press\"}");
        (count == Some(&1.0)).then_some(()).ok_or(format!("{samples:#?}"))
    });
    let status = device.status();
    assert_eq!(status["failing_hooks"][0]["name"], "lamp", "{status:#}");
    assert_eq!(status["state"], "trusted", "renewal goes on");

    fs::remove_file(&log).expect("what was told before");
    world.admin("device quarantine press-1 --reason test");
    until("the safe state is told of the quarantine", || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        let told: Vec<&str> = text.lines().filter(|line| !line.starts_with("lamp:")).collect();
        let wanted = ["safe:quarantined:QUARANTINED:press-1", "log:quarantined:QUARANTINED:press-1"];
        (told == wanted).then_some(()).ok_or(text.clone())
    });
}

/// What the attestor asks of systemd. That systemd does it is not seen here: no systemd runs where tests do.
#[test]
fn systemd_is_asked_for_what_an_authority_that_comes_or_goes_takes() {
    let Some((world, [mut device])) = World::with_devices(["press-1"]) else { return };
    for zone in ["press", "vision", "lab"] {
        world.admin(&format!("zone create {zone} --mode observe --least instance-identity=affirming"));
    }
    world.admin("conduit allow --from lab --to press --service mqtt");
    world.register(&device, "press");
    device.offer("mqtt");
    let (programs, log) = (device.path("programs"), device.path("asked"));
    fs::create_dir(&programs).expect("a folder of the device");
    let stand_in = programs.join("systemctl");
    let script =
        format!("#!/bin/sh\necho \"$*\" >>{}\ntest ! -e {}/fail\n", log.display(), programs.display());
    fs::write(&stand_in, script).expect("a program");
    fs::set_permissions(&stand_in, fs::Permissions::from_mode(0o755)).expect("it may run");
    let path = std::env::var("PATH").unwrap_or_default();
    device.environment.insert("PATH", format!("{}:{path}", programs.display()));
    let (unit, restart) = ("unit = \"mosquitto.service\"", "restart = { unit = \"mosquitto.service\" }");
    device.add_end(&format!(
        "[[hook]]\nname = \"a\"\nservice = \"mqtt\"\nreload = {{ {unit} }}\n{restart}\n\
         [[hook]]\nname = \"b\"\nservice = \"mqtt\"\nreload = {{ signal = \"HUP\", {unit} }}\n{restart}\n"
    ));
    let asked = |wanted: [&str; 2]| {
        until("systemd is asked", || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let mut lines: Vec<&str> = text.lines().collect();
            lines.sort_unstable();
            (lines == wanted).then_some(()).ok_or(text.clone())
        });
        fs::remove_file(&log).expect("what it was asked");
    };
    device.measure("boot-a");
    device.start();
    device.until_state("trusted");
    let restarted = ["--no-ask-password restart -- mosquitto.service"; 2];
    asked(restarted);
    until("both have ended", || {
        let kept = ["a", "b"].map(|name| device.path(&format!("deliver/hooks/{name}.json")).exists());
        (kept == [true; 2]).then_some(()).ok_or(format!("{kept:?}"))
    });
    world.admin("conduit allow --from vision --to press --service mqtt");
    asked([
        "--no-ask-password kill --kill-whom=main --signal=HUP -- mosquitto.service",
        "--no-ask-password reload -- mosquitto.service",
    ]);
    fs::write(programs.join("fail"), "").expect("a file of the device");
    world.admin("conduit close --from vision --to press --service mqtt");
    asked(restarted);
    let status = device.until_status("both fail", |status| {
        status["failing_hooks"].as_array().is_some_and(|all| all.len() == 2)
    });
    let message = status["failing_hooks"][0]["message"].as_str().expect("a message");
    let expected = "systemctl ended with exit status: 1; see `systemctl status mosquitto.service`, and whether polkit lets";
    assert!(message.starts_with(expected), "{message}");
}

#[test]
fn the_units_are_tight() {
    if let Some(tool) = missing_tool(&["systemd-analyze"]) {
        eprintln!("skipped: {tool} is not installed (package systemd)");
        return;
    }
    for unit in ["touchstone-attestor.service", "touchstone-broker.service"] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(unit);
        let threshold = format!("--threshold={MOST_EXPOSURE}");
        let args = ["security", "--offline=true", "--no-pager", &threshold];
        let output = Command::new("systemd-analyze").args(args).arg(&file).output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains("Overall exposure level"), "{said}");
        let none = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager", "--threshold=1"])
            .arg(&file)
            .output()
            .expect("it starts");
        assert!(!none.status.success(), "the threshold is kept to");
    }
}

fn attestors_unit() -> String {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/touchstone-attestor.service");
    fs::read_to_string(unit).expect("the unit is in the tree")
}

#[test]
fn a_start_waits_for_no_network() {
    let unit = attestors_unit();
    let waits = |line: &&str| line.starts_with("After=") || line.starts_with("Wants=");
    assert_eq!(unit.lines().filter(waits).collect::<Vec<_>>(), ["After=network.target"]);
}

#[test]
fn what_is_copied_as_root_follows_no_link_of_the_attestors() {
    let unit = attestors_unit();
    let copies: Vec<&str> = unit.lines().filter_map(|line| line.strip_prefix("ExecStartPre=-+")).collect();
    assert_eq!(copies.len(), 2, "{copies:?}");
    let folder = TempDir::new().expect("a run folder");
    let [theirs, ours, log] = ["theirs", "ours", "log"].map(|name| folder.path().join(name));
    let [file, inner] = ["file", "folder"].map(|name| theirs.join(name));
    fs::create_dir(&ours).and_then(|()| fs::create_dir_all(&inner)).expect("folders");
    fs::write(&log, "measured").and_then(|()| fs::write(&file, "theirs")).expect("files");
    let group = fs::metadata(&ours).expect("it is there").gid().to_string();
    for copy in copies {
        let words: Vec<&str> = copy.split(' ').collect();
        let [program, options @ .., _, to] = &words[..] else { panic!("{words:?} names no files") };
        let options = options.iter().map(|option| if *option == "tss" { &group } else { *option });
        let options: Vec<&str> = options.collect();
        let to = ours.join(Path::new(to).file_name().expect("a file"));
        for leads_to in [&file, &inner] {
            symlink(leads_to, &to).expect("a link");
            let copied = Command::new(program).args(&options).args([&log, &to]).status().expect("it starts");
            assert!(copied.success() && fs::symlink_metadata(&to).expect("it is there").is_file());
            assert_eq!(fs::read_to_string(&file).expect("it is there"), "theirs");
            assert_eq!(fs::read_dir(&inner).expect("it is there").count(), 0, "{words:?}");
            fs::remove_file(&to).expect("it is there");
        }
    }
}
