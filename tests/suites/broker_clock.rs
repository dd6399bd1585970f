//! A broker whose clock jumps while it runs.

use std::fs;

use e2e::{World, clock_of};
use serde_json::Value;

/// What is held: a certificate that comes in place of another has another serial.
fn serials(status: &Value) -> Vec<Value> {
    status["certificates"].as_array().expect("certificates").iter().map(|one| one["serial"].clone()).collect()
}

/// Whether a status says whose clock is wrong.
type Named = fn(&Value) -> bool;

/// The broker itself sees that the plant was not there yet, or is no more.
fn it_names_its_clock(status: &Value) -> bool {
    let (reason, message) = (&status["denial"]["reason"], status["denial"]["message"].as_str());
    reason == "CLOCK_SKEW" && message.is_some_and(|message| message.contains("the broker's clock shows"))
}

/// The device sees that its own clock went on, and the broker's did not.
fn the_device_names_its_clock(status: &Value) -> bool {
    status["problem"].as_str().is_some_and(|problem| problem.contains("set the clock of the broker"))
}

#[test]
fn a_broker_whose_clock_jumps_costs_no_certificate_and_is_named() {
    let Some((mut world, [mut press])) = World::with_devices(["press-1"]) else { return };
    let shown = world.plant.run_path("clock");
    let show = |time: &str| fs::write(&shown, format!("{time}\n")).expect("a file of the run");
    show("+0");
    let Some(environment) = clock_of(&shown) else { return };
    world.stop_broker();
    world.plant.environment = environment;
    world.start_broker();
    world.admin("zone create press --mode observe --reattest-every 5s");
    world.register(&press, "press");
    press.measure("boot-a");
    press.start();
    let held = serials(&press.until_state("trusted"));
    let jumps: [(&str, Named); 3] = [
        ("+40d", the_device_names_its_clock),
        ("+3650d", it_names_its_clock),
        ("-3650d", it_names_its_clock),
    ];
    for (jump, named) in jumps {
        show(jump);
        let status = press.until_status(&format!("holding at {jump}"), |status| {
            status["state"] == "holding" && named(status)
        });
        assert_eq!(serials(&status), held, "{jump}");
        show("+0");
        let status = press.until_status(&format!("trusted after {jump}"), |status| {
            status["state"] == "trusted" && status["problem"].is_null() && status["denial"].is_null()
        });
        assert_eq!(serials(&status), held, "what it held, it holds after {jump}");
    }
}
