//! Devices that prove to be tampered with lose their live sessions at a peer's gate, while all others watch.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use attestor::client::{BrokerClient, CallError, Calls as _};
use proto::v1::{self, DenialReason};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::client;
use crate::device::{Boot, Device, Kind};
use crate::load::Shared;
use crate::plant::DOMAIN;
use crate::report::{Figure, Times};
use crate::restore::{done, tool};
use crate::server::{Server, program};
use crate::steady::{Errors, watch};

/// Sessions that are cut, one after the other.
const SESSIONS: usize = 200;
/// What is promised, in milliseconds, with a thousand devices that watch.
const P99: f64 = 100.0;
/// Whatever has not happened by then does not happen.
const DEADLINE: Duration = Duration::from_secs(60);
/// Pause between two looks.
const POLL: Duration = Duration::from_millis(5);

/// Cuts sessions of the first devices while `watching` others watch, and prints how long each took. True if all were cut.
pub async fn measure(dir: &Path, broker: &Server, devices: &[Shared], watching: usize) -> bool {
    let client = client(dir, broker.address());
    let (tampered, others) = devices.split_at(SESSIONS.min(devices.len().div_ceil(2)));
    let guard = Guard::start(dir, broker).await;
    let errors = Errors::default();
    let _streams = watch(&client, &others[..watching.min(others.len())], &errors).await;
    assert!(errors.lock().await.is_empty(), "{errors:?}");
    let (golden, another) = (Boot::golden(), Boot::another());
    let (mut answers, mut cuts) = (Vec::new(), Vec::new());
    for device in tampered {
        let mut device = device.lock().await;
        let session = guard.session(&client, &mut device).await;
        device.boots(&another);
        let (answered, cut) = refuse(&client, &mut device, session).await;
        answers.push(answered);
        cuts.push(cut);
        device.boots(&golden);
        attest(&client, &mut device, Kind::Replace).await.expect("it is as it was before");
    }
    let (answers, cuts) = (Times::new(answers), Times::new(cuts));
    let millis = |times: &Times, part| times.percentile(part) * 1e3;
    Figure::new("cut_p50", millis(&cuts, 50), "ms").over(millis(&answers, 50)).print();
    Figure::new("cut_p99", millis(&cuts, 99), "ms").over(millis(&answers, 99)).within(P99).print();
    eprintln!("{} sessions cut while {} watch", cuts.count(), watching.min(others.len()));
    cuts.count() == tampered.len()
}

/// Attests; gives what the device is to believe.
async fn attest(client: &BrokerClient, device: &mut Device, kind: Kind) -> Result<v1::TrustSet, CallError> {
    let connection = client.connect(0).await?;
    let begun = connection.begin_attestation(device.begin_attestation()).await?;
    let request = device.complete_attestation(begun, kind);
    let answer = connection.complete_attestation(request).await?;
    let set = device.adopt(answer, kind);
    Ok(set)
}

/// Lets `device` prove what it is now. Gives how long after the proof was sent the broker had refused it, and how long
/// after that the session was cut.
async fn refuse(
    client: &BrokerClient,
    device: &mut Device,
    mut session: TlsStream<TcpStream>,
) -> (Duration, Duration) {
    let connection = client.connect(0).await.expect("the broker answers");
    let begun = connection.begin_attestation(device.begin_attestation()).await.expect("a challenge");
    let request = device.complete_attestation(begun, Kind::Reattest);
    let sent = Instant::now();
    let cut = tokio::spawn(async move {
        let read = tokio::time::timeout(DEADLINE, session.read(&mut [0; 1])).await.expect("it is cut");
        assert!(!matches!(read, Ok(1..)), "nobody wrote");
        sent.elapsed()
    });
    match connection.complete_attestation(request).await {
        Err(CallError::Denied(denial)) if denial.reason() == DenialReason::ReferenceMismatch => {}
        other => panic!("tampered with, and not refused: {other:?}"),
    }
    (sent.elapsed(), cut.await.expect("no task panics"))
}

/// A device without a TPM whose gate stands before a server.
struct Guard {
    attestor: Child,
    gate: SocketAddr,
}

impl Guard {
    /// Opens a conduit to it from the zone of the first devices, and waits until it serves.
    async fn start(dir: &Path, broker: &Server) -> Self {
        let folder = dir.with_file_name("guard");
        fs::create_dir_all(&folder).expect("a folder of the run");
        let admin = |words: &str| {
            let mut tool = tool(dir, broker);
            tool.args(words.split(' '));
            done(tool)
        };
        admin("zone create guards --mode enforce --least instance-identity=affirming");
        admin("conduit allow --from cell-0 --to guards --service control");
        let token = admin("token create --zone guards --device guard --without-tpm -o json");
        let token: serde_json::Value = serde_json::from_str(&token).expect("JSON");
        fs::write(folder.join("token"), token["token"].as_str().expect("a token"))
            .expect("a file of the run");
        let gate = free();
        let config = configuration(&folder, dir, broker, gate, echo().await);
        let log = fs::File::create(folder.join("log")).expect("a file of the run");
        let mut attestor = Command::new(program("touchstone-attestor"));
        attestor
            .args(["run", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let attestor = attestor.spawn().expect("the attestor starts");
        let guard = Self { attestor, gate };
        guard.until_trusted(&config, &folder).await;
        guard
    }

    async fn until_trusted(&self, config: &Path, folder: &Path) {
        let begun = Instant::now();
        loop {
            let mut status = Command::new(program("touchstone-attestor"));
            let output = status.args(["status", "-o", "json", "--config"]).arg(config).output();
            let output = output.expect("the attestor's program starts");
            let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            if status["state"] == "trusted" {
                return;
            }
            assert!(begun.elapsed() < DEADLINE, "{status}; see {}/log", folder.display());
            tokio::time::sleep(POLL).await;
        }
    }

    /// A session of `device` with the server, which answered.
    async fn session(&self, client: &BrokerClient, device: &mut Device) -> TlsStream<TcpStream> {
        let set = attest(client, device, Kind::Reattest).await.expect("it boots what is golden");
        let connector = connector(device, &set);
        let begun = Instant::now();
        loop {
            match self.open(&connector).await {
                Ok(session) => return session,
                Err(error) => assert!(begun.elapsed() < DEADLINE, "no session: {error}"),
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn open(&self, connector: &TlsConnector) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(format!("guard.guards.{DOMAIN}")).expect("a name");
        let mut session = connector.connect(name, TcpStream::connect(self.gate).await?).await?;
        session.write_all(b"?").await?;
        session.read_exact(&mut [0; 1]).await?;
        Ok(session)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.attestor.kill());
        drop(self.attestor.wait());
    }
}

fn configuration(
    folder: &Path,
    dir: &Path,
    broker: &Server,
    gate: SocketAddr,
    server: SocketAddr,
) -> PathBuf {
    let root = dir.join("plant-root.pem");
    let text = format!(
        "broker = \"{}\"\nplant = \"{DOMAIN}\"\nplant_root = {root:?}\ntpm = \"none\"\ndevice = \"guard\"\n\
         state = \"state\"\ndeliver = \"deliver\"\njoin_token_file = \"token\"\n\n\
         [[service]]\nname = \"control\"\nport = 4840\nkey = \"tpm\"\n\n\
         [[gate]]\nname = \"control\"\nrole = \"server\"\nservice = \"control\"\nlisten = \"{gate}\"\nconnect = \"{server}\"\n",
        broker.address()
    );
    let file = folder.join("attestor.toml");
    fs::write(&file, text).expect("a file of the run");
    file
}

/// What `device` connects with: its certificate, and belief in all that its trust set names.
fn connector(device: &Device, set: &v1::TrustSet) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for authority in &set.authorities {
        roots.add(authority.certificate.clone().into()).expect("an authority");
    }
    let (chain, key) = device.caller();
    let chain = chain.into_iter().map(Into::into).collect();
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has TLS 1.3")
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, PrivateKeyDer::Pkcs8(key.into()))
        .expect("its own key");
    config.resumption = Resumption::disabled();
    TlsConnector::from(Arc::new(config))
}

/// A server without TLS that sends back what comes.
async fn echo() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it listens");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                drop(tokio::io::copy(&mut from, &mut to).await);
            });
        }
    });
    address
}

/// A port that nobody had a moment ago.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
}
