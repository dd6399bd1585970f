//! Nothing acknowledged is lost, and devices live without the broker.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::thread;
use std::time::Duration;

use e2e::{Device, World, until};
use serde_json::Value;

/// How often the broker, or the attestor, is killed, unless `TOUCHSTONE_KILLS` says otherwise.
const KILLS: u64 = 10;
/// The broker lives at least and at most about this long between two kills, in milliseconds.
const LIFE: std::ops::Range<u64> = 50..650;

/// The attestor is killed at most so many milliseconds after it was given something to do.
const AT_WORK: u64 = 500;

fn kills() -> u64 {
    std::env::var("TOUCHSTONE_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS)
}

/// A moment of a round, below `end` milliseconds.
fn moment(round: u64, end: u64) -> Duration {
    Duration::from_millis(RandomState::new().hash_one(round) % end)
}

/// What the administrator was told is done.
#[derive(Default)]
struct Acknowledged {
    zones: BTreeSet<String>,
    conduits: BTreeSet<String>,
    tokens: usize,
    counter: u64,
}

impl Acknowledged {
    /// Works until the broker does not answer any more.
    fn work(&mut self, world: &World, round: u64) {
        for n in 0.. {
            let zone = format!("zone-{round}-{n}");
            if world.tool(&["zone", "create", &zone, "--product", "edge-box"]).code != 0 {
                return;
            }
            self.zones.insert(zone.clone());
            let conduit = ["conduit", "allow", "--from", &zone, "--to", "zone-first", "--service", "opcua"];
            if world.tool(&conduit).code != 0 {
                return;
            }
            self.conduits.insert(zone.clone());
            if world.tool(&["token", "create", "--zone", &zone]).code != 0 {
                return;
            }
            self.tokens += 1;
            // Asked to prove itself, the device attests while the next things are done.
            if world.tool(&["device", "attest", "press-1"]).code != 0 {
                return;
            }
            let device = world.tool(&["device", "show", "press-1"]);
            if device.code != 0 {
                return;
            }
            self.counter = device.json["attestation_counter"].as_u64().expect("a counter");
        }
    }

    fn assert_there(&self, world: &World) {
        let names = |list: &Value, key: &str| -> BTreeSet<String> {
            let list = list.as_array().expect("a list").iter();
            list.map(|one| one[key].as_str().expect("a name").to_owned()).collect()
        };
        let zones = names(&world.admin("zone list")["zones"], "name");
        assert!(self.zones.is_subset(&zones), "lost zones: {:?}", self.zones.difference(&zones));
        let conduits = names(&world.admin("conduit list")["conduits"], "from");
        assert!(
            self.conduits.is_subset(&conduits),
            "lost conduits: {:?}",
            self.conduits.difference(&conduits)
        );
        let events = world.admin("audit list --limit 1000");
        let events = events["events"].as_array().expect("events");
        let tokens = events.iter().filter(|event| event["action"] == "token.create").count();
        assert!(tokens >= self.tokens, "{tokens} tokens of {} are in the audit", self.tokens);
        let counter = world.admin("device show press-1")["attestation_counter"].as_u64();
        assert!(counter >= Some(self.counter), "the counter went back from {} to {counter:?}", self.counter);
    }
}

#[test]
fn a_broker_that_is_killed_comes_back_with_everything_it_acknowledged() {
    let Some((mut world, [mut press])) = World::with_devices(["press-1"]) else { return };
    world.admin("zone create press --mode observe --reattest-every 10s");
    world.admin("zone create zone-first --product edge-box");
    world.register(&press, "press");
    press.measure("boot-a");
    press.start();
    press.until_state("trusted");
    let mut acknowledged = Acknowledged::default();
    for round in 0..kills() {
        let life = Duration::from_millis(LIFE.start) + moment(round, LIFE.end - LIFE.start);
        let killer = world.kill_broker_after(life);
        acknowledged.work(&world, round);
        killer.join().expect("the broker is killed");
        world.start_broker();
        acknowledged.assert_there(&world);
    }
    assert!(!acknowledged.zones.is_empty(), "the broker was never up long enough to acknowledge anything");
    let asked = world.admin("device show press-1")["attestation_counter"].as_u64();
    press.until_status("trusted and attesting again", |status| {
        let counter = || world.admin("device show press-1")["attestation_counter"].as_u64();
        status["state"] == "trusted" && status["broker"]["reachable"] == true && counter() > asked
    });
}

fn serials(status: &Value) -> Vec<&str> {
    let list = status["certificates"].as_array().expect("certificates");
    list.iter().map(|one| one["serial"].as_str().expect("a serial")).collect()
}

#[test]
fn a_device_whose_broker_is_away_holds_its_certificates_and_says_how_long() {
    let Some((mut world, [mut press])) = World::with_devices(["press-1"]) else { return };
    world.admin("zone create press --mode observe --reattest-every 10s");
    world.register(&press, "press");
    press.measure("boot-a");
    press.start();
    let trusted = press.until_state("trusted");
    assert_eq!(serials(&trusted).len(), 2);

    world.stop_broker();
    let holds = |status: &Value| status["state"] == "holding" && status["broker"]["reachable"] == false;
    let holding = press.until_status("holding", holds);
    assert_eq!(serials(&holding), serials(&trusted));
    for certificate in holding["certificates"].as_array().expect("certificates") {
        // outlive_broker is 8 h, a certificate lives 1.5 times as long.
        assert!(certificate["hours_left"].as_u64() >= Some(8), "{certificate:#}");
    }

    press.stop();
    press.start();
    let again =
        press.until_status("holding after a restart", |status| holds(status) && status["stopped"] == false);
    assert_eq!(serials(&again), serials(&trusted));
    assert!(press.delivered("press", "caller.pem").is_file());

    world.start_broker();
    press.until_state("trusted");
}

#[test]
fn an_attestor_that_is_killed_comes_back_as_it_was_and_does_what_it_was_told() {
    let Some((world, [mut press])) = World::with_devices(["press-1"]) else { return };
    world.admin("zone create press --mode observe");
    world.admin("zone create scada --mode observe");
    press.offer("opcua");
    world.register(&press, "press");
    press.measure("boot-a");
    press.start();
    press.until_state("trusted");
    let inbound = |press: &Device| {
        fs::read_to_string(press.delivered("press", "services/opcua/inbound.pem")).unwrap_or_default()
    };
    let closed = inbound(&press);
    assert!(closed.contains("BEGIN CERTIFICATE"), "nobody is let in, by name: {closed}");
    let way = "--from scada --to press --service opcua";
    let mut open = None;
    for round in 0..kills() {
        let opens = round % 2 == 0;
        // It has files to write and a proof to give when its power is cut.
        world.admin(&format!("conduit {} {way}", if opens { "allow" } else { "close" }));
        world.admin("device attest press-1");
        // No condition to wait for: any moment must do.
        thread::sleep(moment(round, AT_WORK));
        press.cut_power();
        press.start();
        let status = press.until_status("trusted and watching", |status| {
            status["state"] == "trusted" && status["broker"]["watching"] == true
        });
        assert_eq!(status["problem"], Value::Null, "round {round}: {status:#}");
        let seen = until("the conduit is as it was left", || match inbound(&press) {
            seen if opens == (seen == closed) => Err(seen),
            seen => Ok(seen),
        });
        if opens {
            assert_eq!(*open.get_or_insert(seen.clone()), seen, "round {round}");
        }
    }
}
