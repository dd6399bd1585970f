//! The listener over a Unix socket and TCP, asked as nginx asks it.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::task::JoinHandle;

use super::*;
use crate::authorize::tests::{World, question};
use crate::config::LocalAddress;
use crate::local_http::MAX_HEAD;

impl Desk for World {
    fn answer(&self, question: &Question) -> Answer {
        Self::answer(self, question)
    }
}

struct Served {
    world: Arc<World>,
    socket: std::path::PathBuf,
    task: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Served {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("authorize.sock");
        // What a former run left behind is no obstacle.
        drop(UnixListener::bind(&socket).unwrap());
        let listener = Listener::bind(&LocalAddress::Unix(socket.clone())).await.unwrap();
        let world = Arc::new(World::new());
        let task = tokio::spawn(serve(listener, Arc::clone(&world)));
        Self { world, socket, task, _dir: dir }
    }

    async fn ask(&self, line: &str, headers: &str) -> String {
        let mut stream = UnixStream::connect(&self.socket).await.unwrap();
        let request = format!("{line} HTTP/1.0\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    fn header(&self, serial: u8) -> String {
        let pem = pem::encode(&pem::Pem::new("CERTIFICATE", self.world.shown(serial)));
        let escaped = percent_encoding::utf8_percent_encode(&pem, percent_encoding::NON_ALPHANUMERIC);
        format!("X-Client-Cert: {escaped}\r\n")
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn an_answer_is_a_status_with_its_reason() {
    let served = Served::new().await;
    let good = served.ask("GET /authorize?service=opcua", &served.header(0x41)).await;
    assert!(good.starts_with("HTTP/1.0 204 "), "{good}");
    assert!(good.contains("x-touchstone-peer: spiffe://cell.plant.example/device/camera-1\r\n"), "{good}");
    let refused = served.ask("GET /authorize?service=ssh&zone=press", &served.header(0x41)).await;
    assert!(refused.starts_with("HTTP/1.0 403 "), "{refused}");
    assert!(refused.contains("x-touchstone-reason: no-conduit\r\n"), "{refused}");
    assert!(refused.contains("x-touchstone-remedy: touchstone conduit allow --from cell"), "{refused}");
    let nobody = served.ask("GET /authorize?service=opcua", "X-Client-Cert:\r\n").await;
    assert!(nobody.contains("x-touchstone-reason: no-certificate-shown\r\n"), "{nobody}");
    let bare = served.ask("GET /authorize?service=opcua&grant=required", &served.header(0x41)).await;
    assert!(bare.contains("x-touchstone-reason: no-grant\r\n"), "{bare}");
    let garbled = served
        .ask("GET /authorize?service=opcua", &format!("{}X-Touchstone-Grant: a.b.c\r\n", served.header(0x41)))
        .await;
    assert!(garbled.contains("x-touchstone-reason: grant\r\n"), "{garbled}");
}

#[tokio::test]
async fn what_is_no_question_lets_nobody_through() {
    let served = Served::new().await;
    let header = served.header(0x41);
    for (line, headers, status) in [
        ("GET /", header.as_str(), "404"),
        ("POST /authorize?service=opcua", &header, "404"),
        ("GET /authorize", &header, "400"),
        ("GET /authorize?service=OPC%20UA", &header, "400"),
        ("GET /authorize?service=opcua&zome=press", &header, "400"),
        ("GET /authorize?service=opcua&grant=require", &header, "400"),
        ("GET /authorize?service=opcua", "X-Client-Cert: %2D\r\n", "400"),
    ] {
        let answer = served.ask(line, headers).await;
        assert!(answer.starts_with(&format!("HTTP/1.0 {status} ")), "{line}: {answer}");
    }
}

#[tokio::test]
async fn a_head_beyond_its_bound_is_refused_though_the_question_is_good() {
    let served = Served::new().await;
    let mut stream = UnixStream::connect(&served.socket).await.unwrap();
    // It looks at the bound before it reads on, so one read may go beyond.
    let (good, pad) = (served.header(0x41), "a".repeat(3 * MAX_HEAD));
    let request = format!("GET /authorize?service=opcua HTTP/1.0\r\n{good}X-Pad: {pad}\r\n\r\n");
    // It hangs up without having read everything, which the system tells besides the answer.
    drop(stream.write_all(request.as_bytes()).await);
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 431 ") || answer.starts_with("HTTP/1.0 431 "), "{answer}");
}

#[tokio::test]
async fn a_loopback_address_answers_too() {
    let listener = Listener::bind(&LocalAddress::Tcp("127.0.0.1:0".parse().unwrap())).await.unwrap();
    let Listener::Tcp(bound) = &listener else { panic!("{listener:?}") };
    let address = bound.local_addr().unwrap();
    let world = Arc::new(World::new());
    assert!(!Desk::answer(world.as_ref(), &question(None)).allowed);
    let task = tokio::spawn(serve(listener, world));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /authorize?service=opcua HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.0 403 "), "{answer}");
    task.abort();
}
