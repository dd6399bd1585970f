//! What a technician has on a device: `doctor` finds what is wrong without the broker's help, and `reset` makes a disk
//! that can be copied.

use attestor::tpm::{EsapiTpm, PcrBank, PcrIndex, Tpm};
use e2e::{Device, World, until};
use serde_json::{Value, json};

const LEAST: &str = "--mode observe --least instance-identity=affirming";

/// What `doctor` finds of `check`, and its exit code; all it found is printed.
fn finding(device: &Device, check: &str) -> (Value, Option<i32>) {
    let output = device.attestor("doctor", &["-o", "json"]);
    let report: Value = serde_json::from_slice(&output.stdout).expect("doctor prints JSON");
    println!("{report:#}");
    assert_eq!(report["schema"], 1);
    let mut findings = report["findings"].as_array().expect("findings").iter();
    let found = findings.find(|finding| finding["check"] == check).expect("it looks at everything");
    (found.clone(), output.status.code())
}

#[test]
fn doctor_names_what_stands_in_the_way_and_reset_forgets_the_device() {
    let Some((mut world, [mut device])) = World::with_devices(["press-1"]) else { return };
    world.admin(&format!("zone create press {LEAST}"));
    world.register(&device, "press");
    device.measure("boot-a");
    let (attestor, code) = finding(&device, "attestor");
    assert_eq!(
        (&attestor["verdict"], code),
        (&json!("warning"), Some(0)),
        "it is ready to start: {attestor}"
    );
    device.start();
    device.until_state("trusted");
    until("nothing stands in the way beside the running attestor", || {
        let output = device.attestor("doctor", &[]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        // This TPM has a second bank that nobody measures into, there is no list of IMA, and root may run this.
        let counts = |line: &&str| line.starts_with("warning") && !line.contains("read as root");
        let warned = said.lines().filter(counts).count();
        (output.status.success() && warned == 2).then_some(()).ok_or(said)
    });

    let second = device.attestor("run", &[]);
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("another touchstone-attestor runs on the state in"), "{said}");
    device.until_state("trusted");

    let mut tpm = EsapiTpm::new(device.tpm());
    tpm.extend(PcrIndex::try_from(4).expect("a PCR"), PcrBank::Sha256, &[7; 32]).expect("the TPM extends");
    tpm.release();
    let (log, code) = finding(&device, "firmware log");
    assert_eq!((&log["verdict"], code), (&json!("fault"), Some(1)));
    assert!(log["found"].as_str().is_some_and(|found| found.contains("does not explain PCR 4:")), "{log}");

    let refused = device.attestor("reset", &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("the attestor runs; stop it first"));
    world.stop_broker();
    let (broker, _) = finding(&device, "broker");
    assert_eq!(broker["verdict"], "fault");
    assert!(broker["found"].as_str().is_some_and(|found| found.contains("does not answer")), "{broker}");
    world.start_broker();
    device.stop();
    let before = device.delivered("press", "caller.pem");
    assert!(device.attestor("reset", &["--dry-run"]).status.success());
    assert!(before.exists(), "a rehearsal removes nothing");
    let done = device.attestor("reset", &[]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(!before.exists() && !device.path("state/state.json").exists());
    // The machine whose disk was copied is still the same device: its TPM says so.
    device.reboot("boot-a");
    device.until_state("trusted");
    assert!(before.exists());
}
