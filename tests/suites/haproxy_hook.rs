//! deploy/haproxy-hook with real HAProxy: it reloads a worker that may go by files that it was not told of.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};

use attestor::testing::{command, missing_tool};
use e2e::until;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, SerialNumber,
};
use tempfile::TempDir;

/// An authority and its CRL, PEM.
struct Authority {
    certificate: String,
    key: String,
    crl: String,
}

impl Authority {
    fn new() -> Self {
        let (key, mut params) = (KeyPair::generate().expect("a key"), CertificateParams::default());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let (certificate, pem) =
            (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem());
        let crl = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2020, 1, 1),
            next_update: rcgen::date_time_ymd(2040, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let crl = crl.signed_by(&Issuer::new(params, key)).expect("a CRL").pem().expect("PEM");
        Self { certificate, key: pem, crl }
    }
}

/// HAProxy on files that are delivered in generations; it ends with this value.
struct Haproxy {
    folder: TempDir,
    child: Child,
    generations: u32,
    server: Authority,
}

impl Haproxy {
    fn start(first: &Authority) -> Self {
        let folder = TempDir::new().expect("a run folder");
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
        let dir = folder.path().display();
        let config = format!(
            "global\n  stats socket {dir}/admin.sock mode 600 level admin expose-fd listeners\ndefaults\n  mode http\n  \
             timeout client 10s\n  timeout server 10s\n  timeout connect 10s\nfrontend press\n  bind 127.0.0.1:{port} \
             ssl crt {dir}/haproxy.pem ca-file {dir}/current/inbound.pem crl-file {dir}/current/inbound.crl \
             verify required\n  http-request return status 200\n"
        );
        let write = |name: &str, text: String| fs::write(folder.path().join(name), text).expect("a file");
        let server = Authority::new();
        write("haproxy.cfg", config);
        write("haproxy.pem", format!("{}{}", server.certificate, server.key));
        let mut haproxy = command("haproxy");
        haproxy.args(["-W", "-db", "-S", &format!("{dir}/master.sock"), "-f", &format!("{dir}/haproxy.cfg")]);
        haproxy.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        deliver(folder.path(), 1, &server, &first.certificate, &first.crl);
        let child = haproxy.spawn().expect("haproxy starts");
        let haproxy = Self { folder, child, generations: 1, server };
        until("haproxy runs", || haproxy.worker().ok_or_else(|| "no worker".to_owned()));
        haproxy
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn deliver(&mut self, certificate: &str, crl: &str) {
        self.generations += 1;
        deliver(self.folder.path(), self.generations, &self.server, certificate, crl);
    }

    fn ask(&self, words: &str) -> String {
        let mut bash = command("bash");
        let line =
            format!("echo {words} | socat -t 10 - UNIX-CONNECT:{}", self.path("master.sock").display());
        let output = bash.args(["-c", &line]).output().expect("bash runs");
        String::from_utf8(output.stdout).expect("text")
    }

    /// The worker that no reload came after.
    fn worker(&self) -> Option<String> {
        let said = self.ask("show proc");
        let mut lines = said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        lines.find_map(|words| match words.as_slice() {
            [pid, "worker", "0", ..] => Some((*pid).to_owned()),
            _ => None,
        })
    }

    fn hook(&self) -> Output {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/haproxy-hook");
        let mut hook = command("sh");
        hook.arg(script);
        hook.args(["current", "haproxy.pem", "admin.sock", "master.sock"].map(|name| self.path(name)));
        hook.output().expect("sh runs")
    }

    /// The worker after a hook that ends well.
    fn told(&self) -> Option<String> {
        let output = self.hook();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self.worker()
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        // The master takes its workers along.
        let id = self.child.id().to_string();
        drop(command("bash").args(["-c", "kill -TERM \"$0\"", &id]).status());
        drop(self.child.wait());
    }
}

/// As the attestor does: a folder written whole, then a link that is switched to it.
fn deliver(dir: &Path, generation: u32, server: &Authority, certificate: &str, crl: &str) {
    let files = dir.join("generations").join(generation.to_string());
    fs::create_dir_all(&files).expect("a folder");
    for (name, text) in [
        ("server.pem", server.certificate.as_str()),
        ("server.key", &server.key),
        ("inbound.pem", certificate),
        ("inbound.crl", crl),
    ] {
        fs::write(files.join(name), text).expect("a file");
    }
    let fresh = dir.join(".current.new");
    symlink(&files, &fresh).expect("a link");
    fs::rename(fresh, dir.join("current")).expect("a switched link");
}

#[test]
fn a_worker_that_may_go_by_other_files_is_reloaded_once_more() {
    if let Some(tool) = missing_tool(&["haproxy", "socat"]) {
        eprintln!("skipped: {tool} is not installed; deploy/packages.sh names its package");
        return;
    }
    let (a, b) = (Authority::new(), Authority::new());
    let mut haproxy = Haproxy::start(&a);
    let first = haproxy.told();
    assert_eq!(haproxy.told(), first, "a certificate alone takes no reload");

    // It reads other files by itself, and the former ones come back before the hook is run.
    haproxy.deliver(&b.certificate, &b.crl);
    haproxy.ask("reload");
    let own = until("it is reloaded", || match haproxy.worker() {
        Some(worker) if Some(&worker) != first.as_ref() => Ok(worker),
        other => Err(format!("{other:?}")),
    });
    haproxy.deliver(&a.certificate, &a.crl);
    let after = haproxy.told();
    assert!(after.is_some() && after != Some(own), "a closed conduit is open: {after:?}");
    assert_eq!(haproxy.told(), after);

    // A reload that fails is said, and is no end of the hook.
    haproxy.deliver("broken", &b.crl);
    let output = haproxy.hook();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), said.as_str()), (Some(1), "HAProxy was not reloaded; see its log\n"));
    assert_eq!(haproxy.worker(), None, "the former worker goes on");
    haproxy.deliver(&a.certificate, &a.crl);
    let mended = haproxy.told();
    assert!(mended.is_some() && mended != after, "{mended:?}");
}
