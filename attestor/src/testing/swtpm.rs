//! swtpm as a device under test: made with endorsement key certificates, started, cut from power, started again.

use std::{
    fs,
    io::{self, ErrorKind},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::tpm::TpmAddress;

/// How long a software TPM may take to start; on an idle machine it takes about 20 ms.
const START: Duration = Duration::from_secs(20);
/// Pause between two looks at a starting TPM.
const POLL: Duration = Duration::from_millis(5);
/// Port pairs tried before giving up: tests run in parallel and take each other's ports.
const PORT_ATTEMPTS: usize = 64;

/// Closes what a process inherited besides standard input, output and error, and becomes the given program.
const CLOSE_INHERITED: &str =
    r#"for fd in /proc/self/fd/*; do fd=${fd##*/}; (( fd > 2 )) && eval "exec $fd>&-"; done; exec "$@""#;

/// A program to run beside attestors of the same process. libtss2 opens the TPM without close-on-exec: a plain
/// child would inherit the connection, keep it open, and so shut everyone else out of the software TPM.
pub fn command(program: &str) -> Command {
    let mut command = Command::new("bash");
    command.args(["-c", CLOSE_INHERITED, "bash", program]);
    command
}

/// The first of these programs that is not in PATH: the reason to skip a test.
pub fn missing_tool<'a>(tools: &[&'a str]) -> Option<&'a str> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    tools.iter().copied().find(|tool| !folders.iter().any(|folder| folder.join(tool).is_file()))
}

/// A TPM manufacturer with a certificate authority of its own.
#[derive(Debug)]
pub struct Manufacturer {
    folder: TempDir,
}

impl Manufacturer {
    /// Sets the manufacturer up. Its authority is made with its first TPM.
    pub fn new() -> io::Result<Self> {
        let manufacturer = Self { folder: TempDir::new()? };
        fs::create_dir(manufacturer.path("ca"))?;
        let ca = manufacturer.path("ca").display().to_string();
        manufacturer.write(
            "localca.conf",
            &format!(
                "statedir = {ca}\nsigningkey = {ca}/signkey.pem\nissuercert = {ca}/issuercert.pem\n\
                 certserial = {ca}/certserial\n"
            ),
        )?;
        manufacturer.write(
            "localca.options",
            "--platform-manufacturer Touchstone\n--platform-version 1.0\n--platform-model test\n",
        )?;
        manufacturer.write(
            "setup.conf",
            &format!(
                "create_certs_tool = swtpm_localca\ncreate_certs_tool_config = {}\n\
                 create_certs_tool_options = {}\n",
                manufacturer.path("localca.conf").display(),
                manufacturer.path("localca.options").display()
            ),
        )?;
        Ok(manufacturer)
    }

    /// Makes a TPM with certificates for its RSA-2048 (L-1) and P-384 (H-3) endorsement keys, and starts it.
    pub fn make_tpm(&self) -> io::Result<Swtpm> {
        let state = TempDir::new()?;
        let mut setup = command("swtpm_setup");
        setup
            .args(["--tpm2", "--create-ek-cert", "--create-platform-cert", "--lock-nvram"])
            .args(["--pcr-banks", "sha256,sha384", "--vmid", "touchstone-test"])
            .arg("--tpmstate")
            .arg(state.path())
            .arg("--config")
            .arg(self.path("setup.conf"))
            .env("XDG_CONFIG_HOME", self.folder.path());
        let output = setup.output()?;
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            return Err(io::Error::other(format!("swtpm_setup failed: {}", String::from_utf8_lossy(&said))));
        }
        Swtpm::start(state)
    }

    /// The manufacturer's self-signed root certificate (PEM).
    pub fn root_certificate(&self) -> io::Result<String> {
        fs::read_to_string(self.path("ca/swtpm-localca-rootca-cert.pem"))
    }

    /// The certificate (PEM) of the authority between the root and the endorsement keys.
    pub fn issuing_certificate(&self) -> io::Result<String> {
        fs::read_to_string(self.path("ca/issuercert.pem"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        fs::write(self.path(name), text)
    }
}

/// A running software TPM; dies with this value.
#[derive(Debug)]
pub struct Swtpm {
    state: TempDir,
    port: u16,
    process: Child,
}

impl Swtpm {
    fn start(state: TempDir) -> io::Result<Self> {
        let mut last = io::Error::from(ErrorKind::AddrInUse);
        for _ in 0..PORT_ATTEMPTS {
            let port = free_port_pair()?;
            match spawn(state.path(), port) {
                Ok(process) => return Ok(Self { state, port, process }),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Its address for the attestor's configuration and, as text, for `TPM2TOOLS_TCTI`.
    pub fn address(&self) -> TpmAddress {
        TpmAddress::Swtpm(socket(self.port))
    }

    /// The folder with what survives without power.
    pub fn state(&self) -> &Path {
        self.state.path()
    }

    /// Cuts the power without warning and switches it on again: PCRs start anew, the reset counter rises, and
    /// what the TPM had not stored is lost. The address stays.
    pub fn cut_power(&mut self) -> io::Result<()> {
        self.switch_off()?;
        self.switch_on()
    }

    /// Resets the TPM beneath whoever uses it, as its reset line does; nobody starts it again (TPM2_Startup).
    pub fn reset(&self) -> io::Result<()> {
        let control = self.port.checked_add(1).ok_or(ErrorKind::AddrNotAvailable)?;
        run(command("swtpm_ioctl").args(["--tcp", &socket(control).to_string(), "-i"]))
    }

    /// Lets it answer nothing until [`Swtpm::resume`] (SIGSTOP).
    pub fn pause(&self) -> io::Result<()> {
        self.signal("-STOP")
    }

    /// Lets it go on.
    pub fn resume(&self) -> io::Result<()> {
        self.signal("-CONT")
    }

    fn signal(&self, signal: &str) -> io::Result<()> {
        run(Command::new("bash").args(["-c", "kill \"$0\" \"$1\"", signal, &self.process.id().to_string()]))
    }

    /// Cuts the power (SIGKILL).
    pub fn switch_off(&mut self) -> io::Result<()> {
        self.process.kill()?;
        self.process.wait().map(drop)
    }

    /// Switches a TPM on that was switched off.
    pub fn switch_on(&mut self) -> io::Result<()> {
        // The port may belong to a passing connection for a moment.
        let give_up = Instant::now() + START;
        loop {
            match spawn(self.state.path(), self.port) {
                Ok(process) => {
                    self.process = process;
                    return Ok(());
                }
                Err(error) if Instant::now() > give_up => return Err(error),
                Err(_) => thread::sleep(POLL),
            }
        }
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        // Nothing can be done about a TPM that is gone already.
        drop(self.switch_off());
    }
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned())),
    }
}

fn socket(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A free port whose successor is free as well, for command and control channel.
fn free_port_pair() -> io::Result<u16> {
    for _ in 0..PORT_ATTEMPTS {
        let first = TcpListener::bind(socket(0))?;
        let port = first.local_addr()?.port();
        let Some(next) = port.checked_add(1) else { continue };
        if TcpListener::bind(socket(next)).is_ok() {
            return Ok(port);
        }
    }
    Err(ErrorKind::AddrInUse.into())
}

fn spawn(state: &Path, port: u16) -> io::Result<Child> {
    let control = port.checked_add(1).ok_or(ErrorKind::AddrNotAvailable)?;
    let pid_file = state.join("pid");
    remove_if_present(&pid_file)?;
    let mut process = command("swtpm")
        .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
        .args(["--server", &format!("type=tcp,port={port}"), "--ctrl", &format!("type=tcp,port={control}")])
        .arg("--tpmstate")
        .arg(format!("dir={}", state.display()))
        .arg("--pid")
        .arg(format!("file={}", pid_file.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    await_start(&mut process, &pid_file).inspect_err(|_| {
        drop(process.kill());
        drop(process.wait());
    })?;
    Ok(process)
}

fn remove_if_present(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// swtpm writes its process id once it listens on both channels. A connection would prove less: it may reach
/// the TPM of another test that took the port, or take the one connection that the TPM serves.
fn await_start(process: &mut Child, pid_file: &Path) -> io::Result<()> {
    let give_up = Instant::now() + START;
    while !fs::read(pid_file).is_ok_and(|pid| !pid.is_empty()) {
        if let Some(status) = process.try_wait()? {
            return Err(io::Error::other(format!("swtpm did not start ({status}): the port may be taken")));
        }
        if Instant::now() > give_up {
            return Err(ErrorKind::TimedOut.into());
        }
        thread::sleep(POLL);
    }
    Ok(())
}
