//! A device with a software TPM and folders of its own, and its daemon.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use attestor::config::Config;
use attestor::evidence::Prover;
use attestor::plant::PlantRoot;
use attestor::ports::{Clock, System};
use attestor::renewal::{Attester, Means, driver};
use attestor::service_manager::ServiceManager;
use attestor::state::Keeper;
use attestor::status::Status;
use attestor::testing::{Manufacturer, Swtpm, command, missing_tool};
use attestor::tpm::{EsapiTpm, TpmHandle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::broker::Broker;

/// Time for anything that a test waits for; a busy machine takes some seconds for an enrollment.
const DEADLINE: Duration = Duration::from_secs(60);

/// A device.
pub(crate) struct Device {
    _manufacturer: Manufacturer,
    pub(crate) swtpm: Swtpm,
    folder: tempfile::TempDir,
    /// Where the brokers are that it asks besides the first.
    pub(crate) others: Vec<SocketAddr>,
    /// The end of its configuration.
    pub(crate) more: String,
}

/// A running daemon.
pub(crate) struct Daemon {
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

impl Daemon {
    pub(crate) fn run(attester: Attester) -> Self {
        let (stop, stopped) = oneshot::channel();
        let stopped = async move { drop(stopped.await) };
        let running = tokio::spawn(async move {
            attester.look_at_boot().await;
            driver::run(Arc::new(attester), ServiceManager::default(), stopped).await.unwrap()
        });
        Self { stop, running }
    }

    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        self.running.await.unwrap();
    }
}

impl Device {
    /// A new device; None, with the reason said, where the tools are missing.
    pub(crate) fn make() -> Option<Self> {
        if let Some(tool) = missing_tool(&["swtpm", "swtpm_setup", "swtpm_localca"]) {
            eprintln!("skipped: {tool} is not installed (packages swtpm, swtpm-tools)");
            return None;
        }
        let manufacturer = Manufacturer::new().unwrap();
        let swtpm = manufacturer.make_tpm().unwrap();
        let folder = tempfile::tempdir().unwrap();
        Some(Self { _manufacturer: manufacturer, swtpm, folder, others: Vec::new(), more: String::new() })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// TPM2_Clear, as firmware service does it.
    pub(crate) fn clear_tpm(&self) {
        self.tool("tpm2_clear", &["-Q"]);
    }

    /// TPM2_Startup, as firmware does it after a reset.
    pub(crate) fn start_tpm(&self) {
        self.tool("tpm2_startup", &["-c"]);
    }

    fn tool(&self, program: &str, arguments: &[&str]) {
        let mut tool = command(program);
        tool.args(arguments).env("TPM2TOOLS_TCTI", self.swtpm.address().to_string());
        let output = tool.output().unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Starts the daemon as `run` does.
    pub(crate) async fn start(&self, broker: &Broker, address: SocketAddr) -> Daemon {
        Daemon::run(self.assemble(broker, address).await)
    }

    /// Its parts.
    pub(crate) async fn assemble(&self, broker: &Broker, address: SocketAddr) -> Attester {
        let prover = Prover::new(self.tpm(), self.path("log")).await.unwrap();
        self.assemble_with(broker, address, prover)
    }

    /// A door to its TPM.
    pub(crate) fn tpm(&self) -> TpmHandle {
        TpmHandle::start(EsapiTpm::new(self.swtpm.address())).unwrap()
    }

    /// The parts of one that proves itself so.
    pub(crate) fn assemble_with(
        &self,
        broker: &Broker,
        address: SocketAddr,
        means: impl Into<Means>,
    ) -> Attester {
        std::fs::write(self.path("root.pem"), broker.plant.root_pem()).unwrap();
        let mut text = String::new();
        writeln!(text, "broker = \"{address}\"\nplant = \"plant.example\"\nplant_root = \"root.pem\"")
            .unwrap();
        let others: Vec<String> = self.others.iter().map(SocketAddr::to_string).collect();
        writeln!(text, "other_brokers = {others:?}").unwrap();
        writeln!(text, "tpm = \"{}\"\nstate = \"state\"\ndeliver = \"run\"", self.swtpm.address()).unwrap();
        writeln!(text, "device = \"press-1\"\nfirmware_log = \"log\"").unwrap();
        writeln!(text, "[[service]]\nname = \"opcua\"\nport = 4840").unwrap();
        writeln!(
            text,
            "[[service]]\nname = \"hmi\"\nport = 443\nkey = \"software\"\n[inventory]\nmodel = \"X\""
        )
        .unwrap();
        text.push_str(&self.more);
        let config = Config::parse(self.folder.path(), &text).unwrap();
        let root = PlantRoot::load(&config.plant_root).unwrap();
        let keeper = Keeper::load_or_set_aside(&config.state, &config.plant, &root).unwrap();
        Attester::new(config, root, keeper, means).unwrap()
    }

    /// The status, once it is as wanted.
    pub(crate) async fn status(&self, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let status = Status::read(&self.path("run"), System::default().now());
            match status {
                Ok(status) if wanted(&status) => return status,
                last if Instant::now() > deadline => panic!("never {what}: {last:#?}"),
                _ => sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// A delivered file.
    pub(crate) fn delivered(&self, file: &str) -> String {
        std::fs::read_to_string(self.path("run/current/press").join(file)).unwrap()
    }
}

/// Waits until the test's condition holds.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "never {what}");
        sleep(Duration::from_millis(20)).await;
    }
}
