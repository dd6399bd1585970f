//! From observing to enforcing and back, and a mismatch that two people accept for a time, on real devices.

use e2e::World;
use serde_json::Value;

#[test]
fn a_zone_enforces_when_it_is_known_whom_that_stops_and_two_people_let_one_device_run() {
    let Some((world, [mut good, mut other])) = World::with_devices(["press-1", "press-2"]) else { return };
    world.admin("zone create press --mode observe --product edge");
    for device in [&mut good, &mut other] {
        world.register(device, "press");
        device.measure("boot-a");
        device.start();
        device.until_state("trusted");
    }
    world.make_golden("press-1", "edge", "1.0");
    other.reboot("boot-b");
    other.until_state("trusted");

    // What enforcing would do is known before it is done.
    let look = || world.admin("zone enforce press --plan --since 30d");
    let plan = e2e::until("the plan names press-2 alone", || {
        let plan = look();
        let still: Vec<&str> = plan["refused"]
            .as_array()
            .expect("a list")
            .iter()
            .filter(|one| one["still"] == true)
            .filter_map(|one| one["device"].as_str())
            .collect();
        if still == ["press-2"] { Ok(plan.clone()) } else { Err(plan.to_string()) }
    });
    assert_eq!((&plan["schema"], &plan["mode"]), (&Value::from(1), &Value::from("observe")));
    assert_eq!(plan["loses"][0]["device"], "press-2", "{plan:#}");
    let said = world.tool(&["zone", "enforce", "press"]).refused(64);
    assert!(said.contains("--yes") && said.contains("--plan"), "{said}");
    // It is not there when the zone begins to enforce, and keeps nothing all the same.
    other.stop();
    world.admin("zone enforce press --yes --reason quiet");
    let shown = e2e::until("press-2 holds nothing", || {
        let shown = world.admin("device show press-2");
        if shown["certificates"] == serde_json::json!([]) { Ok(shown) } else { Err(shown.to_string()) }
    });
    assert_eq!(shown["state"], "refused", "{shown:#}");
    let why = world.admin("device why press-2")["why"].to_string();
    assert!(why.contains("by the rules of zone press since"), "{why}");
    other.start();
    other.until_state("refused");
    good.until_state("trusted");

    // An operator asks, security agrees; what is accepted was shown.
    let olga = world.invite("olga", "--role operator");
    let sam = world.invite("sam", "--role security");
    let shown = world.tool_as(&olga, &["override", "press-2", "--dry-run"]).done();
    let findings = shown["findings"].as_array().expect("findings");
    assert!(!findings.is_empty() && findings.iter().all(|one| one["seen"].is_string()), "{shown:#}");
    // Both keys may be in the owner's hand: whom one let in alone is not their second person.
    let asked = world.tool(&["override", "press-2", "--reason", "line stands", "--for", "2h", "--yes"]);
    assert_eq!(asked.code, 6, "{asked:?}");
    let id = asked.json["change"].as_str().expect("a change").to_owned();
    let said = world.tool_as(&sam, &["change", "approve", &id]).refused(5);
    assert!(said.contains("alice and sam are not two people here: alice alone let in sam"), "{said}");
    world.admin(&format!("change reject {id}"));
    let asked =
        world.tool_as(&olga, &["override", "press-2", "--reason", "line stands", "--for", "2h", "--yes"]);
    assert_eq!(asked.code, 6, "{asked:?}");
    let id = asked.json["change"].as_str().expect("a change").to_owned();
    world.tool_as(&olga, &["change", "approve", &id]).refused(5);
    world.tool_as(&sam, &["change", "approve", &id]).done();
    let status = other.until_state("trusted");
    let status_page = world.tool(&["status"]);
    assert_eq!(status_page.code, 1, "an override needs you");
    let first = &status_page.json["needs_you"][0];
    assert!(
        first["message"].as_str().is_some_and(|text| text.contains("by olga and sam: line stands")),
        "{first:#}"
    );
    assert_eq!(world.admin("override")["overrides"][0]["device"], "press-2");
    assert!(status["certificates"].as_array().is_some_and(|held| !held.is_empty()), "{status:#}");
    let why = world.admin("device why press-2");
    assert!(why["why"][0].as_str().is_some_and(|text| text.contains("accepted until")), "{why:#}");

    // Another boot is not what was accepted; and one person ends it.
    world.tool_as(&olga, &["override", "press-2", "--end"]).done();
    other.until_state("refused");
    world.admin("zone observe press --reason way-back");
    other.until_state("trusted");
}
