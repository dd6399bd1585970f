//! A plant that was dark: everything was off for a month, clocks lost their time, the broker boots last.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use e2e::{BrokerFolder, Device, World, clock, until};
use serde_json::Value;

const DAY: u64 = 86_400;
/// The clock of a box whose battery is empty, a while after it was switched on.
const EPOCH: &str = "@1970-01-01 00:02:00";

#[expect(
    clippy::disallowed_methods,
    reason = "what OpenSSL is told that the time is follows the time of the programs"
)]
fn today() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// Whether `file` of `zone` verifies under `anchors` of another device, with their CRLs, as OpenSSL decides it at `at`.
fn verifies(leaf: &Path, anchors: &Path, purpose: &str, at: u64) -> Result<(), String> {
    let output = Command::new("openssl")
        .args(["verify", "-crl_check", "-purpose", purpose, "-attime", &at.to_string(), "-CAfile"])
        .arg(anchors)
        .arg("-CRLfile")
        .arg(anchors.with_extension("crl"))
        .arg(leaf)
        .output()
        .map_err(|error| error.to_string())?;
    output.status.success().then_some(()).ok_or(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Whether press-1 may open opcua on db-1 at `at`: each believes the other.
fn open(press: &Device, db: &Device, at: u64) -> Result<(), String> {
    let (inbound, outbound) = ("services/opcua/inbound.pem", "services/opcua/outbound.pem");
    let caller = press.delivered("cell-3", "caller.pem");
    verifies(&caller, &db.delivered("historian", inbound), "sslclient", at)?;
    verifies(
        &db.delivered("historian", "listener.pem"),
        &press.delivered("cell-3", outbound),
        "sslserver",
        at,
    )
}

/// Two zones, a conduit, two devices that boot what is golden.
fn furnished() -> Option<(World, Device, Device)> {
    clock(EPOCH)?;
    let (world, [mut press, mut db]) = World::with_devices(["press-1", "db-1"])?;
    for zone in ["cell-3", "historian"] {
        world.admin(&format!("zone create {zone} --product edge-box --reattest-every 10s"));
    }
    db.offer("opcua");
    for (device, zone) in [(&mut press, "cell-3"), (&mut db, "historian")] {
        world.register(device, zone);
        device.measure("boot-a");
        device.start();
    }
    world.admin("conduit allow --from cell-3 --to historian --service opcua");
    press.until_state("refused");
    world.make_golden("press-1", "edge-box", "1.0.0");
    for device in [&press, &db] {
        device.until_state("trusted");
    }
    until("the conduit is open", || open(&press, &db, today()));
    Some((world, press, db))
}

/// Everything stops, and the devices come back before the broker, in 1970.
fn go_dark(world: &mut World, devices: [&mut Device; 2]) {
    world.stop_broker();
    for device in devices {
        device.cut_power();
        device.environment = clock(EPOCH).expect("it is installed");
        device.reboot("boot-a");
    }
}

fn serials(status: &Value) -> Vec<&Value> {
    status["certificates"].as_array().expect("certificates").iter().map(|one| &one["serial"]).collect()
}

#[test]
fn a_plant_that_was_dark_for_a_month_comes_back_by_itself() {
    let Some((mut world, mut press, mut db)) = furnished() else { return };
    let before = [press.status(), db.status()];
    go_dark(&mut world, [&mut press, &mut db]);
    for (device, before) in [&press, &db].into_iter().zip(&before) {
        let status = device.until_state("holding");
        assert!(
            status["written_at"].as_u64() >= Some(today() - DAY),
            "the floor on disk, not 1970: {status:#}"
        );
        assert_eq!(serials(&status), serials(before), "what it held is there for whoever is still up");
    }

    world.plant.environment = clock("+31d").expect("it is installed");
    world.start_broker();
    let then = today() + 31 * DAY;
    let mut ends = Vec::new();
    for (device, before) in [&press, &db].into_iter().zip(&before) {
        let status = device.until_status("trusted by itself", |status| {
            status["state"] == "trusted" && status["broker"]["watching"] == true
        });
        assert!(serials(&status).iter().all(|serial| !serials(before).contains(serial)), "{status:#}");
        assert!(status["written_at"].as_u64() >= Some(then - DAY), "it learnt the time: {status:#}");
        ends.push(before["certificates"][0]["not_after"].as_u64().expect("an end"));
    }
    assert!(ends.iter().all(|end| *end < then), "they had ended");
    until("the conduit is open", || open(&press, &db, then));
    assert_eq!(world.admin("device show press-1")["state"], "trusted");
    let page = world.tool(&["status"]);
    assert_eq!(page.code, 0, "nothing asks a person: {:#}", page.json);
    let shown = world.admin("audit list --action server-certificate.create");
    let shown = shown["events"].as_array().expect("events").len();
    assert_eq!(shown, 2, "the broker's own certificate of a month ago had ended");

    // Off again, and on with the clock of before: what the device knows of time is on disk.
    press.stop();
    world.stop_broker();
    press.start();
    let status = press.until_state("holding");
    assert!(status["written_at"].as_u64() >= Some(then - DAY), "{status:#}");
}

/// The day after today, as `faketime` and people write it.
fn tomorrow() -> String {
    let output = Command::new("date").args(["-u", "-d", "tomorrow", "+%F"]).output().expect("date runs");
    String::from_utf8(output.stdout).expect("a date").trim().to_owned()
}

#[test]
fn hours_begin_and_end_without_the_broker() {
    let Some((mut world, press, mut db)) = furnished() else { return };
    let before = db.status()["trust_sequence"].as_u64();
    world.admin("conduit close --from cell-3 --to historian --service opcua");
    let daily = ["conduit", "allow", "--from", "cell-3", "--to", "historian", "--service", "opcua"];
    world.tool(&[&daily[..], &["--schedule", "daily 12:00-13:00"]].concat()).done();
    let noon = |hour: u32| format!("@{} {hour}:59:40", tomorrow());
    // Whether they are open now depends on the time of day; that the device has them does not.
    db.until_status("told of the hours", |status| {
        status["trust_sequence"].as_u64() >= before.map(|before| before + 2)
    });
    world.stop_broker();
    for (hour, before) in [(11, "closed"), (12, "open")] {
        db.environment = clock(&noon(hour)).expect("it is installed");
        db.reboot("boot-a");
        // Of the two ends only this one lives by the other clock.
        let (caller, inbound) = (press.delivered("cell-3", "caller.pem"), "services/opcua/inbound.pem");
        let inbound = db.delivered("historian", inbound);
        let state =
            || if verifies(&caller, &inbound, "sslclient", today()).is_ok() { "open" } else { "closed" };
        let seen = |wanted: &str| if state() == wanted { Ok(()) } else { Err(state().to_owned()) };
        until(&format!("it is {before} before the hour of {hour} is over"), || seen(before));
        until("it is no more a moment later", || {
            if seen(before).is_err() { Ok(()) } else { Err(before.into()) }
        });
    }
}

#[test]
fn a_broker_that_was_off_for_longer_than_its_issuing_key_lives_says_what_to_do_and_devices_follow() {
    let Some((mut world, mut press, mut db)) = furnished() else { return };
    go_dark(&mut world, [&mut press, &mut db]);
    let plant: &mut BrokerFolder = &mut world.plant;
    plant.environment = clock(EPOCH).expect("it is installed");
    let early = plant.fails_to_run().refused(70);
    assert!(early.contains("the clock here shows 1970") && early.contains("set the clock"), "{early}");

    // Eleven years: authorities of zones have ended, too.
    plant.environment = clock("+4015d").expect("it is installed");
    let ended = plant.fails_to_run().refused(70);
    assert!(ended.contains("issuing key 1 of the plant ended at"), "{ended}");
    assert!(ended.contains("touchstone-broker recover --kit DIR --issuing-key"), "{ended}");
    let (kit, out) = (plant.path("recovery-kit"), plant.run_path("bob"));
    let args = ["--owner", "bob", "--out", out.to_str().expect("a path"), "--issuing-key"];
    assert_eq!(plant.recover(&kit, BrokerFolder::passphrase(), &args).code, 0);
    world.start_broker();
    for device in [&press, &db] {
        device.until_status("trusted by itself", |status| {
            status["state"] == "trusted" && status["broker"]["watching"] == true
        });
        let state = fs::read_to_string(device.path("state/state.json")).expect("the device's state");
        let state: Value = serde_json::from_str(&state).expect("JSON");
        assert!(state["issuing_number"].as_u64() > Some(1), "no former issuing key is believed any more");
    }
    until("the conduit is open", || open(&press, &db, today() + 4015 * DAY));
    let zones = world.tool_as(&out, &["zone", "list"]).done();
    assert!(zones.to_string().contains("historian"), "{zones}");
}
