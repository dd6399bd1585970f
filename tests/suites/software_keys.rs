//! A server that cannot use a key in the TPM: unmodified nginx with two workers, its key in software, certified
//! through the device that it runs on.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use attestor::testing::command;
use attestor::tpm::{EsapiTpm, TpmHandle, TpmIdentityKey};
use attestor::tss2_key;
use e2e::{Device, World, missing_tool, until};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// What the server says to whom it serves.
const SERVED: &str = "the press is running";

/// nginx with two workers on the files that were delivered for a service; it ends with this value.
struct Nginx {
    folder: TempDir,
    child: Child,
    port: u16,
}

impl Nginx {
    fn start(device: &Device, zone: &str, service: &str) -> Self {
        let folder = TempDir::new().expect("a run folder");
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
        let (dir, files) = (folder.path().display(), device.delivered(zone, &format!("services/{service}")));
        let files = files.display();
        let config = format!(
            "daemon off;\npid {dir}/pid;\nerror_log {dir}/error.log;\nworker_processes 2;\n\
             worker_shutdown_timeout 5s;\nevents {{}}\nhttp {{\naccess_log off;\n\
             client_body_temp_path {dir}/body;\nproxy_temp_path {dir}/proxy;\nfastcgi_temp_path {dir}/fastcgi;\n\
             uwsgi_temp_path {dir}/uwsgi;\nscgi_temp_path {dir}/scgi;\n\
             server {{\nlisten 127.0.0.1:{port} ssl;\nssl_protocols TLSv1.3;\n\
             ssl_certificate {files}/server.pem;\nssl_certificate_key {files}/server.key;\n\
             ssl_client_certificate {files}/inbound.pem;\nssl_crl {files}/inbound.crl;\n\
             ssl_verify_client on;\nssl_session_cache off;\nssl_session_tickets off;\n\
             location / {{ return 200 \"{SERVED} $pid\\n\"; }}\n}}\n}}\n"
        );
        fs::write(folder.path().join("nginx.conf"), config).expect("a file in the run folder");
        let mut nginx = command("nginx");
        nginx.arg("-p").arg(folder.path()).arg("-c").arg(folder.path().join("nginx.conf"));
        nginx.arg("-e").arg(folder.path().join("error.log"));
        let child = nginx.stdin(Stdio::null()).spawn().expect("nginx starts");
        Self { folder, child, port }
    }

    /// As a reload hook would, once files have changed.
    fn reload(&self) {
        assert!(self.signal("HUP"), "nginx had ended: {}", self.last_words());
    }

    fn signal(&self, name: &str) -> bool {
        let id = self.child.id().to_string();
        let told = Command::new("bash").args(["-c", &format!("kill -{name} \"$0\""), &id]).status();
        told.expect("bash runs").success()
    }

    fn last_words(&self) -> String {
        fs::read_to_string(self.folder.path().join("error.log")).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The workers end with their master only when it is told in order.
        self.signal("TERM");
        drop(self.child.wait());
    }
}

pub(crate) fn blocks(file: &Path) -> Vec<Vec<u8>> {
    let text = fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    pem::parse_many(text).expect("PEM").into_iter().map(|block| block.contents().to_vec()).collect()
}

/// A client on `device` for `service`, as strict as the delivered files make it: its key is in the TPM.
pub(crate) fn client(device: &Device, zone: &str, service: &str) -> TlsConnector {
    let file = |name: &str| device.delivered(zone, name);
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    for authority in blocks(&file(&format!("services/{service}/outbound.pem"))) {
        roots.add(CertificateDer::from(authority)).expect("an authority");
    }
    let crls = blocks(&file(&format!("services/{service}/outbound.crl")));
    let crls: Vec<_> = crls.into_iter().map(CertificateRevocationListDer::from).collect();
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let verifier = verifier.with_crls(crls).build().expect("a verifier");
    let tpm = TpmHandle::start(EsapiTpm::new(device.tpm())).expect("a thread for the TPM");
    let key = fs::read_to_string(file("caller.key")).expect("a key file");
    let key = TpmIdentityKey::new(tpm, tss2_key::parse(&key).expect("a key in the TPM"));
    let chain = blocks(&file("caller.pem")).into_iter().map(CertificateDer::from).collect();
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_webpki_verifier(verifier)
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, Arc::new(key)))));
    config.resumption = Resumption::disabled();
    TlsConnector::from(Arc::new(config))
}

/// Everything that the server says to one request.
async fn ask(client: &TlsConnector, nginx: &Nginx) -> Result<String, String> {
    let said = |error: std::io::Error| error.to_string();
    let tcp = TcpStream::connect(("127.0.0.1", nginx.port)).await.map_err(said)?;
    let name = ServerName::try_from("press-1.press.plant.example").expect("a name");
    let mut tls = client.connect(name, tcp).await.map_err(said)?;
    tls.write_all(b"GET / HTTP/1.1\r\nHost: press-1\r\nConnection: close\r\n\r\n").await.map_err(said)?;
    let mut answer = Vec::new();
    // A server that closes without close_notify has said all the same.
    drop(tls.read_to_end(&mut answer).await);
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn ask_now(client: &TlsConnector, nginx: &Nginx) -> Result<String, String> {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(ask(client, nginx)))
}

/// The worker that served, or what was said instead.
fn served(answer: Result<String, String>) -> Result<String, String> {
    let answer = answer?;
    let worker = answer.split_once(SERVED).map(|(_, worker)| worker.trim().to_owned());
    worker.ok_or(answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_with_two_workers_serves_under_a_software_key_and_refuses_a_device_that_lost_trust() {
    if let Some(tool) = missing_tool(&["nginx"]) {
        eprintln!("skipped: {tool} is not installed; deploy/packages.sh names its package");
        return;
    }
    let Some((mut world, [mut press, mut camera])) = World::with_devices(["press-1", "camera-1"]) else {
        return;
    };
    world.admin("zone create press --mode observe --software-keys allow");
    world.admin("zone create vision --mode observe");
    world.admin("conduit allow --from vision --to press --service hmi");
    world.register(&press, "press");
    world.register(&camera, "vision");
    press.offer_in_software("hmi");
    press.measure("boot-a");
    camera.measure("boot-a");
    press.start();
    camera.start();
    let status =
        press.until_status("given a software key", |status| status["software_keys"][0]["service"] == "hmi");
    assert_eq!(status["software_keys"][0]["not_after"], status["certificates"][1]["not_after"], "{status:#}");
    camera.until_state("trusted");
    camera.stop();

    let nginx = Nginx::start(&press, "press", "hmi");
    let client = client(&camera, "vision", "hmi");
    let mut workers = BTreeSet::new();
    until("both workers serve camera-1", || {
        workers.insert(
            served(ask_now(&client, &nginx)).map_err(|said| format!("{said}\n{}", nginx.last_words()))?,
        );
        if workers.len() == 2 { Ok(()) } else { Err(format!("only {workers:?}")) }
    });

    let crl = press.delivered("press", "services/hmi/inbound.crl");
    let before = fs::read(&crl).expect("a CRL");
    world.admin("device quarantine camera-1 --reason stolen");
    until("press-1 has the new CRL", || match fs::read(&crl) {
        Ok(now) if now != before => Ok(()),
        other => Err(format!("{} bytes as before", other.map_or(0, |now| now.len()))),
    });
    // From here on nothing depends on the broker.
    world.stop_broker();
    nginx.reload();
    // Until its old workers have left, nginx serves by the old CRL.
    until("the workers of before the reload are gone", || {
        let left: Vec<&String> =
            workers.iter().filter(|worker| Path::new("/proc").join(worker).exists()).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}\n{}", nginx.last_words())) }
    });
    for _ in 0..8 {
        let said = ask_now(&client, &nginx).expect("nginx completes the handshake");
        assert!(!said.contains(SERVED), "served a device that lost trust: {said}");
        assert!(said.contains("400 Bad Request") && said.contains("SSL certificate error"), "{said}");
    }
}
