//! A device whose attestor stops while others of its zone go on.

use std::time::Duration;

use e2e::{World, until_within};

/// Longest time in which the silence is noticed: `silent_after`, an interval and a look, many times over.
const NOTICED: Duration = Duration::from_secs(240);

#[test]
fn a_zone_that_refuses_silence_revokes_it_and_takes_the_device_back_by_itself() {
    let Some((world, [mut press, mut second, mut third])) =
        World::with_devices(["press-1", "press-2", "press-3"])
    else {
        return;
    };
    world.admin(
        "zone create cell --mode observe --least instance-identity=affirming --reattest-every 5s --silent-after 20s",
    );
    world.admin("zone set cell --on-silence refuse");
    assert_eq!(world.admin("zone show cell")["on_silence"], "refuse");
    for device in [&mut press, &mut second, &mut third] {
        world.register(device, "cell");
        device.measure("boot-a");
        device.start();
        device.until_state("trusted");
    }
    press.stop();
    until_within(NOTICED, "its silence is on record", || {
        let audit = world.admin("audit list --action device.silent");
        let events = audit["events"].as_array().expect("events").clone();
        let told = events.iter().find(|event| event["subject"] == "press-1").cloned();
        let told = told.ok_or_else(|| audit.to_string())?;
        let text = told["text"].as_str().unwrap_or_default();
        assert!(
            text.contains("zone cell did not hear it") && text.ends_with("2 certificates revoked"),
            "{told}"
        );
        Ok(())
    });
    let shown = world.admin("device show press-1");
    assert_eq!(shown["state"], "silent", "{shown:#}");
    let why = world.admin("device why press-1").to_string();
    assert!(why.contains("heard others; it is trusted again as soon as it proves itself"), "{why}");
    second.until_state("trusted");

    press.start();
    until_within(NOTICED, "it has proved itself", || {
        let shown = world.admin("device show press-1");
        (shown["state"] == "trusted").then_some(()).ok_or_else(|| shown.to_string())
    });
    press.until_state("trusted");
}
