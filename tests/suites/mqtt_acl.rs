//! Real mosquitto with the ACL that the attestor writes: who a client is, and what it may publish, comes from its
//! certificate.

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use attestor::testing::command;
use e2e::{Device, World, missing_tool, until};
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::client::TlsStream;

use crate::authorize::connector;

/// Reason codes of MQTT 5.0: done, done without anybody who listens, and refused (section 2.4).
const DONE: [u8; 2] = [0x00, 0x10];
const NOT_AUTHORIZED: u8 = 0x87;

/// mosquitto on the files that were delivered; it ends with this value.
struct Mosquitto {
    folder: TempDir,
    child: Child,
    port: u16,
}

impl Mosquitto {
    fn start(hub: &Device) -> Self {
        let folder = TempDir::new().expect("a run folder");
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
        let files = hub.delivered("archive", "services/mqtt");
        let files = files.display();
        let config = format!(
            "user root\nlistener {port} 127.0.0.1\ncafile {files}/inbound.pem\ncrlfile {files}/inbound.crl\n\
             certfile {files}/server.pem\nkeyfile {files}/server.key\nrequire_certificate true\n\
             use_identity_as_username true\nacl_file {files}/acl\nlog_dest file {}/log\n",
            folder.path().display()
        );
        let file = folder.path().join("mosquitto.conf");
        fs::write(&file, config).expect("a file in the run folder");
        let mut mosquitto = command("mosquitto");
        let child = mosquitto.arg("-c").arg(&file).stdin(Stdio::null()).stderr(Stdio::null()).spawn();
        Self { child: child.expect("mosquitto starts"), folder, port }
    }

    /// As a reload hook would, once files have changed.
    fn reload(&self) {
        let id = self.child.id().to_string();
        let told = Command::new("bash").args(["-c", "kill -HUP \"$0\"", &id]).status();
        assert!(told.expect("bash runs").success(), "mosquitto had ended: {}", self.last_words());
    }

    fn last_words(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A string as MQTT writes it (MQTT 5.0, section 1.5.4).
fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("a short text").to_be_bytes();
    [&length[..], text.as_bytes()].concat()
}

/// A control packet of at most 127 bytes (section 2.1).
fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u8::try_from(body.len()).ok().filter(|length| *length < 128).expect("a short packet");
    [&[kind, length], body].concat()
}

/// A session of `press`.
async fn connect(press: &Device, port: u16) -> Result<TlsStream<TcpStream>, String> {
    let lost = |error: std::io::Error| error.to_string();
    let tcp = TcpStream::connect(("127.0.0.1", port)).await.map_err(lost)?;
    let name = ServerName::try_from("hub-1.archive.plant.example").expect("a name");
    let mut tls = connector(press, "press", "mqtt")?.connect(name, tcp).await.map_err(lost)?;
    // Version 5, clean start, keep alive of a minute, no properties.
    let connect = [&text("MQTT")[..], &[5, 0x02, 0, 60, 0], &text("press")].concat();
    tls.write_all(&packet(0x10, &connect)).await.map_err(lost)?;
    let connected = answer(&mut tls, 0x20).await?;
    assert_eq!(connected.get(1), Some(&0), "CONNACK {connected:x?}");
    Ok(tls)
}

/// Publishes once, and returns what mosquitto makes of it.
async fn publish(tls: &mut TlsStream<TcpStream>, topic: &str) -> Result<u8, String> {
    // Delivered at least once, packet 1, no properties.
    let publish = [&text(topic)[..], &[0, 1, 0], b"42"].concat();
    tls.write_all(&packet(0x32, &publish)).await.map_err(|error| error.to_string())?;
    let acknowledged = answer(tls, 0x40).await?;
    // Without a reason code it is done.
    Ok(acknowledged.get(2).copied().unwrap_or(0))
}

/// The body of the next packet, which must be of this kind.
async fn answer(tls: &mut (impl AsyncReadExt + Unpin), kind: u8) -> Result<Vec<u8>, String> {
    let mut head = [0; 2];
    tls.read_exact(&mut head).await.map_err(|error| error.to_string())?;
    assert_eq!(head[0] & 0xf0, kind, "{head:x?}");
    let mut body = vec![0; head[1].into()];
    tls.read_exact(&mut body).await.map_err(|error| error.to_string())?;
    Ok(body)
}

#[test]
fn topics_are_given_by_certificate_and_end_with_the_conduit() {
    if let Some(tool) = missing_tool(&["mosquitto"]) {
        eprintln!("skipped: {tool} is not installed; deploy/packages.sh names its package");
        return;
    }
    let Some((world, [mut press, mut hub])) = World::with_devices(["press-1", "hub-1"]) else { return };
    let open = "--mode observe --least instance-identity=affirming";
    world.admin(&format!("zone create press {open}"));
    world.admin(&format!("zone create archive {open} --software-keys allow"));
    world.register(&press, "press");
    world.register(&hub, "archive");
    world.admin("conduit allow --from press --to archive --service mqtt");
    hub.offer_in_software("mqtt");
    hub.add_end(
        "[mqtt]\nservice = \"mqtt\"\n[[mqtt.peer]]\nzone = \"press\"\ndevices = [\"press-1\"]\n\
         write = [\"state/{zone}/{device}\"]\n",
    );
    for device in [&mut press, &mut hub] {
        device.measure("boot-a");
        device.start();
        device.until_state("trusted");
    }
    for file in [
        press.delivered("press", "services/mqtt/outbound.pem"),
        hub.delivered("archive", "services/mqtt/server.key"),
    ] {
        until("both ends have their files", || if file.exists() { Ok(()) } else { Err(format!("{file:?}")) });
    }
    let acl = hub.delivered("archive", "services/mqtt/acl");
    let rules = until("the ACL names the press", || {
        let rules = fs::read_to_string(&acl).unwrap_or_default();
        if rules.contains("user press-1.press.plant.example\n") { Ok(rules) } else { Err(rules) }
    });
    assert!(rules.ends_with("topic write state/press/press-1\n"), "{rules}");
    let mosquitto = Mosquitto::start(&hub);
    let runtime = Runtime::new().expect("a runtime");
    let publishes = |topic: &str| {
        runtime.block_on(async { publish(&mut connect(&press, mosquitto.port).await?, topic).await })
    };
    until("the press publishes its state", || match publishes("state/press/press-1") {
        Ok(code) if DONE.contains(&code) => Ok(()),
        other => Err(format!("{other:x?}; {}", mosquitto.last_words())),
    });
    for topic in ["state/press/press-2", "state/vendor/press-1", "setpoints/press-1"] {
        assert_eq!(publishes(topic), Ok(NOT_AUTHORIZED), "{topic}: {}", mosquitto.last_words());
    }

    let mut session = runtime.block_on(connect(&press, mosquitto.port)).expect("a session that stays open");
    let mut goes_on = || runtime.block_on(publish(&mut session, "state/press/press-1"));
    assert!(goes_on().is_ok_and(|code| DONE.contains(&code)), "{}", mosquitto.last_words());
    world.admin("conduit close --from press --to archive --service mqtt");
    until("the ACL names nobody", || {
        let rules = fs::read_to_string(&acl).unwrap_or_default();
        if rules.contains("user ") { Err(rules) } else { Ok(()) }
    });
    // A reload of mosquitto takes no authority away and ends no session, but it takes the topics.
    mosquitto.reload();
    until("the press publishes nothing more in the session that it had", || match goes_on() {
        Ok(NOT_AUTHORIZED) => Ok(()),
        other => Err(format!("{other:x?}; {}", mosquitto.last_words())),
    });
}
