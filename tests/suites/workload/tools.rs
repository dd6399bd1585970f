//! spiffe-helper, which writes files for others, and ghostunnel, which speaks TLS for others, where they are installed.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;

use attestor::testing::{command, missing_tool};
use e2e::{Device, until};
use tempfile::TempDir;

use super::{PLC, VIEWER};

/// What servers say.
const SERVED: &str = "the press is running";

/// Whether `tool` is here; if not, that is said.
pub(super) fn installed(tool: &str) -> bool {
    let missing = missing_tool(&[tool]).is_some();
    if missing {
        println!("skipped in part: {tool}, which is not in PATH");
    }
    !missing
}

/// A running program; it ends with this value.
struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    fn start(words: &[&str], log: PathBuf) -> Self {
        let [program, rest @ ..] = words else { unreachable!("words begin with a program") };
        let file = File::create(&log).expect("a log file");
        let mut command = command(program);
        command.args(rest).stdin(Stdio::null()).stdout(file.try_clone().expect("a log file")).stderr(file);
        Self { child: command.spawn().expect("the program starts"), log }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("run folders have plain names")
}

/// A ghostunnel before a server of press-1 that speaks no TLS, and one on camera-1 for a client that speaks none.
pub(super) struct Tunnel {
    ends: [Running; 2],
    port: u16,
    _folder: TempDir,
}

impl Tunnel {
    pub(super) fn start(press: &Device, camera: &Device) -> Self {
        let folder = TempDir::new().expect("a run folder");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let plain = listener.local_addr().expect("an address").to_string();
        thread::spawn(move || {
            for stream in listener.incoming() {
                drop(stream.and_then(|mut stream| stream.write_all(SERVED.as_bytes())));
            }
        });
        let [tls, port] = [port(), port()];
        let (between, here) = (format!("127.0.0.1:{tls}"), format!("127.0.0.1:{port}"));
        let end = |device: &Device, side: &str, [listen, target]: [&str; 2], [peer, id]: [&str; 2]| {
            let socket = format!("unix:{}", text(&device.path("workload.sock")));
            let words = ["ghostunnel", side, "--use-workload-api-addr", &socket, "--listen", listen];
            let words = [&words[..], &["--target", target, peer, id]].concat();
            Running::start(&words, folder.path().join(side))
        };
        let server = end(press, "server", [&between, &plain], ["--allow-uri", VIEWER]);
        let client = end(camera, "client", [&here, &between], ["--verify-uri", PLC]);
        Self { ends: [server, client], port, _folder: folder }
    }

    fn ask(&self) -> String {
        let mut heard = String::new();
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
            // A tunnel that is closed without a word said nothing.
            drop(stream.read_to_string(&mut heard));
        }
        heard
    }

    fn log(&self) -> String {
        self.ends.each_ref().map(Running::log).concat()
    }

    pub(super) fn serves(&self) {
        until("ghostunnel serves", || match self.ask().as_str() {
            SERVED => Ok(()),
            heard => Err(format!("{heard}\n{}", self.log())),
        });
    }

    /// It does not, because an end believes nobody of that trust domain.
    pub(super) fn refuses(&self) {
        until("ghostunnel refuses", || {
            let before = self.log().len();
            let heard = self.ask();
            assert!(heard.is_empty(), "ghostunnel served: {heard}");
            let log = self.log();
            let since = log.get(before..).unwrap_or(&log);
            if since.contains("no X.509 bundle") { Ok(()) } else { Err(log) }
        });
    }
}

/// spiffe-helper on a device, which keeps files up to date.
pub(super) struct Helper {
    folder: TempDir,
    helper: Running,
}

impl Helper {
    pub(super) fn start(device: &Device) -> Self {
        let folder = TempDir::new().expect("a run folder");
        let config = format!(
            "agent_address = \"{}\"\ncert_dir = \"{}\"\nsvid_file_name = \"svid.pem\"\nsvid_key_file_name = \"key.pem\"\n\
             svid_bundle_file_name = \"bundle.pem\"\ninclude_federated_domains = true\n",
            text(&device.path("workload.sock")),
            text(folder.path())
        );
        let file = folder.path().join("helper.conf");
        fs::write(&file, config).expect("a file in the run folder");
        let words = ["spiffe-helper", "-config", text(&file)];
        let helper = Running::start(&words, folder.path().join("log"));
        Self { folder, helper }
    }

    fn file(&self, name: &str) -> String {
        text(&self.folder.path().join(name)).to_owned()
    }

    /// Waits until it has written as many authorities.
    pub(super) fn believes(&self, authorities: usize) {
        until("spiffe-helper has written its files", || {
            let bundle = fs::read_to_string(self.file("bundle.pem")).unwrap_or_default();
            let found = bundle.matches("-----BEGIN CERTIFICATE-----").count();
            if found == authorities { Ok(()) } else { Err(format!("{found}\n{}", self.helper.log())) }
        });
    }

    /// What a client of OpenSSL hears of a server of OpenSSL, each with the files of its own helper.
    pub(super) fn heard_by(&self, client: &Self) -> String {
        let (port, log) = (port().to_string(), self.folder.path().join("server.log"));
        let server = [self.file("svid.pem"), self.file("key.pem"), self.file("bundle.pem")];
        let [svid, key, bundle] = &server;
        let accepting = ["openssl", "s_server", "-accept", &port, "-www", "-tls1_3", "-Verify", "1"];
        let with = ["-verify_return_error", "-cert", svid, "-key", key, "-CAfile", bundle];
        let server = Running::start(&[&accepting[..], &with].concat(), log);
        let script = format!(
            "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | openssl s_client -quiet -connect 127.0.0.1:{port} -tls1_3 -cert {} \
             -key {} -CAfile {} -verify_return_error",
            client.file("svid.pem"),
            client.file("key.pem"),
            client.file("bundle.pem")
        );
        until("the server of OpenSSL answers", || {
            let output = command("bash").args(["-c", &script]).output().expect("bash runs");
            let heard = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            if heard.contains("connect:errno") { Err(server.log()) } else { Ok(heard) }
        })
    }
}
