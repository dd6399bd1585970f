//! How fast a device answers when somebody wants to know, and what it makes of a clock that is wrong by years.

use std::time::{Duration, Instant};

use e2e::{World, clock, until};
use serde_json::Value;

/// What is promised is a second, and measured by the benchmark `footprint`; a busy machine, and programs without optimization,
/// get two more.
const AT_MOST: Duration = Duration::from_secs(3);
/// How often it is asked, so that the figure is none of chance.
const TIMES: u32 = 5;

#[test]
fn attest_now_is_answered_at_once() {
    let Some((world, [mut press])) = World::with_devices(["press-1"]) else { return };
    world.admin("zone create press --mode observe");
    world.register(&press, "press");
    press.measure("boot-a");
    press.start();
    press.until_status("watching", |status| {
        status["state"] == "trusted" && status["broker"]["watching"] == true
    });
    let counter = || world.admin("device show press-1")["attestation_counter"].as_u64().expect("a counter");
    let mut longest = Duration::ZERO;
    for _ in 0..TIMES {
        let before = counter();
        world.admin("device attest press-1");
        let asked = Instant::now();
        until("it proved itself", || match counter() {
            after if after > before => Ok(()),
            after => Err(after.to_string()),
        });
        longest = longest.max(asked.elapsed());
        // The next demand comes on the stream under the newest certificate.
        press.until_status("watching again", |status| {
            status["state"] == "trusted" && status["broker"]["watching"] == true
        });
    }
    println!("attest now: answered within {longest:.1?} at most, {TIMES} times");
    assert!(longest < AT_MOST, "{longest:?}");
}

fn serials(status: &Value) -> Vec<&Value> {
    status["certificates"].as_array().expect("certificates").iter().map(|one| &one["serial"]).collect()
}

#[test]
fn a_clock_ten_years_ahead_is_named_and_costs_no_certificate() {
    let Some(ahead) = clock("+3650d") else { return };
    let Some((mut world, [mut press])) = World::with_devices(["press-1"]) else { return };
    world.admin("zone create press --mode observe");
    world.register(&press, "press");
    press.measure("boot-a");
    press.start();
    let trusted = press.until_state("trusted");
    let delivered = std::fs::read(press.delivered("press", "caller.pem")).expect("a delivered file");
    press.stop();
    world.stop_broker();
    press.environment = ahead;
    press.start();
    // Nobody says which clock is wrong: the certificates' end beside the time of this one has to.
    let status = press.until_status("out of its certificates", |status| {
        status["stopped"] == false
            && status["broker"]["asked"] == true
            && status["broker"]["reachable"] == false
    });
    let problem = status["problem"].as_str().unwrap_or_default();
    assert!(problem.starts_with("the certificates ended at 20"), "{status:#}");
    assert!(
        problem.contains("the clock here shows 20") && problem.contains("if the clock is wrong, set it"),
        "{status:#}"
    );
    assert!(problem.contains(world.address()), "why nobody answered: {status:#}");
    assert_eq!(press.attestor("status", &[]).status.code(), Some(1));
    world.start_broker();
    let status = press.until_status("at odds with the clock", |status| {
        status["problem"]
            .as_str()
            .is_some_and(|problem| problem.contains("mend the time source of this device"))
    });
    assert!(status["state"] != "trusted" && status["state"] != "holding", "{status:#}");
    assert_eq!(std::fs::read(press.delivered("press", "caller.pem")).expect("a delivered file"), delivered);
    press.stop();
    press.environment = Default::default();
    press.start();
    let status = press
        .until_status("trusted again", |status| status["state"] == "trusted" && status["stopped"] == false);
    assert_eq!(serials(&status), serials(&trusted), "what it held holds");
}
