//! Certificates as a linter of others reads them: zlint, which is what `step certificate lint` runs.

use std::path::Path;
use std::process::Command;

use attestor::testing::missing_tool;
use e2e::GoProgram;
use serde_json::{Map, Value};

use super::plant::{Plant, ZONES};

/// Leaves and authorities break no rule of RFC 5280. Says why where it cannot be tried.
pub(super) fn finds_nothing(plant: &Plant) {
    let zlint = match GoProgram::build("github.com/zmap/zlint/v3/cmd/zlint") {
        Ok(program) => program,
        Err(why) => return println!("skipped in part: certificates were not linted by zlint, because {why}"),
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
    match missing_tool(&["step"]) {
        Some(_) => println!(
            "skipped in part: step certificate lint, because step is not in PATH; zlint, which it runs, was tried"
        ),
        // It has no word for the rules of RFC 5280 alone, and those of browsers do not hold here: it is to read every file.
        None => files.iter().chain([&listener]).for_each(|file| {
            results(Command::new("step").args(["certificate", "lint"]).arg(file));
        }),
    }
}

fn lint(zlint: &Path, certificate: &Path) -> Vec<(String, Value)> {
    let all = results(Command::new(zlint).args(["-includeSources", "RFC5280"]).arg(certificate));
    all.into_iter().filter(|(_, one)| ["error", "fatal"].iter().any(|bad| one["result"] == *bad)).collect()
}

/// What the linter says, by the name of the rule.
fn results(linter: &mut Command) -> Map<String, Value> {
    let output = linter.output().expect("the linter runs");
    let all: Value = serde_json::from_slice(&output.stdout).expect("the linter prints JSON");
    let all = all.as_object().expect("results by lint").clone();
    assert!(all.values().any(|one| one["result"] == "pass"), "the linter found nothing to look at");
    all
}
