//! Certificates as a linter of others reads them: zlint, which is what `step certificate lint` runs.

use std::path::Path;
use std::process::Command;

use e2e::GoProgram;
use serde_json::Value;

use super::plant::{Plant, ZONES};

/// Leaves and authorities break no rule of RFC 5280. Says why where it cannot be tried.
pub(super) fn finds_nothing(plant: &Plant) {
    let zlint = match GoProgram::build("github.com/zmap/zlint/v3/cmd/zlint") {
        Ok(program) => program,
        Err(why) => return println!("skipped: zlint, because {why}"),
    };
    let [press, camera, _] = &plant.devices;
    let inbound = "services/nginx/inbound.pem";
    let of_press = ["caller.pem", "listener.pem", "services/nginx/server.pem", inbound];
    let files = of_press.map(|file| press.delivered(ZONES[0], file));
    let listener = camera.delivered(ZONES[1], "services/nginx/outbound.pem");
    for file in files.iter().chain([&listener]) {
        let faults = lint(&zlint.path(), file);
        assert!(faults.is_empty(), "{}: {faults:?}", file.display());
    }
}

fn lint(zlint: &Path, certificate: &Path) -> Vec<(String, Value)> {
    let output = Command::new(zlint).args(["-includeSources", "RFC5280"]).arg(certificate).output();
    let output = output.expect("zlint runs");
    let all: Value = serde_json::from_slice(&output.stdout).expect("zlint prints JSON");
    let all = all.as_object().expect("results by lint").clone();
    assert!(all.values().any(|one| one["result"] == "pass"), "zlint found nothing to look at");
    all.into_iter().filter(|(_, one)| ["error", "fatal"].iter().any(|bad| one["result"] == *bad)).collect()
}
