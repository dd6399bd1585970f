//! What an exchange costs the broker, beside its floor.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use attestor::client::{BrokerClient, Connection};

use crate::client::client;
use crate::device::Kind;
use crate::floor::{self, Bare, Said};
use crate::load::{Shared, each};
use crate::report::{Figure, micros};
use crate::server::Server;

/// Devices at once: as many as keep two cores busy, and share their writes.
const AT_ONCE: usize = 16;
/// Handshakes at once, where they are not measured.
const CONNECTING: usize = 64;
/// Devices that take part, and exchanges that are measured at least: the kernel counts in hundredths of a second.
const DEVICES: usize = if cfg!(debug_assertions) { 20 } else { 500 };
const EXCHANGES: usize = if cfg!(debug_assertions) { 20 } else { 1_000 };

/// Names of the figures, and what is promised of them.
const FIGURES: [(Kind, bool, &str, f64); 4] = [
    (Kind::Reattest, false, "reattest_existing_connection", 1.5),
    (Kind::Reattest, true, "reattest_with_handshake", 1.8),
    (Kind::Replace, false, "replace_existing_connection", 1.5),
    (Kind::Replace, true, "replace_with_handshake", 1.8),
];

/// Measures every kind of exchange, and prints it.
pub async fn measure(dir: &Path, broker: &Server, devices: &[Shared]) {
    let devices = &devices[..devices.len().min(DEVICES)];
    let here = client(dir, broker.address());
    reattest_micros(broker, &here, devices, false).await;
    for kind in [Kind::Reattest, Kind::Replace] {
        let connection = here.connect(0).await.expect("the broker answers");
        let said = Arc::new(Said::record(&mut *devices[0].lock().await, &connection, kind).await);
        if kind == Kind::Replace {
            bare(&said);
        }
        let folder = tempfile::tempdir_in(dir).expect("a folder of the run");
        let least = floor::start(&folder.path().join("floor"), &said, devices.len()).await;
        let there = client(&folder.path().join("floor"), least.address());
        for (_, handshake, name, most) in FIGURES.into_iter().filter(|figure| figure.0 == kind) {
            // A device may have a few certificates in an hour.
            let rounds = if kind == Kind::Replace { 1 } else { EXCHANGES.div_ceil(devices.len()) };
            let cost = broker_micros(broker, &here, devices, (kind, handshake, rounds)).await;
            let floor = floor_micros(&least, &there, &said, (devices.len(), handshake, rounds)).await;
            Figure::new(name, cost, "us of processor").over(floor).at_most(most).print();
        }
        if kind == Kind::Reattest {
            // What the same costs with the log that the broker has already.
            for device in devices {
                device.lock().await.sends_log = true;
            }
            let rounds = EXCHANGES.div_ceil(devices.len());
            let whole = broker_micros(broker, &here, devices, (kind, false, rounds)).await;
            Figure::new("reattest_with_log", whole, "us of processor").print();
            for device in devices {
                device.lock().await.sends_log = false;
            }
        }
        drop(least);
    }
}

/// What re-attestation costs the broker, in microseconds of processor each, by some of `devices`.
pub async fn reattest_micros(
    broker: &Server,
    client: &BrokerClient,
    devices: &[Shared],
    handshake: bool,
) -> f64 {
    // From all zones, and from all parts of the store.
    let some: Vec<Shared> = devices.iter().step_by(devices.len().div_ceil(DEVICES)).cloned().collect();
    let rounds = EXCHANGES.div_ceil(some.len());
    broker_micros(broker, client, &some, (Kind::Reattest, handshake, rounds)).await
}

async fn broker_micros(
    broker: &Server,
    client: &BrokerClient,
    devices: &[Shared],
    (kind, handshake, rounds): (Kind, bool, usize),
) -> f64 {
    let open = connections(client, devices.len(), handshake).await;
    let before = broker.processor_time();
    for _ in 0..rounds {
        let work = |(device, open): (Shared, Option<Connection>)| {
            let client = client.clone();
            async move {
                let connection = opened(&client, open).await;
                device.lock().await.attest(&connection, kind).await.expect("it is trusted");
            }
        };
        each(devices.iter().cloned().zip(open.clone()), AT_ONCE, work).await;
    }
    let spent = broker.processor_time().saturating_sub(before);
    micros(spent) / (devices.len() * rounds) as f64
}

async fn floor_micros(
    least: &Server,
    client: &BrokerClient,
    said: &Arc<Said>,
    (devices, handshake, rounds): (usize, bool, usize),
) -> f64 {
    let open = connections(client, devices, handshake).await;
    let before = least.processor_time();
    for _ in 0..rounds {
        let work = |open: Option<Connection>| {
            let (client, said) = (client.clone(), Arc::clone(said));
            async move { said.again(&opened(&client, open).await).await }
        };
        each(open.clone(), AT_ONCE, work).await;
    }
    let spent = least.processor_time().saturating_sub(before);
    micros(spent) / (devices * rounds) as f64
}

/// Open connections, or none where handshakes are part of what is measured.
async fn connections(client: &BrokerClient, count: usize, handshake: bool) -> Vec<Option<Connection>> {
    if handshake {
        return vec![None; count];
    }
    let connect = |_| {
        let client = client.clone();
        async move { Some(client.connect(0).await.expect("the server answers")) }
    };
    each(0..count, CONNECTING, connect).await
}

async fn opened(client: &BrokerClient, open: Option<Connection>) -> Connection {
    match open {
        Some(connection) => connection,
        None => client.connect(0).await.expect("the server answers"),
    }
}

/// Prints what the bare operations of the floor take.
fn bare(said: &Said) {
    const TIMES: u32 = if cfg!(debug_assertions) { 10 } else { 2_000 };
    let bare = Bare::said(said);
    let print = |name, work: &dyn Fn()| {
        let begin = Instant::now();
        (0..TIMES).for_each(|_| work());
        Figure::new(name, micros(begin.elapsed()) / f64::from(TIMES), "us").print();
    };
    print("floor_verify", &|| bare.verify());
    print("floor_sign", &|| bare.sign());
    print("floor_hash", &|| bare.hash());
    print("floor_seal", &|| bare.seal());
}
