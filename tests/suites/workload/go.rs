//! go-spiffe as its own examples have it, where Go and its module are there.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Instant;

use attestor::testing::command;
use e2e::{Device, GoProgram, in_time, until};
use tempfile::TempDir;

use super::rotation::replace_all;
use super::{CLOSE, PLC, Plant, VIEWER};

/// What servers say.
const SERVED: &str = "the press is running\n";

/// A server; it ends with this value.
struct Server {
    child: Child,
    address: String,
    log: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The program, built. None, with the reason said, where it cannot be.
pub(super) fn program() -> Option<GoProgram> {
    GoProgram::build(".").inspect_err(|why| eprintln!("skipped: go-spiffe, because {why}")).ok()
}

fn serve(program: &Path, on: &Device, who: &str) -> Server {
    serve_by("serve", program, on, who)
}

fn serve_by(how: &str, program: &Path, on: &Device, who: &str) -> Server {
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let address = format!("127.0.0.1:{port}");
    let log = on.path(&format!("go-{port}.log"));
    let mut peer = command(program.to_str().expect("a path"));
    peer.args([how, &address]).arg(on.path("workload.sock")).arg(who).stdout(Stdio::piped());
    peer.stderr(File::create(&log).expect("a file in the device's folder"));
    let mut child = peer.spawn().expect("the server starts");
    let mut line = String::new();
    let output = child.stdout.take().expect("its output");
    BufReader::new(output).read_line(&mut line).expect("it says that it listens");
    assert_eq!(line, "listening\n");
    Server { child, address, log }
}

/// What the client heard, and what it complained of.
fn ask(program: &Path, server: &Server, on: &Device, whom: &str) -> (String, String) {
    let mut peer = command(program.to_str().expect("a path"));
    peer.args(["ask", &server.address]).arg(on.path("workload.sock")).arg(whom);
    let output = peer.output().expect("the client starts");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (text(output.stdout), text(output.stderr))
}

/// A client of go-spiffe is served by a server of go-spiffe.
pub(super) fn is_served(program: &GoProgram, press: &Device, camera: &Device) {
    let program = &program.path();
    let server = serve(program, press, VIEWER);
    let (heard, complained) = ask(program, &server, camera, PLC);
    assert_eq!(heard, SERVED, "{complained}");
}

/// A program for the side of clients that listens all the same is no server by its certificate; go-spiffe does not look.
pub(super) fn minds_no_purpose(program: &GoProgram, press: &Device, camera: &Device) {
    let program = &program.path();
    let server = serve(program, camera, PLC);
    let (heard, complained) = ask(program, &server, press, VIEWER);
    assert_eq!(
        heard, SERVED,
        "go-spiffe minds what a certificate is for, and README says it does not: {complained}"
    );
}

/// The server's own zone may not open it: the server believes callers of others.
pub(super) fn is_refused_of_the_same_zone(program: &GoProgram, press: &Device) {
    let program = &program.path();
    let server = serve(program, press, PLC);
    let (heard, complained) = ask(program, &server, press, PLC);
    assert!(heard.is_empty(), "{heard}");
    complains(&server, &complained, "certificate signed by unknown authority");
}

/// A certificate that has ended by the server's clock.
pub(super) fn is_refused_once_ended(program: &GoProgram, press: &Device, camera: &Device) {
    let program = &program.path();
    let server = serve_by("ahead", program, press, VIEWER);
    let (heard, complained) = ask(program, &server, camera, PLC);
    assert!(heard.is_empty(), "{heard}");
    complains(&server, &complained, "certificate has expired");
}

/// One of both says why.
fn complains(server: &Server, client: &str, why: &str) {
    until(&format!("go-spiffe refuses: {why}"), || {
        let said = client.to_owned() + &fs::read_to_string(&server.log).unwrap_or_default();
        if said.contains(why) { Ok(()) } else { Err(said) }
    });
}

/// It is not, because it believes nobody of that trust domain.
pub(super) fn is_refused(program: &GoProgram, press: &Device, camera: &Device) {
    let program = &program.path();
    let server = serve(program, press, VIEWER);
    let (heard, complained) = ask(program, &server, camera, PLC);
    assert!(heard.is_empty() && complained.contains("no X.509 bundle"), "{heard}{complained}");
}

/// A client that runs, and asks one time after another with what the Workload API told it last; it ends with this value.
struct Load {
    child: Child,
    folder: TempDir,
}

impl Drop for Load {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Load {
    fn start(program: &Path, server: &Server, on: &Device, whom: &str) -> Self {
        let folder = TempDir::new().expect("a run folder");
        let file = |name: &str| File::create(folder.path().join(name)).expect("a file");
        let mut peer = command(program.to_str().expect("a path"));
        peer.args(["load", &server.address]).arg(on.path("workload.sock")).arg(whom);
        peer.stdin(Stdio::piped()).stdout(file("out")).stderr(file("err"));
        let load = Self { child: peer.spawn().expect("the client starts"), folder };
        until("the client is served", || load.shown().pop().ok_or_else(|| load.said("err")));
        load
    }

    fn said(&self, name: &str) -> String {
        let file: PathBuf = self.folder.path().join(name);
        fs::read_to_string(file).unwrap_or_default()
    }

    /// The serial numbers that client and server showed, one pair after another.
    fn shown(&self) -> Vec<[String; 2]> {
        let pair = |line: &str| {
            let (own, peer) = line.strip_prefix("shown ")?.split_once(' ')?;
            Some([own.to_owned(), peer.to_owned()])
        };
        self.said("out").lines().filter_map(pair).collect()
    }

    /// How often it was served, once it was told to end.
    fn end(mut self) -> u32 {
        drop(self.child.stdin.take());
        let ended = self.child.wait().expect("the client ends");
        let said = self.said("out");
        assert!(ended.success(), "a request is lost: {said}{}", self.said("err"));
        let served = said.lines().find_map(|line| line.strip_prefix("served ")).expect("how often");
        served.parse().expect("a number")
    }

    /// Waits until it is served no more, and says what it complained of.
    fn until_refused(&mut self) -> String {
        until("the client that runs is refused", || match self.child.try_wait() {
            Ok(Some(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        self.said("err")
    }
}

/// Everything is replaced while programs run, and no request is lost.
pub(super) fn loses_no_request(program: &GoProgram, plant: &mut Plant) {
    let program = &program.path();
    let server = serve(program, &plant.press, VIEWER);
    let load = Load::start(program, &server, &plant.camera, PLC);
    let before = load.shown().remove(0);
    replace_all(plant);
    until("both programs in Go show new certificates", || match load.shown().pop() {
        Some(now) if now.iter().zip(&before).all(|(now, before)| now != before) => Ok(()),
        other => Err(format!("{other:?} after {before:?}: {}", load.said("err"))),
    });
    let served = load.end();
    println!("measured: {served} connections of go-spiffe in a rotation, none lost");
    assert!(served > 20, "{served}");
}

/// A program that asks the Workload API once its device lost trust has nothing to show. One that ran before keeps what it
/// has, as go-spiffe does while the API refuses, and servers of go-spiffe read no CRL: it ends with the conduit.
pub(super) fn is_not_served_without_trust(program: &GoProgram, plant: &Plant) {
    let program = &program.path();
    let (press, camera) = (&plant.press, &plant.camera);
    let server = serve(program, press, VIEWER);
    let mut runs = Load::start(program, &server, camera, PLC);
    plant.world.admin("device quarantine camera-1 --reason lost");
    let lost = Instant::now();
    let took = until("a program that starts is not served", || {
        let asked = lost.elapsed();
        match ask(program, &server, camera, PLC) {
            (heard, _) if heard.is_empty() => Ok(asked),
            (heard, _) => Err(heard),
        }
    });
    in_time("go-spiffe that starts has nothing to show for a device that lost trust", took);
    assert!(
        matches!(runs.child.try_wait(), Ok(None)),
        "README says that go-spiffe that ran before keeps what it has"
    );
    plant.world.admin(CLOSE);
    let closed = Instant::now();
    let complained = runs.until_refused();
    let took = closed.elapsed();
    // The server's word of it, or the connection that ended with it.
    assert!(!complained.is_empty(), "it ended by itself");
    in_time("go-spiffe that runs is refused once the conduit is closed,", took);
    let (heard, _) = ask(program, &server, camera, PLC);
    assert!(heard.is_empty(), "{heard}");
}
