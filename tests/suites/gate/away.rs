//! Gates whose devices hear nothing more from the broker.

use std::time::Duration;

use e2e::{DEADLINE, until_within};

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
