//! A plant with unmodified servers: press-1 runs them, camera-1 opens them, truck-1 is of a zone without a conduit.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use e2e::peers::{
    Client, Haproxy, Mosquitto, Nginx, NginxInTpm, OpensslServer, ResourceManager, Server, Software,
};
use e2e::{Device, World, missing_tool, until};
use serde_json::Value;

use super::clients;

/// The matrix: every situation is tried with each of them.
const SOFTWARE: [&dyn Software; 5] = [&OpensslServer, &NginxInTpm, &Nginx, &Mosquitto, &Haproxy];
/// Zones of the devices.
pub(super) const ZONES: [&str; 3] = ["press", "vision", "logistics"];
/// How often devices prove themselves.
const REATTEST: Duration = Duration::from_secs(5);

/// Fields end in their order: servers before what lends them their keys.
pub(super) struct Plant {
    pub(super) servers: Vec<Server>,
    pub(super) managers: [ResourceManager; 3],
    pub(super) world: World,
    pub(super) devices: [Device; 3],
}

impl Plant {
    /// All are up and trusted, and no conduit is open. None, with the reason said, where a program is missing.
    pub(super) fn new() -> Option<Self> {
        let tools = SOFTWARE.iter().flat_map(|software| software.tools());
        let mut tools = tools.chain(&ResourceManager::TOOLS).chain(&clients::TOOLS);
        if let Some(tool) = tools.find_map(|tool| missing_tool(&[tool])) {
            eprintln!("skipped: {tool} is not installed; deploy/packages.sh names its package");
            return None;
        }
        let (world, mut devices) = World::with_devices(["press-1", "camera-1", "truck-1"])?;
        for (zone, device) in ZONES.iter().zip(&devices) {
            let every = REATTEST.as_secs();
            // mbedTLS reads no critical name constraint.
            let constraint = if *zone == "logistics" { "off" } else { "critical" };
            world.admin(&format!(
                "zone create {zone} --mode observe --software-keys allow --reattest-every {every}s \
                 --name-constraint {constraint}"
            ));
            world.register(device, zone);
        }
        let [press, camera, _] = &mut devices;
        for software in SOFTWARE {
            offer(press, software);
            offer(camera, software);
        }
        press.offer("spare");
        press.offer("field");
        devices.iter().for_each(|device| device.measure("boot-a"));
        let managers = devices.each_ref().map(ResourceManager::start);
        let [press, ..] = &mut devices;
        let mut servers: Vec<Server> =
            SOFTWARE.iter().map(|software| Server::set_up(*software, press, ZONES[0])).collect();
        servers.iter().for_each(|server| press.add_end(&server.hook()));
        devices.iter_mut().for_each(Device::start);
        let plant = |servers| Self { servers, managers, world, devices };
        let mut plant = plant(Vec::new());
        plant.until_trusted();
        let status = plant.devices[0].status();
        let (key, own) = (&status["software_keys"][0], &status["certificates"][1]);
        assert_eq!(
            key["not_after"], own["not_after"],
            "a software key ends with the device's own: {status:#}"
        );
        for server in &mut servers {
            server.start(&plant.managers[0], None);
        }
        plant.servers = servers;
        plant.until_hooks_ran();
        Some(plant)
    }

    /// An honest client on the device of that number.
    pub(super) fn client(&self, number: usize) -> Client {
        Client::on(&self.devices[number], ZONES[number])
    }

    pub(super) fn until_trusted(&self) {
        let given = |status: &Value, keys: usize| {
            status["state"] == "trusted"
                && status["software_keys"].as_array().is_some_and(|all| all.len() >= keys)
        };
        for (device, keys) in self.devices.iter().zip([2, 2, 0]) {
            device.until_status("trusted", |status| given(status, keys));
        }
    }

    pub(super) fn until_hooks_ran(&self) {
        self.devices[0].until_status("told", |status| status["failing_hooks"] == serde_json::json!([]));
    }

    /// Opens services of press-1 to camera-1 and waits until both were told; since when.
    pub(super) fn open(&self, services: &[&str]) -> Instant {
        let outbound = services.iter().map(|service| (1, format!("services/{service}/outbound.pem")));
        let waits = self.awaited(outbound.collect());
        let opened = self.open_to(ZONES[1], services);
        waits.into_iter().for_each(Awaited::come);
        opened
    }

    /// Opens services of press-1 to a zone and waits until press-1 was told; since when.
    pub(super) fn open_to(&self, zone: &str, services: &[&str]) -> Instant {
        let inbound = services.iter().map(|service| (0, format!("services/{service}/inbound.pem")));
        let waits = self.awaited(inbound.collect());
        let opened = Instant::now();
        for service in services {
            self.world.admin(&format!("conduit allow --from {zone} --to press --service {service}"));
        }
        waits.into_iter().for_each(Awaited::come);
        opened
    }

    /// Lets truck-1 open the service of press-1 that nobody serves, and waits until both were told.
    pub(super) fn open_field_to_truck(&self) {
        let wait = self.awaited(vec![(2, "services/field/outbound.pem".to_owned())]);
        self.open_to(ZONES[2], &["field"]);
        wait.into_iter().for_each(Awaited::come);
    }

    fn awaited(&self, files: Vec<(usize, String)>) -> Vec<Awaited> {
        let awaited = |(device, file): (usize, String)| {
            let file = self.devices[device].delivered(ZONES[device], &file);
            Awaited { before: fs::read(&file).unwrap_or_default(), file }
        };
        files.into_iter().map(awaited).collect()
    }

    pub(super) fn open_all(&self) -> Instant {
        self.open(&SOFTWARE.map(Software::service))
    }

    /// Closes all conduits to camera-1, at once; since when.
    pub(super) fn close_all(&self) -> Instant {
        let closed = Instant::now();
        thread::scope(|scope| {
            for software in SOFTWARE {
                let service = software.service();
                let line = format!("conduit close --from vision --to press --service {service}");
                scope.spawn(move || self.world.admin(&line));
            }
        });
        closed
    }

    pub(super) fn quarantine_camera(&self) -> Instant {
        let lost = Instant::now();
        self.world.admin("device quarantine camera-1 --reason stolen");
        lost
    }

    /// Waits until no device had an answer for longer than anything is refreshed.
    pub(super) fn until_broker_is_missed(&self) {
        let silence = 3 * REATTEST.as_secs();
        for device in &self.devices {
            device.until_status("without its broker", |status| {
                let last = status["last_attestation"].as_u64().unwrap_or(u64::MAX);
                status["state"] == "holding" && last.saturating_add(silence) < now()
            });
        }
    }
}

/// A delivered file that is going to change.
struct Awaited {
    file: PathBuf,
    before: Vec<u8>,
}

impl Awaited {
    fn come(self) {
        until(&format!("{} is delivered", self.file.display()), || match fs::read(&self.file) {
            Ok(now) if now != self.before => Ok(()),
            other => Err(format!("as before: {}", other.is_ok())),
        });
    }
}

fn offer(device: &mut Device, software: &dyn Software) {
    match software.key_in_tpm() {
        true => device.offer(software.service()),
        false => device.offer_in_software(software.service()),
    }
}

#[expect(clippy::disallowed_methods, reason = "a broker that is away is missed by the real clock")]
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}
