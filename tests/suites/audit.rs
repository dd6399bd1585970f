//! The audit, exported, kept elsewhere and verified there.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use e2e::{World, program, until};

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn whatever_is_done_to_an_export_is_found_and_named() {
    let Some((mut world, [_press])) = World::with_devices(["press-1"]) else { return };
    let (export, tampered) = (world.plant.run_path("audit.jsonl"), world.plant.run_path("tampered.jsonl"));
    let root = text(&world.plant.path("plant-root.pem"));
    world.admin("zone create press --product edge");
    world.stop_broker();
    world.start_broker();
    world.admin("zone create vision --product edge");
    world.admin("zone create lab --product edge");
    world.admin(&format!("audit export --out {}", text(&export)));
    let verify = |world: &World, file: &Path, more: &[&str]| {
        world.tool(&[&["audit", "verify", &text(file), "--root", &root], more].concat())
    };
    let whole = verify(&world, &export, &[]).done();
    assert!(whole["records"].as_u64() >= Some(4) && whole["unsealed"] == 0, "{whole:#}");
    assert_eq!(world.admin("audit verify")["unsealed"], 0, "the broker's own records, verified by the tool");

    let lines = fs::read_to_string(&export).expect("an export");
    let about = |zone: &str| {
        lines
            .lines()
            .find(|line| line.contains(&format!("\"subject\":\"{zone}\"")))
            .expect("its event")
            .to_owned()
    };
    let refused = |changed: String| {
        fs::write(&tampered, changed).expect("a file of the run");
        verify(&world, &tampered, &[]).refused(3)
    };
    let said = refused(lines.replace(&format!("{}\n", about("vision")), ""));
    assert!(said.contains("is missing: it was removed"), "{said}");
    let said = refused(
        lines.replace(&about("vision"), &about("vision").replacen("\"actor\":\"", "\"actor\":\"not-", 1)),
    );
    assert!(said.contains("shows something else than the record in it"), "{said}");
    let said = refused(lines.replacen("\"type\":\"seal\",\"time\":\"2", "\"type\":\"seal\",\"time\":\"1", 1));
    assert!(said.contains("shows something else than the seal in it"), "{said}");
    let said = refused(lines.replace(&format!("{}\n", about("lab")), ""));
    assert!(said.contains("the end was cut off"), "{said}");
    let first = lines.lines().find(|line| line.contains("\"type\":\"event\"")).expect("an event");
    let said = refused(lines.replace(&format!("{first}\n"), ""));
    assert!(said.contains("its beginning was cut off"), "{said}");

    let kept = world.plant.run_path("seal.json");
    world.admin("zone create store --product edge");
    world.admin(&format!("audit seal --out {}", text(&kept)));
    let said = verify(&world, &export, &["--seal", &text(&kept)]).refused(3);
    assert!(said.contains("the end was cut off, or an older state put back"), "{said}");
    world.admin(&format!("audit verify --seal {}", text(&kept)));
}

#[test]
fn a_refused_administrator_and_every_serial_are_on_record() {
    let Some((world, [mut press])) = World::with_devices(["press-1"]) else { return };
    world.admin("zone create press --mode observe");
    world.register(&press, "press");
    press.measure("boot-a");
    press.start();
    press.until_state("trusted");
    let events = world.admin("audit list --action device.attest --actor press-1");
    let serials = events["events"][0]["serials"].as_array().map(Vec::len);
    assert_eq!(serials, Some(2), "one certificate for each role: {events:#}");
    let refused = world.tool(&["zone", "create", "press", "--product", "edge"]);
    assert_ne!(refused.code, 0, "{refused:?}");
    let events = world.admin("audit list --action zone.create.refused --since 1h");
    let said = events["events"][0]["text"].as_str().unwrap_or_default();
    assert!(said.starts_with("CONFLICT: "), "{events:#}");
}

#[test]
fn a_siem_that_follows_has_every_record_over_a_restart_of_the_broker() {
    let Some((mut world, [_press])) = World::with_devices(["press-1"]) else { return };
    let followed = world.plant.run_path("followed.jsonl");
    let (context, root) = (text(&world.plant.path("owner")), text(&world.plant.path("plant-root.pem")));
    let mut siem = Command::new(program("touchstone"))
        .args(["--context", &context, "--address", world.address(), "audit", "export", "--follow"])
        .stdout(File::create(&followed).expect("a file of the run"))
        .spawn()
        .expect("touchstone starts");
    let has = |what: &str| {
        until(what, || {
            let lines = fs::read_to_string(&followed).unwrap_or_default();
            lines.contains(what).then_some(()).ok_or(lines)
        });
    };
    world.admin("zone create press --product edge");
    has("\"subject\":\"press\"");
    world.stop_broker();
    world.start_broker();
    for _ in 0..20 {
        let mut tcp = TcpStream::connect(world.address()).expect("the broker listens");
        tcp.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("a request");
        drop(tcp.read_to_end(&mut Vec::new()));
    }
    world.admin("zone create vision --product edge");
    has("\"subject\":\"vision\"");
    has("\"action\":\"tls.handshake.refused\"");
    let whole = || {
        let answer = world.tool(&["audit", "verify", &text(&followed), "--root", &root]);
        (answer.code == 0 && answer.json["unsealed"] == 0).then_some(()).ok_or(format!("{answer:?}"))
    };
    until("what was followed is whole, and sealed to its end", whole);
    siem.kill().expect("it follows still");
    drop(siem.wait());
    let lines = fs::read_to_string(&followed).expect("what was followed");
    let refused = lines.lines().filter(|line| line.contains("tls.handshake.refused"));
    assert_eq!(refused.count(), 1, "one event for twenty connections: {lines}");
    let created = lines.lines().filter(|line| line.contains("server-certificate.create"));
    assert_eq!(created.count(), 2, "one for each start: {lines}");
}
