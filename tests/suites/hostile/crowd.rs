//! A crowd before the port: strangers who only hold their connections do not keep a device or a person out, whether the
//! broker has places for all of them or for few.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::sync::{Mutex, PoisonError};

use e2e::{Device, World, until};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::floods::{GROWTH, memory, proves_itself};

/// Places of a port that is full.
const PLACES: usize = 64;
/// Far more strangers than places.
const CROWD: usize = 10_000;
/// They come in so many parts, of which each fills the port.
const PARTS: usize = 4;
/// Files that this process and the broker have open besides connections.
const OTHERS: usize = 2_000;

/// One crowd at a time: two are more files than a process may have.
static CROWDED: Mutex<()> = Mutex::new(());

/// Allows this process, and the broker that it starts, a file for each connection; how many strangers that is. None if each
/// part of them would find places in a port that is to be full.
fn crowd() -> Option<usize> {
    let needed = u64::try_from(CROWD + OTHERS).expect("a small number");
    let limits = getrlimit(Resource::Nofile);
    let granted = limits.maximum.map_or(needed, |most| most.min(needed));
    if limits.current.is_some_and(|current| current < granted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(granted), ..limits })
            .expect("below the hard limit");
    }
    let strangers = usize::try_from(granted).expect("a small number").saturating_sub(OTHERS);
    if strangers < PARTS * PLACES {
        eprintln!(
            "skipped: {strangers} connections are no crowd; `ulimit -Hn {}` as root allows enough files",
            OTHERS + CROWD
        );
        return None;
    }
    if strangers < CROWD {
        eprintln!(
            "skipped in part: {strangers} connections and not {CROWD}, `ulimit -Hn` allows no more files"
        );
    }
    Some(strangers)
}

/// A plant with a device that is trusted; `limits` is added to the broker's configuration.
fn plant(limits: &str) -> Option<(World, Device)> {
    let (mut world, [mut press]) = World::with_devices(["press-1"])?;
    world.stop_broker();
    world.plant.add_end(limits);
    world.start_broker();
    world.admin("zone create press --mode observe");
    world.register(&press, "press");
    press.measure("boot-a");
    press.start();
    press.until_state("trusted");
    Some((world, press))
}

fn connect(world: &World, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| TcpStream::connect(world.address()).expect("the broker listens")).collect()
}

#[test]
fn a_device_proves_itself_in_a_crowd_of_strangers() {
    let _alone = CROWDED.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(count) = crowd() else { return };
    let Some((world, press)) = plant(&format!("[limits]\nconnections = {PLACES}\n")) else { return };
    let before = memory(&world);
    let mut strangers = Vec::new();
    for _ in 0..PARTS {
        strangers.extend(connect(&world, count / PARTS));
        proves_itself(&world, &press);
    }
    let grown = memory(&world).saturating_sub(before) >> 20;
    eprintln!("{} strangers, {PLACES} places: at most {grown} MiB more", strangers.len());
    assert!(grown < GROWTH >> 20, "the broker needed {grown} MiB more");
    assert_eq!(world.admin("device show press-1")["state"], "trusted");
}

#[test]
fn a_crowd_that_finds_places_costs_little_and_is_sent_away_when_it_says_nothing() {
    let _alone = CROWDED.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(count) = crowd() else { return };
    let Some((world, press)) = plant("") else { return };
    let before = memory(&world);
    let strangers = connect(&world, count);
    proves_itself(&world, &press);
    let grown = memory(&world).saturating_sub(before) >> 20;
    eprintln!("{count} strangers at once: at most {grown} MiB more");
    assert!(grown < GROWTH >> 20, "the broker needed {grown} MiB more");
    // Nobody is waited for longer than a handshake takes.
    for stranger in &strangers {
        until("a stranger is sent away", || match ended(stranger) {
            true => Ok(()),
            false => Err("its connection is open".to_owned()),
        });
    }
}

/// Whether the broker ended the connection.
fn ended(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("a socket");
    let mut stream = stream;
    match stream.read(&mut [0; 64]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}
