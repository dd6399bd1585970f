//! Proxies before TPM and broker that count how long the attestor waited for each.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use attestor::tpm::TpmAddress;
use e2e::{Passing, relay};

/// Those before one device's TPM and its broker.
pub(crate) struct Proxies {
    pub(crate) tpm: TpmProxy,
    pub(crate) broker: BrokerProxy,
}

/// Before both channels of a software TPM; commands go over the first.
pub(crate) struct TpmProxy {
    port: u16,
    pub(crate) commands: Turns,
}

pub(crate) struct BrokerProxy {
    port: u16,
    pub(crate) turns: Turns,
}

impl Proxies {
    pub(crate) fn before(broker: &str, tpm: &TpmAddress) -> Self {
        let TpmAddress::Swtpm(tpm) = *tpm else { panic!("tests have software TPMs") };
        let (commands, control) = pair();
        drop(serve(control, SocketAddr::new(tpm.ip(), tpm.port() + 1)));
        let tpm = TpmProxy { port: port(&commands), commands: serve(commands, tpm) };
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let broker = BrokerProxy {
            port: port(&listener),
            turns: serve(listener, broker.parse().expect("an address")),
        };
        Self { tpm, broker }
    }
}

impl TpmProxy {
    /// Where it is, for the attestor's configuration.
    pub(crate) fn swtpm(&self) -> String {
        format!("swtpm:host=127.0.0.1,port={}", self.port)
    }
}

impl BrokerProxy {
    /// Where it is.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

/// How often and how long somebody waited for an answer.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Waited {
    pub(crate) turns: u32,
    pub(crate) time: Duration,
}

/// Everything that passed a proxy. A turn begins with the first byte of a request and ends with the first of its answer.
#[derive(Clone, Default)]
pub(crate) struct Turns(Arc<Mutex<Vec<Passing>>>);

impl Turns {
    pub(crate) fn waited(&self) -> Waited {
        self.waited_until(Instant::now())
    }

    /// The same of the turns that had ended `by` then.
    pub(crate) fn waited_until(&self, by: Instant) -> Waited {
        let mut asked = BTreeMap::new();
        let mut sum = Waited::default();
        for passing in self.passed().iter().filter(|passing| passing.at <= by) {
            if !passing.to_device {
                asked.entry(passing.connection).or_insert(passing.at);
            } else if let Some(since) = asked.remove(&passing.connection) {
                sum.turns += 1;
                sum.time += passing.at - since;
            }
        }
        sum
    }

    pub(crate) fn passed(&self) -> Vec<Passing> {
        self.0.lock().expect("nobody panics with it").clone()
    }

    pub(crate) fn reset(&self) {
        self.0.lock().expect("nobody panics with it").clear();
    }

    /// Bytes that went to the broker.
    pub(crate) fn sent(&self) -> usize {
        self.passed().iter().filter(|passing| !passing.to_device).map(|passing| passing.bytes).sum()
    }
}

/// A free port and its successor.
fn pair() -> (TcpListener, TcpListener) {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").expect("a port");
        if let Ok(second) = TcpListener::bind(("127.0.0.1", port(&first).saturating_add(1))) {
            return (first, second);
        }
    }
}

fn port(listener: &TcpListener) -> u16 {
    listener.local_addr().expect("it is bound").port()
}

fn serve(listener: TcpListener, target: SocketAddr) -> Turns {
    let turns = Turns::default();
    let seen = turns.clone();
    relay(listener, target, move |passing| seen.0.lock().expect("nobody panics with it").push(passing));
    turns
}
