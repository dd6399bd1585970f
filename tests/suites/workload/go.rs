//! go-spiffe as its own examples have it, where Go and its module are there.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Stdio};

use attestor::testing::command;
use e2e::{Device, GoProgram};

use super::{PLC, VIEWER};

/// A server; it ends with this value.
struct Server {
    child: Child,
    address: String,
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
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let address = format!("127.0.0.1:{port}");
    let mut peer = command(program.to_str().expect("a path"));
    peer.args(["serve", &address]).arg(on.path("workload.sock")).arg(who).stdout(Stdio::piped());
    let mut child = peer.spawn().expect("the server starts");
    let mut line = String::new();
    let output = child.stdout.take().expect("its output");
    BufReader::new(output).read_line(&mut line).expect("it says that it listens");
    assert_eq!(line, "listening\n");
    Server { child, address }
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
    assert_eq!(heard, "the press is running\n", "{complained}");
}

/// A program for the side of clients that listens all the same is no server by its certificate; go-spiffe does not look.
pub(super) fn tells_if_it_minds_purposes(program: &GoProgram, press: &Device, camera: &Device) {
    let program = &program.path();
    let server = serve(program, camera, PLC);
    let (heard, _) = ask(program, &server, press, VIEWER);
    println!("measured: go-spiffe minds what a certificate is for: {}", heard.is_empty());
}

/// It is not, because it believes nobody of that trust domain.
pub(super) fn is_refused(program: &GoProgram, press: &Device, camera: &Device) {
    let program = &program.path();
    let server = serve(program, press, VIEWER);
    let (heard, complained) = ask(program, &server, camera, PLC);
    assert!(heard.is_empty() && complained.contains("no X.509 bundle"), "{heard}{complained}");
}
