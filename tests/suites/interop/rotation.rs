//! Authorities are rotated and certificates replaced while clients go on asking.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use e2e::peers::{Client, Clock, Server, Shown};
use e2e::{Device, until};
use serde_json::Value;

use super::plant::{Plant, ZONES};
use crate::zones::issuer;

/// Servers that take new certificates without a restart.
const WITHOUT_RESTART: [&str; 4] = ["nginx", "haproxy", "mosquitto", "grpcio"];

/// Tells the load that it is over, also when the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The authorities that sign what camera-1 and the servers of press-1 show are followed by the next generation, both
/// devices come to certificates of that, and every request is served.
pub(super) fn loses_no_request(plant: &mut Plant, client: &Client) {
    let over = AtomicBool::new(false);
    let clock = match plant.manager(0) {
        Some(_) => None,
        None => match Clock::new() {
            Some(clock) => Some(clock),
            None => {
                return println!(
                    "skipped in part: rotation under load, because libfaketime is not installed; deploy/packages.sh names its package"
                );
            }
        },
    };
    let Plant { servers, world, devices, .. } = plant;
    let servers = servers.iter().filter(|server| WITHOUT_RESTART.contains(&server.software.service()));
    let servers: Vec<&Server> = servers.collect();
    let served = thread::scope(|scope| {
        let load = scope.spawn(|| load(&servers, client, &over));
        let rotated = Over(&over);
        world.admin("authority rotate press --role listener");
        world.admin("authority rotate vision --role caller");
        until("the next generations sign", || {
            let all = world.admin("authority list")["authorities"].clone();
            let active = [active(&all, "press", "listener"), active(&all, "vision", "caller")];
            let next = Value::from(2);
            if active == [next.clone(), next] { Ok(()) } else { Err(format!("{active:?}")) }
        });
        devices.iter_mut().take(2).for_each(|device| hasten(device, clock.as_ref()));
        for server in servers.iter().filter(|server| !server.software.key_in_tpm()) {
            let service = server.software.service();
            until_second(&devices[0].delivered(ZONES[0], &format!("services/{service}/server.pem")));
        }
        until_second(&devices[1].delivered(ZONES[1], "caller.pem"));
        devices[0].until_status("told", |status| status["failing_hooks"] == serde_json::json!([]));
        drop(rotated);
        load.join().expect("the load ends")
    });
    for device in devices.iter_mut().take(2).filter(|_| clock.is_some()) {
        restart_by(device, None);
    }
    let served = served.expect("no request is lost");
    println!("measured: {served} requests while authorities and certificates were replaced, none lost");
    assert!(served > 20, "only {served} requests were asked meanwhile");
}

/// Nobody waits for a third of a certificate's life. Whoever lost its state asks for new ones at once; but without a TPM it
/// would join anew, which ends what it had, so its clock is put ahead.
fn hasten(device: &mut Device, clock: Option<&Clock>) {
    match clock {
        None => device.reinstall(),
        Some(clock) => {
            clock.put_ahead("+5h");
            restart_by(device, Some(clock));
        }
    }
}

fn restart_by(device: &mut Device, clock: Option<&Clock>) {
    device.stop();
    device.environment = clock.map(Clock::environment).unwrap_or_default();
    device.start();
}

fn load(servers: &[&Server], client: &Client, over: &AtomicBool) -> Result<u32, String> {
    let mut served = 0;
    while !over.load(Ordering::Relaxed) {
        for server in servers {
            let heard = client.ask(server, Shown::Caller);
            if !server.software.serves(&heard.bytes) {
                return Err(format!("{:?} after {served}: {heard:?}\n{}", server.software, server.log()));
            }
            served += 1;
        }
    }
    Ok(served)
}

/// The generation that signs.
fn active(all: &Value, zone: &str, role: &str) -> Value {
    let mut all = all.as_array().expect("a list").iter();
    let found = all.find(|one| one["zone"] == zone && one["role"] == role && one["state"] == "active");
    found.map(|one| one["generation"].clone()).unwrap_or_default()
}

fn until_second(certificate: &Path) {
    until("a certificate of the next generation is delivered", || match issuer(certificate).as_str() {
        "2" => Ok(()),
        other => Err(format!("{}: {other}", certificate.display())),
    });
}
