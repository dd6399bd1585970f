//! Other people's proxies, each with the same certificates.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::plant;

/// A proxy that is installed.
pub(crate) struct Other {
    pub(crate) name: &'static str,
}

/// One that runs; it ends with the value.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    child: Child,
    _folder: TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Those that this machine has; the others are named.
pub(crate) fn installed() -> Vec<Other> {
    let there = |name: &&str| {
        let found =
            Command::new("sh").args(["-c", &format!("command -v {name}")]).stdout(Stdio::null()).status();
        let found = found.is_ok_and(|status| status.success());
        if !found {
            println!("skipped: {name} is not installed");
        }
        found
    };
    ["stunnel", "ghostunnel"].into_iter().filter(there).map(|name| Other { name }).collect()
}

impl Other {
    /// Starts it before `server`.
    pub(crate) fn start(&self, server: SocketAddr) -> Running {
        let folder = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let plant = plant();
        let leaf = plant.usual("press-1", "press", "listener");
        let pem = |tag: &str, der: Vec<u8>| pem::encode(&pem::Pem::new(tag, der));
        let file = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(file("cert"), pem("CERTIFICATE", leaf.der)).unwrap();
        std::fs::write(file("key"), pem("PRIVATE KEY", leaf.key.pkcs8().to_vec())).unwrap();
        std::fs::write(file("ca"), pem("CERTIFICATE", plant.certificate("cell", "caller"))).unwrap();
        let mut command = Command::new(self.name);
        match self.name {
            "stunnel" => {
                let config = format!(
                    "foreground = yes\nsyslog = no\ndebug = 3\npid =\n[gate]\naccept = {address}\nconnect = {server}\ncert = {}\n\
                     key = {}\nCAfile = {}\nverifyChain = yes\nsslVersionMin = TLSv1.3\n\
                     socket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n",
                    file("cert"),
                    file("key"),
                    file("ca")
                );
                std::fs::write(file("conf"), config).unwrap();
                command.arg(file("conf"));
            }
            _ => {
                command.args(["server", "--listen", &address.to_string(), "--target", &server.to_string()]);
                command.args([
                    "--cert",
                    &file("cert"),
                    "--key",
                    &file("key"),
                    "--cacert",
                    &file("ca"),
                    "--allow-all",
                ]);
            }
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut running = Running { address, child, _folder: folder };
        for _ in 0..500 {
            if std::net::TcpStream::connect(address).is_ok() {
                return running;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let ended = running.child.try_wait();
        panic!("{} does not listen: {ended:?}", self.name)
    }
}
