//! The audit, exported, kept elsewhere and verified there.

use std::fs;
use std::path::Path;

use e2e::World;

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
