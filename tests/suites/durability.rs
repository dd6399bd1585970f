//! Nothing acknowledged is lost, and devices live without the broker.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::thread;
use std::time::{Duration, Instant};

use e2e::{Device, World, until};
use serde_json::Value;

/// How often the broker, or the attestor, is killed, unless `TOUCHSTONE_KILLS` says otherwise: hundreds of times take some
/// minutes.
const KILLS: u64 = 40;
/// The broker lives at least and at most about this long between two kills, in milliseconds.
const LIFE: std::ops::Range<u64> = 50..650;

/// The attestor is killed at most so many milliseconds after it was given something to do: it does most of it in less.
const AT_WORK: u64 = 60;

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
    /// Zones for which there is a token, of this round.
    tokens: BTreeSet<String>,
    counter: u64,
}

/// A command that was not answered.
struct Cut {
    command: String,
    begun: Instant,
}

impl Acknowledged {
    /// Works until the broker does not answer any more; what it was asked then.
    fn work(&mut self, world: &World, round: u64) -> Cut {
        self.tokens.clear();
        let told = |command: &str| {
            let begun = Instant::now();
            let answer = world.tool(&command.split(' ').collect::<Vec<_>>());
            match answer.code {
                0 => Ok(answer.json),
                _ => Err(Cut { command: command.to_owned(), begun }),
            }
        };
        let mut step = |n: u64| -> Result<(), Cut> {
            let zone = format!("zone-{round}-{n}");
            told(&format!("zone create {zone} --product edge-box"))?;
            self.zones.insert(zone.clone());
            told(&format!("conduit allow --from {zone} --to zone-first --service opcua"))?;
            self.conduits.insert(zone.clone());
            told(&format!("token create --zone {zone}"))?;
            self.tokens.insert(zone);
            // Asked to prove itself, the device attests while the next things are done.
            told("device attest press-1")?;
            let device = told("device show press-1")?;
            self.counter = device["attestation_counter"].as_u64().expect("a counter");
            Ok(())
        };
        (0..).find_map(|n| step(n).err()).expect("the broker is killed")
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
        let events = world.admin("audit list --action token.create --limit 1000");
        let events = events["events"].as_array().expect("events").iter().map(Value::to_string);
        let events: Vec<String> = events.collect();
        let of_zone = |zone: &str| events.iter().any(|event| event.contains(zone));
        let lost = self.tokens.iter().find(|zone| !of_zone(zone));
        assert_eq!(lost, None, "the token for this zone is not in the audit");
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
    let (mut acknowledged, mut inside, begun) = (Acknowledged::default(), 0, Instant::now());
    for round in 0..kills() {
        let life = Duration::from_millis(LIFE.start) + moment(round, LIFE.end - LIFE.start);
        let killer = world.kill_broker_after(life);
        let Cut { command, begun } = acknowledged.work(&world, round);
        let killed = killer.join().expect("the broker is killed");
        if let Some(at) = killed.checked_duration_since(begun).filter(|_| !command.starts_with("device show"))
        {
            eprintln!("killed {at:.1?} into `{command}`");
            inside += 1;
        }
        world.start_broker();
        acknowledged.assert_there(&world);
    }
    let each = begun.elapsed() / u32::try_from(kills()).expect("a small number").max(1);
    eprintln!("{inside} of {} kills fell into a change that was under way; {each:.1?} each", kills());
    assert!(inside > 0, "no kill fell into a change");
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
    let (mut open, mut proving, mut delivering, begun) = (None, 0, 0, Instant::now());
    let proofs = || world.admin("device show press-1")["attestation_counter"].as_u64();
    for round in 0..kills() {
        let opens = round % 2 == 0;
        // It has files to write and a proof to give when its power is cut.
        let (proofs_before, files_before) = (proofs(), inbound(&press));
        let mut tasks = [
            format!("conduit {} {way}", if opens { "allow" } else { "close" }),
            "device attest press-1".to_owned(),
        ];
        // What it is told last is what it is most likely killed at.
        if round % 4 < 2 {
            tasks.reverse();
        }
        tasks.iter().for_each(|task| drop(world.admin(task)));
        // No condition to wait for: any moment must do.
        let wait = moment(round, AT_WORK);
        thread::sleep(wait);
        press.cut_power();
        // What it had not ended yet it was at, or about to be.
        let at_work = [("a proof", proofs() == proofs_before), ("files", inbound(&press) == files_before)];
        eprintln!("killed {wait:?} after it was asked: {at_work:?}");
        proving += u64::from(at_work[0].1);
        delivering += u64::from(at_work[1].1);
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
    let each = begun.elapsed() / u32::try_from(kills()).expect("a small number").max(1);
    eprintln!(
        "of {} kills {proving} fell before a proof was done, {delivering} before files were; {each:.1?} each",
        kills()
    );
    assert!(proving + delivering > 0, "no kill fell into work");
}
