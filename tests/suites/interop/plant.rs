//! A plant with unmodified servers: press-1 runs them, camera-1 opens them, truck-1 is of a zone without a conduit.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use e2e::peers::{
    Client, Clock, Grpcio, GrpcioAsking, Haproxy, Mosquitto, Nginx, NginxInTpm, OpensslServer,
    ResourceManager, Server, Software,
};
use e2e::{Device, World, missing_tool, until};
use serde_json::Value;

use super::clients;

/// The matrix: every situation is tried with each of them.
const SOFTWARE: &[&dyn Software] = &[&OpensslServer, &NginxInTpm, &Nginx, &Mosquitto, &Haproxy];
/// Software whose clients take no key that is in a TPM: its devices have none.
const WITHOUT_TPM: &[&dyn Software] = &[&Grpcio];
/// Software that asks the attestor about whom its TLS lets in.
const THAT_ASKS: &[&dyn Software] = &[&GrpcioAsking];
/// Zones of the devices.
pub(super) const ZONES: [&str; 3] = ["press", "vision", "logistics"];
/// How often devices prove themselves.
const REATTEST: &str = "5s";
/// Hours that everything lasts without the broker: a certificate lives half as long again.
const OUTLIVE: u64 = 8;

/// Fields end in their order: servers before what lends them their keys.
pub(super) struct Plant {
    pub(super) servers: Vec<Server>,
    /// What shares the TPM of each device, if they have any.
    managers: Vec<ResourceManager>,
    software: &'static [&'static dyn Software],
    pub(super) world: World,
    pub(super) devices: [Device; 3],
}

impl Plant {
    /// All are up and trusted, and no conduit is open. None, with the reason said, where a program is missing.
    pub(super) fn new() -> Option<Self> {
        Self::with(SOFTWARE, true)
    }

    /// The same of devices without a TPM.
    pub(super) fn without_tpm() -> Option<Self> {
        Grpcio::is_here().then(|| Self::with(WITHOUT_TPM, false)).flatten()
    }

    /// The same of a server that asks: everybody may open the service whose files its TLS has.
    pub(super) fn that_asks() -> Option<Self> {
        let plant = Grpcio::is_here().then(|| Self::with(THAT_ASKS, false)).flatten()?;
        let lobby = GrpcioAsking::LOBBY;
        let file = |side: &str| format!("services/{lobby}/{side}bound.pem");
        let waits = plant.awaited(vec![(2, file("out")), (1, file("in")), (0, file("out"))]);
        plant.open(&[lobby]);
        plant.open_to(ZONES[2], &[lobby]);
        plant.world.admin(&format!("conduit allow --from {} --to {} --service {lobby}", ZONES[0], ZONES[1]));
        waits.into_iter().for_each(Awaited::come);
        Some(plant)
    }

    fn with(software: &'static [&'static dyn Software], tpm: bool) -> Option<Self> {
        let tools = software.iter().flat_map(|software| software.tools());
        let mut tools = tools.chain(&ResourceManager::TOOLS).chain(&clients::TOOLS);
        if let Some(tool) = tools.find_map(|tool| missing_tool(&[tool])) {
            eprintln!("skipped: {tool} is not installed; deploy/packages.sh names its package");
            return None;
        }
        let (world, mut devices) = World::with_devices(["press-1", "camera-1", "truck-1"])?;
        for (zone, device) in ZONES.iter().zip(&mut devices) {
            // mbedTLS reads no critical name constraint.
            let constraint = if *zone == "logistics" { "off" } else { "critical" };
            world.admin(&format!(
                "zone create {zone} --mode observe --least instance-identity=affirming --software-keys allow \
                 --reattest-every {REATTEST} --outlive-broker {OUTLIVE}h --name-constraint {constraint}"
            ));
            match tpm {
                true => world.register(device, zone),
                false => {
                    device.take_tpm();
                    invite(&world, device, zone);
                }
            }
        }
        let [press, camera, _] = &mut devices;
        for software in software {
            offer(press, software.service(), software.key_in_tpm());
            offer(camera, software.service(), software.key_in_tpm());
        }
        for device in [&mut *press, camera].into_iter().filter(|_| !tpm) {
            device.offer_in_software(GrpcioAsking::LOBBY);
            device.add_end("[authorize]\nlisten = \"unix:authorize.sock\"\n");
        }
        offer(press, "spare", tpm);
        offer(press, "field", tpm);
        devices.iter().filter(|_| tpm).for_each(|device| device.measure("boot-a"));
        let managers = devices.iter().filter(|_| tpm).map(ResourceManager::start).collect();
        let [press, ..] = &mut devices;
        let mut servers: Vec<Server> =
            software.iter().map(|software| Server::set_up(*software, press, ZONES[0])).collect();
        servers.iter().for_each(|server| press.add_end(&server.hook()));
        devices.iter_mut().for_each(Device::start);
        let mut plant = Self { servers: Vec::new(), managers, software, world, devices };
        plant.until_trusted();
        let status = plant.devices[0].status();
        let (key, own) = (&status["software_keys"][0], &status["certificates"][1]);
        assert_eq!(
            key["not_after"], own["not_after"],
            "a software key ends with the device's own: {status:#}"
        );
        for server in &mut servers {
            server.start(plant.manager(0), None);
        }
        plant.servers = servers;
        plant.until_hooks_ran();
        Some(plant)
    }

    /// What shares the TPM of the device of that number.
    pub(super) fn manager(&self, number: usize) -> Option<&ResourceManager> {
        self.managers.get(number)
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
        let keys = self.software.iter().filter(|software| !software.key_in_tpm()).count();
        for (device, keys) in self.devices.iter().zip([keys, keys, 0]) {
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

    pub(super) fn awaited(&self, files: Vec<(usize, String)>) -> Vec<Awaited> {
        let awaited = |(device, file): (usize, String)| {
            let file = self.devices[device].delivered(ZONES[device], &file);
            Awaited { before: fs::read(&file).unwrap_or_default(), file }
        };
        files.into_iter().map(awaited).collect()
    }

    pub(super) fn open_all(&self) -> Instant {
        self.open(&self.software.iter().map(|software| software.service()).collect::<Vec<_>>())
    }

    /// Closes all conduits to camera-1, at once; since when.
    pub(super) fn close_all(&self) -> Instant {
        let closed = Instant::now();
        thread::scope(|scope| {
            for software in self.software {
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

    /// Devices and servers start anew by `clock`; None: by the right one.
    pub(super) fn go_by(&mut self, clock: Option<&Clock>) {
        for device in &mut self.devices {
            device.stop();
            device.environment = clock.map(Clock::environment).unwrap_or_default();
            device.start();
        }
        for server in &mut self.servers {
            server.stop();
            server.start(self.managers.first(), clock);
        }
    }

    /// The broker stays away for as long as zones outlive it, which is longer than anything is refreshed after: proofs,
    /// signs of life, and certificates, which are to be replaced after a third of their life.
    pub(super) fn until_broker_is_missed(&mut self, clock: &Clock) {
        clock.put_ahead(&format!("+{OUTLIVE}h"));
        self.go_by(Some(clock));
        self.devices.iter().for_each(|device| device.until_overdue(OUTLIVE));
    }
}

/// Gives a device without a TPM a token to join with.
fn invite(world: &World, device: &mut Device, zone: &str) {
    let token = world.admin(&format!("token create --zone {zone} --device {} --without-tpm", device.name()));
    device.give_token(token["token"].as_str().expect("a token"));
}

/// A delivered file that is going to change.
pub(super) struct Awaited {
    file: PathBuf,
    before: Vec<u8>,
}

impl Awaited {
    pub(super) fn come(self) {
        until(&format!("{} is delivered", self.file.display()), || match fs::read(&self.file) {
            Ok(now) if now != self.before => Ok(()),
            other => Err(format!("as before: {}", other.is_ok())),
        });
    }
}

fn offer(device: &mut Device, service: &str, key_in_tpm: bool) {
    match key_in_tpm {
        true => device.offer(service),
        false => device.offer_in_software(service),
    }
}
