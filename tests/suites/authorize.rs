//! Whether one peer may open one service: asked of broker, device and nginx, which all say the same.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use attestor::testing::command;
use attestor::tpm::{EsapiTpm, TpmHandle, TpmIdentityKey};
use attestor::tss2_key;
use e2e::peers::{Client, Shown};
use e2e::{Device, World, in_time, missing_tool, run, until};
use proto::v1;
use proto::v1::authorize_client::AuthorizeClient;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::hostile::caller::connect;

/// Connects as `device` of `zone` to servers of `service`: its key is in the TPM, and it believes what it was delivered.
pub(crate) fn connector(device: &Device, zone: &str, service: &str) -> Result<TlsConnector, String> {
    let config = Client::on(device, zone).config(service, Shown::Caller)?;
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The first certificate of a file, DER.
fn leaf(file: &Path) -> Vec<u8> {
    let text = fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    pem::parse_many(text).expect("PEM").remove(0).into_contents()
}

/// nginx with the configuration that is shipped, in folders of its own; it ends with this value.
struct Nginx {
    folder: TempDir,
    child: Child,
    port: u16,
}

impl Nginx {
    fn start(historian: &Device) -> Self {
        let folder = TempDir::new().expect("a run folder");
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/nginx-authorize.conf");
        let shipped = fs::read_to_string(root).expect("the shipped configuration");
        let dir = folder.path().display();
        let mut server = shipped;
        for (shipped, here) in [
            ("listen 8443 ssl;", format!("listen 127.0.0.1:{port} ssl;")),
            ("/run/touchstone/current/cell-3", historian.delivered("archive", "").display().to_string()),
            ("/run/touchstone/authorize.sock", historian.path("authorize.sock").display().to_string()),
            ("/srv/press", format!("{dir}/html")),
            ("zone=cell-3", "zone=archive".to_owned()),
        ] {
            assert!(server.contains(shipped), "the shipped configuration has no {shipped}");
            server = server.replace(shipped, &here);
        }
        for service in ["history", "setpoints"] {
            let page = folder.path().join("html").join(service);
            fs::create_dir_all(&page).expect("a folder of the run");
            fs::write(page.join("index.html"), format!("the {service}\n")).expect("a page");
        }
        let config = format!(
            "daemon off;\nuser root;\npid {dir}/pid;\nerror_log {dir}/error.log;\nworker_processes 2;\nevents {{}}\n\
             http {{\naccess_log off;\nclient_body_temp_path {dir}/body;\nproxy_temp_path {dir}/proxy;\n\
             fastcgi_temp_path {dir}/fastcgi;\nuwsgi_temp_path {dir}/uwsgi;\nscgi_temp_path {dir}/scgi;\n{server}\n}}\n"
        );
        fs::write(folder.path().join("nginx.conf"), config).expect("a file in the run folder");
        let mut nginx = command("nginx");
        nginx.arg("-p").arg(folder.path()).arg("-c").arg(folder.path().join("nginx.conf"));
        nginx.arg("-e").arg(folder.path().join("error.log"));
        let child = nginx.stdin(Stdio::null()).spawn().expect("nginx starts");
        Self { folder, child, port }
    }

    fn last_words(&self) -> String {
        fs::read_to_string(self.folder.path().join("error.log")).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let id = self.child.id().to_string();
        drop(Command::new("bash").args(["-c", "kill -TERM \"$0\"", &id]).status());
        drop(self.child.wait());
    }
}

/// A connection of the press to nginx that stays open.
struct Browser {
    stream: TlsStream<TcpStream>,
}

impl Browser {
    async fn connect(press: &Device, port: u16) -> Result<Self, String> {
        let tcp = TcpStream::connect(("127.0.0.1", port)).await.map_err(|error| error.to_string())?;
        let name = ServerName::try_from("historian-1.archive.plant.example").expect("a name");
        let stream = connector(press, "press", "history")?
            .connect(name, tcp)
            .await
            .map_err(|error| error.to_string())?;
        Ok(Self { stream })
    }

    /// Status and reason, and the page, with one more header.
    async fn ask(&mut self, path: &str, header: &str) -> Result<(u16, String, String), String> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: historian-1\r\n{header}\r\n");
        self.stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
        let mut answer = Vec::new();
        let mut bytes = [0; 4096];
        loop {
            let read = self.stream.read(&mut bytes).await.map_err(|error| error.to_string())?;
            answer.extend_from_slice(&bytes[..read]);
            let text = String::from_utf8_lossy(&answer).into_owned();
            let Some((head, page)) = text.split_once("\r\n\r\n") else {
                assert!(read > 0, "nginx closed in the head: {text}");
                continue;
            };
            let field = |name: &str| {
                let lines = head.lines().filter_map(|line| line.split_once(": "));
                let mut found = lines.filter(|(known, _)| known.eq_ignore_ascii_case(name));
                found.next().map(|(_, value)| value.to_owned())
            };
            let length: usize = field("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            if page.len() >= length || read == 0 {
                let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
                return Ok((status, field("x-touchstone-reason").unwrap_or_default(), page.to_owned()));
            }
        }
    }
}

/// What `touchstone-attestor authorize` on the historian says of the press.
fn offline(historian: &Device, press: &Device, service: &str) -> (i32, Value) {
    let (config, peer) = (historian.path("attestor.toml"), press.delivered("press", "caller.pem"));
    let (config, peer) = (config.display().to_string(), peer.display().to_string());
    let args = ["authorize", "--config", &config, "--peer-cert", &peer, "--service", service, "-o", "json"];
    let output = run("touchstone-attestor", &args);
    let json = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (output.status.code().unwrap_or(-1), json)
}

/// The historian asks the broker about the press, under its own certificate with its key in the TPM.
async fn online(world: &World, historian: &Device, press: &Device, service: &str) -> v1::AuthorizeResponse {
    let tpm = TpmHandle::start(EsapiTpm::new(historian.tpm())).expect("a thread for the TPM");
    let key = fs::read_to_string(historian.delivered("archive", "caller.key")).expect("a key file");
    let key = TpmIdentityKey::new(tpm, tss2_key::parse(&key).expect("a key in the TPM"));
    let shown = leaf(&historian.delivered("archive", "caller.pem"));
    let channel = connect(world, Some((shown, Arc::new(key)))).await.expect("the broker answers");
    let request = v1::AuthorizeRequest {
        peer_certificate: leaf(&press.delivered("press", "caller.pem")),
        service: service.to_owned(),
        direction: v1::Direction::Inbound.into(),
        zone: String::new(),
        grant: true,
    };
    AuthorizeClient::new(channel).authorize(request).await.expect("the broker decides").into_inner()
}

/// A press that may open one of the two services of a historian.
fn plant() -> Option<(World, Device, Device)> {
    let (world, [mut press, mut historian]) = World::with_devices(["press-1", "historian-1"])?;
    let open = "--mode observe --least instance-identity=affirming";
    world.admin(&format!("zone create press {open}"));
    world.admin(&format!("zone create archive {open} --software-keys allow"));
    world.register(&press, "press");
    world.register(&historian, "archive");
    world.admin("conduit allow --from press --to archive --service history");
    historian.offer_in_software("history");
    historian.offer("setpoints");
    historian.add_end("[authorize]\nlisten = \"unix:authorize.sock\"\n");
    for device in [&mut press, &mut historian] {
        device.measure("boot-a");
        device.start();
        device.until_state("trusted");
    }
    for file in [
        press.delivered("press", "services/history/outbound.pem"),
        historian.delivered("archive", "services/history/server.key"),
    ] {
        until("both ends have their files", || if file.exists() { Ok(()) } else { Err(format!("{file:?}")) });
    }
    Some((world, press, historian))
}

#[test]
fn broker_device_and_nginx_let_a_peer_into_one_of_two_services() {
    if let Some(tool) = missing_tool(&["nginx"]) {
        eprintln!("skipped: {tool} is not installed; deploy/packages.sh names its package");
        return;
    }
    let Some((mut world, press, historian)) = plant() else { return };
    let runtime = Runtime::new().expect("a runtime");
    let nginx = Nginx::start(&historian);
    let mut browser = until("nginx serves", || {
        let connected = runtime.block_on(Browser::connect(&press, nginx.port));
        connected.map_err(|error| format!("{error}; {}", nginx.last_words()))
    });
    let mut ask = |path: &str, header: &str| {
        runtime
            .block_on(browser.ask(path, header))
            .unwrap_or_else(|error| panic!("{error}; {}", nginx.last_words()))
    };
    let (status, _, page) = ask("/history/", "");
    assert_eq!((status, page.as_str()), (200, "the history\n"), "{}", nginx.last_words());
    let (status, reason, page) = ask("/setpoints/", "");
    assert_eq!((status, reason.as_str()), (403, "no-conduit"), "{}", nginx.last_words());
    assert!(!page.contains("the setpoints"), "served all the same: {page}");
    assert_eq!(ask("/_touchstone/history", "").0, 404, "only nginx itself asks");

    // Device and broker say the same, and a person is told why.
    for (service, code) in [("history", ""), ("setpoints", "no-conduit"), ("ssh", "not-offered")] {
        let (exit, answer) = offline(&historian, &press, service);
        let told = answer["reasons"][0]["code"].as_str().unwrap_or_default();
        assert_eq!((exit, told), (i32::from(!code.is_empty()), code), "{answer:#}");
        let decided = runtime.block_on(online(&world, &historian, &press, service));
        let first = decided.reasons.first().map(|reason| reason.code.as_str()).unwrap_or_default();
        assert_eq!((decided.allowed, first), (code.is_empty(), code), "{decided:?}");
        assert_eq!(decided.grant.is_empty(), !code.is_empty(), "{decided:?}");
    }
    let why = world.tool(&["conduit", "why", "press-1", "--to", "archive", "--service", "setpoints"]);
    assert_eq!((why.code, &why.json["answers"][0]["reasons"][0]["code"]), (3, &"no-conduit".into()));
    assert_eq!(world.admin("conduit why press-1 --to archive --service history")["allowed"], true);

    // A grant counts once the device was told the key of grants, and only as it is.
    let granted = runtime.block_on(online(&world, &historian, &press, "history")).grant;
    until("the device knows the key of grants", || {
        match ask("/history/", &format!("X-Touchstone-Grant: {granted}\r\n")) {
            (200, ..) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    // In the middle of the signature, where every bit of a character counts.
    let (signed, signature) = granted.rsplit_once('.').expect("a JWT");
    let (before, after) = signature.split_at(signature.len() / 2);
    let other = if after.starts_with('A') { 'B' } else { 'A' };
    let bent = format!("{signed}.{before}{other}{}", &after[1..]);
    assert_eq!(ask("/history/", &format!("X-Touchstone-Grant: {bent}\r\n")).1, "grant");

    world.stop_broker();
    assert_eq!(ask("/history/", "").0, 200, "the broker is away");
    world.start_broker();
    historian.until_status("watching again", |status| status["broker"]["watching"] == true);
    world.admin("device quarantine press-1 --reason test");
    let begun = Instant::now();
    until("the peer is refused on the connection that it has open", || match ask("/history/", "") {
        (403, reason, _) if reason == "revoked" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    in_time("nginx that asks refuses a device that lost trust", begun.elapsed());
    // The command reads the file, which is saved once all that live in the daemon know.
    until("the command says so too", || match offline(&historian, &press, "history").1 {
        answer if answer["reasons"][0]["code"] == "revoked" => Ok(()),
        answer => Err(answer.to_string()),
    });
}
