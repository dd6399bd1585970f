//! What a monitoring system sees of a plant, and of a device.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use e2e::{Device, World, until};

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

/// What the attestor answers on the socket `metrics.sock` of its device.
fn of_device(device: &Device, path: &str) -> String {
    let Ok(mut stream) = UnixStream::connect(device.path("metrics.sock")) else { return String::new() };
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn a_device_shows_its_state_its_certificates_and_its_tpm_on_a_socket() {
    let Some((mut world, [mut press])) = World::with_devices(["press-1"]) else { return };
    world.admin("zone create press --mode observe --least instance-identity=affirming --reattest-every 5s");
    world.register(&press, "press");
    press.add_top("log_format = \"json\"\n");
    press.add_end("[metrics]\nlisten = \"unix:metrics.sock\"\n");
    press.measure("boot-a");
    press.start();
    let until_line = |line: &str| {
        until(line, || {
            let page = of_device(&press, "/metrics");
            page.lines().any(|found| found.starts_with(line)).then_some(()).ok_or(page.clone())
        });
    };
    until_line("touchstone_attestor_state{state=\"trusted\"} 1");
    until_line("touchstone_attestor_broker_watching 1");
    let page = of_device(&press, "/metrics");
    assert!(page.contains("openmetrics-text; version=1.0.0") && page.ends_with("# EOF\n"), "{page}");
    for beginning in [
        "touchstone_attestor_certificate_not_after_timestamp_seconds{zone=\"press\",role=\"caller\"} 1",
        "touchstone_attestor_last_attestation_timestamp_seconds 1",
        "touchstone_attestor_tpm_seconds_count{operation=\"quote\"} ",
    ] {
        assert!(page.lines().any(|line| line.starts_with(beginning)), "{beginning} is not in {page}");
    }
    assert!(of_device(&press, "/").starts_with("HTTP/1.0 404 "));
    world.stop_broker();
    until_line("touchstone_attestor_state{state=\"holding\"} 1");
    until_line("touchstone_attestor_broker_reachable 0");
    let log = fs::read_to_string(press.path("attestor.log")).expect("a log");
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    assert!(lines.iter().any(|line| line["level"] == "INFO" && line["verdict"] == "trusted"), "{log}");
}
