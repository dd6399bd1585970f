//! Gates on real devices: a plain client reaches a plain server on another device only while broker, conduit and trust
//! allow it.

mod away;
mod ends;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use e2e::{DEADLINE, Device, Process, World, in_time, until};
use serde_json::Value;

/// A server without TLS, such as a controller has: it answers every message with the same, in capitals.
pub(crate) struct Controller {
    pub(crate) address: SocketAddr,
    sessions: Receiver<()>,
    ended: Receiver<Ended>,
}

/// How a session of a controller ended, and how many bytes it had got until then.
struct Ended {
    got: usize,
    /// None: in order.
    fault: Option<ErrorKind>,
}

impl Controller {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let ((came, sessions), (over, ended)) = (channel(), channel());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if came.send(()).is_err() {
                    return;
                }
                let over = over.clone();
                thread::spawn(move || answer(stream, &over));
            }
        });
        Self { address, sessions, ended }
    }

    /// How many sessions came since it was asked last.
    fn came(&self) -> usize {
        self.sessions.try_iter().count()
    }

    /// How its next session to end did.
    fn ended(&self) -> Ended {
        self.ended.recv_timeout(DEADLINE).expect("a session ends")
    }
}

fn answer(mut stream: TcpStream, over: &Sender<Ended>) {
    let (mut bytes, mut got) = ([0; 64], 0);
    let fault = loop {
        let count = match stream.read(&mut bytes) {
            Ok(0) => break None,
            Ok(count) => count,
            Err(error) => break Some(error.kind()),
        };
        got += count;
        bytes.make_ascii_uppercase();
        if let Err(error) = stream.write_all(&bytes[..count]) {
            break Some(error.kind());
        }
    };
    // The test may be over.
    drop(over.send(Ended { got, fault }));
}

/// A port that nobody had a moment ago.
pub(crate) fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address")
}

/// A session of a plain client through the gate at `address`, if it gets an answer.
pub(crate) fn open(address: SocketAddr) -> Result<TcpStream, String> {
    let mut stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(DEADLINE)).expect("a limit");
    talk(&mut stream).map_err(|error| error.to_string())?;
    Ok(stream)
}

pub(crate) fn talk(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"read")?;
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes)?;
    assert_eq!(&bytes, b"READ");
    Ok(())
}

/// Waits until the session is cut; how long it took.
fn until_cut(mut stream: TcpStream) -> Duration {
    let begun = Instant::now();
    let error = stream.read(&mut [0; 64]).expect_err("it is cut, and does not look ended");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    begun.elapsed()
}

/// A controller behind the gate of its device's daemon.
struct Served {
    device: Device,
    controller: Controller,
    gate: SocketAddr,
}

impl Served {
    fn new(mut device: Device) -> Self {
        device.offer("modbus");
        let (controller, gate) = (Controller::start(), free());
        device.add_end(&format!(
            "[[gate]]\nname = \"plc\"\nrole = \"server\"\nservice = \"modbus\"\nlisten = \"{gate}\"\n\
             connect = \"{}\"\n",
            controller.address
        ));
        Self { device, controller, gate }
    }
}

/// press-1 and lab-1 have a controller each; cell-1 has a client of either, before a gate of its daemon for lab-1 and
/// before one that runs beside it for press-1.
struct Gates {
    world: World,
    press: Served,
    lab: Served,
    cell: Device,
    client: SocketAddr,
    lab_client: SocketAddr,
    beside: Process,
}

impl Gates {
    /// The zones `press`, `cell` and `lab` with these options.
    fn new(options: [&str; 3]) -> Option<Self> {
        let (world, [press, mut cell, lab]) = World::with_devices(["press-1", "cell-1", "lab-1"])?;
        let (mut press, mut lab) = (Served::new(press), Served::new(lab));
        press.device.offer("ssh");
        let (client, lab_client) = (free(), free());
        cell.add_end(&format!(
            "[[gate]]\nname = \"lab\"\nrole = \"client\"\nservice = \"modbus\"\nlisten = \"{lab_client}\"\n\
             connect = \"{}\"\npeer = \"lab-1.lab\"\n",
            lab.gate
        ));
        let devices = [("press", &mut press.device), ("cell", &mut cell), ("lab", &mut lab.device)];
        for ((zone, device), options) in devices.into_iter().zip(options) {
            let line =
                format!("zone create {zone} --mode observe --least instance-identity=affirming {options}");
            world.admin(line.trim_end());
            world.register(device, zone);
            device.measure("boot-a");
            device.start();
            device.until_state("trusted");
        }
        let (config, log) = (cell.path("attestor.toml").display().to_string(), cell.path("gate.log"));
        let (listen, connect) = (client.to_string(), press.gate.to_string());
        let args =
            ["gate", "--config", &config, "--name", "reader", "--role", "client", "--service", "modbus"];
        let more = ["--listen", &listen, "--connect", &connect, "--peer", "press-1.press"];
        let beside = Process::start("touchstone-attestor", &[&args[..], &more].concat(), &log);
        Some(Self { world, press, lab, cell, client, lab_client, beside })
    }

    /// Lets zone `cell` open modbus of another.
    fn allow(&self, to: &str) {
        self.world.admin(&format!("conduit allow --from cell --to {to} --service modbus --accept-observed"));
    }

    fn close(&self, to: &str) {
        self.world.admin(&format!("conduit close --from cell --to {to} --service modbus"));
    }

    /// A session through the gate at `address`, once there can be one.
    fn until_open(&self, address: SocketAddr) -> TcpStream {
        until("the client reaches the controller", || {
            open(address).map_err(|error| format!("{error}; {}", self.beside.last_words()))
        })
    }

    /// Waits until the gates of press-1 or the client's before it cut a session for one of these reasons: whichever
    /// device heard first ended it for both.
    fn until_one_cut(&self, codes: &[&str]) {
        until("one of the gates says why", || {
            let cut = [(&self.press.device, "plc"), (&self.cell, "reader")]
                .map(|(device, name)| gate(&device.status(), name)["cut"].clone());
            let found = codes.iter().any(|code| cut.iter().any(|cut| cut[*code].as_u64() > Some(0)));
            found.then_some(()).ok_or_else(|| format!("{cut:?}"))
        });
    }
}

/// What the status of a device says about its gate `name`; null if nothing.
fn gate(status: &Value, name: &str) -> Value {
    let gates = status["gates"].as_array().into_iter().flatten();
    gates.into_iter().find(|gate| gate["name"] == name).cloned().unwrap_or_default()
}

/// Waits until a gate of `device` refused something as `code`.
fn until_refused(device: &Device, name: &str, code: &str) {
    device.until_status(code, |status| gate(status, name)["refused"][code].as_u64() > Some(0));
}

#[test]
fn plain_software_talks_through_gates_while_it_may_and_not_a_byte_longer() {
    let Some(mut gates) = Gates::new([""; 3]) else { return };
    // No conduit: neither end opens, whoever asks.
    until("the client's gate listens", || {
        TcpStream::connect(gates.client).map_err(|error| error.to_string())
    });
    assert!(open(gates.client).is_err());
    until_refused(&gates.cell, "reader", "not-reached");
    let mut direct = TcpStream::connect(gates.press.gate).expect("the server's gate listens");
    drop(direct.write_all(b"read"));
    let mut got = Vec::new();
    drop(direct.read_to_end(&mut got));
    assert!(!got.windows(4).any(|bytes| bytes == b"READ"), "served without TLS");
    until_refused(&gates.press.device, "plc", "no-handshake");

    // To another service it opens nothing.
    gates.world.admin("conduit allow --from cell --to press --service ssh --accept-observed");
    assert!(open(gates.client).is_err());
    assert_eq!(gates.press.controller.came(), 0, "nobody was let through");

    gates.allow("press");
    let mut session = gates.until_open(gates.client);
    talk(&mut session).expect("it goes on");
    let status = gates.press.device.until_status("serving", |status| status["gates"][0]["sessions"] == 1);
    assert_eq!(status["gates"][0]["zone"], "press");
    let text = gates.press.device.attestor("status", &[]).stdout;
    assert!(String::from_utf8_lossy(&text).contains("gate          plc serves modbus of zone press"));

    // The broker is in no session's way.
    gates.world.stop_broker();
    talk(&mut session).expect("the broker is away");
    open(gates.client).expect("a new session while the broker is away");
    gates.world.start_broker();
    gates.press.device.until_status("watching again", |status| status["broker"]["watching"] == true);
    gates.cell.until_status("watching again", |status| status["broker"]["watching"] == true);

    gates.close("press");
    in_time("a gate cuts the session of a conduit that closed", until_cut(session));
    assert!(open(gates.client).is_err());

    gates.allow("press");
    let session = gates.until_open(gates.client);
    gates.press.controller.came();
    gates.world.admin("device quarantine cell-1 --reason test");
    in_time("a gate cuts the session of a device that lost trust", until_cut(session));
    assert!(open(gates.client).is_err());
    assert_eq!(gates.press.controller.came(), 0, "nobody was let through");
    gates.until_one_cut(&["revoked", "own-trust-lost"]);
}
