//! The broker's host is lost: another one takes its place from the last backup, as README says it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::{Answer, Device, World, until};
use proto::v1::DenialReason;
use serde_json::Value;
use tempfile::TempDir;

use crate::hostile::thief::{Thief, denied};

/// Sequences of trust files and CRLs begin with the plant's epoch.
const SECOND_EPOCH: u64 = 2 << 40;

/// What is kept away from the broker's host: the last backup, its key-encryption key, the owner's folder.
struct Safe(TempDir);

impl Safe {
    fn filled_from(world: &World) -> Self {
        let safe = Self(TempDir::new().expect("a folder"));
        fs::copy(world.plant.path("secrets/kek"), safe.path("kek")).expect("the key is copied");
        fs::create_dir(safe.path("owner")).expect("a folder");
        for entry in fs::read_dir(world.plant.path("owner")).expect("the owner's folder") {
            let entry = entry.expect("an entry");
            fs::copy(entry.path(), safe.path("owner").join(entry.file_name())).expect("a file is copied");
        }
        safe
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Runs `touchstone` as the owner of the plant that was lost.
    fn owner(&self, world: &World, line: &str) -> Answer {
        world.tool_as(&self.path("owner"), &line.split(' ').collect::<Vec<_>>())
    }
}

fn serials(status: &Value) -> Vec<&str> {
    let list = status["certificates"].as_array().expect("certificates");
    list.iter().map(|one| one["serial"].as_str().expect("a serial")).collect()
}

fn counter(device: &Value) -> u64 {
    device["attestation_counter"].as_u64().unwrap_or_else(|| panic!("no counter in {device:#}"))
}

/// Whether the TLS of `listener` lets `caller` open opcua, as OpenSSL decides it.
fn may_open(caller: &Device, listener: &Device) -> Result<(), String> {
    let file = |name: &str| listener.delivered("historian", &format!("services/opcua/{name}"));
    let text = |path: &Path| path.to_str().expect("run folders have plain names").to_owned();
    let (authorities, crl) = (text(&file("inbound.pem")), text(&file("inbound.crl")));
    let output = Command::new("openssl")
        .args(["verify", "-crl_check", "-purpose", "sslclient", "-CAfile", &authorities, "-CRLfile", &crl])
        .arg(caller.delivered("cell-3", "caller.pem"))
        .output()
        .map_err(|error| error.to_string())?;
    output.status.success().then_some(()).ok_or(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Two devices with a conduit between them, and a third one in quarantine.
fn furnish(world: &World, press: &mut Device, db: &mut Device, stolen: &mut Device) {
    world.admin("zone create cell-3 --mode observe --reattest-every 10s");
    world.admin("zone create historian --mode observe --reattest-every 10s");
    db.offer("opcua");
    for (device, zone) in [(&*press, "cell-3"), (&*db, "historian"), (&*stolen, "cell-3")] {
        world.register(device, zone);
        device.measure("boot-a");
    }
    world.admin("conduit allow --from cell-3 --to historian --service opcua");
    for device in [press, db, &mut *stolen] {
        device.start();
        device.until_state("trusted");
    }
    world.admin("device quarantine stolen-1 --reason stolen");
    stolen.until_status("in quarantine", |status| status["denial"]["reason"] == "QUARANTINED");
    stolen.stop();
}

/// An honest answer of `device` to a challenge of now, not sent yet.
async fn kept_answer(device: &mut Device) -> proto::v1::CompleteRequest {
    device.stop();
    let request = Thief::of(device).await.request().await;
    device.start();
    device.until_state("trusted");
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plant_comes_back_on_a_new_host_and_resurrects_nobody() {
    let devices = World::with_devices(["press-1", "db-1", "stolen-1"]);
    let Some((mut world, [mut press, mut db, mut stolen])) = devices else { return };
    furnish(&world, &mut press, &mut db, &mut stolen);
    until("the conduit is open", || may_open(&press, &db));
    let answer = kept_answer(&mut db).await;

    let safe = Safe::filled_from(&world);
    world.admin(&format!("backup --out {}", safe.text("backup")));
    world.admin("zone create too-late --mode observe");
    let before = counter(&world.admin("device show press-1"));
    world.lose_host();
    assert_devices_hold(&press, &db);

    world.start_new_host(&safe.path("kek"));
    let said = safe.owner(&world, "status").refused(4);
    assert!(
        said.contains("is not the broker of plant.example"),
        "the new host is another plant until it is restored: {said}"
    );
    let restored = world.admin(&format!("restore {} --yes", safe.text("backup")));
    assert_eq!(restored["plant_epoch"], 2, "{restored:#}");
    let notes = restored["notes"].to_string();
    assert!(notes.contains("owner") && notes.contains("recovery kit"), "{notes}");

    assert_restored(&world, &safe, &press, &db, before);
    assert_nobody_is_resurrected(&world, &safe, &mut stolen);
    db.stop();
    let (reason, message) = denied(Thief::of(&db).await.complete(answer).await);
    assert_eq!(reason, DenialReason::MustReattest, "{message}");
    assert!(message.contains("under a key that is no longer in use"), "{message}");

    // What was restored is on disk, and opens with what init put beside it.
    world.stop_broker();
    world.start_broker();
    let zones = safe.owner(&world, "zone list").done()["zones"].to_string();
    assert!(zones.contains("historian") && !zones.contains("too-late"), "{zones}");
}

fn assert_devices_hold(press: &Device, db: &Device) {
    for device in [press, db] {
        let trusted = device.status();
        let holding = device.until_status("holding", |status| status["state"] == "holding");
        assert_eq!(serials(&holding), serials(&trusted), "nothing is lost while the broker is away");
    }
    assert_eq!(may_open(press, db), Ok(()));
}

fn assert_restored(world: &World, safe: &Safe, press: &Device, db: &Device, before: u64) {
    for device in [press, db] {
        let status = device.until_status("under the new epoch", |status| {
            status["state"] == "trusted" && status["trust_sequence"].as_u64() > Some(SECOND_EPOCH)
        });
        assert_eq!(status["broker"]["reachable"], true, "{status:#}");
    }
    let counted = until("press-1 attests again by itself", || {
        let device = safe.owner(world, "device show press-1").done();
        if counter(&device) > before { Ok(counter(&device)) } else { Err(format!("{device:#}")) }
    });
    assert!(counted > before);
    until("the conduit is open", || may_open(press, db));
    let root = |path: PathBuf| fs::read_to_string(path).expect("a certificate");
    assert_eq!(root(world.plant.path("plant-root.pem")), root(safe.path("owner/plant-root.pem")));
    // The owner that init made is nobody in the restored plant.
    world.tool(&["status"]).refused(4);
}

fn assert_nobody_is_resurrected(world: &World, safe: &Safe, stolen: &mut Device) {
    assert_eq!(safe.owner(world, "device show stolen-1").done()["state"], "quarantined");
    fs::remove_dir_all(stolen.path("state")).expect("the thief removes what the device knows");
    stolen.start();
    let refused = stolen.until_status("told again", |status| status["denial"]["reason"] == "QUARANTINED");
    assert_eq!(refused["certificates"], serde_json::json!([]));
}
