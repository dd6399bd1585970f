//! A machine: firmware, boot stub, Linux and the attestor in QEMU, with a software TPM beneath. It needs no root and no
//! KVM; a boot takes 15 s of one idle core.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use attestor::testing::command;
use tempfile::TempDir;

use crate::device::Device;
use crate::process::program;
use crate::wait::{until, until_within};

/// Time for a boot and what the attestor does after it, on a machine that does much else.
pub const BOOT: Duration = Duration::from_secs(300);
/// Exit code of the scripts that make disks: something is not installed, or cannot be downloaded.
const MISSING: i32 = 77;
/// Where a guest finds the host's loopback.
const HOST: &str = "10.0.2.2";
/// What the state's disk may hold.
const STATE: u64 = 16 << 20;

fn script(name: &str) -> Command {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("machine");
    command(folder.join(name).to_str().expect("the project's folder has a plain name"))
}

fn succeed(what: &str, output: Output) {
    let Output { status, stdout, stderr } = output;
    let said = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
    assert!(status.success(), "{what}: {status} {said}");
}

fn copy(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap_or_else(|error| panic!("{} to {}: {error}", from.display(), to.display()));
}

/// The newest kernel for virtual machines; old ones leave the mirror.
pub fn kernel_package() -> Result<String, String> {
    let output = Command::new("apt-cache").args(["depends", "linux-image-cloud-amd64"]).output();
    let output = output.map_err(|error| format!("apt-cache: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let name = text.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
    name.map(|name| format!("linux-image-{name}"))
        .ok_or("there is no package linux-image-cloud-amd64".to_owned())
}

/// What machines boot from; `tests/machine/make` says what is what.
#[derive(Debug)]
pub struct Disks(TempDir);

impl Disks {
    /// Made once for all tests that run beside each other. None, with the reason said, where that cannot be done.
    pub fn made() -> Option<Arc<Self>> {
        // Weak: what a static holds is never dropped, and would stay on the disk.
        static MADE: Mutex<Weak<Disks>> = Mutex::new(Weak::new());
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(disks) = made.upgrade() {
            return Some(disks);
        }
        let disks = Self::make().map(Arc::new).map_err(|why| eprintln!("skipped: {why}")).ok()?;
        *made = Arc::downgrade(&disks);
        Some(disks)
    }

    fn make() -> Result<Self, String> {
        let (package, folder) = (kernel_package()?, TempDir::new().map_err(|error| error.to_string())?);
        let output =
            script("make").arg(folder.path()).arg(package).output().map_err(|error| error.to_string())?;
        if output.status.code() == Some(MISSING) {
            return Err(String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; "));
        }
        succeed("the disks are made", output);
        Ok(Self(folder))
    }

    /// A file of them.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// Firmware and guest that run, and the TPM beneath.
#[derive(Debug)]
struct Running {
    tpm: Child,
    machine: Child,
}

impl Running {
    fn end(&mut self) {
        for child in [&mut self.machine, &mut self.tpm] {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// A machine with a TPM, a disk for the attestor's state, and what it boots from.
#[derive(Debug)]
pub struct Machine {
    device: Device,
    disks: Arc<Disks>,
    folder: TempDir,
    running: Option<Running>,
    /// What its hypervisor tells it, instead of its configuration: the plant root's fingerprint.
    fingerprint: Option<String>,
}

impl Machine {
    /// The machine with the TPM of this device, which has to be off. Its attestor looks for the device's broker.
    pub fn of(mut device: Device, disks: &Arc<Disks>) -> Self {
        device.switch_tpm_off();
        // A short path: the socket of the TPM lies in it.
        let folder = tempfile::Builder::new().prefix("vm").tempdir_in("/tmp").expect("a run folder");
        let machine = Self { device, disks: Arc::clone(disks), folder, running: None, fingerprint: None };
        let state = File::create(machine.path("state.img")).expect("a file in the machine's folder");
        state.set_len(STATE).expect("a disk");
        let made = Command::new("/sbin/mke2fs")
            .args(["-q", "-F", "-t", "ext4"])
            .arg(machine.path("state.img"))
            .output();
        succeed("a file system for the state", made.expect("mke2fs runs"));
        machine.pack(&[]);
        machine
    }

    /// Its configuration says neither where the broker is nor which plant it believes: the hypervisor does, by SMBIOS strings.
    #[must_use]
    pub fn told_by_smbios(mut self, fingerprint: &str) -> Self {
        self.fingerprint = Some(fingerprint.to_owned());
        self.pack(&[]);
        self
    }

    fn broker(&self) -> String {
        let port = self.device.broker().rsplit_once(':').expect("a broker has a port").1;
        format!("{HOST}:{port}")
    }

    /// The name that it asks for.
    pub fn name(&self) -> &str {
        self.device.name()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Brings the attestor, its configuration and these programs, by name and content, to the disk that the guest runs
    /// from.
    pub fn pack(&self, programs: &[(&str, &str)]) {
        let folder = self.path("payload");
        drop(fs::remove_dir_all(&folder));
        fs::create_dir(&folder).expect("a folder in the machine's folder");
        let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("machine/run");
        copy(&run, &folder.join("run"));
        copy(&self.device.path("plant-root.pem"), &folder.join("plant-root.pem"));
        fs::write(folder.join("attestor.toml"), self.configuration())
            .expect("a file in the machine's folder");
        for (name, content) in programs {
            copy(&run, &folder.join(name));
            fs::write(folder.join(name), content).expect("a file in the machine's folder");
        }
        let mut pack = script("pack");
        pack.arg(self.path("payload.img")).arg(program("touchstone-attestor")).arg(folder);
        succeed("what the guest runs is packed", pack.output().expect("bash runs"));
    }

    fn configuration(&self) -> String {
        let (name, security, broker) = (self.name(), "/sys/kernel/security", self.broker());
        let plant = match self.fingerprint {
            Some(_) => String::new(),
            None => {
                format!("broker = \"{broker}\"\nplant = \"plant.example\"\nplant_root = \"plant-root.pem\"\n")
            }
        };
        format!(
            "{plant}\
             tpm = \"device:/dev/tpmrm0\"\ndevice = \"{name}\"\nstate = \"/state/attestor\"\n\
             deliver = \"/run/deliver\"\nfirmware_log = \"{security}/tpm0/binary_bios_measurements\"\n\
             ima_log = \"{security}/ima/binary_runtime_measurements\"\n"
        )
    }

    /// Switches it on, with `disk` in it and the firmware's `variables`.
    pub fn boot_with(&mut self, disk: &str, variables: &str) {
        self.cut_power();
        copy(&self.disks.path(variables), &self.path("variables.fd"));
        drop(fs::remove_file(self.path("console")));
        let tpm = self.start_tpm();
        let machine = self.start_firmware(&self.disks.path(&format!("{disk}.img")));
        self.running = Some(Running { tpm, machine });
    }

    /// The same with Secure Boot on.
    pub fn boot(&mut self, disk: &str) {
        self.boot_with(disk, "variables.fd");
    }

    fn start_tpm(&self) -> Child {
        let socket = self.path("tpm");
        drop(fs::remove_file(&socket));
        let mut swtpm = command("swtpm");
        swtpm.args(["socket", "--tpm2", "--terminate", "--tpmstate"]);
        swtpm.arg(format!("dir={}", self.device.tpm_state().display()));
        swtpm.arg("--ctrl").arg(format!("type=unixio,path={}", socket.display()));
        let mut child = quiet(&mut swtpm).spawn().expect("swtpm starts");
        until("the machine's TPM listens", || match child.try_wait() {
            Ok(None) => socket.exists().then_some(()).ok_or("not yet".to_owned()),
            ended => panic!("swtpm ended: {ended:?}"),
        });
        child
    }

    fn start_firmware(&self, disk: &Path) -> Child {
        let mut qemu = command("qemu-system-x86_64");
        // Software emulation always: /dev/kvm may exist and still not run this firmware. +rdrand, because otherwise the
        // guest waits seconds for its random pool. Memory size and processor count are measured (PCR 0).
        qemu.args([
            "-nodefaults",
            "-no-user-config",
            "-machine",
            "q35,smm=off",
            "-accel",
            "tcg,thread=multi",
        ]);
        qemu.args(["-cpu", "qemu64,+rdrand", "-smp", "1", "-m", "512", "-display", "none", "-no-reboot"]);
        if let Some(fingerprint) = &self.fingerprint {
            let told = [("broker", &self.broker()), ("root_sha256", fingerprint)];
            let value = |(name, value)| format!(",value=io.systemd.credential:touchstone.{name}={value}");
            qemu.args(["-smbios", &format!("type=11{}", told.map(value).concat())]);
        }
        let console = format!("stdio,id=console,signal=off,logfile={}", self.path("console").display());
        qemu.args(["-chardev", &console, "-serial", "chardev:console"]);
        let flash = |unit: u8, more: &str, file: &Path| {
            format!("if=pflash,format=raw,unit={unit}{more},file={}", file.display())
        };
        qemu.args(["-drive", &flash(0, ",readonly=on", &self.disks.path("code.fd"))]);
        qemu.args(["-drive", &flash(1, "", &self.path("variables.fd"))]);
        qemu.args(["-chardev", &format!("socket,id=tpm,path={}", self.path("tpm").display())]);
        qemu.args(["-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0"]);
        // In this order: the guest knows them as vda, vdb and vdc.
        let (payload, state) = (self.path("payload.img"), self.path("state.img"));
        let boot = (disk, ",readonly=on", ",bootindex=0");
        let disks = [boot, (&*payload, ",readonly=on", ""), (&*state, "", "")];
        for (n, (file, how, more)) in disks.into_iter().enumerate() {
            qemu.args(["-drive", &format!("if=none,id=disk{n},format=raw{how},file={}", file.display())]);
            qemu.args(["-device", &format!("virtio-blk-pci,drive=disk{n}{more}")]);
        }
        qemu.args(["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="]);
        quiet(&mut qemu).stdin(Stdio::piped()).spawn().expect("qemu starts")
    }

    /// Switches it off in order: its console is told to, the attestor ends, the disk is unmounted.
    pub fn switch_off(&mut self) {
        let mut running = self.running.take().expect("the machine runs");
        let mut console = running.machine.stdin.take().expect("its console is a pipe");
        console.write_all(b"off\n").expect("the machine runs");
        until_within(BOOT, "the machine is off", || match running.machine.try_wait() {
            Ok(Some(status)) if status.success() => Ok(()),
            other => Err(format!("{other:?} {}", self.console())),
        });
    }

    /// Cuts the power, if it is on.
    pub fn cut_power(&mut self) {
        drop(self.running.take());
    }

    /// Puts copies of another machine's disks into it: its configuration, and what its attestor remembers.
    pub fn take_disks_of(&self, other: &Self) {
        ["payload.img", "state.img"].iter().for_each(|disk| copy(&other.path(disk), &self.path(disk)));
    }

    /// The files that it may run or read as it is now, below one folder.
    pub fn files(&self) -> PathBuf {
        let all = self.path("files");
        fs::create_dir_all(&all).expect("a folder in the machine's folder");
        for part in [self.disks.path("root/."), self.path("payload.img.tree/.")] {
            let copied = Command::new("cp").arg("-r").args([&part, &all]).output();
            succeed("the machine's files", copied.expect("cp runs"));
        }
        all
    }

    /// What its console showed since it was switched on.
    pub fn console(&self) -> String {
        let bytes = fs::read(self.path("console")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until its console shows `text`.
    pub fn until_console(&self, text: &str) {
        until_within(BOOT, &format!("the console of {} shows: {text}", self.name()), || {
            let console = self.console();
            console.contains(text).then_some(()).ok_or(console)
        });
    }
}

fn quiet(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}
