//! Sessions through gates that end: as their zones say, with the hours of their conduit; and who never has one.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use attestor::ports::{Clock, System};
use e2e::peers::{Client, Shown};
use e2e::{DEADLINE, until_within};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use super::{Gates, gate, open, talk, until_cut, until_refused};

/// Time that there is at least to open a session before the hours of its conduit end.
const OPEN: Duration = Duration::from_secs(60);
/// Minutes of a day.
const DAY: u64 = 24 * 60;

/// A client that talks without pause until it may not, and looks for what comes after that. It has sent so many bytes
/// before, and gives those of all.
fn talk_on(mut stream: TcpStream, mut sent: usize) -> usize {
    let error = loop {
        sent += 4;
        if let Err(error) = talk(&mut stream) {
            break error;
        }
    };
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
    let mut after = Vec::new();
    drop(stream.read_to_end(&mut after));
    assert!(after.is_empty(), "{after:?} came after the cut");
    assert!(stream.write_all(b"read").is_err(), "it can still be written to");
    sent
}

/// Hours that end in `OPEN` to `OPEN` and a minute.
fn short_hours() -> String {
    let end = System::default().now().plus(OPEN.as_secs()).0 / 60 + 1;
    let clock = |minute: u64| format!("{:02}:{:02}", minute % DAY / 60, minute % 60);
    // No hours end with the first minute of a day.
    let end = if end.is_multiple_of(DAY) { end + 1 } else { end };
    format!("daily {}-{}", clock(end + DAY / 2), clock(end))
}

impl Gates {
    /// Lets zone `cell` open modbus of the press for less than two minutes more.
    fn allow_shortly(&self) {
        let allow = ["conduit", "allow", "--from", "cell", "--to", "press", "--service", "modbus"];
        let hours = short_hours();
        self.world.tool(&[&allow[..], &["--accept-observed", "--schedule", &hours]].concat()).done();
    }

    /// Changes how long sessions of all zones drain.
    fn drain(&self, from: &str, to: &str) {
        let [from, to] = [from, to].map(|span| format!("gate_drain = \"{span}\""));
        let graph = self.world.admin("zone export")["document"].as_str().expect("a document").to_owned();
        assert_eq!(graph.matches(&from).count(), 2, "{graph}");
        let file = self.world.plant.run_path("zones.toml");
        fs::write(&file, graph.replace(&from, &to)).expect("a file in the run folder");
        self.world.admin(&format!("zone apply {} --yes", file.display()));
    }

    /// How many sessions of the press are to end.
    fn until_draining(&self, count: u64) {
        let draining = |status: &_| gate(status, "plc")["draining"] == count;
        self.press.device.until_status(&format!("draining {count}"), draining);
    }
}

#[test]
fn a_zone_drains_its_sessions_and_hours_end_them_without_the_broker() {
    let Some(mut gates) = Gates::new(["--gate-drain 1h", "--gate-drain 1h", ""]) else { return };
    gates.allow("press");
    let mut session = gates.until_open(gates.client);
    gates.close("press");
    gates.until_draining(1);
    talk(&mut session).expect("it has an hour to end");
    gates.press.controller.came();
    assert!(open(gates.client).is_err(), "what drains lets nobody else in");
    assert_eq!(gates.press.controller.came(), 0, "nobody was let through");
    // Allowed again, nothing happened to it.
    gates.allow("press");
    gates.until_draining(0);
    talk(&mut session).expect("it goes on");

    // One that does not end by itself is cut.
    gates.drain("1h", "1s");
    let talking = thread::spawn(move || talk_on(session, 3 * 4));
    gates.close("press");
    let sent = talking.join().expect("cut, and not a byte longer");
    let ended = gates.press.controller.ended();
    assert!(ended.fault.is_some(), "to the controller it looks like an end");
    assert!(ended.got == sent || ended.got + 4 == sent, "{} of {sent}", ended.got);
    gates.until_one_cut(&["no-conduit", "not-reached"]);

    // Its hours end by the clocks of the devices alone.
    gates.allow_shortly();
    let session = gates.until_open(gates.client);
    gates.world.stop_broker();
    session.set_read_timeout(Some(OPEN + 2 * DEADLINE)).expect("a limit");
    let took = until_cut(session);
    eprintln!("cut {took:?} after the broker went");
    assert!(gates.press.controller.ended().fault.is_some(), "to the controller it looks like an end");
    gates.until_one_cut(&["conduit-closed"]);
    assert!(open(gates.client).is_err());
    until_within(DEADLINE, "both gates refuse", || {
        let refused = gate(&gates.cell.status(), "reader")["refused"].clone();
        (refused["conduit-closed"].as_u64() > Some(0)).then_some(()).ok_or_else(|| refused.to_string())
    });
}

#[test]
fn whoever_no_conduit_names_hears_nothing_of_the_controller() {
    let Some(gates) = Gates::new([""; 3]) else { return };
    gates.allow("press");
    gates.until_open(gates.client);
    gates.press.controller.came();
    // A program of lab-1 asks with its good certificate, past its own gate.
    let client = Client::on(&gates.lab.device, "lab").thief();
    let config = client.config("modbus", Shown::Caller).expect("what was delivered");
    let name = ServerName::try_from("press-1.press.plant.example").expect("a name");
    let tcp = TcpStream::connect(gates.press.gate).expect("the gate listens");
    tcp.set_read_timeout(Some(DEADLINE)).expect("a limit");
    let connection = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut tls = StreamOwned::new(connection, tcp);
    drop(tls.write_all(b"read"));
    let mut heard = Vec::new();
    let error = tls.read_to_end(&mut heard).expect_err("refused");
    assert!(heard.is_empty(), "{heard:?}");
    assert!(error.to_string().contains("alert"), "{error}");
    until_refused(&gates.press.device, "plc", "no-conduit");
    assert_eq!(gates.press.controller.came(), 0, "nobody was let through");
}
