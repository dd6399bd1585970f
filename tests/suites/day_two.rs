//! Devices that move, are replaced and retire, seen from the device.

use std::fs;

use e2e::{Device, World, until};
use serde_json::Value;

use crate::story::openssl;

const LEAST: &str = "--mode observe --least instance-identity=affirming --reattest-every 5s";

fn denied(reason: &str) -> impl Fn(&Value) -> bool {
    move |status| status["state"] == "refused" && status["denial"]["reason"] == reason
}

fn boot(device: &mut Device) {
    device.measure("boot-a");
    device.start();
    device.until_state("trusted");
}

fn zones(world: &World, device: &str) -> Value {
    world.admin(&format!("device show {device}"))["zones"].clone()
}

#[test]
fn a_device_that_moves_is_never_without_a_certificate_and_a_gateway_has_one_for_each_zone() {
    let Some((world, [mut gateway, mut camera])) = World::with_devices(["gateway", "camera-1"]) else {
        return;
    };
    for zone in ["press", "vision", "lab"] {
        world.admin(&format!("zone create {zone} {LEAST}"));
    }
    let identity = gateway.path("identity.json");
    fs::write(&identity, gateway.identify().to_string()).expect("a file in the device's folder");
    world.admin(&format!("device import {} --name gateway --zone press --zone vision", identity.display()));
    world.register(&camera, "vision");
    gateway.offer("opcua");
    boot(&mut gateway);
    boot(&mut camera);
    world.admin("conduit allow --from vision --to press --service opcua");
    let subject = |zone: &str| {
        let file = gateway.delivered(zone, "listener.pem");
        openssl(&["x509", "-noout", "-subject", "-in", file.to_str().expect("a path")])
    };
    for zone in ["press", "vision"] {
        assert_eq!(subject(zone).trim(), format!("subject=CN = gateway.{zone}.plant.example"));
    }
    let before = world.store();
    let dry = world.admin("device move gateway --from press --to lab --dry-run");
    assert_eq!(dry["peers"][0]["gained"], false);
    assert_eq!((&dry["peers"][0]["zone"], &dry["peers"][0]["service"]), (&"vision".into(), &"opcua".into()));
    assert_eq!(world.store(), before, "a dry run changes nothing");
    let never = ["device", "move", "gateway", "--from", "press", "--to", "lab", "--at", "never"];
    assert!(world.tool(&never).refused(64).contains("`never` is no window"));

    let at = ["device", "move", "gateway", "--from", "press", "--to", "lab", "--at", "daily 00:00-24:00"];
    world.tool(&at).done();
    let old = gateway.delivered("press", "listener.pem");
    until("it has arrived", || {
        let now = zones(&world, "gateway");
        let (left, joined) = (old.exists(), gateway.delivered("lab", "listener.pem").exists());
        // Whatever is looked at, one of the two is there.
        assert!(left || gateway.delivered("lab", "listener.pem").exists(), "{now}");
        if now == serde_json::json!(["lab", "vision"]) && joined && !left {
            return Ok(());
        }
        Err(format!("{now}, old certificate: {left}, new one: {joined}"))
    });
    gateway.until_state("trusted");
    let revoked = world.admin("authority list")["authorities"].clone();
    let of_press = |one: &&Value| one["zone"] == "press" && one["revoked"] == 1;
    let count = revoked.as_array().expect("a list").iter().filter(of_press).count();
    assert_eq!(count, 2, "both of the old zone are revoked: {revoked:#}");
    assert!(gateway.delivered("vision", "caller.pem").exists(), "the other zone is as it was");
    assert!(world.admin("device show gateway")["move"].is_null());
}

#[test]
fn a_device_leaves_its_old_zone_once_its_software_was_told_of_the_new() {
    let Some((world, [mut press])) = World::with_devices(["press-1"]) else { return };
    // By itself it would prove itself again long after the test.
    for zone in ["press", "lab"] {
        world.admin(&format!(
            "zone create {zone} --mode observe --least instance-identity=affirming --reattest-every 1h"
        ));
    }
    world.register(&press, "press");
    let (log, wait) = (press.path("told"), press.path("wait"));
    let script =
        format!("echo told >>{}; while test -e {}; do sleep 0.05; done", log.display(), wait.display());
    let words = format!("[\"/bin/sh\", \"-c\", \"{script}\"]");
    press.add_end(&format!("[[hook]]\nname = \"hmi\"\nreload = {words}\nrestart = {words}\n"));
    boot(&mut press);
    let told = || fs::read_to_string(&log).unwrap_or_default().lines().count();
    until("its software is told", || (told() > 0).then_some(()).ok_or("not yet".to_owned()));
    until("the hook ended", || {
        let kept = press.path("deliver/hooks/hmi.json").exists();
        kept.then_some(()).ok_or("not yet".to_owned())
    });
    let (before, proofs) = (told(), proofs(&world));
    fs::write(&wait, "").expect("a file in the device's folder");
    world.tool(&["device", "move", "press-1", "--to", "lab"]).done();
    // One proof brings the certificates of the new zone, the next says that software does not have them yet.
    until("it has proved itself twice", || {
        let now = self::proofs(&world);
        (told() > before && now >= proofs + 2).then_some(()).ok_or(format!("{now} proofs"))
    });
    assert_eq!(zones(&world, "press-1"), serde_json::json!(["lab", "press"]));
    assert!(press.delivered("press", "listener.pem").exists(), "its software still goes by it");
    fs::remove_file(&wait).expect("the file is there");
    until("it has left", || {
        let now = zones(&world, "press-1");
        (now == serde_json::json!(["lab"])).then_some(()).ok_or(now.to_string())
    });
}

#[test]
fn a_gateway_that_leaves_one_zone_goes_on_in_the_other() {
    let Some((world, [mut gateway])) = World::with_devices(["gateway"]) else { return };
    // By itself it would prove itself again long after the test.
    for zone in ["press", "vision"] {
        world.admin(&format!(
            "zone create {zone} --mode observe --least instance-identity=affirming --reattest-every 1h"
        ));
    }
    let (identity, stopped) = (gateway.path("identity.json"), gateway.path("stopped"));
    fs::write(&identity, gateway.identify().to_string()).expect("a file in the device's folder");
    world.admin(&format!("device import {} --name gateway --zone press --zone vision", identity.display()));
    gateway.add_end(&format!("[safe_state]\ncommand = [\"/bin/touch\", \"{}\"]\n", stopped.display()));
    boot(&mut gateway);
    let of_press = |status: &Value| -> Vec<Value> {
        let all = status["certificates"].as_array().expect("certificates").iter();
        all.filter(|one| one["zone"] == "press").map(|one| one["serial"].clone()).collect()
    };
    let watches = |status: &Value| status["broker"]["watching"] == true;
    let held = of_press(&gateway.until_status("watching", watches));
    assert_eq!(held.len(), 2);
    // Of certificates that end together it watches under that of the zone whose name is last, which it leaves.
    world.admin("device admit gateway --zone press");
    let left = gateway.until_status("in one zone", |status| {
        status["zones"] == serde_json::json!(["press"]) && status["problem"].is_null() && watches(status)
    });
    assert_eq!((&left["state"], of_press(&left)), (&"trusted".into(), held), "{left:#}");
    let log = gateway.log();
    assert!(log.contains("of zone vision were revoked"), "{log}");
    assert!(!log.contains("is now refused") && !stopped.exists(), "the machine goes on: {log}");
}

/// How often the devices proved themselves.
fn proofs(world: &World) -> usize {
    let events = world.admin("audit list --limit 100")["events"].clone();
    let events = events.as_array().expect("a list");
    events.iter().filter(|event| event["action"] == "device.attest").count()
}

#[test]
fn a_retired_device_is_refused_until_it_is_readmitted() {
    let Some((world, [mut press])) = World::with_devices(["press-1"]) else { return };
    world.admin(&format!("zone create press {LEAST}"));
    world.register(&press, "press");
    boot(&mut press);
    let done = world.admin("device retire press-1 --reason scrapped");
    assert_eq!(done["revoked"], 2, "one certificate for each role: {done:#}");
    let status = press.until_status("told", denied("RETIRED"));
    assert_eq!(status["certificates"], serde_json::json!([]));
    assert_eq!(world.admin("device show press-1")["state"], "retired");
    let file = press.path("identity.json");
    world.admin(&format!("device import {} --name press-1 --zone press", file.display()));
    assert_eq!(world.admin("device show press-1")["state"], "retired", "a list does not bring it back");
    world.admin("device readmit press-1 --reason found");
    press.until_state("trusted");
}

#[test]
fn a_replaced_tpm_is_barred_and_the_name_goes_on_with_the_other() {
    let Some((world, [mut old, mut new])) = World::with_devices(["press-1", "spare"]) else { return };
    world.admin(&format!("zone create press {LEAST}"));
    world.register(&old, "press");
    boot(&mut old);
    new.rename("press-1");
    new.measure("boot-a");
    new.start();
    let status = new.until_status("refused or waiting", |status| {
        status["state"] == "pending" || status["state"] == "refused"
    });
    assert_ne!(status["state"], "trusted", "a name belongs to one TPM");

    let ek = new.identify()["ek_digest"].as_str().expect("identify names the EK").to_owned();
    let done = world.admin(&format!("device replace press-1 --ek {ek} --reason mainboard"));
    assert_eq!(done["revoked"], 2, "{done:#}");
    old.until_status("barred", denied("RETIRED"));
    new.until_state("trusted");
    let shown = world.admin("device show press-1");
    assert_eq!((&shown["ek_digest"], &shown["state"]), (&ek.into(), &"trusted".into()));
}

#[test]
fn a_peer_that_knows_only_an_address_verifies_it_and_no_other() {
    let Some((world, [mut press])) = World::with_devices(["press-1"]) else { return };
    world.admin(&format!("zone create press {LEAST} --intra-zone allow --outlive-broker 8h"));
    world.register(&press, "press");
    press.offer("opcua");
    boot(&mut press);
    let add = ["device", "address", "add", "press-1", "10.1.3.7"];
    let told = world.tool(&add).refused(3);
    assert!(told.contains("10.1.3.7 is in no subnet of zone press"), "{told}");

    // The authorities of before permit no address: the next generation does, and signs by itself.
    world.admin("zone set press --subnet 10.1.3.0/24");
    world.tool(&add).done();
    let (leaf, trust) =
        (press.delivered("press", "listener.pem"), press.delivered("press", "services/opcua/outbound.pem"));
    let (leaf, trust) = (leaf.to_str().expect("a path"), trust.to_str().expect("a path"));
    let verify = |address: &str| {
        let args = [
            "verify",
            "-purpose",
            "sslserver",
            "-x509_strict",
            "-CAfile",
            trust,
            "-verify_ip",
            address,
            leaf,
        ];
        let output = std::process::Command::new("openssl").args(args).output().expect("openssl starts");
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    };
    until("its certificate names the address", || verify("10.1.3.7"));
    let other = verify("10.1.3.8").expect_err("it is not its address");
    assert!(other.contains("IP address mismatch"), "{other}");
    let shown = world.admin("device show press-1")["addresses"].clone();
    assert_eq!(shown, serde_json::json!([{ "zone": "press", "address": "10.1.3.7" }]));
    let dates = world.admin("calendar")["entries"].clone();
    let kinds: Vec<&str> =
        dates.as_array().expect("dates").iter().filter_map(|one| one["kind"].as_str()).collect();
    for kind in ["broker", "administrator", "authority"] {
        assert!(kinds.contains(&kind), "{kind} in {kinds:?}");
    }

    let done = world.admin("device address remove press-1 10.1.3.7");
    assert!(done["revoked"].as_u64() >= Some(1), "{done:#}");
    until("it has another certificate, without the address", || match verify("10.1.3.7") {
        Err(told) if told.contains("IP address mismatch") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    press.until_state("trusted");
}
