//! Workloads on two devices, by the SPIFFE Workload API: they meet while a conduit lets them, and not otherwise.

mod go;
mod peer;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use e2e::{Device, World, until};
use tokio::runtime::Runtime;
use tonic::Code;

use peer::{Svid, meet, svid};

/// How soon a workload believes whom a change lets it believe, and nobody more.
const PROMISE: Duration = Duration::from_secs(5);
const ALLOW: &str = "conduit allow --from vision --to press --service opcua";
const CLOSE: &str = "conduit close --from vision --to press --service opcua";

struct Plant {
    runtime: Runtime,
    world: World,
    press: Device,
    camera: Device,
}

impl Plant {
    /// The workload plc on press-1 serves opcua, and viewer on camera-1 opens it. Both run as whoever runs this test.
    fn new() -> Option<Self> {
        Self::with(|_, _| ())
    }

    /// The same, once camera-1 was changed.
    fn with(change: impl Fn(&World, &mut Device)) -> Option<Self> {
        let (world, [mut press, mut camera]) = World::with_devices(["press-1", "camera-1"])?;
        for (zone, device) in [("press", &press), ("vision", &camera)] {
            let options = "--mode observe --least instance-identity=affirming --software-keys allow";
            world.admin(&format!("zone create {zone} {options}"));
            world.register(device, zone);
        }
        press.offer("opcua");
        change(&world, &mut camera);
        for (device, name, role) in [(&mut press, "plc", "server"), (&mut camera, "viewer", "client")] {
            let uid = fs::metadata(device.path("attestor.toml")).expect("its configuration").uid();
            device.add_end(&format!(
                "[workload_api]\nsocket = \"workload.sock\"\n[[workload]]\nname = \"{name}\"\nservice = \"opcua\"\n\
                 role = \"{role}\"\nuid = {uid}\n"
            ));
            device.measure("boot-a");
            device.start();
            device.until_state("trusted");
        }
        let runtime = Runtime::new().expect("a runtime");
        Some(Self { runtime, world, press, camera })
    }

    fn plc(&self) -> Result<Svid, tonic::Status> {
        self.runtime.block_on(svid(&self.press.path("workload.sock")))
    }

    fn viewer(&self) -> Result<Svid, tonic::Status> {
        self.runtime.block_on(svid(&self.camera.path("workload.sock")))
    }

    /// viewer opens plc, each by what it has now.
    fn meet(&self) -> Result<(), String> {
        let (plc, viewer) = (self.plc(), self.viewer());
        let said = |status: tonic::Status| status.to_string();
        self.runtime.block_on(meet(&plc.map_err(said)?, &viewer.map_err(said)?))
    }

    fn until_they_meet(&self, what: &str) -> Duration {
        let since = Instant::now();
        until(what, || self.meet());
        since.elapsed()
    }

    /// Both devices listen to the broker, or both know that it is away: what follows is no matter of reconnecting.
    fn until_watching(&self, wanted: bool) {
        for device in [&self.press, &self.camera] {
            device.until_status("watching", |status| status["broker"]["watching"] == wanted);
        }
    }

    /// Each device is told by itself, so that one end may know before the other.
    fn until_viewer_believes(&self, domains: &[&str]) {
        until("viewer believes whom it may", || {
            let viewer = self.viewer().map_err(|status| status.to_string())?;
            if viewer.domains() == domains { Ok(()) } else { Err(format!("{:?}", viewer.domains())) }
        });
    }

    /// How long it takes until they do not, for this reason.
    fn until_refused(&self, why: &str) -> Duration {
        let since = Instant::now();
        until(&format!("refused: {why}"), || match self.meet() {
            Err(said) if said.contains(why) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        since.elapsed()
    }
}

#[test]
fn workloads_meet_while_a_conduit_lets_them() {
    let Some(mut plant) = Plant::new() else { return };
    plant.until_refused("UnknownIssuer");
    let named = plant.plc().expect("it has a certificate without a conduit").id;
    assert_eq!(named, "spiffe://press.plant.example/device/press-1/workload/plc");
    let shown = plant.world.admin("device show press-1").to_string();
    assert!(shown.contains("\"workload\":\"plc\""), "{shown}");

    plant.world.admin(ALLOW);
    let took = plant.until_they_meet("they meet once a conduit lets them");
    println!("measured: workloads meet {:.1} s after the conduit was opened", took.as_secs_f64());
    let (plc, viewer) = (plant.plc().expect("plc"), plant.viewer().expect("viewer"));
    let turned = plant.runtime.block_on(meet(&viewer, &plc)).unwrap_err();
    assert!(turned.contains("InvalidPurpose"), "a client's certificate is none for a server: {turned}");
    assert_eq!(plc.domains(), ["spiffe://press.plant.example", "spiffe://vision.plant.example"]);

    plant.world.stop_broker();
    plant.press.stop();
    plant.press.start();
    plant.until_they_meet("they meet without a broker, after a restart of the attestor");
    plant.until_watching(false);
    plant.world.start_broker();
    plant.until_watching(true);

    plant.world.admin(CLOSE);
    let since = Instant::now();
    plant.until_refused("UnknownIssuer");
    plant.until_viewer_believes(&["spiffe://vision.plant.example"]);
    let took = since.elapsed();
    println!("measured: workloads do not meet {:.1} s after the conduit was closed", took.as_secs_f64());
    assert!(took < PROMISE, "{took:?}");
}

/// Its own keys are in files, as those of workloads are everywhere.
#[test]
fn a_workload_of_a_device_without_a_tpm_is_one_as_any_other() {
    let joined = |world: &World, camera: &mut Device| {
        camera.take_tpm();
        camera.rename("camera-2");
        let token = world.admin("token create --zone vision --device camera-2 --without-tpm");
        camera.give_token(token["token"].as_str().expect("a token"));
    };
    let Some(plant) = Plant::with(joined) else { return };
    plant.world.admin(ALLOW);
    plant.until_they_meet("they meet once a conduit lets them");
    let named = plant.viewer().expect("a certificate").id;
    assert_eq!(named, "spiffe://vision.plant.example/device/camera-2/workload/viewer");
    plant.world.admin("device quarantine camera-2 --reason lost");
    until("its workload gets nothing", || match plant.viewer() {
        Err(status) if status.code() == Code::PermissionDenied => Ok(()),
        other => Err(format!("{:?}", other.map(|svid| svid.id))),
    });
}

#[test]
fn a_device_that_lost_trust_serves_its_workloads_nothing() {
    let Some(plant) = Plant::new() else { return };
    plant.world.admin(ALLOW);
    plant.until_they_meet("they meet once a conduit lets them");
    let stolen = plant.viewer().expect("what a thief keeps");
    plant.world.admin("device quarantine camera-1 --reason lost");
    let since = Instant::now();
    let refused = until("its workload gets nothing", || match plant.viewer() {
        Err(status) if status.code() == Code::PermissionDenied => Ok(status),
        other => Err(format!("{:?}", other.map(|svid| svid.id))),
    });
    let took = since.elapsed();
    println!("measured: a workload is served nothing {:.1} s after trust was lost", took.as_secs_f64());
    assert!(refused.message().contains("no identity issued: the device is refused"), "{refused}");
    assert!(took < PROMISE, "{took:?}");
    until("peers that read the CRLs of the API refuse what it kept", || {
        let plc = plant.plc().map_err(|status| status.to_string())?;
        match plant.runtime.block_on(meet(&plc, &stolen)) {
            Err(why) if why.contains("Revoked") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

#[test]
fn programs_of_go_spiffe_meet_while_a_conduit_lets_them() {
    let Some(program) = go::Program::build() else { return };
    let Some(plant) = Plant::new() else { return };
    plant.world.admin(ALLOW);
    plant.until_they_meet("they meet once a conduit lets them");
    go::is_served(&program, &plant.press, &plant.camera);
    plant.world.admin(CLOSE);
    plant.until_refused("UnknownIssuer");
    plant.until_viewer_believes(&["spiffe://vision.plant.example"]);
    go::is_refused(&program, &plant.press, &plant.camera);
}
