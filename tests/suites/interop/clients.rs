//! Unmodified clients on camera-1, their keys in its TPM.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use attestor::testing::command;
use e2e::peers::{SERVED, Server};
use e2e::until;

use super::plant::{Plant, ZONES};
use crate::story::openssl;

/// Programs that it needs.
pub(super) const TOOLS: [&str; 4] = ["curl", "openssl", "mosquitto_pub", "mosquitto_sub"];

/// Each server with the client that goes with it.
fn pairs(plant: &Plant) -> impl Iterator<Item = (&Server, Vec<Command>)> {
    plant.servers.iter().map(|server| {
        let (name, file) = (server.software.service(), |name: &str| text(plant, name));
        let outbound = |kind: &str| file(&format!("services/{name}/outbound.{kind}"));
        let (own, key, port) = (file("caller.pem"), file("caller.key"), server.port());
        let host = &server.host;
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
                let words = |program: &str, more: &[&str]| {
                    let all = [program].into_iter().chain(line.split(' ')).chain(more.iter().copied());
                    all.map(str::to_owned).collect()
                };
                vec![words("mosquitto_pub", &["-r", "-m", SERVED]), words("mosquitto_sub", &["-C", "1", "-W", "20"])]
            }
            _ => {
                let line = format!(
                    "curl -sS --max-time 20 --tlsv1.3 --cacert {} --crlfile {} --cert {own} --key {key} \
                     --resolve {host}:{port}:127.0.0.1 https://{host}:{port}/",
                    outbound("pem"),
                    outbound("crl")
                );
                vec![line.split(' ').map(str::to_owned).collect()]
            }
        };
        (server, lines.iter().map(|words| prepared(plant, words)).collect())
    })
}

fn text(plant: &Plant, name: &str) -> String {
    let file: PathBuf = plant.devices[1].delivered(ZONES[1], name);
    file.to_str().expect("run folders have plain names").to_owned()
}

fn prepared(plant: &Plant, words: &[String]) -> Command {
    let [program, rest @ ..] = words else { unreachable!("words begin with a program") };
    let mut command = command(program);
    command.args(rest).envs(plant.managers[1].environment()).stdin(Stdio::null());
    command
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
pub(super) fn are_served(plant: &Plant) {
    let names: Vec<&Server> = plant.servers.iter().collect();
    for (number, server) in names.iter().enumerate() {
        until(&format!("{:?} serves an unmodified client", server.software), || {
            let (_, commands) = pairs(plant).nth(number).expect("one for each server");
            let said = said(commands);
            match server.software.serves(&said) {
                true => Ok(()),
                false => Err(String::from_utf8_lossy(&said).into_owned()),
            }
        });
    }
}

/// No byte of the application comes to any of them.
pub(super) fn are_refused(plant: &Plant) {
    for (server, commands) in pairs(plant) {
        let said = said(commands);
        let served = server.software.serves(&said);
        assert!(!served, "{:?} served: {}", server.software, String::from_utf8_lossy(&said));
    }
}

/// `openssl verify` comes to the same, before and after camera-1 lost trust.
pub(super) fn openssl_verifies(plant: &Plant, revoked: bool) {
    let inbound =
        |kind: &str| plant.devices[0].delivered(ZONES[0], &format!("services/openssl/inbound.{kind}"));
    let trust = plant.world.plant.run_path("trust.pem");
    let both = [inbound("pem"), inbound("crl")].map(|file| fs::read(file).expect("a trust file")).concat();
    fs::write(&trust, both).expect("a file in the run folder");
    let trust = trust.to_str().expect("a path");
    let line =
        ["verify", "-purpose", "sslclient", "-crl_check", "-CAfile", trust, &text(plant, "caller.pem")];
    match revoked {
        false => drop(openssl(&line)),
        true => {
            let output = Command::new("openssl").args(line).output().expect("openssl runs");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(said.contains("error 23") && !output.status.success(), "{said}");
        }
    }
}
