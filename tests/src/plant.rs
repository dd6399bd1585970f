//! Plants: folders that `touchstone-broker init` made.
//!
//! Init runs once in a test process, because it takes seconds without optimization (scrypt of the recovery kit);
//! each plant is a copy of what it made. So all plants of one process have the same keys.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::process::{Environment, Process, run, run_in, run_with};
use crate::tool::Answer;
use crate::wait::until;

/// A file or folder of a new plant.
#[derive(Debug)]
struct Made {
    path: PathBuf,
    mode: u32,
    /// None: a folder.
    bytes: Option<Vec<u8>>,
}

impl Made {
    fn write(&self, folder: &Path) {
        let path = folder.join(&self.path);
        match &self.bytes {
            Some(bytes) => fs::write(&path, bytes).expect("a file in the run folder"),
            None => fs::create_dir(&path).expect("a folder in the run folder"),
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(self.mode)).expect("a mode in the run folder");
    }
}

/// What opens the recovery kit that init made.
static PASSPHRASE: OnceLock<String> = OnceLock::new();

/// Everything that init makes, folders before what is in them.
fn made() -> &'static [Made] {
    static MADE: OnceLock<Vec<Made>> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = TempDir::new().expect("a run folder");
        let (dir, roots) = (folder.path().join("broker"), folder.path().join("tpm-roots"));
        fs::create_dir(&roots).expect("a folder in the run folder");
        let (text, roots) = (dir.display().to_string(), roots.display().to_string());
        let mut args = vec!["init", "--dir", &text, "--plant", "plant.example", "--listen", "127.0.0.1:0"];
        args.extend(["--owner", "alice", "--tpm-roots", &roots]);
        let output = run("touchstone-broker", &args);
        assert!(output.status.success(), "init failed: {}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let passphrase = said.lines().find_map(|line| line.strip_prefix("passphrase")).expect("a passphrase");
        drop(PASSPHRASE.set(passphrase.trim().to_owned()));
        let mut made = Vec::new();
        collect(&dir, Path::new(""), &mut made);
        made
    })
}

fn collect(root: &Path, path: &Path, made: &mut Vec<Made>) {
    let full = root.join(path);
    let metadata = fs::metadata(&full).expect("what init made");
    let bytes = metadata.is_file().then(|| fs::read(&full).expect("what init made"));
    made.push(Made { path: path.to_owned(), mode: metadata.permissions().mode(), bytes });
    if metadata.is_dir() {
        for entry in fs::read_dir(&full).expect("what init made") {
            collect(root, &path.join(entry.expect("an entry").file_name()), made);
        }
    }
}

/// A plant made by `touchstone-broker init`, in a run folder of its own.
#[derive(Debug)]
pub struct BrokerFolder {
    folder: TempDir,
    /// What the broker and its administrator's tool run in: their clock, for one.
    pub environment: Environment,
}

impl BrokerFolder {
    /// A plant that believes the TPM manufacturers of `roots` (PEM).
    pub fn new(roots: &str) -> Self {
        let folder = TempDir::new().expect("a run folder");
        made().iter().for_each(|file| file.write(&folder.path().join("broker")));
        let made = Self { folder, environment: Environment::new() };
        fs::write(made.run_path("tpm-roots.pem"), roots).expect("a file in the run folder");
        let roots = made.run_path("tpm-roots.pem").display().to_string();
        made.configure("tpm_roots", &format!("[\"{roots}\"]"));
        made
    }

    /// A plant on another host, made to restore the backups of the host whose key-encryption key is `kek`. It
    /// listens on `address`. Keys, owner and root are new ones until then.
    pub fn on_new_host(kek: &Path, roots: &str, address: &str) -> Self {
        let made = Self { folder: TempDir::new().expect("a run folder"), environment: Environment::new() };
        let file = made.run_path("tpm-roots.pem");
        fs::write(&file, roots).expect("a file in the run folder");
        let (dir, kek, roots) = (made.text(""), kek.display().to_string(), file.display().to_string());
        let mut args = vec!["init", "--dir", &dir, "--kek", &kek, "--plant", "plant.example"];
        args.extend(["--listen", address, "--tpm-roots", &roots]);
        let output = run("touchstone-broker", &args);
        assert!(output.status.success(), "init failed: {}", String::from_utf8_lossy(&output.stderr));
        made
    }

    /// A path of the broker's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("broker").join(name)
    }

    /// The same as text.
    pub fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A path beside the broker's folder.
    pub fn run_path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Changes where the broker listens.
    pub fn listen_on(&self, address: &str) {
        self.configure("listen", &format!("\"{address}\""));
    }

    /// Adds lines to broker.toml, before its tables.
    pub fn add_top(&self, lines: &str) {
        let file = self.path("broker.toml");
        let text = fs::read_to_string(&file).expect("init writes broker.toml");
        fs::write(&file, format!("{lines}{text}")).expect("broker.toml can be written");
    }

    /// Adds lines to broker.toml, after its tables.
    pub fn add_end(&self, lines: &str) {
        let file = self.path("broker.toml");
        let text = fs::read_to_string(&file).expect("init writes broker.toml");
        fs::write(&file, format!("{text}\n{lines}")).expect("broker.toml can be written");
    }

    fn configure(&self, key: &str, value: &str) {
        let file = self.path("broker.toml");
        let text = fs::read_to_string(&file).expect("init writes broker.toml");
        let line = |line: &str| match line.starts_with(&format!("{key} = ")) {
            true => format!("{key} = {value}\n"),
            false => format!("{line}\n"),
        };
        fs::write(&file, text.lines().map(line).collect::<String>()).expect("broker.toml can be written");
    }

    /// Runs the broker to its end and returns what it said: for starts that must fail.
    pub fn fails_to_run(&self) -> Answer {
        self.broker(&["run"])
    }

    /// Runs another command of `touchstone-broker` on this folder.
    pub fn broker(&self, args: &[&str]) -> Answer {
        let dir = self.text("");
        let args = [args, &["--dir", &dir]].concat();
        Answer::from(run_in(&self.environment, "touchstone-broker", &args))
    }

    /// Runs `touchstone-broker recover` with this kit and passphrase.
    pub fn recover(&self, kit: &Path, passphrase: &str, args: &[&str]) -> Answer {
        let (dir, kit) = (self.text(""), kit.display().to_string());
        let args = [&["recover", "--dir", &dir, "--kit", &kit], args].concat();
        Answer::from(run_with(&self.environment, "touchstone-broker", &args, passphrase))
    }

    /// The passphrase that init printed for the recovery kit.
    pub fn passphrase() -> &'static str {
        made();
        PASSPHRASE.get().expect("init prints the passphrase")
    }

    /// Runs `touchstone` with this context folder against the broker at `address`.
    pub fn tool(&self, context: &Path, address: &str, args: &[&str]) -> Answer {
        Answer::of(context, address, &self.environment, args)
    }

    /// Starts the broker and waits until it listens.
    pub fn start(&self) -> (Process, String) {
        self.try_start().unwrap_or_else(|said| panic!("touchstone-broker ended by itself: {said}"))
    }

    /// The same of one that may not start: then what it said.
    pub fn try_start(&self) -> Result<(Process, String), String> {
        // A broker that was killed leaves its address behind.
        drop(fs::remove_file(self.path("address")));
        let args = ["run", "--dir", &self.text("")];
        let mut process =
            Process::start_in(&self.environment, "touchstone-broker", &args, &self.run_path("broker.log"));
        let address = until("the broker listens or ends", || match process.ended() {
            Some(_) => Ok(None),
            None => fs::read_to_string(self.path("address")).map(Some).map_err(|error| error.to_string()),
        });
        match address {
            Some(address) => Ok((process, address.trim().to_owned())),
            None => Err(process.last_words()),
        }
    }
}
