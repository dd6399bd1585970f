//! What is wanted, accepted and running, and a withdrawal that reaches every device.

use policy::reference::release::ReleaseId;
use policy::reference::state::ReleaseState;

use super::golden::{release, released, terms};
use super::{Bench, enforcing, observing, refused};
use crate::admin::golden::apply::{Terms, apply};
use crate::admin::golden::state::{Changed, Request, set};
use crate::admin::golden::want::{Wish, want};
use crate::admin::golden::{held, running, seen};
use crate::admin::{Act, Seen, authorize};
use crate::golden::wanted;
use crate::record::device::{Attested, Decision, attested_key};
use crate::record::golden::{WITHDRAWAL, Withdrawal};
use crate::record::plant::AdminRole;
use crate::record::zone::{REVOKED, RevokedCertificate};
use crate::record::{Held, list, stored};
use crate::session::Refusal;
use crate::store::Txn;
use crate::withdrawal::finish;

fn id() -> ReleaseId {
    "edge-box@1.0".parse().unwrap()
}

/// A plant with edge-box@1.0 active, which `devices` run, each with a certificate in cell-3.
async fn bench(devices: usize) -> Bench {
    let bench = Bench::new().await;
    bench.zone(&enforcing("cell-3")).await;
    let mut lab = observing("lab");
    lab.products = ["edge-box".parse().unwrap()].into();
    bench.zone(&lab).await;
    for n in 0..devices {
        let name = bench.device(&format!("press-{n}"), &["cell-3"]).await;
        bench.attest(&name, "boot-a", Decision::Trusted).await;
        runs(&bench, &format!("press-{n}")).await;
        bench.certificate(&name, "cell-3", u8::try_from(n).unwrap()).await;
    }
    let envelope = released(&bench, "press-0", "edge-box").await;
    let actor = bench.actor(Act::ApplyRelease).await;
    apply(&bench.plant, &actor, &envelope, &terms(ReleaseState::Active, false)).await.unwrap();
    bench
}

async fn runs(bench: &Bench, name: &str) {
    let key = attested_key(&name.parse().unwrap());
    let attested = Attested { running: Some(vec![id()]), ..bench.read(key.clone()).await };
    bench.plant.store.transact(Txn::new().put(key, stored(&attested).unwrap())).await.unwrap();
}

async fn change(bench: &Bench, to: ReleaseState, seen: Option<Seen>) -> Result<Changed, Refusal> {
    let request = Request { release: id(), to, reason: "a debug shell".to_owned(), seen, dry_run: false };
    set(&bench.plant, &bench.actor(Act::SetReleaseState).await, &request).await
}

async fn wish(bench: &Bench, version: Option<&str>) -> Result<Wish, Refusal> {
    let version = version.map(|version| version.parse().unwrap());
    let actor = bench.actor(Act::WantRelease).await;
    want(&bench.plant, &actor, &id().product, version.as_ref(), None, false).await
}

async fn revoked(bench: &Bench) -> usize {
    list::<RevokedCertificate>(bench.plant.store.as_ref(), REVOKED).await.unwrap().len()
}

async fn open(bench: &Bench) -> usize {
    list::<Withdrawal>(bench.plant.store.as_ref(), WITHDRAWAL).await.unwrap().len()
}

#[tokio::test]
async fn a_product_has_one_wanted_release_and_it_is_an_accepted_one() {
    let bench = bench(1).await;
    refused!(wish(&bench, Some("2.0")).await, NotFound);
    let actor = bench.actor(Act::WantRelease).await;
    let nothing = want(&bench.plant, &actor, &"edgebox".parse().unwrap(), None, None, false).await;
    let text = refused!(nothing, NotFound);
    assert!(text.contains("there is no release of edgebox"), "{text}");
    wish(&bench, Some("1.0")).await.unwrap();
    assert_eq!(wanted(&bench.plant, &id().product).await.unwrap(), Some(id()));
    change(&bench, ReleaseState::Deprecated { until: super::NOW.plus(9) }, None).await.unwrap();
    let text = refused!(change(&bench, ReleaseState::Retired, None).await, Conflict);
    assert!(text.contains("want another release first"), "{text}");
    bench.clock.set(super::NOW.plus(10));
    assert_eq!(wanted(&bench.plant, &id().product).await.unwrap(), None, "not accepted any more");
    wish(&bench, None).await.unwrap();
    let text = refused!(wish(&bench, Some("1.0")).await, Conflict);
    assert!(text.contains("touchstone golden activate edge-box@1.0"), "{text}");
    assert_eq!(running::counts(&bench.plant).await.unwrap(), [(id(), 1)].into());
}

#[tokio::test]
async fn a_dry_run_is_refused_what_the_change_would_be_refused() {
    let bench = bench(1).await;
    let peer = bench.administrator("eva", AdminRole::Engineer, Some(&["cell-3"])).await;
    let eva = async |act| authorize(&bench.plant, &peer, act).await.unwrap();
    let away = "touches zone lab; eva is limited to cell-3";
    let withdrawn = |dry_run| Request {
        release: id(),
        to: ReleaseState::Withdrawn,
        reason: "a debug shell".to_owned(),
        seen: None,
        dry_run,
    };
    for dry_run in [true, false] {
        let actor = eva(Act::SetReleaseState).await;
        let text = refused!(set(&bench.plant, &actor, &withdrawn(dry_run)).await, NotPermitted);
        assert!(text.contains(away), "{text}");
    }
    let envelope = release(&bench, "press-0", "2.0").await;
    let terms = Terms { dry_run: true, ..terms(ReleaseState::Active, false) };
    let actor = eva(Act::ApplyRelease).await;
    let text = refused!(apply(&bench.plant, &actor, &envelope, &terms).await, NotPermitted);
    assert!(text.contains(away), "{text}");
    wish(&bench, Some("1.0")).await.unwrap();
    change(&bench, ReleaseState::Deprecated { until: super::NOW.plus(9) }, None).await.unwrap();
    let retired = Request { to: ReleaseState::Retired, ..withdrawn(true) };
    let actor = bench.actor(Act::SetReleaseState).await;
    let text = refused!(set(&bench.plant, &actor, &retired).await, Conflict);
    assert!(text.contains("want another release first"), "{text}");
}

#[tokio::test]
async fn a_withdrawal_reaches_devices_that_are_not_connected_in_bounded_steps() {
    let bench = bench(60).await;
    wish(&bench, Some("1.0")).await.unwrap();
    let other = bench.device("lab-1", &["lab"]).await;
    bench.attest(&other, "boot-a", Decision::Trusted).await;
    runs(&bench, "lab-1").await;
    bench.certificate(&other, "lab", 200).await;
    let changed = change(&bench, ReleaseState::Withdrawn, None).await.unwrap();
    assert_eq!(changed.running.len(), 61);
    assert_eq!((revoked(&bench).await, open(&bench).await), (0, 1));
    assert_eq!(wanted(&bench.plant, &id().product).await.unwrap(), None);
    finish(&bench.plant).await.unwrap();
    assert_eq!((revoked(&bench).await, open(&bench).await), (60, 0), "the zone that observes keeps its own");
    let lost: Attested = bench.read(attested_key(&"press-9".parse().unwrap())).await;
    assert_eq!(lost.decision, Decision::Refused);
    assert_eq!(lost.lost.as_deref(), Some("edge-box@1.0 was withdrawn: a debug shell"));
    let text = refused!(change(&bench, ReleaseState::Active, None).await, Conflict);
    assert!(text.contains("stays withdrawn"), "{text}");
}

#[tokio::test]
async fn a_withdrawal_that_was_cut_off_goes_on_and_does_nothing_twice() {
    let bench = bench(3).await;
    change(&bench, ReleaseState::Withdrawn, None).await.unwrap();
    let open: Vec<Held<Withdrawal>> = list(bench.plant.store.as_ref(), WITHDRAWAL).await.unwrap();
    finish(&bench.plant).await.unwrap();
    // As if the broker had stopped before the last step.
    let again = Txn::new().put(open[0].key.clone(), stored(&open[0].record).unwrap());
    bench.plant.store.transact(again).await.unwrap();
    finish(&bench.plant).await.unwrap();
    assert_eq!(revoked(&bench).await, 3);
}

#[tokio::test]
async fn what_ended_trust_in_one_zone_spares_no_certificate_of_another() {
    let bench = bench(1).await;
    let mut vision = enforcing("vision");
    vision.products = ["camera".parse().unwrap()].into();
    bench.zone(&vision).await;
    let gateway = bench.device("gateway", &["cell-3", "vision"]).await;
    bench.attest(&gateway, "boot-a", Decision::Trusted).await;
    runs(&bench, "gateway").await;
    for (zone, serial) in [("cell-3", 1), ("vision", 2)] {
        bench.certificate(&gateway, zone, serial).await;
    }
    // Its other release was withdrawn before, which ended what it held in the other zone.
    let held = crate::record::device::held_key(&gateway, &"vision".parse().unwrap());
    let lost = Some("camera@1.0 was withdrawn: a debug shell".to_owned());
    let key = attested_key(&gateway);
    let attested = Attested { decision: Decision::Refused, lost, ..bench.read(key.clone()).await };
    let txn = Txn::new().delete(held).put(key.clone(), stored(&attested).unwrap());
    bench.plant.store.transact(txn).await.unwrap();

    change(&bench, ReleaseState::Withdrawn, None).await.unwrap();
    finish(&bench.plant).await.unwrap();
    assert_eq!(revoked(&bench).await, 2, "the certificates of cell-3");
    let lost = bench.read::<Attested>(key).await.lost;
    assert_eq!(lost.as_deref(), Some("edge-box@1.0 was withdrawn: a debug shell"));
}

#[tokio::test]
async fn the_second_of_two_administrators_is_told_the_difference() {
    let bench = bench(1).await;
    let looked = seen(&held(&bench.plant).await.unwrap()[0]);
    let until = super::NOW.plus(60);
    change(&bench, ReleaseState::Deprecated { until }, Some(looked.clone())).await.unwrap();
    let text = refused!(change(&bench, ReleaseState::Withdrawn, Some(looked)).await, Conflict);
    let words = format!(
        "edge-box@1.0 was changed since you looked: you saw active, it is now deprecated until {until}, by ada at {}",
        super::NOW
    );
    assert!(text.starts_with(&words), "{text}");
    change(&bench, ReleaseState::Withdrawn, None).await.unwrap();
}

#[tokio::test]
async fn a_rollback_is_taken_only_by_its_exact_name() {
    let bench = bench(1).await;
    let old = super::golden::sign(
        &crate::admin::golden::one(&bench.plant, &id()).await.unwrap().1.replace("1.0", "0.9"),
        &bench.release_key,
    );
    let actor = bench.actor(Act::ApplyRelease).await;
    let with = |name: Option<&str>| Terms {
        allow_rollback: name.map(|name| name.parse().unwrap()),
        ..terms(ReleaseState::Active, false)
    };
    let text = refused!(apply(&bench.plant, &actor, &old, &with(None)).await, Conflict);
    assert!(text.contains("--allow-rollback edge-box@0.9"), "{text}");
    let text = refused!(apply(&bench.plant, &actor, &old, &with(Some("edge-box@1.0"))).await, Malformed);
    assert!(text.contains("the file holds edge-box@0.9"), "{text}");
    apply(&bench.plant, &actor, &old, &with(Some("edge-box@0.9"))).await.unwrap();
}
