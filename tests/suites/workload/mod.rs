//! Workloads on two devices, by the SPIFFE Workload API: they meet while a conduit lets them, and not otherwise.

mod crates;
mod go;
pub(crate) mod peer;
mod rotation;
mod tools;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use e2e::peers::Clock;
use e2e::{Device, World, in_time, until};
use tokio::runtime::Runtime;
use tonic::Code;

use crates::Ends;
use peer::{Svid, meet, svid};
use tools::{Helper, Tunnel};

/// What the crate says of a trust domain that its program was told nothing of.
const NO_BUNDLE: &str = "NoBundle(TrustDomain";
const PLC: &str = "spiffe://press.plant.example/device/press-1/workload/plc";
const VIEWER: &str = "spiffe://vision.plant.example/device/camera-1/workload/viewer";
const ALLOW: &str = "conduit allow --from vision --to press --service opcua";
const CLOSE: &str = "conduit close --from vision --to press --service opcua";

/// Hours that zones outlive the broker, unless told otherwise.
const OUTLIVE: u64 = 8;

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
            let options = "--mode observe --least instance-identity=affirming --software-keys allow --reattest-every 5s";
            world.admin(&format!("zone create {zone} {options}"));
            world.register(device, zone);
        }
        press.offer("opcua");
        press.offer("ssh");
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

    /// `served` while the broker is away for as long as zones outlive it, by the clock of the devices.
    fn once_the_broker_is_missed(&mut self, served: impl FnOnce(&Self)) {
        let Some(clock) = Clock::new() else {
            return println!(
                "skipped in part: the broker's absence, because libfaketime is not installed; deploy/packages.sh names its package"
            );
        };
        self.world.stop_broker();
        clock.put_ahead(&format!("+{OUTLIVE}h"));
        self.go_by(Some(&clock));
        [&self.press, &self.camera].iter().for_each(|device| device.until_overdue(OUTLIVE));
        served(self);
        self.go_by(None);
        self.world.start_broker();
        self.until_watching(true);
    }

    fn go_by(&mut self, clock: Option<&Clock>) {
        for device in [&mut self.press, &mut self.camera] {
            device.stop();
            device.environment = clock.map(Clock::environment).unwrap_or_default();
            device.start();
        }
    }

    /// Each device is told by itself, so that one end may know before the other.
    fn until_viewer_believes(&self, domains: &[&str]) {
        until("viewer believes whom it may", || {
            let viewer = self.viewer().map_err(|status| status.to_string())?;
            if viewer.domains() == domains { Ok(()) } else { Err(format!("{:?}", viewer.domains())) }
        });
    }

    /// Whether press-1 would let a workload open a service, whom it takes it for, and why not.
    fn press_says(&self, peer: &Svid, service: &str) -> (bool, String, String) {
        let file = self.press.path("peer.der");
        fs::write(&file, &peer.chain).expect("a file in the device's folder");
        let file = file.to_str().expect("run folders have plain names");
        let asked = ["--peer-cert", file, "--service", service, "-o", "json"];
        let output = self.press.attestor("authorize", &asked);
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        (answer["allowed"] == true, word(&answer["peer"]), word(&answer["reasons"][0]["code"]))
    }

    /// Lets viewer's zone open another service of press-1, and waits until both devices know.
    fn open_another_service(&self) {
        let files = [
            self.press.delivered("press", "services/ssh/inbound.pem"),
            self.camera.delivered("vision", "services/ssh/outbound.pem"),
        ];
        let before = files.clone().map(|file| fs::read(file).ok());
        self.world.admin("conduit allow --from vision --to press --service ssh");
        until("both know of the other service", || {
            let now = files.clone().map(|file| fs::read(file).ok());
            if now.iter().zip(&before).all(|(now, before)| now != before) {
                Ok(())
            } else {
                Err(String::new())
            }
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
    assert_eq!(named, PLC);
    let shown = plant.world.admin("device show press-1").to_string();
    assert!(shown.contains("\"workload\":\"plc\""), "{shown}");

    plant.world.admin(ALLOW);
    let took = plant.until_they_meet("they meet once a conduit lets them");
    println!("measured: workloads meet {:.1} s after the conduit was opened", took.as_secs_f64());
    let (plc, viewer) = (plant.plc().expect("plc"), plant.viewer().expect("viewer"));
    let turned = plant.runtime.block_on(meet(&viewer, &plc)).unwrap_err();
    assert!(turned.contains("InvalidPurpose"), "a client's certificate is none for a server: {turned}");
    assert_eq!(plc.domains(), ["spiffe://press.plant.example", "spiffe://vision.plant.example"]);

    // The command reads the state file, which is written after workloads were told.
    until("the command knows the conduit too", || match plant.press_says(&viewer, "opcua") {
        (true, peer, _) if peer == VIEWER => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(plant.press_says(&viewer, "ssh"), (false, VIEWER.to_owned(), "no-conduit".to_owned()));
    assert_eq!(plant.press_says(&plc, "opcua"), (false, PLC.to_owned(), "intra-zone".to_owned()));

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
    in_time("workloads do not meet once the conduit is closed,", since.elapsed());
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
    assert!(refused.message().contains("no identity issued: the device is refused"), "{refused}");
    in_time("a workload of a device that lost trust is served nothing", took);
    until("peers that read the CRLs of the API refuse what it kept", || {
        let plc = plant.plc().map_err(|status| status.to_string())?;
        match plant.runtime.block_on(meet(&plc, &stolen)) {
            Err(why) if why.contains("Revoked") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

#[test]
fn programs_with_the_crate_spiffe_meet_while_a_conduit_lets_them() {
    let Some(mut plant) = Plant::new() else { return };
    let [press, camera] = [&plant.press, &plant.camera].map(|device| device.path("workload.sock"));
    let open = async || (crates::source(&press).await, crates::source(&camera).await);
    let (plc, viewer) = plant.runtime.block_on(open());
    let _inside = plant.runtime.enter();
    let ends = Ends::of((&plc, PLC), (&viewer, VIEWER));
    let turned = Ends::of((&viewer, VIEWER), (&plc, PLC));
    let own = Ends::of((&plc, PLC), (&plc, PLC));
    let meet = |plant: &Plant, ends: &Ends| plant.runtime.block_on(ends.meet());
    let refused = |plant: &Plant, ends: &Ends, why: &str| {
        until(&format!("refused: {why}"), || match meet(plant, ends) {
            Err(said) if said.contains(why) => Ok(()),
            other => Err(format!("{other:?}")),
        });
    };

    refused(&plant, &ends, NO_BUNDLE);
    plant.open_another_service();
    refused(&plant, &ends, NO_BUNDLE);
    plant.world.admin(ALLOW);
    let since = Instant::now();
    until("they meet once a conduit lets them", || meet(&plant, &ends));
    println!("measured: the crate spiffe meets {:.1} s after the conduit", since.elapsed().as_secs_f64());
    refused(&plant, &turned, "InvalidPurpose");
    refused(&plant, &own, "UnknownIssuer");
    refused(&plant, &ends.clone().with_server_ahead(), "xpired");

    let load = rotation::loses_no_request(&mut plant, &ends);
    println!(
        "measured: {} connections of the crate spiffe in a rotation, {} on asking again",
        load.served, load.again
    );
    plant.once_the_broker_is_missed(|plant| until("the crate serves", || meet(plant, &ends)));

    plant.world.admin(CLOSE);
    let since = Instant::now();
    refused(&plant, &ends, NO_BUNDLE);
    in_time("the crate spiffe is refused once the conduit is closed,", since.elapsed());
    plant.world.admin(ALLOW);
    until("they meet again", || meet(&plant, &ends));
    plant.world.admin("device quarantine camera-1 --reason lost");
    let since = Instant::now();
    until("the crate takes back what its program had", || match viewer.svid() {
        Err(why) if why.to_string().contains("no identity issued") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    in_time("the crate spiffe has nothing to show for a device that lost trust", since.elapsed());
}

#[test]
fn programs_in_go_meet_while_a_conduit_lets_them() {
    let program = go::program();
    let (tunnels, helpers) = (tools::installed("ghostunnel"), tools::installed("spiffe-helper"));
    if program.is_none() && !tunnels && !helpers {
        return;
    }
    let Some(plant) = Plant::new() else { return };
    let (press, camera) = (&plant.press, &plant.camera);
    let tunnel = tunnels.then(|| Tunnel::start(press, camera));
    let helper = helpers.then(|| [press, camera].map(Helper::start));
    plant.world.admin(ALLOW);
    plant.until_they_meet("they meet once a conduit lets them");
    if let Some(program) = &program {
        go::is_served(program, press, camera);
        go::minds_no_purpose(program, press, camera);
    }
    tunnel.iter().for_each(Tunnel::serves);
    if let Some([server, client]) = &helper {
        helper.iter().flatten().for_each(|helper| helper.believes(2));
        let heard = server.heard_by(client);
        assert!(heard.contains("HTTP/1.0 200 ok"), "{heard}");
    }
    plant.world.admin(CLOSE);
    plant.until_refused("UnknownIssuer");
    plant.until_viewer_believes(&["spiffe://vision.plant.example"]);
    if let Some(program) = &program {
        go::is_refused(program, press, camera);
    }
    tunnel.iter().for_each(Tunnel::refuses);
    if let Some([server, client]) = &helper {
        helper.iter().flatten().for_each(|helper| helper.believes(1));
        let heard = server.heard_by(client);
        assert!(
            !heard.contains("HTTP/1.0 200 ok") && heard.contains("unable to get local issuer"),
            "{heard}"
        );
    }
}

#[test]
fn programs_in_go_lose_no_request_in_a_rotation_and_are_not_served_without_trust() {
    let Some(program) = go::program() else { return };
    let Some(mut plant) = Plant::new() else { return };
    plant.world.admin(ALLOW);
    plant.until_they_meet("they meet once a conduit lets them");
    go::loses_no_request(&program, &mut plant);
    go::is_not_served_without_trust(&program, &plant);
}

#[test]
fn programs_in_go_are_refused_for_each_reason_and_served_without_the_broker() {
    let Some(program) = go::program() else { return };
    let Some(mut plant) = Plant::new() else { return };
    go::is_refused(&program, &plant.press, &plant.camera);
    plant.open_another_service();
    go::is_refused(&program, &plant.press, &plant.camera);
    plant.world.admin(ALLOW);
    plant.until_they_meet("they meet once a conduit lets them");
    go::is_refused_of_the_same_zone(&program, &plant.press);
    go::is_refused_once_ended(&program, &plant.press, &plant.camera);
    plant.once_the_broker_is_missed(|plant| go::is_served(&program, &plant.press, &plant.camera));
}
