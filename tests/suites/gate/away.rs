//! Gates whose devices hear nothing more from the broker.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use e2e::{DEADLINE, World, until_within};
use serde_json::Value;

use super::{Gates, gate, open, talk, until_refused};

/// Time in which the silence must be noticed: three signs of life of 30 s each were missed, and the rest is for slow
/// machines.
const SILENCE: Duration = Duration::from_secs(90 + DEADLINE.as_secs());

#[test]
fn a_watch_that_is_blocked_is_noticed_and_each_zone_does_as_it_says() {
    let Some(gates) = Gates::new(["--gate-fail closed", "", "--gate-fail open"]) else { return };
    gates.allow("press");
    gates.allow("lab");
    let (mut press, mut lab) = (gates.until_open(gates.client), gates.until_open(gates.lab_client));
    gates.press.controller.came();

    // The connection to the broker stays; nothing comes over it.
    gates.world.freeze_broker();
    until_within(SILENCE, "the press misses the broker", || {
        let gate = gate(&gates.press.device.status(), "plc");
        let shut = gate["closed"].as_str().is_some_and(|why| why.contains("the broker is not heard"));
        if shut { Ok(()) } else { Err(gate.to_string()) }
    });
    assert!(open(gates.client).is_err());
    until_refused(&gates.press.device, "plc", "broker-not-heard");
    assert_eq!(gates.press.controller.came(), 0, "nobody was let through");
    talk(&mut press).expect("what was open goes on");

    // The lab serves, however long that lasts.
    assert!(gate(&gates.lab.device.status(), "plc")["closed"].is_null());
    talk(&mut lab).expect("it goes on");
    open(gates.lab_client).expect("a new session");

    gates.world.thaw_broker();
    gates.until_open(gates.client);
    talk(&mut press).expect("it went on all the time");
}

/// A link-loss drill in `zone` that begins a session with another zone at `client`.
fn drill(world: &World, zone: &str, client: SocketAddr) -> Value {
    let client = client.to_string();
    let answer = world.tool(&["drill", "link-loss", zone, "--reason", "drill", "--yes", "--across", &client]);
    assert_eq!(answer.code, 0, "{answer:?}");
    answer.json
}

#[test]
fn a_drill_tries_what_each_zone_says_of_its_gates() {
    let drills = "--drills on --cut-within 60s --recover-within 5m";
    let [closed, open] = ["closed", "open"].map(|fail| format!("--gate-fail {fail} {drills}"));
    let Some(gates) = Gates::new([&closed, "", &open]) else { return };
    gates.allow("press");
    gates.allow("lab");
    for client in [gates.client, gates.lab_client] {
        gates.until_open(client);
    }
    let [press, lab] = thread::scope(|scope| {
        let world = &gates.world;
        [("press", gates.client), ("lab", gates.lab_client)]
            .map(|(zone, client)| scope.spawn(move || drill(world, zone, client)))
            .map(|running| running.join().expect("the drill ends"))
    });
    let says = |report: &Value, what: &str| {
        let bounds = report["bounds"].as_array().expect("a report has bounds").clone();
        let bound = bounds.iter().find(|bound| bound["what"] == what);
        bound.unwrap_or_else(|| panic!("no bound {what}: {report:#}"))["measured"].clone()
    };
    assert_eq!(says(&press, "other zones that gates let in without the broker"), "none of 1");
    assert_eq!(says(&lab, "other zones that gates kept out without the broker"), "none of 1");
    for report in [&press, &lab] {
        assert_eq!(says(report, "sessions that ended"), "none of 1", "what was open goes on");
    }
    until_refused(&gates.press.device, "plc", "broker-not-heard");
}
