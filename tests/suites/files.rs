//! Files that a device runs, told by the IMA list and confirmed by PCR 10.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;

use e2e::{Device, World, digest_of, relay, until};
use serde_json::json;

const INTRUDER: &str = "/tmp/intruder";
const ATTESTOR: &str = "/usr/bin/touchstone-attestor";

fn ima_section(files: &[(&str, &str)]) -> String {
    let mut section = "[ima]\n".to_owned();
    for (path, content) in files {
        let digest = digest_of(content);
        writeln!(section, "[[ima.file]]\npath = \"{path}\"\ndigest = [\"sha256:{digest}\"]")
            .expect("text is written");
    }
    section
}

/// Records of a list of some MiB: longer than a request may be.
const LONG: usize = 20_000;

/// Everything that a proof takes on the way to the broker besides a long list, at most.
const SHORT: usize = 64 << 10;

/// Between a device and its broker: counts what the device sends.
struct Scales {
    address: String,
    bytes: Arc<AtomicUsize>,
}

impl Scales {
    fn before(broker: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let bytes = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&bytes);
        let address = relay(listener, broker.parse().expect("an address"), move |passing| {
            if !passing.to_device {
                counted.fetch_add(passing.bytes, SeqCst);
            }
        });
        Self { address: address.to_string(), bytes }
    }

    /// What was sent since this was asked last.
    fn sent(&self) -> usize {
        self.bytes.swap(0, SeqCst)
    }
}

/// What was sent for the proof that `demand` brings about.
fn proof(world: &World, scales: &Scales, demand: impl FnOnce()) -> usize {
    let counter = || world.admin("device show press-1")["attestation_counter"].as_u64();
    let before = counter();
    scales.sent();
    demand();
    until("attested", || Some(()).filter(|()| counter() > before).ok_or_else(|| format!("{before:?}")));
    scales.sent()
}

#[test]
fn a_long_list_comes_in_parts_once_and_then_what_is_new() {
    let Some((world, [mut press])) = World::with_devices(["press-1"]) else { return };
    world.admin("zone create press --product edge-box --reattest-every 10m --intra-zone allow");
    world.register(&press, "press");
    press.measure("boot-a");
    press.start_ima();
    press.execute_many(LONG);
    let long = press.ima_list().len();
    assert!(long > proto::MAX_REQUEST);
    let scales = Scales::before(world.address());
    let tpm = press.tpm().to_string();
    press.go_through(&scales.address, &tpm);
    press.start();
    press.until_state("refused");
    world.make_golden_with("press-1", "edge-box", "1", "[ima]\nexclude = [\"/usr/lib/python3/**\"]\n");
    press.until_state("trusted");
    press.until_status("watching", |status| status["broker"]["watching"] == true);

    let attest = || drop(world.admin("device attest press-1"));
    for _ in 0..2 {
        press.execute("/usr/lib/python3/later.py", "later 1");
        let sent = proof(&world, &scales, attest);
        println!("a list of {long} bytes: a proof after one program sent {sent} bytes");
        assert!(sent < SHORT, "{sent}");
    }
    // A new start knows nothing of what was sent before it.
    press.stop();
    let sent = proof(&world, &scales, || press.start());
    println!("a list of {long} bytes: a proof after a start sent {sent} bytes");
    assert!(sent > long, "{sent}");
    press.until_status("watching", |status| status["broker"]["watching"] == true);

    press.execute(INTRUDER, "intruder 1");
    assert!(proof(&world, &scales, attest) < SHORT);
    press.until_state("refused");
    let why = world.admin("device why press-1");
    let findings = why["findings"].as_array().expect("a refusal has findings");
    let named = findings.iter().find(|finding| finding["subject"] == INTRUDER);
    let said = named.and_then(|named| named["message"].as_str()).unwrap_or_else(|| panic!("{why:#}"));
    assert!(said.contains(&format!("IMA record {}", LONG + 2)), "{said}");
}

#[test]
fn a_device_is_trusted_for_the_files_that_its_release_lists() {
    let Some((world, [mut press])) = World::with_devices(["press-1"]) else { return };
    world.admin("zone create press --product edge-box --reattest-every 10s --intra-zone allow");
    world.register(&press, "press");
    press.measure("boot-a");
    press.start_ima();
    press.execute("/usr/bin/press", "press 1");
    press.start();
    press.until_state("refused");
    let section = ima_section(&[("/usr/bin/press", "press 1")]);
    world.make_golden_with("press-1", "edge-box", "1.0.0", &section);
    press.until_state("trusted");

    let before = press.ima_list();
    press.execute(INTRUDER, "intruder 1");
    let refused = press.until_state("refused");
    assert_eq!(refused["denial"]["reason"], "REFERENCE_MISMATCH", "{refused:#}");
    let why = world.admin("device why press-1");
    let findings = why["findings"].as_array().expect("a refusal has findings");
    let named = findings.iter().find(|finding| finding["subject"] == INTRUDER);
    let named = named.unwrap_or_else(|| panic!("nobody names {INTRUDER}: {why:#}"));
    let digest = json!(format!("sha256:{}", digest_of("intruder 1")));
    assert_eq!((&named["pcr"], &named["seen"]), (&json!(10), &digest), "{named:#}");

    // The record is taken off the list; the TPM remembers it.
    press.stop();
    press.set_ima_list(&before);
    press.start();
    let refused = press.until_status("refused for its list", |status| {
        status["state"] == "refused" && status["denial"]["reason"] == "EVIDENCE_INVALID"
    });
    let said = refused["denial"]["message"].as_str().unwrap_or_default();
    assert!(said.contains("the IMA list is not confirmed by the quote"), "{refused:#}");
    assert!(said.contains("PCR 10") && said.contains("all 2 records"), "{refused:#}");
}

/// Signs and applies the release after version 1 that also has an attestor with this content, as a package brings it.
fn release_with(world: &World, content: &str) {
    let tree = world.plant.run_path("tree");
    let file = tree.join(ATTESTOR.trim_start_matches('/'));
    fs::create_dir_all(file.parent().expect("a folder")).expect("a folder of the run");
    fs::write(&file, content).expect("a file of the run");
    fs::set_permissions(&file, Permissions::from_mode(0o755)).expect("a file of the run");
    let [base, next, signed] =
        ["edge-box-1.toml", "edge-box-2.toml", "edge-box-2.dsse.json"].map(|name| world.plant.run_path(name));
    let (tree, base, next, signed) = (tree.display(), base.display(), next.display(), signed.display());
    world
        .admin(&format!("golden predict --ima-tree {tree} --ima-add --base {base} --version 2 --out {next}"));
    world.admin(&format!("golden sign {next} --out {signed}"));
    world.admin(&format!("golden apply {signed} --yes"));
}

#[test]
fn an_attestor_that_is_upgraded_after_its_release_is_never_refused() {
    let Some((world, [mut press, mut early])) = World::with_devices(["press-1", "press-2"]) else { return };
    world.admin("zone create press --product edge-box --reattest-every 10s --intra-zone allow");
    for device in [&mut press, &mut early] {
        world.register(device, "press");
        device.measure("boot-a");
        device.start_ima();
        device.execute(ATTESTOR, "attestor 1");
        device.start();
        device.until_state("refused");
    }
    world.make_golden_with("press-1", "edge-box", "1", &ima_section(&[(ATTESTOR, "attestor 1")]));
    for device in [&press, &early] {
        device.until_state("trusted");
    }

    let upgrade = |device: &mut Device| {
        device.stop();
        device.execute(ATTESTOR, "attestor 2");
        device.start();
    };
    upgrade(&mut early);
    early.until_state("refused");
    let why = world.admin("device why press-2");
    let findings = why["findings"].as_array().expect("a refusal has findings");
    let named = findings.iter().find(|finding| finding["subject"] == ATTESTOR);
    let digest = format!("sha256:{}", digest_of("attestor 2"));
    assert_eq!(named.map(|named| &named["seen"]), Some(&json!(digest)), "{why:#}");

    release_with(&world, "attestor 2");
    let counter = || world.admin("device show press-1")["attestation_counter"].as_u64().expect("a counter");
    let (said, proofs) = (press.log(), counter());
    assert!(said.contains("refused"), "that is how its log calls it: {said}");
    upgrade(&mut press);
    until("it proved itself, and again", || match counter() {
        after if after >= proofs + 2 => Ok(()),
        after => Err(format!("{after} of {proofs} and 2: {}", press.last_words())),
    });
    assert_eq!(press.status()["state"], "trusted");
    let since = press.log().split_off(said.len());
    assert!(since.contains("trusted") && !since.contains("refused"), "{since}");
    early.until_state("trusted");
}
