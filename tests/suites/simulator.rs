//! The fleet simulator: a small fleet shows that it is right. What it measures is not looked at: that takes a machine of
//! one's own and a build with optimization.

use std::collections::BTreeMap;

use e2e::run;
use serde_json::Value;

/// What a run of these arguments printed, by name; each device was trusted, without an error.
fn figures(args: &[&str]) -> BTreeMap<String, Value> {
    let output = run("fleet", args);
    let (said, complaints) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{complaints}");
    let figure = |line: &str| {
        let figure: Value = serde_json::from_str(line).expect("each line is JSON");
        let fields: Vec<&str> = figure.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(fields, ["floor", "name", "promised", "ratio", "unit", "value"], "{line}");
        assert!(figure["value"].as_f64().is_some_and(|value| value >= 0.0), "{line}");
        (figure["name"].as_str().expect("a name").to_owned(), figure)
    };
    said.lines().map(figure).collect()
}

/// A fleet that a build without optimization carries.
const FEW: [&str; 10] = ["--devices", "30", "--storm", "25", "--watch", "5", "--rate", "5", "--seconds", "2"];

#[test]
fn a_small_fleet_enrolls_attests_watches_and_powers_up_and_every_device_is_trusted() {
    let figures = figures(&FEW);
    for name in [
        "enroll",
        "floor_verify",
        "reattest_existing_connection",
        "reattest_with_handshake",
        "replace_existing_connection",
        "replace_with_handshake",
        "reattest_at_scale",
        "storm_all_trusted",
        "storm_waiting_p99",
        "storm_broker_memory",
        "steady_p99",
        "cut_p99",
        "store_churn_proofs",
        "store_records",
        "store_audit",
        "store_on_disk",
        "store_evidence",
        "start",
        "storm_after_restore_all_trusted",
        "steady_after_restore_p99",
        "start_after_restore",
    ] {
        assert!(figures.contains_key(name), "{name} is missing: {figures:#?}");
    }
    no_errors(&figures);
}

fn no_errors(figures: &BTreeMap<String, Value>) {
    for errors in
        ["storm_errors", "steady_errors", "storm_after_restore_errors", "steady_after_restore_errors"]
    {
        assert_eq!(figures[errors]["value"], 0.0, "{errors}");
    }
}

#[test]
fn a_small_fleet_on_etcd_does_the_same() {
    let scenarios = ["--store", "etcd", "--scenario", "storm,steady,store,restore"];
    let figures = figures(&[&FEW[..], &scenarios].concat());
    if figures.is_empty() {
        eprintln!("skipped: etcd is not installed; deploy/packages.sh names its package");
        return;
    }
    no_errors(&figures);
    for name in ["start", "start_after_restore", "store_records", "store_on_disk_of_a_node"] {
        assert!(figures.contains_key(name), "{name} is missing: {figures:#?}");
    }
}

#[test]
fn devices_are_served_on_by_two_brokers_whatever_dies() {
    let few = ["--devices", "30", "--scenario", "brokers", "--rate", "10"];
    let figures = figures(&few);
    if figures.is_empty() {
        eprintln!("skipped: etcd is not installed; deploy/packages.sh names its package");
        return;
    }
    for wrong in ["brokers_challenges_not_taken_once", "brokers_wrong_answers"] {
        assert_eq!(figures[wrong]["value"], 0.0, "{wrong}");
    }
    // How long takes a machine of one's own; that each came to its end is what is looked at here.
    for fault in [
        "brokers_leader_moved",
        "brokers_broker_stopped",
        "brokers_broker_killed",
        "brokers_etcd_killed",
        "brokers_etcd_stopped",
        "restore",
    ] {
        assert!(figures.contains_key(fault), "{fault} is missing: {figures:#?}");
    }
}
