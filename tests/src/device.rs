//! A device: a software TPM in the state of a recorded boot, and its attestor.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output};

use attestor::testing::Swtpm;
use attestor::tpm::{EsapiTpm, PcrBank, PcrIndex, Tpm, TpmAddress};
use policy::eventlog::tcg::EventLog;
use policy::tpm::alg::HashAlg;
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Environment, Process, run_in};
use crate::wait::until;

/// A device with folders of its own.
#[derive(Debug)]
pub struct Device {
    name: String,
    folder: TempDir,
    swtpm: Swtpm,
    without_tpm: bool,
    attestor: Option<Process>,
    plant: String,
    /// Where it finds its TPM, if not where that is.
    tpm_at: Option<String>,
    join_token: bool,
    services: Vec<(String, &'static str)>,
    /// More lines of its configuration: before its tables, and after them.
    more: [String; 2],
    /// What its programs run in: the clock of the device.
    pub environment: Environment,
}

impl Device {
    pub(crate) fn new(name: &str, swtpm: Swtpm, broker: &str, plant_root: &Path) -> Self {
        let plant =
            format!("broker = \"{broker}\"\nplant = \"plant.example\"\nplant_root = \"plant-root.pem\"\n");
        let folder = TempDir::new().expect("a run folder");
        fs::copy(plant_root, folder.path().join("plant-root.pem")).expect("a file in the device's folder");
        let (name, services) = (name.to_owned(), Vec::new());
        let more = [String::new(), String::new()];
        let environment = Environment::new();
        let device = Self {
            name,
            folder,
            swtpm,
            without_tpm: false,
            attestor: None,
            plant,
            tpm_at: None,
            join_token: false,
            services,
            more,
            environment,
        };
        device.configure();
        device
    }

    /// The name that it asks for.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A path of the device's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Its TPM.
    pub fn tpm(&self) -> TpmAddress {
        self.swtpm.address()
    }

    /// Lets it reach broker and TPM through proxies.
    pub fn go_through(&mut self, broker: &str, tpm: &str) {
        let (_, rest) = self.plant.split_once('\n').expect("the broker's line comes first");
        self.plant = format!("broker = \"{broker}\"\n{rest}");
        self.tpm_at = Some(tpm.to_owned());
        self.configure();
    }

    /// Where its broker listens.
    pub(crate) fn broker(&self) -> &str {
        let line = self.plant.lines().find_map(|line| line.strip_prefix("broker = "));
        line.expect("the device knows a broker").trim_matches('"')
    }

    /// The folder in which its TPM keeps what survives without power.
    pub(crate) fn tpm_state(&self) -> &Path {
        self.swtpm.state()
    }

    /// Switches its TPM off; whoever starts one on its state goes on with the same TPM.
    pub fn switch_tpm_off(&mut self) {
        self.swtpm.switch_off().expect("the TPM was on");
    }

    /// Switches its TPM on again, as after a power cut.
    pub fn switch_tpm_on(&mut self) {
        self.swtpm.switch_on().expect("the TPM starts");
    }

    /// The process id of its attestor.
    pub fn attestor_id(&self) -> u32 {
        self.attestor.as_ref().expect("the attestor runs").id()
    }

    /// Offers a service.
    pub fn offer(&mut self, service: &str) {
        self.services.push((service.to_owned(), "tpm"));
        self.configure();
    }

    /// Offers a service whose server has its key in software.
    pub fn offer_in_software(&mut self, service: &str) {
        self.services.push((service.to_owned(), "software"));
        self.configure();
    }

    /// Makes it one without a TPM.
    pub fn take_tpm(&mut self) {
        self.without_tpm = true;
        self.configure();
    }

    /// Forgets its plant: what it knows of one are these credentials of its service, by name.
    pub fn learn_from_credentials(&mut self, credentials: &[(&str, &str)]) {
        let folder = self.path("credentials");
        fs::create_dir_all(&folder).expect("a folder in the device's folder");
        for (name, value) in credentials {
            fs::write(folder.join(name), value).expect("a file in the device's folder");
        }
        self.environment.insert("CREDENTIALS_DIRECTORY", folder.display().to_string());
        self.plant.clear();
        self.configure();
    }

    /// Gives it a join token.
    pub fn give_token(&mut self, token: &str) {
        fs::write(self.path("join-token"), token).expect("a file in the device's folder");
        self.join_token = true;
        self.configure();
    }

    /// Asks for another name.
    pub fn rename(&mut self, name: &str) {
        name.clone_into(&mut self.name);
        self.configure();
    }

    /// Adds lines to its configuration, before its tables.
    pub fn add_top(&mut self, lines: &str) {
        self.more[0] += lines;
        self.configure();
    }

    /// Adds lines to its configuration, at its end.
    pub fn add_end(&mut self, lines: &str) {
        self.more[1] += lines;
        self.configure();
    }

    fn configure(&self) {
        let mut text = self.plant.clone();
        let tpm = match &self.tpm_at {
            _ if self.without_tpm => "none".to_owned(),
            Some(proxy) => proxy.clone(),
            None => self.swtpm.address().to_string(),
        };
        text += &format!("tpm = \"{tpm}\"\ndevice = \"{}\"\n", self.name);
        text += "firmware_log = \"eventlog.bin\"\nima_log = \"ima.bin\"\nstate = \"state\"\ndeliver = \"deliver\"\n";
        if self.join_token {
            text += "join_token_file = \"join-token\"\n";
        }
        let [top, end] = &self.more;
        text += top;
        for ((service, key), port) in self.services.iter().zip(4840..) {
            text += &format!("[[service]]\nname = \"{service}\"\nport = {port}\nkey = \"{key}\"\n");
        }
        text += end;
        fs::write(self.path("attestor.toml"), text).expect("a file in the device's folder");
    }

    /// Brings the PCRs of a TPM that was just switched on to where a recorded boot left them.
    pub fn measure(&self, boot: &str) {
        let log = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/measured-boot").join(boot);
        let bytes = fs::read(log.join("eventlog.bin")).expect("a recorded boot");
        fs::write(self.path("eventlog.bin"), &bytes).expect("a file in the device's folder");
        let log = EventLog::parse(&bytes).expect("a recorded boot parses");
        let mut tpm = EsapiTpm::new(self.swtpm.address());
        for event in log.events() {
            let Some(pcr) = event.extends() else { continue };
            let pcr = PcrIndex::try_from(pcr.number()).expect("the log names real PCRs");
            let digest = event.digest(HashAlg::Sha256).expect("the log has the bank sha256");
            tpm.extend(pcr, PcrBank::Sha256, digest.as_bytes()).expect("the TPM extends");
        }
        tpm.release();
    }

    /// Starts the attestor.
    pub fn start(&mut self) {
        let config = self.path("attestor.toml").display().to_string();
        let log = self.path("attestor.log");
        let args = ["run", "--config", &config];
        self.attestor = Some(Process::start_in(&self.environment, "touchstone-attestor", &args, &log));
    }

    /// Stops the attestor in order.
    pub fn stop(&mut self) {
        self.attestor.take().expect("the attestor runs").terminate();
    }

    /// Cuts the power of everything but the TPM, which forgets what nobody unloaded, as its own power cut, or a resource
    /// manager, would have it.
    pub fn cut_power(&mut self) {
        self.attestor.take().expect("the attestor runs").kill();
        self.unload_all();
    }

    /// TPM2_FlushContext (TPM 2.0, part 3, 28.4) of whatever may be loaded: objects and sessions of both kinds, three each.
    fn unload_all(&self) {
        const HEAD: [u8; 10] = [0x80, 0x01, 0, 0, 0, 14, 0, 0, 0x01, 0x65];
        let TpmAddress::Swtpm(address) = self.tpm() else { panic!("a software TPM") };
        let mut tpm = TcpStream::connect(address).expect("the TPM listens");
        for handle in [0x80_u8, 0x02, 0x03].into_iter().flat_map(|kind| (0..3).map(move |n| [kind, 0, 0, n]))
        {
            tpm.write_all(&[&HEAD[..], &handle].concat()).expect("the TPM listens");
            // Nothing may be there.
            tpm.read_exact(&mut [0; 10]).expect("the TPM answers");
        }
    }

    /// Loses what the attestor remembers, not what it delivered, as if it were installed anew.
    pub fn reinstall(&mut self) {
        self.stop();
        fs::remove_dir_all(self.path("state")).expect("the state's folder is removed");
        self.start();
    }

    /// Cuts the power, switches on and boots again; the attestor starts with the boot.
    pub fn reboot(&mut self, boot: &str) {
        if let Some(attestor) = self.attestor.take() {
            attestor.kill();
        }
        self.swtpm.cut_power().expect("the TPM starts again");
        self.measure(boot);
        self.start();
    }

    /// Lets the TPM hang, so that it answers nothing until it is thawed.
    pub fn freeze_tpm(&self) {
        self.swtpm.pause().expect("the TPM can be stopped");
    }

    /// Lets the TPM go on.
    pub fn thaw_tpm(&self) {
        self.swtpm.resume().expect("the TPM can go on");
    }

    /// How the attestor ended, once it has by itself.
    pub fn until_ended(&mut self) -> ExitStatus {
        let attestor = self.attestor.as_mut().expect("the attestor was started");
        until("the attestor ends by itself", || attestor.ended().ok_or_else(|| attestor.last_words()))
    }

    /// Everything that its attestors logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("attestor.log")).unwrap_or_default()
    }

    /// What the attestor logged last.
    pub fn last_words(&self) -> String {
        self.attestor.as_ref().map(Process::last_words).unwrap_or_default()
    }

    /// What `touchstone-attestor identify` prints.
    pub fn identify(&self) -> Value {
        let output = self.attestor("identify", &["-o", "json"]);
        assert!(output.status.success(), "identify failed: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("identify prints JSON")
    }

    /// Runs a command of the attestor's program with the device's configuration.
    pub fn attestor(&self, command: &str, more: &[&str]) -> Output {
        let config = self.path("attestor.toml").display().to_string();
        let args = [&[command, "--config", &config], more].concat();
        run_in(&self.environment, "touchstone-attestor", &args)
    }

    /// What `touchstone-attestor status` prints; null while there is none.
    pub fn status(&self) -> Value {
        let output = self.attestor("status", &["-o", "json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// The status, once `wanted` says so.
    pub fn until_status(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        until(&format!("{} is {what}", self.name), || {
            let status = self.status();
            match wanted(&status) {
                true => Ok(status),
                false => {
                    let log = self.attestor.as_ref().map(Process::last_words).unwrap_or_default();
                    Err(format!("{status:#}\n{log}"))
                }
            }
        })
    }

    /// Waits until it is without its broker, and what it holds should have been replaced: no more than half of the hours that
    /// zones `outlive` the broker is left of it.
    pub fn until_overdue(&self, outlive: u64) {
        let left = outlive * 3600 / 2;
        self.until_status("without its broker, its certificates overdue", |status| {
            let now = status["written_at"].as_u64().unwrap_or_default();
            let is_overdue = |one: &Value| one["not_after"].as_u64().is_some_and(|end| end <= now + left);
            let certificates = status["certificates"].as_array();
            status["state"] == "holding" && certificates.is_some_and(|all| all.iter().all(is_overdue))
        });
    }

    /// The status, once its word is `state`.
    pub fn until_state(&self, state: &str) -> Value {
        self.until_status(state, |status| status["state"] == state)
    }

    /// A path below the files that were delivered for `zone`.
    pub fn delivered(&self, zone: &str, file: &str) -> PathBuf {
        self.path("deliver/current").join(zone).join(file)
    }
}
