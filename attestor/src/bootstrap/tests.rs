//! Every source, its order, and what is refused.

use std::fs;

use tempfile::TempDir;

use super::*;
use crate::config::{Config, Outline};
use crate::plant::PlantRoot;

/// A machine with nothing.
struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        let machine = Self(TempDir::new().unwrap());
        for folder in ["etc", "credentials", "dmi/11-0", "dmi/11-1"] {
            fs::create_dir_all(machine.path(folder)).unwrap();
        }
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn sources(&self) -> Sources {
        Sources {
            credentials: vec![self.path("absent"), self.path("credentials")],
            command_line: self.path("cmdline"),
            smbios: self.path("dmi"),
        }
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn smbios(&self, number: u8, strings: &[&str]) {
        let mut raw = vec![11, 5, 0, 0, u8::try_from(strings.len()).unwrap()];
        strings.iter().for_each(|string| raw.extend([string.as_bytes(), &[0]].concat()));
        raw.push(0);
        self.write(&format!("dmi/11-{number}/raw"), raw);
    }

    fn outline(&self) -> Result<Outline, String> {
        Outline::read(&self.path("etc/attestor.toml"), &self.sources()).map_err(|error| error.to_string())
    }

    fn config(&self) -> Result<Config, String> {
        self.outline()?.finish().map_err(|error| error.to_string())
    }

    fn broker(&self) -> String {
        self.outline().unwrap().broker.unwrap().0.to_string()
    }
}

fn root(plant: &str) -> (String, Digest) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, format!("{plant} plant root"));
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), PlantRoot::pin(certificate.der()).unwrap().spki_digest())
}

#[test]
fn a_value_comes_from_the_first_source_that_has_it() {
    let machine = Machine::new();
    let nothing = machine.config().unwrap_err();
    assert!(nothing.contains("attestor.toml") && nothing.contains("touchstone.root_sha256"), "{nothing}");
    machine.smbios(0, &["other", "io.systemd.credential:touchstone.broker=smbios:1"]);
    assert_eq!(machine.broker(), "smbios:1");
    machine.write("cmdline", "quiet touchstone.broker=kernel:2 ro\n");
    assert_eq!(machine.broker(), "kernel:2");
    machine.write("credentials/touchstone.broker", "credential:3\n");
    assert_eq!(machine.broker(), "credential:3");
    machine.write("etc/attestor.toml", "broker = \"written:4\"\n");
    assert!(machine.outline().unwrap().broker.is_none(), "what is written is looked for nowhere else");
    machine.write("credentials/touchstone.broker", "nonsense");
    assert!(machine.outline().is_ok());
}

#[test]
fn a_device_without_a_written_configuration_is_whole() {
    let machine = Machine::new();
    let (pem, _) = root("plant.example");
    machine.write("credentials/touchstone.plant-root", &pem);
    machine.write("credentials/touchstone.token", "ts1.x");
    machine.write("cmdline", "touchstone.broker=broker.plant.example:8443");
    let config = machine.config().unwrap();
    assert_eq!(config.plant.to_string(), "plant.example", "it stands in the root");
    assert_eq!(config.plant_root, machine.path("credentials/touchstone.plant-root"));
    assert_eq!(config.join_token_file, Some(machine.path("credentials/touchstone.token")));
    assert_eq!(
        config.origins.broker.to_string(),
        format!("the kernel command line ({})", machine.path("cmdline").display())
    );
    assert!(config.origins.plant_root.to_string().starts_with("the credential "));
}

#[tokio::test]
async fn what_comes_as_a_text_is_kept_as_a_file() {
    let machine = Machine::new();
    let (pem, _) = root("plant.example");
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &pem);
    machine.smbios(0, &["io.systemd.credential:touchstone.broker=b:1"]);
    machine.smbios(
        1,
        &[
            &format!("io.systemd.credential.binary:touchstone.plant-root={encoded}"),
            "io.systemd.credential:touchstone.token=ts1.y",
        ],
    );
    machine.write("etc/attestor.toml", format!("state = \"{}\"\n", machine.path("state").display()));
    let early = machine.config().unwrap_err();
    assert!(early.contains("plant_root: the attestor takes it from the SMBIOS strings"), "{early}");
    prepare(&machine.outline().unwrap()).await.unwrap();
    let config = machine.config().unwrap();
    assert_eq!(fs::read_to_string(&config.plant_root).unwrap(), pem);
    let token = config.join_token_file.unwrap();
    assert_eq!(fs::read_to_string(&token).unwrap(), "ts1.y");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&token).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    // Another root takes its place when the attestor starts, and not before.
    let (other, _) = root("other.example");
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &other);
    machine.smbios(1, &[&format!("io.systemd.credential.binary:touchstone.plant-root={encoded}")]);
    assert!(machine.config().is_err());
    prepare(&machine.outline().unwrap()).await.unwrap();
    assert_eq!(machine.config().unwrap().plant.to_string(), "other.example");
}

#[tokio::test]
async fn a_root_of_another_fingerprint_is_not_believed() {
    let machine = Machine::new();
    let ((pem, fingerprint), (other, _)) = (root("plant.example"), root("plant.example"));
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    machine.write("cmdline", format!("touchstone.broker={free} touchstone.root_sha256={fingerprint}"));
    machine.write("etc/attestor.toml", format!("state = \"{}\"\n", machine.path("state").display()));
    fs::create_dir(machine.path("state")).unwrap();
    machine.write("state/plant-root.pem", &pem);
    prepare(&machine.outline().unwrap()).await.unwrap();
    assert_eq!(machine.config().unwrap().plant_root, machine.path("state/plant-root.pem"));
    machine.write("state/plant-root.pem", other);
    assert!(machine.config().is_err());
    let error = prepare(&machine.outline().unwrap()).await.unwrap_err();
    assert!(error.is_absence() && error.to_string().contains("cannot be fetched from 127.0.0.1:"), "{error}");
}

#[test]
fn a_malformed_value_is_refused_with_its_source() {
    let refused = |make: fn(&Machine)| {
        let machine = Machine::new();
        make(&machine);
        machine.outline().map(drop).unwrap_err()
    };
    let assert_says = |said: String, words: &[&str]| {
        words.iter().for_each(|word| assert!(said.contains(word), "`{word}` is not in {said}"));
    };
    assert_says(
        refused(|machine| machine.write("credentials/touchstone.broker", "nowhere")),
        &["touchstone.broker in the credential ", "`nowhere` is no address of a broker"],
    );
    assert_says(
        refused(|machine| machine.write("credentials/touchstone.broker", [0xff_u8])),
        &["touchstone.broker in the credential ", "no UTF-8"],
    );
    assert_says(
        refused(|machine| machine.write("credentials/touchstone.broker", "")),
        &["touchstone.broker in the credential ", "write 1 to 16384 bytes"],
    );
    assert_says(
        refused(|machine| machine.write("credentials/touchstone.plant-root", vec![b'x'; 16_385])),
        &["touchstone.plant-root in the credential ", "longer than 16384 bytes"],
    );
    assert_says(
        refused(|machine| machine.write("cmdline", "touchstone.broker=a:1 touchstone.broker=b:2")),
        &["touchstone.broker in the kernel command line", "it is there twice"],
    );
    assert_says(
        refused(|machine| machine.write("cmdline", "touchstone.broker=")),
        &["touchstone.broker in the kernel command line", "write 1 to 16384 bytes"],
    );
    assert_says(
        refused(|machine| machine.write("cmdline", "touchstone.root_sha256=abc")),
        &["touchstone.root_sha256 in the kernel command line", "64 hex digits"],
    );
    assert_says(
        refused(|machine| machine.smbios(0, &["io.systemd.credential.binary:touchstone.token=%"])),
        &["attestor.toml"],
    );
    assert_says(
        refused(|machine| machine.smbios(0, &["io.systemd.credential.binary:touchstone.broker=%"])),
        &["touchstone.broker in the SMBIOS strings", "no base64"],
    );
    assert_says(
        refused(|machine| machine.write("dmi/11-0/raw", [11, 5, 0, 0, 1, b'x'])),
        &["touchstone.broker in the SMBIOS strings", "cut short"],
    );
}

#[test]
fn a_token_is_not_read_where_everybody_reads() {
    let machine = Machine::new();
    machine.write("cmdline", "touchstone.broker=b:1 touchstone.token=ts1.z");
    assert!(machine.outline().unwrap().token.is_none());
}
