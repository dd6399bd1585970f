//! Plans over real evidence: what they say, that they write nothing, and that they hold.

use policy::reference::release::ReleaseId;
use policy::reference::state::ReleaseState;
use policy::time::UnixTime;

use super::ima::{INTRUDER, PRESS, findings, release, run, with_ima};
use super::plant_with;
use super::tpm::TestTpm;
use crate::admin::Act;
use crate::admin::golden::apply::{Terms, apply};
use crate::admin::golden::forecast::Outlook;
use crate::admin::golden::learn::draft;
use crate::admin::golden::plan::{Plan, Subject, plan};
use crate::admin::golden::state::{self, Request};
use crate::admin::reach::Scope;
use crate::admin::tests::golden::sign;
use crate::admin::tests::{Bench, NOW, enforcing, refused};

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
    assert_eq!(live[0].sentence, lost.lines[0].reason, "the plan said what the device was told");
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
    assert!(line.reason.contains("too old"), "{}", line.reason);
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
    let terms = |base| Terms {
        to: ReleaseState::Active,
        allow_rollback: None,
        seen: None,
        base: Some(base),
        reason: String::new(),
        dry_run: false,
    };
    let text = refused!(apply(&bench.plant, &actor, &envelope, &terms(plan.base)).await, Conflict);
    assert!(text.contains("changed since the plan was made"), "{text}");
    apply(&bench.plant, &actor, &envelope, &terms(plan.base + 1)).await.unwrap();
}
