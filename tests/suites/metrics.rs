//! What a monitoring system sees of a plant.

use std::collections::BTreeMap;

use e2e::{World, until};

/// The samples once `wanted` finds what it looks for in them.
fn once<T>(world: &World, what: &str, wanted: impl Fn(&BTreeMap<String, f64>) -> Option<T>) -> T {
    until(what, || {
        let samples = world.metrics();
        wanted(&samples).ok_or_else(|| format!("{samples:#?}"))
    })
}

/// The sample `name` once it is above zero.
fn above_zero(world: &World, name: &str) -> f64 {
    once(world, name, |samples| samples.get(name).copied().filter(|value| *value > 0.0))
}

#[test]
fn a_refusal_is_counted_and_an_expiry_comes_nearer() {
    let Some((mut world, [mut press])) = World::with_devices(["press-1"]) else { return };
    world.stop_broker();
    world.plant.add_top("metrics = \"127.0.0.1:0\"\n");
    world.start_broker();
    assert_eq!(
        world.metrics()["touchstone_refusals_total{act=\"device.enroll\",reason=\"REFERENCE_MISMATCH\"}"],
        0.0
    );
    world.admin("zone create press --product edge-box --reattest-every 10s");
    world.register(&press, "press");
    press.measure("boot-a");
    press.start();
    press.until_state("refused");
    above_zero(&world, "touchstone_refusals_total{act=\"device.enroll\",reason=\"REFERENCE_MISMATCH\"}");
    above_zero(
        &world,
        "touchstone_verdicts_total{zone=\"press\",decision=\"refused\",reason=\"no-release\"}",
    );
    above_zero(&world, "touchstone_devices{zone=\"press\",state=\"refused\"}");

    world.make_golden("press-1", "edge-box", "1.0.0");
    press.until_state("trusted");
    above_zero(&world, "touchstone_verdicts_total{zone=\"press\",decision=\"trusted\",reason=\"\"}");
    above_zero(&world, "touchstone_watchers");
    above_zero(&world, "touchstone_certificates_issued_total{kind=\"caller\"}");
    above_zero(&world, "touchstone_store_seconds_count{operation=\"commit\"}");
    let expiry = "touchstone_device_expiry_seconds{zone=\"press\"}";
    let first = above_zero(&world, expiry);
    // 1.5 times `outlive_broker`, 8 h by default.
    assert!((11.0 * 3600.0..=12.0 * 3600.0).contains(&first), "{first}");
    once(&world, "the expiry comes nearer", |samples| (samples[expiry] < first).then_some(()));

    let listed = include_str!("../../broker/METRICS.md");
    for name in world.metrics().keys() {
        let name = name.split('{').next().unwrap_or_default();
        let family = ["_total", "_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let family = family.unwrap_or(name);
        assert!(listed.contains(&format!("| `{family}` |")), "{family} is not in METRICS.md");
    }
}
