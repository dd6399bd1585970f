//! A device that nobody wrote a configuration for: it is given an address, a fingerprint and a token.

use attestor::plant::PlantRoot;
use e2e::{World, until};
use serde_json::json;

const LEAST: &str = "--mode observe --least instance-identity=affirming";

#[test]
fn a_device_finds_its_plant_by_a_fingerprint_and_believes_no_other() {
    let Some((mut world, [mut device])) = World::with_devices(["press-1"]) else { return };
    world.admin(&format!("zone create press {LEAST}"));
    let token = world.admin("token create --zone press")["token"].clone();
    let root = PlantRoot::load(&world.plant.path("plant-root.pem")).expect("the plant's root").spki_digest();
    let address = world.address().to_owned();
    device.measure("boot-a");

    let other = "ab".repeat(32);
    device.learn_from_credentials(&[("touchstone.broker", &address), ("touchstone.root_sha256", &other)]);
    device.start();
    assert_eq!(device.until_ended().code(), Some(1));
    assert!(!device.path("state/plant-root.pem").exists());
    let said = device.log();
    let another = "shows no plant root whose key has the digest sha256:abab";
    assert!(said.contains(another), "{said}");
    let told = device.attestor("status", &["-o", "json"]);
    let status = device.status();
    assert_eq!((told.status.code(), &status["state"]), (Some(1), &json!("starting")), "{status:#}");
    assert!(status["problem"].as_str().is_some_and(|problem| problem.contains(another)), "{status:#}");

    let token = token.as_str().expect("a token");
    let found = [
        ("touchstone.broker", address.as_str()),
        ("touchstone.root_sha256", &root.to_string()),
        ("touchstone.token", token),
    ];
    device.learn_from_credentials(&found);
    world.stop_broker();
    device.start();
    until("it waits for the network", || {
        let said = device.log();
        said.contains("not started yet").then_some(()).ok_or(said.clone())
    });
    assert!(!device.path("state/plant-root.pem").exists(), "nobody showed it");
    let identity = device.attestor("identify", &[]);
    let said = String::from_utf8_lossy(&identity.stdout).into_owned();
    assert!(said.contains("ek digest     sha256:"), "{said}{}", String::from_utf8_lossy(&identity.stderr));
    let status = device.until_state("starting");
    assert!(status["problem"].is_string(), "it says what it waits for: {status:#}");
    world.start_broker();
    // A token that is for no TPM leaves the last word to a person.
    device.until_state("pending");

    let output = device.attestor("doctor", &[]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let first = said.lines().next().unwrap_or_default();
    for word in ["touchstone.broker", "touchstone.root_sha256", "touchstone.token"] {
        assert!(first.starts_with("good") && first.contains(word), "{word} is not in {said}");
    }
    device.stop();
    device.learn_from_credentials(&[("touchstone.broker", "nowhere")]);
    let refused = device.attestor("run", &[]);
    assert_eq!(refused.status.code(), Some(64));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("touchstone.broker in the credential") && said.contains("host:port"), "{said}");
}
