//! A broker that hangs while a device waits for it: connected, alive for the network, and silent.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use e2e::{Device, Passing, World, relay, until};
use serde_json::Value;

/// Bytes of a device after which it is past its handshake, and not yet at the end of its evidence.
const IN_THE_MIDDLE: usize = 3_000;
/// Nothing hangs.
const NEVER: usize = usize::MAX;

/// Stands between device and broker until it relays no more: its connections stay, and nothing comes over them.
struct Relay {
    address: String,
    hold: Arc<Hold>,
}

struct Hold {
    /// It hangs once one connection has brought more bytes than this.
    after: usize,
    brought: Mutex<BTreeMap<usize, usize>>,
    hangs: AtomicBool,
}

impl Relay {
    fn before(broker: &str, after: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let hold = Arc::new(Hold { after, brought: Mutex::default(), hangs: false.into() });
        let shared = Arc::clone(&hold);
        let address = relay(listener, broker.parse().expect("an address"), move |it| shared.pass(it));
        Self { address: address.to_string(), hold }
    }

    fn hang(&self) {
        self.hold.hangs.store(true, SeqCst);
    }

    fn hangs(&self) -> bool {
        self.hold.hangs.load(SeqCst)
    }
}

impl Hold {
    fn pass(&self, it: Passing) {
        if !it.to_device {
            let mut all = self.brought.lock().expect("counts");
            let brought = all.entry(it.connection).or_default();
            *brought += it.bytes;
            if *brought > self.after {
                self.hangs.store(true, SeqCst);
            }
        }
        while self.hangs.load(SeqCst) {
            thread::park();
        }
    }
}

fn plant(after: usize) -> Option<(World, Device, Relay)> {
    let (world, [mut press]) = World::with_devices(["press-1"])?;
    world.admin("zone create press --mode observe --reattest-every 5s");
    world.register(&press, "press");
    press.measure("boot-a");
    let relay = Relay::before(world.address(), after);
    let tpm = press.tpm().to_string();
    press.go_through(&relay.address, &tpm);
    press.add_top(&format!("other_brokers = [\"{}\"]\n", world.address()));
    Some((world, press, relay))
}

/// The broker's first request of the device hangs in the middle: it is asked whether it lives, and left.
#[test]
fn a_broker_that_hangs_in_the_middle_of_a_call_is_left_for_another() {
    let Some((_world, mut press, relay)) = plant(IN_THE_MIDDLE) else { return };
    press.start();
    let began = Instant::now();
    press.until_state("trusted");
    println!("left a broker that hung in the middle of a call, and trusted, within {:.1?}", began.elapsed());
    assert!(relay.hangs(), "the device was served before the relay hung");
    let log = press.log();
    assert!(log.contains("does not answer: operation timed out"), "{log}");
}

/// The Watch that it has open there would tell it nothing more, and is opened at the other.
#[test]
fn a_broker_that_does_not_answer_is_not_watched() {
    let Some((world, mut press, relay)) = plant(NEVER) else { return };
    press.start();
    let watches = |status: &Value| status["state"] == "trusted" && status["broker"]["watching"] == true;
    press.until_status("watching", watches);
    relay.hang();
    until("it watches another", || {
        let log = press.log();
        log.contains("watching another").then_some(()).ok_or(log)
    });
    press.until_status("watching the other", watches);
    let counter = || world.admin("device show press-1")["attestation_counter"].as_u64().expect("a counter");
    let before = counter();
    world.admin("device attest press-1");
    until("it proved itself", || Some(()).filter(|()| counter() > before).ok_or_else(|| press.last_words()));
}
