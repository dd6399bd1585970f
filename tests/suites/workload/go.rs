//! go-spiffe as its own examples have it, where Go and its module are there.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use attestor::testing::command;
use e2e::{Device, missing_tool};
use tempfile::TempDir;

const PLC: &str = "spiffe://press.plant.example/device/press-1/workload/plc";
const VIEWER: &str = "spiffe://vision.plant.example/device/camera-1/workload/viewer";

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

/// The program, built; it goes with this value.
pub(super) struct Program(TempDir);

impl Program {
    /// None, with the reason said, where it cannot be built.
    pub(super) fn build() -> Option<Self> {
        if let Some(tool) = missing_tool(&["go"]) {
            eprintln!("skipped: go-spiffe, because {tool} is not installed");
            return None;
        }
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("go");
        let run = |program: &str, args: &[&str]| {
            let mut command = Command::new(program);
            command.args(args).current_dir(&source).env("GOTOOLCHAIN", "local");
            command.output().expect("the program starts")
        };
        // Where nothing answers, Go waits for each module by itself.
        let fetched = run("timeout", &["120", "go", "mod", "download"]);
        if !fetched.status.success() {
            eprintln!("skipped: go-spiffe, because {}", String::from_utf8_lossy(&fetched.stderr));
            return None;
        }
        let folder = TempDir::new().expect("a run folder");
        let file = folder.path().join("peer");
        let built = run("go", &["build", "-buildvcs=false", "-o", file.to_str().expect("a path"), "."]);
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        Some(Self(folder))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("peer")
    }
}

fn serve(program: &Path, press: &Device) -> Server {
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let address = format!("127.0.0.1:{port}");
    let mut peer = command(program.to_str().expect("a path"));
    peer.args(["serve", &address]).arg(press.path("workload.sock")).arg(VIEWER).stdout(Stdio::piped());
    let mut child = peer.spawn().expect("the server starts");
    let mut line = String::new();
    let output = child.stdout.take().expect("its output");
    BufReader::new(output).read_line(&mut line).expect("it says that it listens");
    assert_eq!(line, "listening\n");
    Server { child, address }
}

/// What the client heard, and what it complained of.
fn ask(program: &Path, server: &Server, camera: &Device) -> (String, String) {
    let mut peer = command(program.to_str().expect("a path"));
    peer.args(["ask", &server.address]).arg(camera.path("workload.sock")).arg(PLC);
    let output = peer.output().expect("the client starts");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (text(output.stdout), text(output.stderr))
}

/// A client of go-spiffe is served by a server of go-spiffe.
pub(super) fn is_served(program: &Program, press: &Device, camera: &Device) {
    let program = &program.path();
    let server = serve(program, press);
    let (heard, complained) = ask(program, &server, camera);
    assert_eq!(heard, "the press is running\n", "{complained}");
}

/// It is not, because it believes nobody of that trust domain.
pub(super) fn is_refused(program: &Program, press: &Device, camera: &Device) {
    let program = &program.path();
    let server = serve(program, press);
    let (heard, complained) = ask(program, &server, camera);
    assert!(heard.is_empty() && complained.contains("no X.509 bundle"), "{heard}{complained}");
}
