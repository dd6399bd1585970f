//! Connections as they come in: bounded in all, and while nothing is known of them by where they come from.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Gate, Host, session};

/// Handshakes at once from one address: who says nothing takes no place from others for long.
const WAITING_EACH: usize = 64;
/// Bits of an IPv6 address that one network has for itself.
const NETWORK: u128 = u128::MAX << 64;
/// Pause after an accept that failed, out of file descriptors say: the next would fail at once too.
const PAUSE: Duration = Duration::from_millis(100);

/// Places for connections.
#[derive(Debug)]
pub(super) struct Arrivals {
    all: Arc<Semaphore>,
    waiting: Arc<Mutex<BTreeMap<IpAddr, Here>>>,
}

/// What comes from one address: how many handshakes are under way, and whose turn it is to let the TPM sign. One at a
/// time, so that whoever begins many takes no more turns than others do.
#[derive(Debug)]
struct Here {
    count: usize,
    turn: Arc<Semaphore>,
}

/// A connection's place among all, held until it is over.
#[derive(Debug)]
pub(super) struct Connection(#[expect(dead_code, reason = "held, not used")] OwnedSemaphorePermit);

/// The place of an address among those whose handshake is under way.
#[derive(Debug)]
pub(super) struct Waiting {
    waiting: Arc<Mutex<BTreeMap<IpAddr, Here>>>,
    from: IpAddr,
    turn: Arc<Semaphore>,
}

impl Waiting {
    /// The turn of its address.
    pub(super) fn turn(&self) -> &Semaphore {
        &self.turn
    }
}

impl Arrivals {
    pub(super) fn new(all: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), waiting: Arc::default() }
    }

    /// Places for a connection from this address, or the word for what is full.
    fn take(&self, from: IpAddr) -> Result<(Connection, Waiting), &'static str> {
        let all = Arc::clone(&self.all).try_acquire_owned().map_err(|_| "too-many-connections")?;
        let from = network(from);
        let mut waiting = lock(&self.waiting);
        let none = || Here { count: 0, turn: Arc::new(Semaphore::new(1)) };
        let here = waiting.entry(from).or_insert_with(none);
        if here.count >= WAITING_EACH {
            return Err("too-many-handshakes");
        }
        here.count = here.count.saturating_add(1);
        let turn = Arc::clone(&here.turn);
        Ok((Connection(all), Waiting { waiting: Arc::clone(&self.waiting), from, turn }))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut waiting = lock(&self.waiting);
        match waiting.get_mut(&self.from) {
            Some(here) if here.count > 1 => here.count = here.count.saturating_sub(1),
            _ => drop(waiting.remove(&self.from)),
        }
    }
}

/// What counts as one address: of IPv6 the network, for its hosts choose theirs.
fn network(from: IpAddr) -> IpAddr {
    match from {
        IpAddr::V6(address) if address.to_ipv4_mapped().is_none() => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & NETWORK))
        }
        other => other,
    }
}

fn lock(waiting: &Mutex<BTreeMap<IpAddr, Here>>) -> MutexGuard<'_, BTreeMap<IpAddr, Here>> {
    // Each change is one insert or remove: nothing can be half done.
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Accepts for ever.
pub(super) async fn serve<H: Host>(gate: Arc<Gate<H>>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, from)) => arrive(&gate, stream, from.ip()),
            Err(error) => {
                tracing::warn!(gate = gate.config.name, %error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn arrive<H: Host>(gate: &Arc<Gate<H>>, stream: TcpStream, from: IpAddr) {
    match gate.arrivals.take(from) {
        Ok((connection, waiting)) => {
            tokio::spawn(session::begin(Arc::clone(gate), stream, from, connection, waiting));
        }
        Err(code) => {
            let why = match code {
                "too-many-handshakes" => {
                    "its address has as many handshakes under way as one may; see what runs there"
                }
                _ => {
                    "no place is left; let sessions end, or raise `connections` of the gate in attestor.toml"
                }
            };
            gate.refuse(from, code, &why);
            drop(stream.set_zero_linger());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_one_turn_at_a_time_and_hosts_of_a_network_share_it() {
        let arrivals = Arrivals::new(10);
        let [one, neighbour, other, plain] = ["fd00::1", "fd00::2", "fd00:0:0:1::1", "10.0.0.1"]
            .map(|text| arrivals.take(text.parse().unwrap()).unwrap().1);
        let turn = one.turn().try_acquire().unwrap();
        assert!(neighbour.turn().try_acquire().is_err(), "the network has its turn");
        assert!(other.turn().try_acquire().is_ok() && plain.turn().try_acquire().is_ok());
        drop(turn);
        assert!(neighbour.turn().try_acquire().is_ok());
    }

    #[test]
    fn one_address_has_its_share_and_all_have_the_whole() {
        let arrivals = Arrivals::new(WAITING_EACH + 2);
        let [one, other] = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse().unwrap());
        let mut held: Vec<_> = (0..WAITING_EACH).map(|_| arrivals.take(one).unwrap()).collect();
        assert_eq!(arrivals.take(one).unwrap_err(), "too-many-handshakes");
        let _two = [arrivals.take(other).unwrap(), arrivals.take(other).unwrap()];
        assert_eq!(arrivals.take(other).unwrap_err(), "too-many-connections");
        let (connection, waiting) = held.pop().unwrap();
        drop(waiting);
        assert_eq!(arrivals.take(one).unwrap_err(), "too-many-connections", "the connection lives on");
        drop(connection);
        assert!(arrivals.take(one).is_ok());
    }
}
