//! A release planned before it is signed, applied as it was planned, and what devices really come to.

use std::thread;

use e2e::{Device, World, until};
use serde_json::{Value, json};

/// Writes a release of what press-1 runs, and gives its manifest.
fn drafted(world: &World, version: &str) -> String {
    let manifest = world.plant.run_path(&format!("edge-{version}.toml")).display().to_string();
    let what = format!("--from press-1 --product edge --version {version}");
    world.admin(&format!("golden learn {what} --out {manifest}"));
    manifest
}

fn signed(world: &World, manifest: &str) -> String {
    let envelope = format!("{manifest}.dsse.json");
    world.admin(&format!("golden sign {manifest} --out {envelope}"));
    envelope
}

/// A plant with two devices that are trusted; they prove themselves when golden values change, and not in between.
fn scene() -> Option<(World, [Device; 2])> {
    let (world, [mut first, mut second]) = World::with_devices(["press-1", "press-2"])?;
    world.admin("zone create press --product edge --reattest-every 1h");
    for device in [&mut first, &mut second] {
        world.register(device, "press");
        device.measure("boot-a");
        device.start();
        device.until_state("refused");
    }
    world.make_golden("press-1", "edge", "1.0");
    first.until_state("trusted");
    second.until_state("trusted");
    Some((world, [first, second]))
}

#[test]
fn a_release_is_planned_unsigned_then_applied_and_whoever_leaves_the_forecast_is_named() {
    let Some((mut world, [_first, mut second])) = scene() else { return };
    let manifest = drafted(&world, "1.1");
    let plan = world.admin(&format!("golden plan {manifest} --fail-on-loss 0"));
    assert_eq!(json!([plan["signed"], plan["loses"], plan["unknown"]]), json!([false, 0, 0]), "{plan:#}");
    let group = &plan["groups"][0];
    assert_eq!(json!([group["outcome"], group["count"]]), json!(["stays-trusted", 2]), "{plan:#}");
    assert!(group["evidence"][0]["reset_count"].is_u64(), "{group:#}");
    world.tool(&["golden", "apply", &manifest, "--yes"]).refused(2);

    // What was planned unsigned is what is signed; the plan holds until something moves.
    let (envelope, id) = (signed(&world, &manifest), plan["plan"].as_str().expect("a plan has an id"));
    let apply = ["golden", "apply", &envelope, "--plan", id, "--yes", "--wait", "--for", "60s"];
    let applied = world.tool(&apply);
    assert_eq!((applied.code, &applied.json["live"]["as_foreseen"]), (0, &json!(2)), "{applied:?}");
    let said = world.tool(&apply).refused(3);
    assert!(said.contains("changed since the plan was made"), "{said}");

    // It is away, and a broker that just started cannot know: its evidence is young.
    second.stop();
    world.stop_broker();
    world.start_broker();
    let envelope = signed(&world, &drafted(&world, "1.2"));
    let line = ["golden", "apply", &envelope, "--yes", "--wait", "--for", "120s"];
    let applied = thread::scope(|scope| {
        let applying = scope.spawn(|| world.tool(&line));
        until("1.2 is active", || {
            let releases = world.admin("golden list").to_string();
            if releases.contains("1.2") { Ok(()) } else { Err(releases) }
        });
        second.reboot("boot-b");
        applying.join().expect("the tool is run")
    });
    assert_eq!(applied.code, 1, "{applied:?}");
    let live: &Value = &applied.json["live"];
    assert_eq!(json!([live["as_foreseen"], live["not_heard"]]), json!([1, []]), "{live:#}");
    let left = &live["left_forecast"][0];
    assert_eq!(
        json!([left["device"], left["foreseen"], left["is"]]),
        json!(["press-2", "trusted", "refused"]),
        "{live:#}"
    );
    assert!(left["reason"].as_str().is_some_and(|why| why.contains("PCR")), "{left:#}");
    second.until_state("refused");
}
