//! What is wrong on the host is said in one line whose words name the thing and the remedy.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use e2e::{Answer, BrokerFolder, run};
use tempfile::TempDir;

/// The one line of a program that could not start.
fn one_line(answer: Answer, code: i32, words: &[&str]) {
    let said = answer.refused(code);
    assert_eq!(said.lines().count(), 1, "more than one line: {said}");
    names(&said, words);
}

fn names(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "`{word}` is not in: {said}");
    }
}

pub(crate) fn plant() -> BrokerFolder {
    // Any certificate is a manufacturer's as long as no device comes.
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    BrokerFolder::new(&params.self_signed(&key).expect("a certificate").pem())
}

#[test]
fn a_taken_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let plant = plant();
    plant.listen_on(&address);
    one_line(plant.fails_to_run(), 70, &[&address, "stop the program that has the port", "listen"]);
}

#[test]
fn a_key_that_others_may_read_is_named() {
    let plant = plant();
    let kek = plant.path("secrets/kek");
    fs::set_permissions(&kek, fs::Permissions::from_mode(0o644)).expect("the mode changes");
    one_line(plant.fails_to_run(), 70, &["secrets/kek", "chmod 600"]);
}

#[test]
fn a_missing_key_is_named() {
    let plant = plant();
    fs::remove_file(plant.path("secrets/kek")).expect("init makes the key");
    one_line(plant.fails_to_run(), 70, &["secrets/kek", "restore"]);
}

/// The files below `folder` with what is in them.
pub(crate) fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder of the store") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            let bytes = fs::read(&path).expect("a file of the store");
            all.insert(path, bytes);
        }
    }
    all
}

/// Copies the folder `from` to `to`, which is not there, with its modes.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a folder of the run");
    fs::set_permissions(to, fs::metadata(from).expect("a folder").permissions()).expect("a mode");
    for entry in fs::read_dir(from).expect("a folder") {
        let (from, to) = entry.map(|entry| (entry.path(), to.join(entry.file_name()))).expect("an entry");
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).expect("a file is copied");
        }
    }
}

#[test]
fn a_spoiled_store_is_named_and_left_as_it_is() {
    let plant = plant();
    let store = plant.path("db-1");
    for (path, bytes) in files(&store) {
        let garbage: Vec<u8> = (0..=250).cycle().take(bytes.len()).collect();
        fs::write(&path, garbage).expect("a file of the store");
    }
    let spoiled = files(&store);
    one_line(plant.fails_to_run(), 70, &["db-1", "damaged", "restore the last backup"]);
    assert!(files(&store) == spoiled, "whoever repairs the store needs it as it was");
}

#[test]
fn a_second_broker_on_the_same_store_is_refused() {
    let plant = plant();
    let (_running, _) = plant.start();
    one_line(plant.fails_to_run(), 70, &["another process uses the store", "stop it"]);
}

#[test]
fn a_broker_configuration_with_a_fault_names_the_key() {
    let plant = plant();
    let file = plant.path("broker.toml");
    fs::write(&file, "listen = \"127.0.0.1:0\"\nlisten_on = 1\n").expect("broker.toml");
    let words = ["broker.toml", "line 2, column 1 `listen_on = 1`", "unknown field", "correct this line"];
    one_line(plant.fails_to_run(), 64, &words);
    fs::write(&file, "listen = \"127.0.0.1:0\"\ntpm_roots = [\n").expect("broker.toml");
    one_line(plant.fails_to_run(), 64, &["broker.toml", "line 2, column ", "correct this line"]);
    fs::write(&file, "listen = \"nowhere\"\n").expect("broker.toml");
    one_line(plant.fails_to_run(), 64, &["broker.toml", "listen: `nowhere` is no address", "0.0.0.0:8443"]);
}

#[test]
fn a_folder_without_a_plant_says_how_to_make_one() {
    let empty = TempDir::new().expect("a folder");
    let dir = empty.path().display().to_string();
    let answer = Answer::from(run("touchstone-broker", &["run", "--dir", &dir]));
    names(&answer.refused(64), &["broker.toml", "touchstone-broker init --dir"]);
}

#[test]
fn init_leaves_a_plant_that_is_there_alone() {
    let plant = plant();
    let before = fs::read(plant.path("plant-root.pem")).expect("init writes the root");
    let again = run("touchstone-broker", &["init", "--dir", &plant.text(""), "--plant", "plant.example"]);
    one_line(Answer::from(again), 64, &["holds a plant already", "--dir"]);
    assert_eq!(fs::read(plant.path("plant-root.pem")).expect("the root stays"), before);
}

fn attestor_says(config: &str) -> Answer {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("attestor.toml");
    fs::copy(plant().path("plant-root.pem"), folder.path().join("plant-root.pem")).expect("a root");
    fs::write(&file, config).expect("a configuration");
    Answer::from(run("touchstone-attestor", &["run", "--config", &file.display().to_string()]))
}

const CONFIG: &str = "broker = \"127.0.0.1:1\"\nplant = \"plant.example\"\nplant_root = \"plant-root.pem\"\n\
    state = \"state\"\ndeliver = \"deliver\"\n";

#[test]
fn a_missing_tpm_is_named() {
    let answer = attestor_says(&format!("{CONFIG}tpm = \"device:/dev/no-such-tpm\"\n"));
    one_line(answer, 69, &["/dev/no-such-tpm", "switch the TPM on"]);
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let answer = attestor_says(&format!("{CONFIG}tpm = \"swtpm:host=127.0.0.1,port={free}\"\n"));
    one_line(answer, 69, &["no software TPM answers", &free.to_string(), "start swtpm"]);
}

#[test]
fn an_attestor_configuration_names_every_fault() {
    one_line(attestor_says("broker = \n"), 64, &["attestor.toml", "line 1, column ", "correct this line"]);
    one_line(
        attestor_says("broker = \"nowhere\"\nplant = \"plant.example\"\ncolour = 1\n"),
        64,
        &["attestor.toml", "broker: `nowhere` is no address", "host:port", "plant_root: missing", "colour"],
    );
}
