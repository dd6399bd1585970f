//! Certificates as a linter of others reads them: zlint, which `step certificate lint` runs too.

use std::path::Path;
use std::process::Command;

use e2e::missing_tool;
use serde_json::Value;

use super::plant::{Plant, ZONES};

/// Leaves and authorities break no rule of RFC 5280. Says why where it cannot be tried.
pub(super) fn finds_nothing(plant: &Plant) {
    if missing_tool(&["zlint"]).is_some() {
        return println!(
            "not tried: zlint, which is not in PATH; go install github.com/zmap/zlint/v3/cmd/zlint@v3.6.4"
        );
    }
    let [press, ..] = &plant.devices;
    let files = ["caller.pem", "listener.pem", "services/nginx/server.pem", "services/nginx/inbound.pem"];
    for file in files {
        let faults = lint(&press.delivered(ZONES[0], file));
        assert!(faults.is_empty(), "{file}: {faults:?}");
    }
}

fn lint(certificate: &Path) -> Vec<(String, Value)> {
    let output = Command::new("zlint").args(["-includeSources", "RFC5280"]).arg(certificate).output();
    let output = output.expect("zlint runs");
    let all: Value = serde_json::from_slice(&output.stdout).expect("zlint prints JSON");
    let all = all.as_object().expect("results by lint").clone();
    assert!(all.values().any(|one| one["result"] == "pass"), "zlint found nothing to look at");
    all.into_iter().filter(|(_, one)| ["error", "fatal"].iter().any(|bad| one["result"] == *bad)).collect()
}
