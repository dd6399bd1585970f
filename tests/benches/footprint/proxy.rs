//! Proxies before TPM and broker that count how long the attestor waited for each.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use attestor::tpm::TpmAddress;

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

/// Something that passed: over which connection, counted from the first, which way, how many bytes, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Passed {
    pub(crate) connection: usize,
    pub(crate) to_device: bool,
    pub(crate) bytes: usize,
    pub(crate) at: Instant,
}

/// The turns of all connections of a proxy, each with its end, and everything that passed.
#[derive(Clone, Default)]
pub(crate) struct Turns(Arc<Mutex<Seen>>);

/// What a proxy saw.
#[derive(Default)]
struct Seen {
    /// The end of each turn, and how long it was.
    turns: Vec<(Instant, Duration)>,
    passed: Vec<Passed>,
}

impl Turns {
    pub(crate) fn waited(&self) -> Waited {
        self.waited_until(Instant::now())
    }

    /// The same of the turns that had ended `by` then.
    pub(crate) fn waited_until(&self, by: Instant) -> Waited {
        let all = self.0.lock().expect("nobody panics with it");
        let ended = all.turns.iter().filter(|(end, _)| *end <= by);
        ended
            .fold(Waited::default(), |sum, (_, time)| Waited { turns: sum.turns + 1, time: sum.time + *time })
    }

    pub(crate) fn passed(&self) -> Vec<Passed> {
        self.0.lock().expect("nobody panics with it").passed.clone()
    }

    pub(crate) fn reset(&self) {
        *self.0.lock().expect("nobody panics with it") = Seen::default();
    }

    fn add(&self, time: Duration) {
        self.0.lock().expect("nobody panics with it").turns.push((Instant::now(), time));
    }

    /// Bytes that went to the broker.
    pub(crate) fn sent(&self) -> usize {
        self.passed().iter().filter(|passed| !passed.to_device).map(|passed| passed.bytes).sum()
    }

    fn pass(&self, connection: usize, to_device: bool, bytes: usize) {
        let passed = Passed { connection, to_device, bytes, at: Instant::now() };
        self.0.lock().expect("nobody panics with it").passed.push(passed);
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
    let counted = turns.clone();
    thread::spawn(move || {
        for (connection, client) in listener.incoming().flatten().enumerate() {
            // A target that is away is for the client to notice.
            let Ok(server) = TcpStream::connect(target) else { continue };
            connect(connection, client, server, &counted);
        }
    });
    turns
}

/// A turn begins with the first byte of a request and ends with the first of its answer.
fn connect(connection: usize, client: TcpStream, server: TcpStream, turns: &Turns) {
    for side in [&client, &server] {
        side.set_nodelay(true).expect("a socket");
    }
    let asked: Arc<Mutex<Option<Instant>>> = Arc::default();
    let (to_server, to_client) =
        (server.try_clone().expect("a socket"), client.try_clone().expect("a socket"));
    let (since, turns, counted) = (Arc::clone(&asked), turns.clone(), turns.clone());
    thread::spawn(move || {
        copy(client, to_server, |bytes| {
            counted.pass(connection, false, bytes);
            since.lock().expect("nobody panics with it").get_or_insert_with(Instant::now);
        });
    });
    thread::spawn(move || {
        copy(server, to_client, |bytes| {
            turns.pass(connection, true, bytes);
            if let Some(since) = asked.lock().expect("nobody panics with it").take() {
                turns.add(since.elapsed());
            }
        });
    });
}

fn copy(mut from: TcpStream, mut to: TcpStream, moved: impl Fn(usize)) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        moved(read);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    // Whichever side ended, the other hears of it.
    drop(to.shutdown(Shutdown::Write));
}
