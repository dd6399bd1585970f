//! A broker that hangs while a device waits for it: connected, alive for the network, and silent.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use e2e::{Device, World, until};
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
    after: AtomicUsize,
    hangs: AtomicBool,
    /// So that nobody hears them end.
    open: Mutex<Vec<TcpStream>>,
}

impl Relay {
    fn before(broker: &str, after: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let hold = Hold { after: after.into(), hangs: false.into(), open: Mutex::default() };
        let (hold, broker) = (Arc::new(hold), broker.to_owned());
        let shared = Arc::clone(&hold);
        thread::spawn(move || {
            for device in listener.incoming() {
                shared.relay(&device.expect("a connection"), &broker);
            }
        });
        Self { address, hold }
    }

    fn hang(&self) {
        self.hold.hangs.store(true, Ordering::SeqCst);
    }

    fn hangs(&self) -> bool {
        self.hold.hangs.load(Ordering::SeqCst)
    }
}

impl Hold {
    fn relay(self: &Arc<Self>, device: &TcpStream, broker: &str) {
        let broker = TcpStream::connect(broker).expect("the broker listens");
        let twin = |stream: &TcpStream| stream.try_clone().expect("a socket can be shared");
        self.open.lock().expect("sockets").extend([twin(device), twin(&broker)]);
        for (from, to, counts) in [(device, &broker, true), (&broker, device, false)] {
            let (from, to, hold) = (twin(from), twin(to), Arc::clone(self));
            thread::spawn(move || hold.copy(from, to, counts));
        }
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream, counts: bool) {
        let (mut buffer, mut brought) = ([0; 16 << 10], 0);
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            brought += read;
            if counts && brought > self.after.load(Ordering::SeqCst) {
                self.hangs.store(true, Ordering::SeqCst);
            }
            if self.hangs.load(Ordering::SeqCst) || to.write_all(&buffer[..read]).is_err() {
                return;
            }
        }
        drop(to.shutdown(std::net::Shutdown::Both));
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
