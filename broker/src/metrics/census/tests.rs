use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::admin::tests::{Bench, NOW, enforcing, observing};
use crate::audit::{Event, seal};
use crate::metrics::page::Page;
use crate::record::device::{Decision, Pending, pending_key};
use crate::record::stored;
use crate::store::Txn;
use policy::digest::Digest;

/// Every sample of a page.
async fn samples(plant: &Arc<Plant>) -> BTreeMap<String, f64> {
    let text = Page::new(Arc::clone(plant)).text().await;
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let sample =
        |line: &str| line.rsplit_once(' ').map(|(name, value)| (name.to_owned(), value.parse().unwrap()));
    samples.filter_map(sample).collect()
}

#[tokio::test]
async fn devices_count_by_zone_and_state() {
    let bench = Bench::new().await;
    bench.zone(&observing("cell-3")).await;
    bench.zone(&enforcing("cell-4")).await;
    for (name, zones, decision) in [
        ("press-7", &["cell-3", "cell-4"][..], Decision::Trusted),
        ("press-8", &["cell-4"], Decision::Refused),
        ("press-9", &[], Decision::Trusted),
    ] {
        let device = bench.device(name, zones).await;
        bench.attest(&device, "boot-a", decision).await;
    }
    let press = "press-7".parse().unwrap();
    bench.certificate(&press, "cell-3", 7).await;
    let ek = Digest::of(b"a TPM");
    let zones = vec!["evil\"zone".parse(), "cell-3".parse(), "nowhere".parse()];
    let zones = zones.into_iter().filter_map(Result::ok).collect();
    let pending = Pending { ek, name: None, zones, tpm: "TPM".to_owned(), since: NOW };
    let txn = Txn::new().put(pending_key(&ek), stored(&pending).unwrap());
    bench.plant.store.transact(txn).await.unwrap();

    let (plant, _dir) = bench.into_plant();
    let samples = samples(&plant).await;
    let devices = |zone: &str, state: &str| {
        samples[&format!("touchstone_devices{{zone=\"{zone}\",state=\"{state}\"}}")]
    };
    assert_eq!((devices("cell-3", "trusted"), devices("cell-4", "trusted")), (1.0, 1.0));
    assert_eq!((devices("cell-4", "refused"), devices("", "trusted")), (1.0, 1.0));
    assert_eq!((devices("cell-3", "pending"), devices("", "pending")), (1.0, 0.0));
    assert!(!samples.keys().any(|name| name.contains("nowhere")), "a device makes no label");
    assert_eq!(samples["touchstone_device_expiry_seconds{zone=\"cell-3\"}"], 3600.0);
    assert!(
        !samples.contains_key("touchstone_device_expiry_seconds{zone=\"cell-4\"}"),
        "it holds nothing there"
    );
}

#[tokio::test]
async fn what_ends_is_told_in_seconds_also_when_it_is_over() {
    assert_eq!(seconds_to(NOW.plus(60), NOW), 60);
    assert_eq!(seconds_to(NOW.minus(60), NOW), -60);
    let bench = Bench::new().await;
    bench.zone(&observing("cell-3")).await;
    bench.clock.set(NOW.plus(3600));
    let (plant, _dir) = bench.into_plant();
    plant.metrics.serves_until(NOW);
    let samples = samples(&plant).await;
    let ten_years = f64::from(10 * 365 * 86_400 - 3600);
    for role in ["caller", "listener"] {
        assert_eq!(
            samples[&format!("touchstone_authority_expiry_seconds{{zone=\"cell-3\",role=\"{role}\"}}")],
            ten_years
        );
        assert_eq!(
            samples[&format!("touchstone_crl_age_seconds{{zone=\"cell-3\",role=\"{role}\"}}")],
            3600.0
        );
        assert_eq!(
            samples[&format!("touchstone_crl_next_update_seconds{{zone=\"cell-3\",role=\"{role}\"}}")],
            ten_years
        );
    }
    assert_eq!(samples["touchstone_broker_expiry_seconds{certificate=\"server\"}"], -3600.0);
    assert_eq!(samples["touchstone_administrators{role=\"owner\"}"], 1.0);
}

#[tokio::test]
async fn an_administrator_whose_certificate_ended_does_not_count() {
    let bench = Bench::new().await;
    bench.clock.set(NOW.plus(20 * 365 * 86_400));
    let (plant, _dir) = bench.into_plant();
    let samples = samples(&plant).await;
    assert_eq!(samples["touchstone_administrators{role=\"owner\"}"], 0.0);
    assert!(!samples.contains_key("touchstone_administrator_expiry_seconds{role=\"owner\"}"));
}

#[tokio::test]
async fn records_after_the_seal_are_counted() {
    let bench = Bench::new().await;
    bench.zone(&observing("cell-3")).await;
    let (plant, _dir) = bench.into_plant();
    let before = samples(&plant).await;
    assert!(
        before["touchstone_audit_unsealed"] > 0.0
            && !before.contains_key("touchstone_audit_seal_age_seconds")
    );
    seal::newest(&plant).await.unwrap();
    let sealed = samples(&plant).await;
    assert_eq!(
        (sealed["touchstone_audit_unsealed"], sealed["touchstone_audit_seal_age_seconds"]),
        (0.0, 0.0)
    );
    for _ in 0..3 {
        let event = Event::new(NOW, "broker", "conduit.end", "plant", "over");
        plant.store.transact(Txn::new().audit(event.entry())).await.unwrap();
    }
    assert_eq!(samples(&plant).await["touchstone_audit_unsealed"], 3.0);
}
