//! A plant with its broker and administrator.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use attestor::testing::{Manufacturer, missing_tool};
use serde_json::Value;

use crate::device::Device;
use crate::plant::BrokerFolder;
use crate::process::Process;
use crate::tool::Answer;

/// What software TPMs need.
const TOOLS: [&str; 4] = ["swtpm", "swtpm_setup", "swtpm_localca", "openssl"];

/// A plant, its running broker, its administrator.
#[derive(Debug)]
pub struct World {
    /// The broker's folder.
    pub plant: BrokerFolder,
    broker: Option<Process>,
    address: String,
}

impl World {
    /// A plant whose TPM manufacturer made a TPM for each device of `names`; the devices are off. None, with
    /// the reason said, where a tool is missing.
    pub fn with_devices<const N: usize>(names: [&str; N]) -> Option<(Self, [Device; N])> {
        if let Some(tool) = missing_tool(&TOOLS) {
            eprintln!("skipped: {tool} is not installed; deploy/packages.sh names its package");
            return None;
        }
        let manufacturer = Manufacturer::new().expect("a TPM manufacturer");
        let tpms = names.map(|name| (name, manufacturer.make_tpm().expect("a software TPM")));
        let mut roots = manufacturer.root_certificate().expect("the manufacturer's root");
        roots.push_str(&manufacturer.issuing_certificate().expect("the manufacturer's issuing authority"));
        let plant = BrokerFolder::new(&roots);
        let (broker, address) = plant.start();
        // It took a free port; from now on it has this one.
        plant.listen_on(&address);
        let root = plant.path("plant-root.pem");
        let devices = tpms.map(|(name, swtpm)| Device::new(name, swtpm, &address, &root));
        Some((Self { plant, broker: Some(broker), address }, devices))
    }

    /// Where the broker listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Runs `touchstone` as the owner.
    pub fn tool(&self, args: &[&str]) -> Answer {
        self.tool_as(&self.plant.path("owner"), args)
    }

    /// Runs `touchstone` with another context folder.
    pub fn tool_as(&self, context: &Path, args: &[&str]) -> Answer {
        Answer::of(context, &self.address, &self.plant.environment, args)
    }

    /// Invites somebody, accepts as they would on their machine, and gives their context folder.
    pub fn invite(&self, name: &str, options: &str) -> PathBuf {
        let code = self.admin(&format!("admin invite {name} {options}"))["code"].clone();
        self.accept(name, code.as_str().expect("a code")).done();
        self.plant.run_path(name)
    }

    /// Accepts an invitation into the context folder `name`, which must not be there yet.
    pub fn accept(&self, name: &str, code: &str) -> Answer {
        let (out, root) = (self.plant.run_path(name), self.plant.path("plant-root.pem"));
        let (text, root) = (out.display().to_string(), root.display().to_string());
        let args = ["admin", "accept", "-", "--root", &root, "--out", &text];
        Answer::of_input(&out, &self.address, &args, code)
    }

    /// The same, with nothing but the code to know the plant by.
    pub fn accept_by_code(&self, name: &str, code: &str) -> Answer {
        let out = self.plant.run_path(name);
        let args = ["admin", "accept", "-", "--out", &out.display().to_string()];
        Answer::of_input(&out, &self.address, &args, code)
    }

    /// Runs `touchstone` as the owner and expects success. The words of `line` are separated by blanks.
    pub fn admin(&self, line: &str) -> Value {
        self.tool(&line.split(' ').collect::<Vec<_>>()).done()
    }

    /// Registers the device's EK under its name in `zone`.
    pub fn register(&self, device: &Device, zone: &str) {
        let file = device.path("identity.json");
        fs::write(&file, device.identify().to_string()).expect("a file in the device's folder");
        self.admin(&format!("device import {} --name {} --zone {zone}", file.display(), device.name()));
    }

    /// Learns, signs and applies what `device` runs as a release of `product`.
    pub fn make_golden(&self, device: &str, product: &str, version: &str) -> PathBuf {
        self.make_golden_with(device, product, version, "")
    }

    /// The same, with more sections in the release.
    pub fn make_golden_with(&self, device: &str, product: &str, version: &str, sections: &str) -> PathBuf {
        let manifest = self.plant.run_path(&format!("{product}-{version}.toml"));
        let (envelope, file) = (manifest.with_extension("dsse.json"), manifest.clone());
        let (manifest, signed) = (manifest.display(), envelope.display());
        self.admin(&format!(
            "golden learn --from {device} --product {product} --version {version} --out {manifest}"
        ));
        let learned = fs::read_to_string(&file).expect("golden learn writes a manifest");
        fs::write(&file, format!("{learned}\n{sections}")).expect("a file of the run");
        self.admin(&format!("golden sign {manifest} --out {signed}"));
        self.admin(&format!("golden apply {signed} --yes"));
        envelope
    }

    /// The broker's metrics, if it was told to serve them: each sample with its value.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let address = fs::read_to_string(self.plant.path("metrics-address")).expect("the broker says where");
        let mut tcp = TcpStream::connect(address.trim()).expect("the broker serves metrics");
        tcp.write_all(b"GET /metrics HTTP/1.1\r\nHost: broker\r\n\r\n").expect("a request");
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).expect("an answer");
        let (head, page) = answer.split_once("\r\n\r\n").expect("an answer has a head");
        assert!(head.starts_with("HTTP/1.1 200 ") && page.ends_with("# EOF\n"), "{answer}");
        let samples = page.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit_once(' '));
        samples.flatten().map(|(name, value)| (name.to_owned(), value.parse().expect("a number"))).collect()
    }

    /// Everything that a refused message must leave as it was: every device, and every change on record. That
    /// something was refused is on record too, and is no change; nor is a key that the broker makes for itself, on first
    /// use or some seconds after its first start.
    pub fn store(&self) -> Value {
        let audit = self.admin("audit list --limit 1000");
        let events = audit["events"].as_array().expect("audit list answers with events");
        let is_change = |event: &&Value| {
            event["action"].as_str().is_some_and(|a| !a.ends_with(".refused") && !a.ends_with("-key.create"))
        };
        let changes: Vec<&Value> = events.iter().filter(is_change).collect();
        assert!(!changes.is_empty(), "a plant begins with an event");
        serde_json::json!([changes, self.admin("device list")])
    }

    /// Kills the broker (SIGKILL) after `life`, whatever it does then; gives when that was.
    pub fn kill_broker_after(&mut self, life: Duration) -> JoinHandle<Instant> {
        let broker = self.broker.take().expect("the broker runs");
        thread::spawn(move || {
            // No condition to wait for: any moment must do.
            thread::sleep(life);
            let killed = Instant::now();
            broker.kill();
            killed
        })
    }

    /// Loses the broker's host: its broker is killed, its folder is gone.
    pub fn lose_host(&mut self) {
        self.broker.take().expect("the broker runs").kill();
        fs::remove_dir_all(self.plant.path("")).expect("the broker's folder is removed");
    }

    /// Puts another host at the lost one's address, made with a copy of its key-encryption key.
    pub fn start_new_host(&mut self, kek: &Path) {
        let roots =
            fs::read_to_string(self.plant.run_path("tpm-roots.pem")).expect("the manufacturer's roots");
        self.plant = BrokerFolder::on_new_host(kek, &roots, &self.address);
        self.start_broker();
    }

    /// The broker's process id.
    pub fn broker_id(&self) -> u32 {
        self.broker.as_ref().expect("the broker runs").id()
    }

    /// Stops the broker in order (SIGTERM).
    pub fn stop_broker(&mut self) {
        self.broker.take().expect("the broker runs").terminate();
    }

    /// Freezes the broker: whoever is connected to it stays so, and hears nothing more.
    pub fn freeze_broker(&self) {
        self.broker.as_ref().expect("the broker runs").freeze();
    }

    /// Lets the broker go on.
    pub fn thaw_broker(&self) {
        self.broker.as_ref().expect("the broker runs").thaw();
    }

    /// Starts the broker again, on the same port.
    pub fn start_broker(&mut self) {
        let (broker, address) = self.plant.start();
        assert_eq!(address, self.address);
        self.broker = Some(broker);
    }
}
