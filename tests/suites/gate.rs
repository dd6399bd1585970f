//! Gates on real devices: a plain client reaches a plain server on another device only while broker, conduit and trust
//! allow it.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use e2e::{DEADLINE, Device, PROMISE, Process, World, until};

/// A server without TLS, such as a controller has: it answers every message with the same, in capitals.
pub(crate) struct Controller {
    pub(crate) address: SocketAddr,
    sessions: Receiver<()>,
}

impl Controller {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (came, sessions) = channel();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if came.send(()).is_err() {
                    return;
                }
                thread::spawn(move || answer(stream));
            }
        });
        Self { address, sessions }
    }

    /// How many sessions came since it was asked last.
    fn came(&self) -> usize {
        self.sessions.try_iter().count()
    }
}

fn answer(mut stream: TcpStream) {
    let mut bytes = [0; 64];
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        bytes.make_ascii_uppercase();
        if stream.write_all(&bytes[..count]).is_err() {
            return;
        }
    }
}

/// A port that nobody had a moment ago.
pub(crate) fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address")
}

/// A session of a plain client through the gate at `address`, if it gets an answer.
pub(crate) fn open(address: SocketAddr) -> Result<TcpStream, String> {
    let mut stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(DEADLINE)).expect("a limit");
    talk(&mut stream)?;
    Ok(stream)
}

fn talk(stream: &mut TcpStream) -> Result<(), String> {
    stream.write_all(b"read").map_err(|error| error.to_string())?;
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes).map_err(|error| error.to_string())?;
    match &bytes {
        b"READ" => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

/// Waits until the session is cut; how long it took.
fn until_cut(mut stream: TcpStream) -> Duration {
    let begun = Instant::now();
    let error = stream.read(&mut [0; 64]).expect_err("it is cut, and does not look ended");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    begun.elapsed()
}

/// press-1 has a controller behind its daemon's gate; cell-1 has a client before a gate that runs beside its daemon.
struct Gates {
    world: World,
    press: Device,
    cell: Device,
    controller: Controller,
    client: SocketAddr,
    server: SocketAddr,
    beside: Process,
}

impl Gates {
    fn new() -> Option<Self> {
        let (world, [mut press, mut cell]) = World::with_devices(["press-1", "cell-1"])?;
        for zone in ["press", "cell"] {
            world.admin(&format!("zone create {zone} --mode observe --least instance-identity=affirming"));
        }
        world.register(&press, "press");
        world.register(&cell, "cell");
        press.offer("modbus");
        press.offer("ssh");
        let (controller, server, client) = (Controller::start(), free(), free());
        press.add_end(&format!(
            "[[gate]]\nname = \"plc\"\nrole = \"server\"\nservice = \"modbus\"\nlisten = \"{server}\"\n\
             connect = \"{}\"\n",
            controller.address
        ));
        for device in [&mut press, &mut cell] {
            device.measure("boot-a");
            device.start();
            device.until_state("trusted");
        }
        let (config, log) = (cell.path("attestor.toml").display().to_string(), cell.path("gate.log"));
        let (listen, connect) = (client.to_string(), server.to_string());
        let args =
            ["gate", "--config", &config, "--name", "reader", "--role", "client", "--service", "modbus"];
        let more = ["--listen", &listen, "--connect", &connect, "--peer", "press-1.press"];
        let beside = Process::start("touchstone-attestor", &[&args[..], &more].concat(), &log);
        Some(Self { world, press, cell, controller, client, server, beside })
    }

    /// A session, once there can be one.
    fn until_open(&self) -> TcpStream {
        until("the client reaches the controller", || {
            open(self.client).map_err(|error| format!("{error}; {}", self.beside.last_words()))
        })
    }

    /// Waits until a gate of `device` counts `code` among what it refused or cut.
    fn until_counted(device: &Device, what: &str, code: &str) {
        device.until_status(code, |status| status["gates"][0][what][code].as_u64().is_some_and(|n| n > 0));
    }
}

#[test]
fn plain_software_talks_through_gates_while_it_may_and_not_a_byte_longer() {
    let Some(mut gates) = Gates::new() else { return };
    // No conduit: neither end opens, whoever asks.
    until("the client's gate listens", || {
        TcpStream::connect(gates.client).map_err(|error| error.to_string())
    });
    assert!(open(gates.client).is_err());
    Gates::until_counted(&gates.cell, "refused", "not-reached");
    let mut direct = TcpStream::connect(gates.server).expect("the server's gate listens");
    drop(direct.write_all(b"read"));
    let mut got = Vec::new();
    drop(direct.read_to_end(&mut got));
    assert!(!got.windows(4).any(|bytes| bytes == b"READ"), "served without TLS");
    Gates::until_counted(&gates.press, "refused", "no-handshake");

    // To another service it opens nothing.
    gates.world.admin("conduit allow --from cell --to press --service ssh --accept-observed");
    assert!(open(gates.client).is_err());
    assert_eq!(gates.controller.came(), 0, "nobody was let through");

    gates.world.admin("conduit allow --from cell --to press --service modbus --accept-observed");
    let mut session = gates.until_open();
    talk(&mut session).expect("it goes on");
    let status = gates.press.until_status("serving", |status| status["gates"][0]["sessions"] == 1);
    assert_eq!(status["gates"][0]["zone"], "press");
    let text = gates.press.attestor("status", &[]).stdout;
    assert!(String::from_utf8_lossy(&text).contains("gate          plc serves modbus of zone press"));

    // The broker is in no session's way.
    gates.world.stop_broker();
    talk(&mut session).expect("the broker is away");
    open(gates.client).expect("a new session while the broker is away");
    gates.world.start_broker();
    gates.press.until_status("watching again", |status| status["broker"]["watching"] == true);
    gates.cell.until_status("watching again", |status| status["broker"]["watching"] == true);

    gates.world.admin("conduit close --from cell --to press --service modbus");
    let took = until_cut(session);
    eprintln!("cut {took:?} after the conduit closed");
    assert!(took < PROMISE, "{took:?}");
    assert!(open(gates.client).is_err());

    gates.world.admin("conduit allow --from cell --to press --service modbus --accept-observed");
    let session = gates.until_open();
    gates.controller.came();
    gates.world.admin("device quarantine cell-1 --reason test");
    let took = until_cut(session);
    eprintln!("cut {took:?} after the quarantine");
    assert!(took < PROMISE, "{took:?}");
    assert!(open(gates.client).is_err());
    assert_eq!(gates.controller.came(), 0, "nobody was let through");
    // Whichever device heard first ended it for both.
    until("one of the gates says why", || {
        let counts = [(&gates.press, "revoked"), (&gates.cell, "own-trust-lost")]
            .map(|(device, code)| device.status()["gates"][0]["cut"][code].as_u64());
        counts.iter().any(|count| count.is_some_and(|n| n > 0)).then_some(()).ok_or(format!("{counts:?}"))
    });
}
