//! The key-encryption key in a PKCS#11 token and in a TPM: the plant goes on, and says so when it cannot.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::{Answer, BrokerFolder, World, missing_tool, run_in};
use tempfile::TempDir;

/// Where SoftHSM is, on every architecture.
const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
/// The user's PIN of the token.
const PIN: &str = "4711-plant";

/// A software token, with its configuration and the PIN in files.
struct Hsm(TempDir);

impl Hsm {
    /// None, with the reason said, where it is not installed.
    fn new() -> Option<Self> {
        if missing_tool(&["softhsm2-util", "pkcs11-tool"]).is_some() || !Path::new(MODULE).exists() {
            eprintln!(
                "skipped: softhsm2 and opensc are not installed; deploy/packages.sh names their packages"
            );
            return None;
        }
        let hsm = Self(TempDir::new().expect("a run folder"));
        hsm.insert("tokens");
        let label = ["--init-token", "--free", "--label", "plant", "--so-pin", "security", "--pin", PIN];
        let output = hsm.environed("softhsm2-util").args(label).output().expect("softhsm2-util runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        hsm.write_pin(PIN);
        Some(hsm)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The tokens of this folder are plugged in.
    fn insert(&self, tokens: &str) {
        let folder = self.path(tokens);
        fs::create_dir_all(&folder).expect("a folder");
        let text = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            folder.display()
        );
        fs::write(self.path("softhsm2.conf"), text).expect("a file");
    }

    fn write_pin(&self, pin: &str) {
        fs::write(self.path("pin"), format!("{pin}\n")).expect("a file");
        fs::set_permissions(self.path("pin"), fs::Permissions::from_mode(0o600)).expect("a mode");
    }

    fn configuration(&self) -> String {
        self.path("softhsm2.conf").display().to_string()
    }

    fn environed(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("SOFTHSM2_CONF", self.configuration());
        command
    }

    /// Runs `touchstone-broker kek rewrap` to the token.
    fn take(&self, plant: &BrokerFolder, more: &[&str]) -> Answer {
        let pin = self.path("pin").display().to_string();
        let token =
            ["kek", "rewrap", "--to", "pkcs11", "--module", MODULE, "--token", "plant", "--pin-file", &pin];
        plant.broker(&[&token, more].concat())
    }

    /// What a token shows of its objects to its user.
    fn objects(&self) -> String {
        let args = ["--module", MODULE, "--token-label", "plant", "--login", "--pin", PIN, "-O"];
        let output = self.environed("pkcs11-tool").args(args).output().expect("pkcs11-tool runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

fn kek(plant: &BrokerFolder) -> String {
    fs::read_to_string(plant.path("secrets/kek")).expect("a file that says how the key opens")
}

#[test]
fn a_plant_whose_key_a_token_keeps_goes_on_and_names_what_is_missing() {
    let Some(hsm) = Hsm::new() else { return };
    let Some((mut world, _off)) = World::with_devices(["press-1"]) else { return };
    world.admin("zone create before --mode observe");
    let copy = world.plant.run_path("kek-copy").display().to_string();
    assert_eq!(world.plant.broker(&["kek", "export", "--out", &copy]).code, 0);
    let key = fs::read_to_string(&copy).expect("a copy");
    assert_eq!(key, kek(&world.plant));

    world.plant.environment.insert("SOFTHSM2_CONF", hsm.configuration());
    assert_eq!(hsm.take(&world.plant, &["--dry-run"]).code, 0);
    assert_eq!((kek(&world.plant), hsm.objects().as_str()), (key.clone(), ""), "a try changes nothing");
    hsm.write_pin("0815");
    let said = hsm.take(&world.plant, &[]).refused(64);
    assert!(said.contains("is not that of the PKCS#11 token `plant` in slot"), "{said}");
    assert_eq!(kek(&world.plant), key, "it is kept as before");
    hsm.write_pin(PIN);
    assert_eq!(hsm.take(&world.plant, &[]).code, 0);
    let written = kek(&world.plant);
    assert!(written.contains("aes-gcm") && !written.contains(key.trim()), "{written}");
    let objects = hsm.objects();
    assert!(objects.contains("touchstone-kek") && objects.contains("never extractable"), "{objects}");
    assert_eq!(world.plant.broker(&["kek", "show"]).code, 0);

    world.stop_broker();
    world.start_broker();
    assert!(world.admin("zone list").to_string().contains("before"));
    world.admin("zone create after --mode observe");
    let log = fs::read_to_string(world.plant.run_path("broker.log")).expect("its log");
    assert!(log.contains("of the PKCS#11 token `plant`"), "the start says what keeps the key");
    a_backup_opens_with_a_copy_of_the_key(&mut world, &copy);
    world.plant.environment.insert("SOFTHSM2_CONF", hsm.configuration());
    assert_eq!(hsm.take(&world.plant, &["--mechanism", "rsa-oaep"]).code, 0);
    assert!(kek(&world.plant).contains("rsa-oaep"));
    world.start_broker();
    world.stop_broker();

    hsm.write_pin("0815");
    let said = world.plant.fails_to_run().refused(64);
    for word in ["token `plant` in slot ", "/pin", "correct the file before the next start"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    hsm.write_pin(PIN);
    hsm.insert("empty");
    let said = world.plant.fails_to_run().refused(70);
    for word in [MODULE, "has the PKCS#11 token `plant`", "plug the token in"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    hsm.insert("tokens");
    assert_eq!(world.plant.broker(&["kek", "rewrap", "--to", "file"]).code, 0);
    assert_eq!(kek(&world.plant), key, "the same key, whichever way it was kept");
    world.start_broker();
}

/// The host is lost, and its token with it.
fn a_backup_opens_with_a_copy_of_the_key(world: &mut World, copy: &str) {
    let backup = world.plant.run_path("backup");
    world.admin(&format!("backup --out {}", backup.display()));
    let saved = TempDir::new().expect("a folder");
    for file in ["backup", "kek-copy"] {
        fs::copy(world.plant.run_path(file), saved.path().join(file)).expect("a copy");
    }
    let owner = saved.path().join("owner");
    fs::create_dir(&owner).expect("a folder");
    for entry in fs::read_dir(world.plant.path("owner")).expect("the owner's folder") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), owner.join(entry.file_name())).expect("a copy");
    }
    assert!(Path::new(copy).exists());
    world.lose_host();
    world.start_new_host(&saved.path().join("kek-copy"));
    world.admin(&format!("restore {} --yes", saved.path().join("backup").display()));
    let zones = world.tool_as(&owner, &["zone", "list"]).done().to_string();
    assert!(zones.contains("before") && zones.contains("after"), "{zones}");
    world.stop_broker();
}

#[test]
fn a_plant_whose_key_a_tpm_sealed_starts_and_recovers_on_that_machine_only() {
    if let Some(tool) = missing_tool(&["tpm2_unseal"]) {
        eprintln!("skipped: {tool} is not installed; deploy/packages.sh names its package");
        return;
    }
    // The TPM of the broker's machine, and of another.
    let Some((mut world, [machine, other])) = World::with_devices(["broker-1", "broker-2"]) else { return };
    world.admin("zone create cell-3 --mode observe");
    world.stop_broker();
    let folder = TempDir::new().expect("a run folder");
    let tcti = machine.tpm().to_string();
    let tpm2 = |program: &str, args: &str| {
        let mut command = Command::new(program);
        command.args(args.split(' ')).current_dir(folder.path()).env("TPM2TOOLS_TCTI", &tcti);
        let output = command.output().expect("tpm2-tools run");
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    };
    // There is no resource manager.
    let flush = || tpm2("tpm2_flushcontext", "-t");
    let (file, before) = (world.plant.path("secrets/kek"), kek(&world.plant));
    tpm2("tpm2_createprimary", "-Q -C o -c primary.ctx");
    flush();
    tpm2("tpm2_createpolicy", "-Q --policy-pcr -l sha256:7 -L pcr7.policy");
    let seal = format!("-Q -C primary.ctx -L pcr7.policy -i {} -u kek.pub -r kek.priv", file.display());
    tpm2("tpm2_create", &seal);
    flush();
    tpm2("tpm2_load", "-Q -C primary.ctx -u kek.pub -r kek.priv -c kek.ctx");
    flush();
    tpm2("tpm2_evictcontrol", "-Q -C o -c kek.ctx 0x81018000");
    flush();

    world.plant.environment.insert("TPM2TOOLS_TCTI", tcti.clone());
    let rewrap = |plant: &BrokerFolder, command: &str| {
        let dir = plant.text("");
        let options = ["kek", "rewrap", "--to", "command", "--dir", &dir, "--"];
        let words: Vec<&str> = options.into_iter().chain(command.split(' ')).collect();
        Answer::from(run_in(&plant.environment, "touchstone-broker", &words))
    };
    let said = rewrap(&world.plant, &format!("echo {}", "07".repeat(32))).refused(64);
    assert!(said.contains("opens another key than that of this plant"), "{said}");
    assert_eq!(rewrap(&world.plant, "tpm2_unseal -Q -c 0x81018000 -p pcr:sha256:7").code, 0);
    assert!(!kek(&world.plant).contains(before.trim()));
    world.start_broker();
    assert!(world.admin("zone list").to_string().contains("cell-3"));
    world.stop_broker();
    let (kit, out) = (world.plant.path("recovery-kit"), world.plant.run_path("bob"));
    let args = ["--owner", "bob", "--out", out.to_str().expect("a path"), "--issuing-key"];
    assert_eq!(world.plant.recover(&kit, BrokerFolder::passphrase(), &args).code, 0);
    world.start_broker();
    world.stop_broker();

    world.plant.environment.insert("TPM2TOOLS_TCTI", other.tpm().to_string());
    let said = world.plant.fails_to_run().refused(70);
    for word in
        ["the command for the key-encryption key failed", "tpm2_unseal -Q -c 0x81018000", "mend what it says"]
    {
        assert!(said.contains(word), "{word}: {said}");
    }
    world.plant.environment.insert("TPM2TOOLS_TCTI", tcti.clone());
    tpm2("tpm2_pcrextend", &format!("7:sha256={}", "07".repeat(32)));
    let said = world.plant.fails_to_run().refused(70);
    assert!(said.contains("the command for the key-encryption key failed"), "another boot: {said}");
}

#[test]
fn a_credential_that_systemd_hands_over_opens_the_plant() {
    if let Some(tool) = missing_tool(&["systemd-creds"]) {
        eprintln!("skipped: {tool} is not installed; it comes with systemd");
        return;
    }
    let mut plant = BrokerFolder::new("");
    // What LoadCredentialEncrypted= leaves for the service to read.
    let credentials = TempDir::new().expect("a run folder");
    let file = credentials.path().join("kek").display().to_string();
    assert_eq!(plant.broker(&["kek", "export", "--out", &file]).code, 0);
    plant.environment.insert("CREDENTIALS_DIRECTORY", credentials.path().display().to_string());
    let dir = plant.text("");
    let args = ["kek", "rewrap", "--dir", &dir, "--to", "command", "--", "systemd-creds", "cat", "kek"];
    assert_eq!(Answer::from(run_in(&plant.environment, "touchstone-broker", &args)).code, 0);
    assert_eq!(plant.broker(&["kek", "show"]).code, 0);
    plant.environment.remove("CREDENTIALS_DIRECTORY");
    let said = plant.broker(&["kek", "show"]).refused(70);
    assert!(
        said.contains("the command for the key-encryption key failed")
            && said.contains("systemd-creds cat kek"),
        "{said}"
    );
}
