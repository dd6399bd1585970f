//! Plans over real evidence: what they say, that they write nothing, and that they hold.

use policy::evidence::endorsement::{Manufacturer, Weight};
use policy::evidence::flaw::DenyRule;
use policy::reference::release::ReleaseId;
use policy::reference::state::ReleaseState;
use policy::time::UnixTime;
use policy::zone::Zone;

use super::ima::{INTRUDER, PRESS, findings, release, run, with_ima};
use super::plant_with;
use super::tpm::TestTpm;
use crate::admin::Act;
use crate::admin::golden::apply::{Terms, apply};
use crate::admin::golden::basis::Basis;
use crate::admin::golden::follow;
use crate::admin::golden::forecast::{Line, Outlook};
use crate::admin::golden::learn::draft;
use crate::admin::golden::plan::{Plan, Subject, plan};
use crate::admin::golden::state::{self, Request};
use crate::admin::reach::Scope;
use crate::admin::tests::golden::{sign, terms};
use crate::admin::tests::{Bench, NOW, enforcing, refused};
use crate::record::device::{Attested, Device, attested_key, device_key};
use crate::record::stored;
use crate::record::zone::zone_key;
use crate::store::Txn;
use crate::store::record::Record;

/// A device that is trusted under release 1.0.
async fn scene() -> (Bench, TestTpm) {
    let mut tpm = with_ima();
    run(&mut tpm.booted, PRESS, "press 1");
    let (bench, _) = plant_with(&enforcing("cell-3"), &tpm, true).await;
    findings(tpm.enroll(&bench.plant, "press-7").await);
    release(&bench, "1.0", &[(PRESS, "press 1")], false).await;
    tpm.enroll(&bench.plant, "press-7").await.unwrap();
    (bench, tpm)
}

fn first() -> ReleaseId {
    "edge-box@1.0".parse().unwrap()
}

async fn planned(bench: &Bench, to: Option<ReleaseState>, at: Option<UnixTime>) -> Plan {
    let actor = bench.actor(Act::ReadReleases).await;
    plan(&bench.plant, &actor, &Subject::Known(first()), to, at).await.unwrap()
}

async fn set(bench: &Bench, to: ReleaseState) {
    let actor = bench.actor(Act::SetReleaseState).await;
    let request = Request { release: first(), to, reason: "a reason".to_owned(), seen: None, dry_run: false };
    state::set(&bench.plant, &actor, &request).await.unwrap();
}

#[tokio::test]
async fn a_withdrawal_is_foreseen_and_then_it_is_so() {
    let (bench, mut tpm) = scene().await;
    let before = bench.revision();
    let same = planned(&bench, None, None).await;
    assert_eq!((same.lines[0].before, same.lines[0].after), (Outlook::Trusted, Outlook::Trusted));
    let lost = planned(&bench, Some(ReleaseState::Withdrawn), None).await;
    assert_eq!((lost.lines[0].before, lost.lines[0].after), (Outlook::Trusted, Outlook::Refused));
    assert!(lost.lines[0].reason.contains("withdrawn"), "{}", lost.lines[0].reason);
    assert_eq!(bench.revision(), before, "a plan writes nothing");
    set(&bench, ReleaseState::Withdrawn).await;
    let live = findings(tpm.enroll(&bench.plant, "press-7").await);
    assert_eq!(live[0].sentence, *lost.lines[0].reason, "the plan said what the device was told");
}

#[tokio::test]
async fn the_end_of_a_deprecation_is_foreseen_for_its_date() {
    let (bench, _) = scene().await;
    set(&bench, ReleaseState::Deprecated { until: NOW.plus(3600) }).await;
    let after = async |seconds| planned(&bench, None, Some(NOW.plus(seconds))).await.lines[0].after;
    assert_eq!((after(3599).await, after(3601).await), (Outlook::Trusted, Outlook::Refused));
}

#[tokio::test]
async fn old_evidence_says_nothing() {
    let (bench, _) = scene().await;
    bench.clock.set(NOW.plus(86_400));
    let line = &planned(&bench, Some(ReleaseState::Withdrawn), None).await.lines[0];
    assert_eq!((line.before, line.after), (Outlook::Unknown, Outlook::Unknown));
    assert!(line.reason.contains("older than two intervals"), "{}", line.reason);
}

#[tokio::test]
async fn a_plan_holds_only_on_the_golden_values_that_it_was_made_on() {
    let (bench, mut tpm) = scene().await;
    run(&mut tpm.booted, INTRUDER, "patch 1");
    findings(tpm.enroll(&bench.plant, "press-7").await);
    let (product, version) = ("edge-box".parse().unwrap(), "1.1".parse().unwrap());
    let name = "press-7".parse().unwrap();
    let learned = draft(&bench.plant, &Scope::Plant, &[name], product, version, false).await.unwrap();
    let envelope = sign(&learned.manifest, &bench.release_key);
    let actor = bench.actor(Act::ApplyRelease).await;
    let subject = Subject::Envelope { envelope: envelope.clone(), allow_rollback: None };
    let plan = plan(&bench.plant, &actor, &subject, None, None).await.unwrap();
    assert_eq!((plan.release.to_string().as_str(), plan.lines.len()), ("edge-box@1.1", 1));
    set(&bench, ReleaseState::Deprecated { until: NOW.plus(3600) }).await;
    let on = |base| Terms { base: Some(base), ..terms(ReleaseState::Active, false) };
    let text = refused!(apply(&bench.plant, &actor, &envelope, &on(plan.basis.golden)).await, Conflict);
    assert!(text.contains("changed since the plan was made"), "{text}");
    apply(&bench.plant, &actor, &envelope, &on(plan.basis.golden + 1)).await.unwrap();
}

async fn line(bench: &Bench) -> Line {
    planned(bench, Some(ReleaseState::Withdrawn), None).await.lines.remove(0)
}

async fn put<R: Record>(bench: &Bench, key: String, record: &R) {
    bench.plant.store.transact(Txn::new().put(key, stored(record).unwrap())).await.unwrap();
}

#[tokio::test]
async fn evidence_that_is_about_to_be_another_says_nothing() {
    let (bench, _) = scene().await;
    let press = "press-7".parse().unwrap();
    let known = line(&bench).await;
    assert_eq!((known.after, known.boot.reset_count > 0), (Outlook::Refused, true));

    // Asked, and not yet answered.
    let device: Device = bench.read(device_key(&press)).await;
    put(&bench, device_key(&press), &Device { asked: device.answered + 1, ..device.clone() }).await;
    let asked = line(&bench).await;
    assert_eq!((asked.before, asked.after), (Outlook::Unknown, Outlook::Unknown));
    assert!(asked.reason.contains("has not answered yet"), "{}", asked.reason);
    put(&bench, device_key(&press), &device).await;

    // Its stream ended: it may be rebooting. It comes back.
    drop(bench.plant.attendance.enter(&press, &bench.plant.clock));
    bench.clock.set(NOW.plus(6));
    let away = line(&bench).await;
    assert!(away.after == Outlook::Unknown && away.reason.contains("may be rebooting"), "{away:?}");
    let present = bench.plant.attendance.enter(&press, &bench.plant.clock);
    assert_eq!(line(&bench).await.after, Outlook::Refused);

    // Its TPM's counters fell.
    let attested: Attested = bench.read(attested_key(&press)).await;
    put(&bench, attested_key(&press), &Attested { clone_alarm: true, ..attested }).await;
    let alarmed = line(&bench).await;
    assert!(alarmed.after == Outlook::Unknown && alarmed.reason.contains("counters fell"), "{alarmed:?}");
    drop(present);
}

#[tokio::test]
async fn a_refused_device_has_no_stream_to_leave() {
    let (bench, mut tpm) = scene().await;
    let present = bench.plant.attendance.enter(&"press-7".parse().unwrap(), &bench.plant.clock);
    run(&mut tpm.booted, INTRUDER, "patch 1");
    findings(tpm.enroll(&bench.plant, "press-7").await);
    drop(present);
    bench.clock.set(NOW.plus(60));
    assert_eq!(line(&bench).await.before, Outlook::Refused, "what it runs is known");
}

#[tokio::test]
async fn a_manifest_that_nobody_signed_is_planned_like_the_signed_one() {
    let (bench, mut tpm) = scene().await;
    run(&mut tpm.booted, INTRUDER, "patch 1");
    findings(tpm.enroll(&bench.plant, "press-7").await);
    let (product, version) = ("edge-box".parse().unwrap(), "1.1".parse().unwrap());
    let learned = draft(&bench.plant, &Scope::Plant, &["press-7".parse().unwrap()], product, version, false)
        .await
        .unwrap();
    let before = bench.revision();
    let actor = bench.actor(Act::ReadReleases).await;
    let subject = Subject::Unsigned(learned.manifest.clone());
    let unsigned = plan(&bench.plant, &actor, &subject, None, None).await.unwrap();
    assert_eq!((bench.revision(), unsigned.signed), (before, false));
    assert_eq!(
        (unsigned.lines[0].before, unsigned.lines[0].after),
        (Outlook::Refused, Outlook::Trusted),
        "it would be trusted under it"
    );
    let envelope = sign(&learned.manifest, &bench.release_key);
    let subject = Subject::Envelope { envelope: envelope.clone(), allow_rollback: None };
    let signed = plan(&bench.plant, &actor, &subject, None, None).await.unwrap();
    assert!(signed.signed && signed.basis == unsigned.basis, "the plan of the one is that of the other");

    let fault = Subject::Unsigned("product = 1".to_owned());
    refused!(plan(&bench.plant, &actor, &fault, None, None).await, Malformed);
    let stale = Subject::Unsigned(learned.manifest.replace("counter = 2", "counter = 1"));
    let text = refused!(plan(&bench.plant, &actor, &stale, None, None).await, Conflict);
    assert!(text.contains("it would be a rollback"), "{text}");
}

#[tokio::test]
async fn a_plan_holds_only_while_what_vouches_and_what_zones_ask_for_stay() {
    let (mut bench, mut tpm) = scene().await;
    run(&mut tpm.booted, INTRUDER, "patch 1");
    findings(tpm.enroll(&bench.plant, "press-7").await);
    let (product, version) = ("edge-box".parse().unwrap(), "1.1".parse().unwrap());
    let name = "press-7".parse().unwrap();
    let learned = draft(&bench.plant, &Scope::Plant, &[name], product, version, false).await.unwrap();
    let envelope = sign(&learned.manifest, &bench.release_key);
    let actor = bench.actor(Act::ApplyRelease).await;
    let subject = Subject::Envelope { envelope: envelope.clone(), allow_rollback: None };
    let planned = async |bench: &Bench| plan(&bench.plant, &actor, &subject, None, None).await.unwrap().basis;
    let applied = async |bench: &Bench, basis: &Basis, dry_run| {
        let terms = Terms { plan: Some(basis.clone()), ..terms(ReleaseState::Active, dry_run) };
        apply(&bench.plant, &actor, &envelope, &terms).await
    };
    let moved = |text: String| assert!(text.contains("TPM roots, tpm_deny or what zones ask for"), "{text}");

    let basis = planned(&bench).await;
    let why = "open bus".to_owned();
    bench.plant.config.tpm_deny = vec![DenyRule {
        manufacturer: Manufacturer::INFINEON,
        firmware_before: None,
        weight: Weight::Broken,
        why,
    }];
    bench.plant.vouching = std::sync::OnceLock::new();
    moved(refused!(applied(&bench, &basis, false).await, Conflict));

    let basis = planned(&bench).await;
    let zone: Zone = bench.read(zone_key(&"cell-3".parse().unwrap())).await;
    let other = Zone { products: ["edge-box".parse().unwrap(), "other".parse().unwrap()].into(), ..zone };
    put(&bench, zone_key(&other.name), &other).await;
    moved(refused!(applied(&bench, &basis, true).await, Conflict));

    let basis = planned(&bench).await;
    let done = applied(&bench, &basis, false).await.unwrap();
    assert_eq!((done.golden, done.forecast.len()), (basis.golden + 1, 0), "it was forecast before");
}

#[tokio::test]
async fn one_forecast_runs_at_a_time_and_ends_with_whoever_asked() {
    let (bench, _) = scene().await;
    let actor = bench.actor(Act::ReadReleases).await;
    let subject = Subject::Known(first());
    let mut asked = Box::pin(plan(&bench.plant, &actor, &subject, None, None));
    let busy = || bench.plant.forecasts.available_permits() == 0;
    while !busy() {
        let polled = futures::poll!(asked.as_mut());
        assert!(polled.is_pending(), "it ended before it was seen at work");
        tokio::task::yield_now().await;
    }
    drop(asked);
    assert!(!busy(), "nobody waits for the answer any more");
    planned(&bench, None, None).await;
}

#[tokio::test]
async fn what_devices_come_to_is_told_as_it_comes() {
    let (bench, mut tpm) = scene().await;
    let attested: Attested = bench.read(attested_key(&"press-7".parse().unwrap())).await;
    let golden = attested.golden;
    let (send, mut told) = tokio::sync::mpsc::channel(8);
    let product = "edge-box".parse().unwrap();
    let following = follow::results(&bench.plant, &Scope::Plant, &product, golden, &send);
    let script = async {
        let now = told.recv().await.unwrap().remove(0);
        assert_eq!(
            (now.device.as_str(), now.outcome, now.reason.as_str()),
            ("press-7", Outlook::Trusted, "")
        );
        run(&mut tpm.booted, INTRUDER, "patch 1");
        let live = findings(tpm.enroll(&bench.plant, "press-7").await);
        let then = told.recv().await.unwrap().remove(0);
        assert_eq!((then.outcome, then.reason), (Outlook::Refused, live[0].sentence.clone()));
        drop(told);
    };
    let (ended, ()) = tokio::join!(following, script);
    ended.unwrap();

    let elsewhere = Scope::Zones(["cell-4".parse().unwrap()].into());
    for (scope, golden) in [(Scope::Plant, golden + 1), (elsewhere, golden)] {
        let (send, mut told) = tokio::sync::mpsc::channel(8);
        let following = follow::results(&bench.plant, &scope, &product, golden, &send);
        let script = async {
            tokio::task::yield_now().await;
            assert!(told.try_recv().is_err(), "older than what is asked for, or out of sight");
            drop(told);
        };
        let (ended, ()) = tokio::join!(following, script);
        ended.unwrap();
    }
}
