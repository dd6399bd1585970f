//! tpm2-abrmd on a message bus of its own: what lets software share a software TPM, as /dev/tpmrm0 does for a chip.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use attestor::testing::command;
use tempfile::TempDir;

use crate::device::Device;
use crate::wait::until;

/// OpenSSL takes keys from the TPM and everything else from itself.
const OPENSSL: &str = "openssl_conf = init\n[init]\nproviders = provs\nalg_section = algs\n[provs]\ntpm2 = p_tpm2\n\
    default = p_default\n[p_tpm2]\nactivate = 1\n[p_default]\nactivate = 1\n[algs]\n\
    default_properties = tpm2.digest!=yes,tpm2.cipher!=yes,tpm2.rand!=yes\n";

/// A resource manager for the TPM of one device; it ends with this value.
#[derive(Debug)]
pub struct ResourceManager {
    folder: TempDir,
    address: String,
    // In the order in which they end.
    abrmd: Child,
    bus: Child,
}

impl ResourceManager {
    /// Programs that it needs.
    pub const TOOLS: [&str; 4] = ["dbus-daemon", "tpm2-abrmd", "tpm2_getcap", "openssl"];

    /// Starts one and waits until it answers.
    pub fn start(device: &Device) -> Self {
        let folder = TempDir::new().expect("a run folder");
        std::fs::write(folder.path().join("openssl.cnf"), OPENSSL).expect("a file in the run folder");
        let mut bus = quiet("dbus-daemon");
        bus.args(["--session", "--nofork", "--print-address"]).stdout(Stdio::piped());
        let mut bus = bus.spawn().expect("dbus-daemon starts");
        let mut address = String::new();
        let said = bus.stdout.take().expect("its output is a pipe");
        BufReader::new(said).read_line(&mut address).expect("dbus-daemon says its address");
        let address = address.trim().to_owned();
        let mut abrmd = quiet("tpm2-abrmd");
        abrmd.args(["--session", "--allow-root", "--dbus-name=com.touchstone.test"]);
        abrmd.arg(format!("--tcti={}", device.tpm())).env("DBUS_SESSION_BUS_ADDRESS", &address);
        let abrmd = abrmd.spawn().expect("tpm2-abrmd starts");
        let manager = Self { folder, address, abrmd, bus };
        until("the resource manager answers", || {
            let mut probe = command("tpm2_getcap");
            probe.arg("properties-fixed").envs(manager.environment());
            let output = probe.output().map_err(|error| error.to_string())?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            output.status.success().then_some(()).ok_or(said)
        });
        manager
    }

    /// What a program needs to use keys in this TPM.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let tcti = "tabrmd:bus_type=session,bus_name=com.touchstone.test".to_owned();
        vec![
            ("DBUS_SESSION_BUS_ADDRESS", self.address.clone()),
            ("OPENSSL_CONF", self.folder.path().join("openssl.cnf").display().to_string()),
            ("TPM2OPENSSL_TCTI", tcti.clone()),
            ("TPM2TOOLS_TCTI", tcti),
            ("TSS2_LOG", "all+NONE".to_owned()),
        ]
    }
}

fn quiet(program: &str) -> Command {
    let mut command = command(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

impl Drop for ResourceManager {
    fn drop(&mut self) {
        for child in [&mut self.abrmd, &mut self.bus] {
            // They may have ended already.
            drop(child.kill());
            drop(child.wait());
        }
    }
}
