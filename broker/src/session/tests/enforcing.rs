//! A zone that begins to enforce takes what devices hold that are away, by their last proof and by nothing else.

use policy::appraisal::policy::Mode;
use policy::id::DeviceName;
use policy::reference::state::ReleaseState;
use policy::zone::Zone;

use super::ima::{INTRUDER, PRESS, release, run, with_ima};
use super::plant_with;
use super::tpm::TestTpm;
use crate::admin::Act;
use crate::admin::enforcement::{Loses, forecast};
use crate::admin::golden::state::{self, Request};
use crate::admin::reach::Scope;
use crate::admin::tests::{Bench, NOW, enforcing};
use crate::admin::zone::{Settings, set};
use crate::record::device::{Attested, Decision, attested_key};
use crate::record::list;
use crate::record::zone::{REAPPRAISAL, Reappraisal};
use crate::session::issue::valid_serials;
use crate::withdrawal::finish;

/// A device that holds a certificate of a zone that observes; its release lists one file.
struct Scene {
    bench: Bench,
    name: DeviceName,
    tpm: TestTpm,
}

impl Scene {
    async fn new() -> Self {
        let mut tpm = with_ima();
        run(&mut tpm.booted, PRESS, "press 1");
        let observing = Zone { mode: Mode::Observe, ..enforcing("cell-3") };
        let (bench, name) = plant_with(&observing, &tpm, true).await;
        tpm.enroll(&bench.plant, "press-7").await.unwrap();
        release(&bench, "1.0", &[(PRESS, "press 1")], false).await;
        let mut scene = Self { bench, name, tpm };
        scene.prove().await;
        scene.bench.certificate(&scene.name, "cell-3", 0x41).await;
        scene
    }

    /// The device proves itself; the zone observes.
    async fn prove(&mut self) {
        self.tpm.enroll(&self.bench.plant, "press-7").await.unwrap();
    }

    async fn turn(&self, mode: Mode, dry_run: bool) {
        let actor = self.bench.actor(Act::SetZone).await;
        let settings = Settings { mode: Some(mode), ..Settings::default() };
        set(&self.bench.plant, &actor, &"cell-3".parse().unwrap(), &settings, dry_run).await.unwrap();
    }

    /// Who the plan says would lose their certificates.
    async fn foreseen(&self) -> Vec<Loses> {
        let zone = "cell-3".parse().unwrap();
        forecast(&self.bench.plant, &Scope::Plant, &zone, NOW).await.unwrap().loses
    }

    async fn holds(&self) -> bool {
        !valid_serials(&self.bench.plant, &self.name, NOW).await.unwrap().is_empty()
    }

    async fn attested(&self) -> Attested {
        self.bench.read(attested_key(&self.name)).await
    }

    /// Enforces, and lets what comes of it reach every device. Why the device lost what it held, if it did.
    async fn enforced(&self) -> Option<String> {
        self.turn(Mode::Enforce, false).await;
        finish(&self.bench.plant).await.unwrap();
        let open = list::<Reappraisal>(self.bench.plant.store.as_ref(), REAPPRAISAL).await.unwrap();
        assert!(open.is_empty(), "what is done is taken off");
        let lost = self.attested().await.lost;
        assert_eq!(lost.is_none(), self.holds().await, "{lost:?}");
        lost
    }
}

#[tokio::test]
async fn whoever_ran_what_is_not_golden_loses_what_it_holds_while_it_is_away() {
    let mut scene = Scene::new().await;
    run(&mut scene.tpm.booted, INTRUDER, "patch 1");
    scene.prove().await;
    let foreseen = scene.foreseen().await;
    assert_eq!((foreseen.len(), &foreseen[0].device), (1, &scene.name), "{foreseen:?}");
    assert!(foreseen[0].why.contains(INTRUDER), "{foreseen:?}");
    scene.turn(Mode::Enforce, true).await;
    finish(&scene.bench.plant).await.unwrap();
    assert!(scene.holds().await, "a dry run takes nothing");

    let lost = scene.enforced().await.unwrap();
    let words = format!("by the rules of zone cell-3 since {NOW}: {}", foreseen[0].why);
    assert_eq!(lost, words, "the plan said what it comes to");
    assert_eq!(scene.attested().await.decision, Decision::Refused);
    assert!(scene.foreseen().await.is_empty(), "nothing is left to lose");
    let events = scene.bench.events(None, 2).await;
    let told: Vec<_> = events.iter().map(|event| (event.action.as_str(), event.text.as_str())).collect();
    assert_eq!(told[0], ("zone.reappraised", "reached 1 devices, 1 certificates revoked"), "{told:?}");
    assert_eq!(told[1].0, "device.lost", "{told:?}");
}

#[tokio::test]
async fn whoever_proved_what_is_golden_keeps_it() {
    let scene = Scene::new().await;
    assert!(scene.foreseen().await.is_empty());
    assert_eq!(scene.enforced().await, None);
}

#[tokio::test]
async fn what_was_golden_when_it_was_proven_is_judged_by_what_is_golden_now() {
    let scene = Scene::new().await;
    let request = Request {
        release: "edge-box@1.0".parse().unwrap(),
        to: ReleaseState::Withdrawn,
        reason: "a debug shell".to_owned(),
        seen: None,
        dry_run: false,
    };
    let actor = scene.bench.actor(Act::SetReleaseState).await;
    state::set(&scene.bench.plant, &actor, &request).await.unwrap();
    finish(&scene.bench.plant).await.unwrap();
    assert!(scene.holds().await, "the zone observes");
    let lost = scene.enforced().await.unwrap();
    assert!(lost.contains("edge-box@1.0") && lost.contains("withdrawn"), "{lost}");
}

#[tokio::test]
async fn a_proof_that_cannot_be_read_back_earns_nothing() {
    let scene = Scene::new().await;
    scene.bench.plant.blobs.remove(scene.attested().await.evidence).await.unwrap();
    let lost = scene.enforced().await.unwrap();
    assert!(lost.ends_with("its last evidence cannot be read back"), "{lost}");
}

#[tokio::test]
async fn a_zone_that_observes_again_before_all_were_reached_takes_nothing() {
    let mut scene = Scene::new().await;
    run(&mut scene.tpm.booted, INTRUDER, "patch 1");
    scene.prove().await;
    scene.turn(Mode::Enforce, false).await;
    scene.turn(Mode::Observe, false).await;
    finish(&scene.bench.plant).await.unwrap();
    assert!(scene.holds().await);
}
