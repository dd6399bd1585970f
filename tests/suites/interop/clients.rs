//! Unmodified clients, their keys in the TPM of their device. What servers refuse is asserted with a client of our own in
//! `situations`; here it is what these clients refuse by themselves, and what they hear of a refusal.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

use attestor::testing::command;
use e2e::peers::{Clock, Grpcio, PYTHON, ResourceManager, SERVED, Server};
use e2e::until;

use super::plant::{Plant, ZONES};
use super::situations::Took;
use crate::story::openssl;

/// Programs that it needs.
pub(super) const TOOLS: [&str; 4] = ["curl", "openssl", "mosquitto_pub", "mosquitto_sub"];

/// Why a client is not served.
#[derive(Debug, Clone, Copy)]
pub(super) enum Why {
    /// It believes no authority that signed the server's certificate.
    Unbelieved,
    /// The server's certificate has ended.
    Expired,
    /// The server believes no authority that signed the client's.
    Unbelieving,
    /// The client's own was revoked.
    Revoked,
    /// The server asked, and no conduit opens the service to the client.
    NoConduit,
    /// The server asked, and the client's certificate has ended.
    Ended,
    /// The server asked, and its attestor does not answer.
    NoAnswer,
}

impl Why {
    /// What the client of `service` says of it. mosquitto's and grpcio's tell only which side found the fault.
    fn words(self, service: &str) -> &'static [&'static str] {
        match (service, self) {
            ("mosquitto", Self::Unbelieved | Self::Expired) => &["A TLS error occurred"],
            ("mosquitto", Self::Unbelieving | Self::Revoked) => &["The connection was lost"],
            ("grpcio", Self::Unbelieved | Self::Expired) => &["certificate verify failed"],
            ("grpcio", Self::Unbelieving | Self::Revoked) => &["Socket closed"],
            ("grpcio-asking", why) => why.answered(),
            (_, Self::Unbelieved) => &["unable to get local issuer certificate"],
            (_, Self::Expired) => &["certificate has expired"],
            // nginx says it in HTTP.
            (_, Self::Unbelieving) => &["unknown ca", "SSL certificate error"],
            (_, Self::Revoked) => &["certificate revoked", "SSL certificate error"],
            (_, Self::NoConduit | Self::Ended | Self::NoAnswer) => &[],
        }
    }

    /// What a server says that asks about every call.
    fn answered(self) -> &'static [&'static str] {
        match self {
            Self::NoConduit => &["PERMISSION_DENIED no-conduit"],
            Self::Ended => &["PERMISSION_DENIED ended"],
            Self::Revoked => &["PERMISSION_DENIED revoked"],
            Self::NoAnswer => &["PERMISSION_DENIED no-answer"],
            Self::Unbelieved | Self::Expired | Self::Unbelieving => &[],
        }
    }
}

/// Where clients run and what they believe.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    /// The number of their device.
    pub(super) device: usize,
    /// The service whose trust files they have; None: those of the service that they open.
    pub(super) believing: Option<&'static str>,
    /// Their clock; None: the right one.
    pub(super) clock: Option<&'a Clock>,
}

impl At<'_> {
    /// On the device that conduits are opened for.
    pub(super) const CAMERA: Self = Self { device: 1, believing: None, clock: None };
}

/// The client that goes with a server: programs, of which the last one says what came of it.
fn client(plant: &Plant, server: &Server, at: At<'_>) -> Vec<Command> {
    let name = server.software.service();
    let file = |name: &str| {
        let path = plant.devices[at.device].delivered(ZONES[at.device], name);
        path.to_str().expect("run folders have plain names").to_owned()
    };
    let outbound = |kind: &str| file(&format!("services/{}/outbound.{kind}", at.believing.unwrap_or(name)));
    let (own, key, host, port) = (file("caller.pem"), file("caller.key"), &server.host, server.port());
    let split = |line: String| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let lines = match name {
        "openssl" => {
            // -CRL reads only the first CRL of a file.
            let script = format!(
                "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | openssl s_client -quiet -connect 127.0.0.1:{port} -tls1_3 \
                 -cert {own} -key {key} -CAfile <(cat {} {}) -crl_check -verify_return_error -verify_hostname {host}",
                outbound("pem"),
                outbound("crl")
            );
            vec![vec!["bash".to_owned(), "-c".to_owned(), script]]
        }
        "mosquitto" => {
            // --insecure: nothing resolves the server's name here. The chain is verified all the same.
            let line = format!(
                "-h 127.0.0.1 -p {port} --insecure --tls-version tlsv1.3 --cafile {} --cert {own} --key {key} \
                 -t interop -q 1",
                outbound("pem")
            );
            let publish = [split(format!("mosquitto_pub {line} -r -m")), vec![SERVED.to_owned()]].concat();
            vec![publish, split(format!("mosquitto_sub {line} -C 1 -W 20"))]
        }
        "grpcio" | "grpcio-asking" => vec![split(grpcio("ask", plant, server, at))],
        _ => vec![split(format!(
            "curl -sS --max-time 20 --tlsv1.3 --cacert {} --crlfile {} --cert {own} --key {key} \
             --resolve {host}:{port}:127.0.0.1 https://{host}:{port}/",
            outbound("pem"),
            outbound("crl")
        ))],
    };
    let prepared = |words: &Vec<String>| {
        let [program, rest @ ..] = words.as_slice() else { unreachable!("words begin with a program") };
        let mut command = command(program);
        let tpm = plant.manager(at.device).map(ResourceManager::environment).unwrap_or_default();
        command.args(rest).envs(tpm).stdin(Stdio::null());
        command.envs(at.clock.map(Clock::environment).unwrap_or_default());
        command
    };
    lines.iter().map(prepared).collect()
}

/// The command of grpcio's client, which does `what`.
pub(super) fn grpcio(what: &str, plant: &Plant, server: &Server, at: At<'_>) -> String {
    let own = plant.devices[at.device].delivered(ZONES[at.device], "");
    let believing = at.believing.unwrap_or(server.software.service());
    let (program, port) = (Grpcio::program(), server.port());
    format!("{PYTHON} {program} {what} {} {believing} {port} {}", own.display(), server.host)
}

/// What the last of them said.
fn said(commands: Vec<Command>) -> Vec<u8> {
    let mut last = Vec::new();
    for mut command in commands {
        let output = command.output().expect("the client starts");
        last = [output.stdout, output.stderr].concat();
    }
    last
}

/// Each is served.
pub(super) fn are_served(plant: &Plant, at: At<'_>) {
    for server in &plant.servers {
        until(&format!("{:?} serves an unmodified client", server.software), || {
            let said = said(client(plant, server, at));
            match server.software.serves(&said) {
                true => Ok(()),
                false => Err(String::from_utf8_lossy(&said).into_owned()),
            }
        });
    }
}

/// No byte of the application comes to any of them, for this reason.
pub(super) fn are_refused(plant: &Plant, servers: &[Server], at: At<'_>, why: Why) {
    for server in servers {
        until(&format!("{:?} and its client part: {why:?}", server.software), || {
            let said = said(client(plant, server, at));
            let words = String::from_utf8_lossy(&said).into_owned();
            assert!(!server.software.serves(&said), "{:?} served: {words}", server.software);
            let mut expected = why.words(server.software.service()).iter();
            if expected.any(|word| words.contains(word)) { Ok(()) } else { Err(words) }
        });
    }
}

/// Clients that read CRLs refuse the servers of a device that lost trust; `at` believes their authority. How long that
/// took each since `since`.
pub(super) fn refuse_who_lost_trust(plant: &Plant, servers: &[Server], at: At<'_>, since: Instant) -> Took {
    let mut took = Took::new();
    // mosquitto_pub and mosquitto_sub take no CRL: they go by the certificate's end.
    for server in servers.iter().filter(|server| server.software.service() != "mosquitto") {
        until(&format!("the client of {:?} refuses it", server.software), || {
            let words = String::from_utf8_lossy(&said(client(plant, server, at))).into_owned();
            if words.contains("certificate revoked") { Ok(()) } else { Err(words) }
        });
        took.insert(server.software.service(), since.elapsed());
    }
    took
}

/// `openssl verify` comes to the same, before and after camera-1 lost trust.
pub(super) fn openssl_verifies(plant: &Plant, revoked: bool) {
    let inbound =
        |kind: &str| plant.devices[0].delivered(ZONES[0], &format!("services/openssl/inbound.{kind}"));
    let trust = plant.world.plant.run_path("trust.pem");
    let both = [inbound("pem"), inbound("crl")].map(|file| fs::read(file).expect("a trust file")).concat();
    fs::write(&trust, both).expect("a file in the run folder");
    let (trust, shown) =
        (trust.to_str().expect("a path"), plant.devices[1].delivered(ZONES[1], "caller.pem"));
    let shown = shown.to_str().expect("a path");
    let line = ["verify", "-purpose", "sslclient", "-crl_check", "-CAfile", trust, shown];
    match revoked {
        false => drop(openssl(&line)),
        true => {
            let output = Command::new("openssl").args(line).output().expect("openssl runs");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(said.contains("error 23") && !output.status.success(), "{said}");
        }
    }
}
