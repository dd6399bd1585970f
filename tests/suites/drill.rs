//! Failure drills on real devices with a session through gates: each keeps its bounds, one that cannot is told, and
//! nothing outside the marked zone notices.

use std::net::SocketAddr;
use std::thread;

use e2e::{Device, Process, World, until};
use serde_json::Value;

use super::gate::{Controller, free, open};

/// press-1 and cell-1 in a staging zone, with a gate before each end of a service; line-1 in a zone that works.
struct Staging {
    world: World,
    press: Device,
    cell: Device,
    line: Device,
    client: SocketAddr,
    _controller: Controller,
    _beside: Process,
}

impl Staging {
    fn new() -> Option<Self> {
        let (world, [mut press, mut cell, mut line]) = World::with_devices(["press-1", "cell-1", "line-1"])?;
        for zone in ["staging", "line"] {
            world.admin(&format!(
                "zone create {zone} --least instance-identity=affirming --intra-zone allow --reattest-every 5s"
            ));
        }
        for (device, zone) in [(&press, "staging"), (&cell, "staging"), (&line, "line")] {
            world.register(device, zone);
        }
        press.offer("modbus");
        let (controller, server, client) = (Controller::start(), free(), free());
        press.add_end(&format!(
            "[[gate]]\nname = \"plc\"\nrole = \"server\"\nservice = \"modbus\"\nlisten = \"{server}\"\n\
             connect = \"{}\"\n",
            controller.address
        ));
        for device in [&mut press, &mut cell, &mut line] {
            device.measure("boot-a");
            device.start();
            device.until_state("trusted");
        }
        let (config, log) = (cell.path("attestor.toml").display().to_string(), cell.path("gate.log"));
        let (listen, connect) = (client.to_string(), server.to_string());
        let args =
            ["gate", "--config", &config, "--name", "reader", "--role", "client", "--service", "modbus"];
        let more = ["--listen", &listen, "--connect", &connect, "--peer", "press-1.staging"];
        let beside = Process::start("touchstone-attestor", &[&args[..], &more].concat(), &log);
        Some(Self { world, press, cell, line, client, _controller: controller, _beside: beside })
    }

    /// Runs a drill that keeps every bound; its report.
    fn keeps(&self, line: &str) -> Value {
        let (code, report) = drill(&self.world, line);
        assert!(code == 0 && report["kept"] == true, "{line}: {report:#}");
        self.line.until_status("watching", |status| status["broker"]["watching"] == true);
        report
    }

    /// The same with a session through the gates.
    fn keeps_with_session(&self, line: &str) -> Value {
        until("a session can be opened", || open(self.client).map(drop));
        self.keeps(&format!("{line} --session {}", self.client))
    }

    /// How often something but its own proof took certificates from the device.
    fn revocations(&self, device: &str) -> usize {
        let audit = self.world.admin("audit list --limit 1000");
        let events = audit["events"].as_array().expect("events");
        let against = |event: &&Value| {
            event["subject"] == device
                && (event["text"].to_string().contains("revoked") && event["action"] != "device.attest")
        };
        events.iter().filter(against).count()
    }
}

fn drill(world: &World, line: &str) -> (i32, Value) {
    let words = ["drill"].into_iter().chain(line.split(' ')).chain(["--reason", "drill", "--yes"]);
    let answer = world.tool(&words.collect::<Vec<_>>());
    assert!(matches!(answer.code, 0 | 1), "{line}: {answer:?}");
    (answer.code, answer.json)
}

/// What a report says of the bound that begins like this.
fn bound<'a>(report: &'a Value, what: &str) -> &'a Value {
    let bounds = report["bounds"].as_array().expect("a report has bounds");
    let found = bounds.iter().find(|bound| bound["what"].as_str().is_some_and(|text| text.starts_with(what)));
    found.unwrap_or_else(|| panic!("no bound {what}: {report:#}"))
}

#[test]
fn every_drill_keeps_its_bounds_or_says_which_it_did_not() {
    let Some(mut staging) = Staging::new() else { return };
    let words = ["drill", "link-loss", "staging", "--reason", "drill", "--yes"];
    let said = staging.world.tool(&words).refused(5);
    assert!(said.contains("`touchstone zone set staging --drills on`"), "{said}");
    staging.world.admin("zone set staging --drills on --cut-within 60s --recover-within 5m");
    assert!(staging.world.tool(&["zone", "export"]).code == 0);

    let report = staging.keeps_with_session("link-loss staging --for 10s");
    eprintln!("link lost: {}", bound(&report, "every device is connected again")["measured"]);
    assert_eq!(bound(&report, "sessions that ended")["measured"], "none of 1");
    let report = staging.keeps_with_session("delay staging --by 1s");
    eprintln!("late: {}", bound(&report, "every device proves itself")["measured"]);
    let report = staging.keeps_with_session("compromised-credential staging --device cell-1");
    eprintln!("cut: {}", bound(&report, "its sessions end")["measured"]);
    let report = staging.keeps_with_session("corrupted-update staging --device cell-1");
    eprintln!("trusted again: {}", bound(&report, "it is trusted again")["measured"]);
    assert_eq!(bound(&report, "other devices that lost trust")["measured"], "none of 1");

    // Nobody reboots it.
    let (code, report) = drill(&staging.world, "reboot staging --device cell-1 --for 1s");
    assert_eq!((code, &report["kept"]), (1, &Value::Bool(false)), "{report:#}");
    assert_eq!(bound(&report, "the device goes down")["measured"], "it did not happen");
    staging.reboots();
    assert_eq!(staging.revocations("line-1"), 0, "nothing outside the zone was touched");
    staging.press.until_state("trusted");
}

impl Staging {
    /// A reboot while the drill waits for it.
    fn reboots(&mut self) {
        let Self { world, cell, .. } = self;
        let begun = |world: &World| {
            let audit = world.admin("audit list --limit 1000");
            let events = audit["events"].as_array().expect("events").clone();
            let text = |event: &Value| event["text"].as_str().unwrap_or_default().to_owned();
            events
                .iter()
                .filter(|event| event["action"] == "drill.start" && text(event).starts_with("reboot"))
                .count()
        };
        let before = begun(world);
        let (code, report) = thread::scope(|scope| {
            let world = &*world;
            let running = scope.spawn(|| drill(world, "reboot staging --device cell-1 --for 5m"));
            until("the drill begins", || match begun(world) > before {
                true => Ok(()),
                false => Err("no drill".to_owned()),
            });
            cell.reboot("boot-a");
            running.join().expect("the drill ends")
        });
        assert_eq!(code, 0, "{report:#}");
        eprintln!("booted: {}", bound(&report, "it is trusted again after its boot")["measured"]);
    }
}
