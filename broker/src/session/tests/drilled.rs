//! A corrupted update on purpose refuses a device that is golden, for as long as it is said, and lets nobody in.

use policy::appraisal::policy::Mode;
use policy::zone::{DrillBounds, Fault, Zone};

use super::ima::{INTRUDER, PRESS, release, run, with_ima};
use super::plant_with;
use crate::admin::Act;
use crate::admin::drill::{Request, end, start};
use crate::admin::tests::enforcing;
use crate::admin::zone::{Settings, set};
use crate::record::device::{Attested, Decision, attested_key};

#[tokio::test]
async fn a_corrupted_update_refuses_whoever_is_golden_and_admits_nobody() {
    let mut tpm = with_ima();
    run(&mut tpm.booted, PRESS, "press 1");
    let staging = Zone { mode: Mode::Observe, drills: Some(DrillBounds::default()), ..enforcing("cell-3") };
    let (bench, name) = plant_with(&staging, &tpm, true).await;
    tpm.enroll(&bench.plant, "press-7").await.unwrap();
    release(&bench, "1.0", &[(PRESS, "press 1")], false).await;
    let zone = "cell-3".parse().unwrap();
    let settings = Settings { mode: Some(Mode::Enforce), ..Settings::default() };
    set(&bench.plant, &bench.actor(Act::SetZone).await, &zone, &settings, false).await.unwrap();
    tpm.enroll(&bench.plant, "press-7").await.unwrap();

    let asked = Request {
        zone: zone.clone(),
        fault: Fault::CorruptedUpdate,
        device: Some(name.clone()),
        seconds: 60,
        delay: 0,
        reason: "the yearly drill".to_owned(),
        dry_run: false,
    };
    start(&bench.plant, &bench.actor(Act::StartDrill).await, &asked).await.unwrap();
    let text = tpm.enroll(&bench.plant, "press-7").await.unwrap_err().to_string();
    assert!(text.contains("a corrupted-update drill of ada runs until"), "{text}");
    let attested: Attested = bench.read(attested_key(&name)).await;
    assert_eq!(attested.decision, Decision::Refused);

    end(&bench.plant, &bench.actor(Act::EndDrill).await, &zone).await.unwrap();
    tpm.enroll(&bench.plant, "press-7").await.unwrap();

    // One that is refused anyway stays refused, and after the drill for its own reason.
    start(&bench.plant, &bench.actor(Act::StartDrill).await, &asked).await.unwrap();
    run(&mut tpm.booted, INTRUDER, "patch 1");
    tpm.enroll(&bench.plant, "press-7").await.unwrap_err();
    end(&bench.plant, &bench.actor(Act::EndDrill).await, &zone).await.unwrap();
    let text = tpm.enroll(&bench.plant, "press-7").await.unwrap_err().to_string();
    assert!(text.contains(INTRUDER) && !text.contains("drill"), "{text}");
}
