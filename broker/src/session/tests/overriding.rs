//! What two people accept of a device, and what an observing zone remembers, as real evidence meets it.

use policy::appraisal::policy::Mode;
use policy::digest::Digest;
use policy::id::DeviceName;
use policy::time::{UnixTime, Validity};
use policy::zone::{Role, Zone};
use proto::v1;
use proto::v1::admin_server::Admin;

use super::ima::{INTRUDER, PRESS, findings, release, run, with_ima};
use super::plant_with;
use super::tpm::TestTpm;
use crate::admin::device::retire::retire;
use crate::admin::enforcement::forecast;
use crate::admin::overriding::{self, Request};
use crate::admin::reach::Scope;
use crate::admin::status::status;
use crate::admin::tests::office::{Office, by, refusal, waits};
use crate::admin::tests::{Bench, Hand, NOW, enforcing, refused};
use crate::admin::zone::{Settings, set};
use crate::admin::{Act, Actor, authorize};
use crate::grpc::peer::AdministratorPeer;
use crate::record::device::{
    Attested, Device, HeldCertificate, HeldCertificates, attested_key, device_key, held_key,
};
use crate::record::plant::AdminRole;
use crate::record::{Held, fetch, stored};
use crate::session::issue::valid_serials;
use crate::store::Txn;

/// A device that runs a file which its release does not list, in an enforcing zone.
struct Scene {
    office: Office,
    tpm: TestTpm,
    name: DeviceName,
    clock: Hand,
    operator: AdministratorPeer,
    security: AdministratorPeer,
}

impl Scene {
    async fn new() -> Self {
        let mut tpm = with_ima();
        run(&mut tpm.booted, PRESS, "press 1");
        let (bench, name) = plant_with(&enforcing("cell-3"), &tpm, true).await;
        findings(tpm.enroll(&bench.plant, "press-7").await);
        release(&bench, "1.0", &[(PRESS, "press 1")], false).await;
        run(&mut tpm.booted, INTRUDER, "patch 1");
        findings(tpm.enroll(&bench.plant, "press-7").await);
        let clock = bench.clock.clone();
        let office = Office::of(bench).await;
        let operator = office.administrator("olga", AdminRole::Operator, None).await;
        let security = office.administrator("sam", AdminRole::Security, None).await;
        Self { office, tpm, name, clock, operator, security }
    }

    async fn actor(&self, act: Act) -> Actor {
        authorize(&self.office.plant, &self.office.ada, act).await.unwrap()
    }

    /// What would be accepted of the device, by its digest.
    async fn shown(&self) -> (Vec<policy::appraisal::Finding>, Digest) {
        let request = Request {
            device: self.name.clone(),
            reason: "a reason".to_owned(),
            lifetime: 3600,
            seen: None,
            dry_run: true,
        };
        let actor = self.actor(Act::Override).await;
        let shown = overriding::accept(&self.office.plant, &actor, &request).await.unwrap();
        (shown.findings, shown.digest)
    }

    fn request(&self, mismatches: Digest, lifetime_seconds: u32) -> v1::OverrideDeviceRequest {
        v1::OverrideDeviceRequest {
            name: "press-7".to_owned(),
            reason: "line stands".to_owned(),
            lifetime_seconds,
            mismatches: mismatches.0.to_vec(),
            dry_run: false,
        }
    }

    /// An override of an hour, asked for by the operator and approved by security.
    async fn overridden(&self) {
        let (_, digest) = self.shown().await;
        let asked = self.office.service.override_device(by(&self.operator, self.request(digest, 3600))).await;
        let id = waits(asked.map(drop));
        self.office.approve(&self.security, &id).await.unwrap();
    }

    /// A certificate in cell-3.
    async fn hold(&self) {
        let certificate = HeldCertificate {
            role: Role::Caller,
            generation: 1,
            serial: hex::encode([0x41; 16]),
            spki: Digest::of(b"a key"),
            validity: Validity { not_before: NOW, not_after: NOW.plus(7200) },
            service: None,
            workload: None,
            addresses: std::collections::BTreeSet::new(),
        };
        let record = HeldCertificates { certificates: vec![certificate] };
        let key = held_key(&self.name, &"cell-3".parse().unwrap());
        self.office.plant.store.transact(Txn::new().put(key, stored(&record).unwrap())).await.unwrap();
    }

    async fn issued(&mut self) -> v1::Issued {
        let answer = self.tpm.enroll(&self.office.plant, "press-7").await.unwrap();
        let Some(v1::complete_response::Outcome::Issued(issued)) = answer.outcome else {
            panic!("{answer:?}")
        };
        issued
    }
}

#[tokio::test]
async fn what_two_people_of_two_roles_accept_is_trusted_for_its_time() {
    let mut scene = Scene::new().await;
    let (shown, digest) = scene.shown().await;
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0].name.as_deref(), Some(INTRUDER));
    let asked = scene.office.service.override_device(by(&scene.operator, scene.request(digest, 3600))).await;
    let id = waits(asked.map(drop));
    findings(scene.tpm.enroll(&scene.office.plant, "press-7").await);
    let (_, own) = refusal(scene.office.approve(&scene.operator, &id).await);
    assert!(own.contains("nobody approves their own"), "{own}");
    let (_, role) = refusal(
        scene.office.approve(&scene.office.administrator("otto", AdminRole::Operator, None).await, &id).await,
    );
    assert!(role.contains("needs the role security"), "{role}");
    scene.office.approve(&scene.security, &id).await.unwrap();
    assert_eq!(scene.office.device("press-7").await.asked, 1, "it is asked to prove itself at once");

    scene.issued().await;
    let actor = scene.actor(Act::ReadStatus).await;
    let first = status(&scene.office.plant, &actor).await.unwrap().attention.remove(0);
    assert!(first.message.contains("by olga and sam: line stands"), "{first:?}");
    assert_eq!(first.next_command, "touchstone override press-7 --end");

    scene.clock.set(NOW.plus(3600));
    findings(scene.tpm.enroll(&scene.office.plant, "press-7").await);
    let over = overriding::all(&scene.office.plant, &Scope::Plant).await.unwrap();
    assert!(over.is_empty(), "it ended by itself");
}

#[tokio::test]
async fn nothing_is_accepted_of_a_device_that_was_retired_meanwhile() {
    let scene = Scene::new().await;
    let (_, digest) = scene.shown().await;
    let asked = scene.office.service.override_device(by(&scene.operator, scene.request(digest, 3600))).await;
    let id = waits(asked.map(drop));
    let actor = scene.actor(Act::RetireDevice).await;
    retire(&scene.office.plant, &actor, &scene.name, "scrapped", false).await.unwrap();
    let told = |(reason, text): (v1::DenialReason, String)| {
        assert!(
            reason == v1::DenialReason::Retired && text.contains("press-7 is retired"),
            "{reason:?} {text}"
        );
    };
    told(refusal(scene.office.approve(&scene.security, &id).await));
    told(refusal(
        scene.office.service.override_device(by(&scene.operator, scene.request(digest, 3600))).await,
    ));
    assert!(overriding::all(&scene.office.plant, &Scope::Plant).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_override_and_its_end_are_on_record() {
    let scene = Scene::new().await;
    scene.overridden().await;
    let request = v1::EndOverrideRequest { name: "press-7".to_owned() };
    scene.office.service.end_override(by(&scene.operator, request)).await.unwrap();
    for act in [Act::Override, Act::EndOverride] {
        let events = scene.office.events().await;
        let event = events.iter().find(|event| event.action == act.name() && event.actor == "olga");
        assert_eq!(event.map(|event| event.subject.as_str()), Some("press-7"), "{act:?}");
    }
}

#[tokio::test]
async fn an_override_ends_with_its_device_and_the_record_says_so() {
    let scene = Scene::new().await;
    scene.overridden().await;
    let actor = scene.actor(Act::RetireDevice).await;
    retire(&scene.office.plant, &actor, &scene.name, "scrapped", false).await.unwrap();
    assert!(overriding::of(&scene.office.plant, &scene.name).await.unwrap().is_none());
    let events = scene.office.events().await;
    let event = events.iter().find(|event| event.action == Act::RetireDevice.name()).unwrap();
    assert_eq!(event.text, "scrapped; 0 certificates revoked; its override ended");
}

#[tokio::test]
async fn an_override_accepts_that_file_and_no_other() {
    let mut scene = Scene::new().await;
    scene.overridden().await;
    scene.issued().await;
    run(&mut scene.tpm.booted, INTRUDER, "patch 2");
    let found = findings(scene.tpm.enroll(&scene.office.plant, "press-7").await);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].sentence.contains(INTRUDER), "{found:?}");
}

#[tokio::test]
async fn what_changed_between_asking_and_approving_is_not_accepted() {
    let mut scene = Scene::new().await;
    let (_, digest) = scene.shown().await;
    let asked = scene.office.service.override_device(by(&scene.operator, scene.request(digest, 3600))).await;
    let id = waits(asked.map(drop));
    run(&mut scene.tpm.booted, "/tmp/worse", "worse");
    findings(scene.tpm.enroll(&scene.office.plant, "press-7").await);
    let (_, text) = refusal(scene.office.approve(&scene.security, &id).await);
    assert!(text.contains("press-7 is refused for other things than were shown"), "{text}");
    findings(scene.tpm.enroll(&scene.office.plant, "press-7").await);
}

#[tokio::test]
async fn one_person_ends_it_at_once() {
    let mut scene = Scene::new().await;
    scene.overridden().await;
    scene.issued().await;
    let request = v1::EndOverrideRequest { name: "press-7".to_owned() };
    scene.hold().await;
    let held = || valid_serials(&scene.office.plant, &scene.name, NOW);
    assert!(!held().await.unwrap().is_empty());
    scene.office.service.end_override(by(&scene.operator, request.clone())).await.unwrap();
    assert!(held().await.unwrap().is_empty(), "what it earned ends, whether it is connected or not");
    let attested: Option<Held<Attested>> =
        fetch(scene.office.plant.store.as_ref(), attested_key(&scene.name)).await.unwrap();
    assert_eq!(attested.unwrap().record.lost.as_deref(), Some("its override was ended by olga"));
    findings(scene.tpm.enroll(&scene.office.plant, "press-7").await);
    let again = scene.office.service.end_override(by(&scene.operator, request)).await;
    let (_, text) = refusal(again);
    assert!(text.contains("press-7 has no override"), "{text}");
}

#[tokio::test]
async fn an_override_does_not_move_with_the_device() {
    let mut scene = Scene::new().await;
    scene.overridden().await;
    let plant = &scene.office.plant;
    let vault = enforcing("vault");
    crate::admin::zone::create(plant, &scene.actor(Act::CreateZone).await, &vault, false).await.unwrap();
    scene.office.move_to(&scene.operator, "press-7", &["vault"]).await.unwrap();
    let found = findings(scene.tpm.enroll(plant, "press-7").await);
    assert!(found[0].sentence.contains(INTRUDER), "nobody accepted it for the vault: {found:?}");
    scene.office.move_to(&scene.operator, "press-7", &["cell-3"]).await.unwrap();
    scene.issued().await;
}

#[tokio::test]
async fn a_zone_that_begins_to_enforce_leaves_what_an_override_earned() {
    let mut scene = Scene::new().await;
    scene.overridden().await;
    scene.issued().await;
    let held = || valid_serials(&scene.office.plant, &scene.name, NOW);
    scene.hold().await;
    let (zone, actor) = ("cell-3".parse().unwrap(), scene.actor(Act::SetZone).await);
    for mode in [Mode::Observe, Mode::Enforce] {
        let settings = Settings { mode: Some(mode), ..Settings::default() };
        set(&scene.office.plant, &actor, &zone, &settings, false).await.unwrap();
    }
    crate::withdrawal::finish(&scene.office.plant).await.unwrap();
    assert!(!held().await.unwrap().is_empty());
    scene.clock.set(NOW.plus(3600));
    for mode in [Mode::Observe, Mode::Enforce] {
        let settings = Settings { mode: Some(mode), ..Settings::default() };
        set(&scene.office.plant, &actor, &zone, &settings, false).await.unwrap();
    }
    crate::withdrawal::finish(&scene.office.plant).await.unwrap();
    assert!(held().await.unwrap().is_empty(), "the override is over");
}

#[tokio::test]
async fn bounds_are_kept() {
    let scene = Scene::new().await;
    let (_, digest) = scene.shown().await;
    for seconds in [59, 86_401] {
        let asked =
            scene.office.service.override_device(by(&scene.operator, scene.request(digest, seconds))).await;
        let (_, text) = refusal(asked);
        assert!(text.contains("holds for 60 to 86400 seconds"), "{text}");
    }
    let other =
        scene.office.service.override_device(by(&scene.operator, scene.request(Digest([1; 32]), 60))).await;
    let (_, text) = refusal(other);
    assert!(text.contains("refused for other things than were shown"), "{text}");
}

#[tokio::test]
async fn an_observing_zone_remembers_and_enforces_when_told() {
    let mut tpm = with_ima();
    run(&mut tpm.booted, PRESS, "press 1");
    let (bench, name) = plant_with(&Zone { mode: Mode::Observe, ..enforcing("cell-3") }, &tpm, true).await;
    tpm.enroll(&bench.plant, "press-7").await.unwrap();
    release(&bench, "1.0", &[(PRESS, "press 1")], false).await;
    tpm.enroll(&bench.plant, "press-7").await.unwrap();
    let zone = "cell-3".parse().unwrap();
    let look =
        async |bench: &Bench, since| forecast(&bench.plant, &Scope::Plant, &zone, since).await.unwrap();
    // Before the release nothing was approved.
    let before = look(&bench, NOW).await;
    assert_eq!((before.refused.len(), before.refused[0].still), (1, false), "{before:?}");

    run(&mut tpm.booted, INTRUDER, "patch 1");
    for _ in 0..2 {
        tpm.enroll(&bench.plant, "press-7").await.unwrap();
    }
    let now = look(&bench, NOW).await;
    assert_eq!((now.mode, now.refused[0].history.count, now.refused[0].still), (Mode::Observe, 3, true));
    assert!(now.refused[0].history.reasons[0].contains(INTRUDER), "{now:?}");
    assert!(look(&bench, NOW.plus(1)).await.refused.is_empty(), "none since");
    assert_eq!(look(&bench, NOW.plus(1)).await.clean, 1);

    let actor = bench.actor(Act::SetZone).await;
    let settings = |mode| Settings { mode: Some(mode), reason: "quiet".to_owned(), ..Settings::default() };
    set(&bench.plant, &actor, &zone, &settings(Mode::Enforce), true).await.unwrap();
    tpm.enroll(&bench.plant, "press-7").await.unwrap();
    let golden = crate::golden::current(&bench.plant).await.unwrap().n;
    set(&bench.plant, &actor, &zone, &settings(Mode::Enforce), false).await.unwrap();
    assert_eq!(crate::golden::current(&bench.plant).await.unwrap().n, golden + 1, "every device is asked");
    let found = findings(tpm.enroll(&bench.plant, "press-7").await);
    assert!(found[0].sentence.contains(INTRUDER), "{found:?}");
    set(&bench.plant, &actor, &zone, &settings(Mode::Observe), false).await.unwrap();
    tpm.enroll(&bench.plant, "press-7").await.unwrap();
    let device: Option<Held<Device>> = fetch(bench.plant.store.as_ref(), device_key(&name)).await.unwrap();
    assert!(device.is_some());
    let nowhere = "nowhere".parse().unwrap();
    let text = refused!(forecast(&bench.plant, &Scope::Plant, &nowhere, UnixTime(0)).await, NotFound);
    assert!(text.contains("there is no zone nowhere"), "{text}");
}
