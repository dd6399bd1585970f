//! Zones and conduits.

use policy::appraisal::policy::Mode;
use policy::id::DeviceName;
use policy::zone::{Conduit, GateFail, GateRules, Role};

use super::office::Office;
use super::{Bench, NOW, enforcing, observing, refused};
use crate::admin::conduit::Unoffered;
use crate::admin::reach::Scope;
use crate::admin::{Act, conduit, zone};
use crate::record::plant::{AdminRole, TRUST, TrustHead};
use crate::trust;

fn opcua(from: &str, to: &str) -> Conduit {
    Conduit {
        from: from.parse().unwrap(),
        to: to.parse().unwrap(),
        service: "opcua".parse().unwrap(),
        schedule: None,
        expires: None,
        accept_observed: false,
    }
}

fn names(devices: &[DeviceName]) -> Vec<&str> {
    devices.iter().map(DeviceName::as_str).collect()
}

#[tokio::test]
async fn a_zone_comes_with_both_authorities() {
    let bench = Bench::new().await;
    bench.zone(&observing("cell-3")).await;
    let authorities = zone::authorities(&bench.plant, &Scope::Plant).await.unwrap();
    let roles: Vec<_> = authorities.iter().map(|view| (view.record.role, view.record.generation)).collect();
    assert_eq!(roles, [(Role::Caller, 1), (Role::Listener, 1)]);
    assert_eq!(bench.read::<TrustHead>(TRUST.to_owned()).await.n, 2, "trust sets change");
    assert!(trust::view(&bench.plant).await.is_ok(), "the authorities open and sign");
    let view = zone::one(&bench.plant, &Scope::Plant, &"cell-3".parse().unwrap()).await.unwrap();
    assert_eq!((view.devices, view.conduits.len()), (0, 0));
}

#[tokio::test]
async fn a_zone_that_does_not_fit_is_refused_with_every_fault() {
    let bench = Bench::new().await;
    let actor = bench.actor(Act::CreateZone).await;
    bench.zone(&observing("cell-3")).await;
    let again = zone::create(&bench.plant, &actor, &observing("cell-3"), false).await;
    assert_eq!(refused!(again, Conflict), "there is a zone cell-3 already");
    let mut bare = enforcing("cell-4");
    bare.products.clear();
    let text = refused!(zone::create(&bench.plant, &actor, &bare, false).await, Malformed);
    assert!(text.contains("names no product"), "{text}");
    let mut wide = observing("cell-4");
    wide.products = (0..33).map(|n| format!("p{n}").parse().unwrap()).collect();
    let text = refused!(zone::create(&bench.plant, &actor, &wide, false).await, Malformed);
    assert!(text.starts_with("33 products"), "{text}");
    refused!(zone::one(&bench.plant, &Scope::Plant, &"cell-9".parse().unwrap()).await, NotFound);
}

#[tokio::test]
async fn a_dry_run_writes_nothing() {
    let bench = Bench::new().await;
    for name in ["cell-3", "historian"] {
        bench.zone(&observing(name)).await;
    }
    bench.device("press-7", &["cell-3"]).await;
    let before = bench.revision();
    let (zones, conduits) = (bench.actor(Act::CreateZone).await, bench.actor(Act::AllowConduit).await);
    zone::create(&bench.plant, &zones, &observing("cell-4"), true).await.unwrap();
    let affected =
        conduit::allow(&bench.plant, &conduits, &opcua("historian", "cell-3"), None, Unoffered::Refuse, true)
            .await
            .unwrap();
    assert_eq!(names(&affected), ["press-7"]);
    assert_eq!(bench.revision(), before);
}

#[tokio::test]
async fn a_conduit_names_the_devices_that_notice() {
    let bench = Bench::new().await;
    for name in ["cell-3", "cell-4", "historian"] {
        bench.zone(&observing(name)).await;
    }
    bench.device("press-7", &["cell-3"]).await;
    bench.device("press-8", &["cell-4"]).await;
    bench.device("archive", &["historian"]).await;
    let (open, shut) = (bench.actor(Act::AllowConduit).await, bench.actor(Act::CloseConduit).await);
    let wanted = opcua("historian", "cell-3");
    let affected =
        conduit::allow(&bench.plant, &open, &wanted, None, Unoffered::Refuse, false).await.unwrap();
    assert_eq!(
        names(&affected),
        ["archive", "press-7"],
        "the caller's outbound, the listener's inbound file"
    );

    let head = bench.read::<TrustHead>(TRUST.to_owned()).await.n;
    assert_eq!(
        conduit::allow(&bench.plant, &open, &wanted, None, Unoffered::Refuse, false).await.unwrap(),
        [],
        "it is open already"
    );
    assert_eq!(bench.read::<TrustHead>(TRUST.to_owned()).await.n, head);

    let affected = conduit::close(&bench.plant, &shut, &wanted, None, false).await.unwrap();
    assert_eq!(names(&affected), ["archive", "press-7"]);
    assert_eq!(bench.read::<TrustHead>(TRUST.to_owned()).await.n, head + 1);
    let text = refused!(conduit::close(&bench.plant, &shut, &wanted, None, false).await, NotFound);
    assert!(text.starts_with("there is no conduit historian -> cell-3 opcua"), "{text}");
}

#[tokio::test]
async fn a_conduit_can_be_given_another_end() {
    let bench = Bench::new().await;
    for name in ["cell-3", "historian"] {
        bench.zone(&observing(name)).await;
    }
    let actor = bench.actor(Act::AllowConduit).await;
    let mut wanted = opcua("historian", "cell-3");
    conduit::allow(&bench.plant, &actor, &wanted, None, Unoffered::Refuse, false).await.unwrap();
    wanted.expires = Some(NOW.plus(60));
    conduit::allow(&bench.plant, &actor, &wanted, None, Unoffered::Refuse, false).await.unwrap();
    assert_eq!(trust::segmentation(&bench.plant).await.unwrap().conduits(), [wanted.clone()]);
    wanted.expires = Some(NOW);
    let text = refused!(
        conduit::allow(&bench.plant, &actor, &wanted, None, Unoffered::Refuse, false).await,
        Malformed
    );
    assert!(text.contains("would have ended already"), "{text}");
    // NOW is a Friday.
    (wanted.schedule, wanted.expires) = (Some("sun 02:00-03:00".parse().unwrap()), Some(NOW.plus(60)));
    let text = refused!(
        conduit::allow(&bench.plant, &actor, &wanted, None, Unoffered::Refuse, false).await,
        Malformed
    );
    assert!(text.contains("would never open: its hours do not come before it ends"), "{text}");
}

#[tokio::test]
async fn the_second_of_two_who_change_a_conduit_is_shown_the_difference() {
    let bench = Bench::new().await;
    for name in ["cell-3", "historian"] {
        bench.zone(&observing(name)).await;
    }
    let (open, shut) = (bench.actor(Act::AllowConduit).await, bench.actor(Act::CloseConduit).await);
    let mut wanted = opcua("historian", "cell-3");
    let closed = conduit::seen(&bench.plant, &wanted).await.unwrap();
    conduit::allow(&bench.plant, &open, &wanted, Some(&closed), Unoffered::Refuse, false).await.unwrap();

    let open_ended = conduit::seen(&bench.plant, &wanted).await.unwrap();
    wanted.expires = Some(NOW.plus(60));
    let text = refused!(
        conduit::allow(&bench.plant, &open, &wanted, Some(&closed), Unoffered::Refuse, false).await,
        Conflict
    );
    assert!(text.contains("you saw closed, it is now open; look again with"), "{text}");
    // A dry run is told as well: what it forecasts would not happen.
    refused!(
        conduit::allow(&bench.plant, &open, &wanted, Some(&closed), Unoffered::Refuse, true).await,
        Conflict
    );
    conduit::allow(&bench.plant, &open, &wanted, Some(&open_ended), Unoffered::Refuse, false).await.unwrap();

    let text =
        refused!(conduit::close(&bench.plant, &shut, &wanted, Some(&open_ended), false).await, Conflict);
    assert!(text.contains("you saw open, it is now open until"), "{text}");
    let now = conduit::seen(&bench.plant, &wanted).await.unwrap();
    conduit::close(&bench.plant, &shut, &wanted, Some(&now), false).await.unwrap();
    let text = refused!(conduit::close(&bench.plant, &shut, &wanted, Some(&now), false).await, Conflict);
    assert!(text.contains("it is now closed"), "{text}");
}

#[tokio::test]
async fn the_second_of_two_who_change_a_zone_is_shown_the_difference() {
    let bench = Bench::new().await;
    let mut zone = observing("cell-3");
    zone.products.insert("edge-box".parse().unwrap());
    bench.zone(&zone).await;
    let actor = bench.actor(Act::SetZone).await;
    let seen = zone::seen(&bench.plant, &zone.name).await.unwrap();
    let to = |mode| zone::Settings { mode: Some(mode), seen: Some(seen.clone()), ..Default::default() };
    zone::set(&bench.plant, &actor, &zone.name, &to(Mode::Enforce), false).await.unwrap();
    // The other one saw it observe, and wants just that: nothing to do by what they saw, and no longer so.
    let text =
        refused!(zone::set(&bench.plant, &actor, &zone.name, &to(Mode::Observe), false).await, Conflict);
    assert!(
        text.contains("zone cell-3 was changed since you looked: you saw observing, proven every 15m, outliving the broker by 8h, changed by one person, it is now enforcing"),
        "{text}"
    );
    let now = zone::seen(&bench.plant, &zone.name).await.unwrap();
    let settings = zone::Settings { mode: Some(Mode::Observe), seen: Some(now), ..Default::default() };
    zone::set(&bench.plant, &actor, &zone.name, &settings, false).await.unwrap();
}

#[tokio::test]
async fn what_gates_do_is_set_for_a_zone_that_is_there() {
    let bench = Bench::new().await;
    let zone = enforcing("cell-3");
    bench.zone(&zone).await;
    let actor = bench.actor(Act::SetZone).await;
    let set = async |gate_drain, gate_fail| {
        let settings = zone::Settings { gate_drain, gate_fail, ..Default::default() };
        zone::set(&bench.plant, &actor, &zone.name, &settings, false).await
    };
    let before = trust::view(&bench.plant).await.unwrap().sequence(0);
    assert_eq!(set(Some(300), None).await.unwrap().zone.gate, GateRules::new(300, GateFail::Open).unwrap());
    let after = set(None, Some(GateFail::Closed)).await.unwrap();
    assert_eq!(after.zone.gate, GateRules::new(300, GateFail::Closed).unwrap(), "what is not said stays");
    assert!(trust::view(&bench.plant).await.unwrap().sequence(0) > before, "devices are told");
    let text = refused!(set(Some(3_601), None).await, Malformed);
    assert!(text.contains("gate_drain is 3601 s"), "{text}");
}

#[tokio::test]
async fn an_observing_zone_reaches_an_enforcing_one_only_by_name() {
    let bench = Bench::new().await;
    bench.zone(&observing("lab")).await;
    bench.zone(&enforcing("cell-3")).await;
    let actor = bench.actor(Act::AllowConduit).await;
    let mut wanted = opcua("lab", "cell-3");
    let text = refused!(
        conduit::allow(&bench.plant, &actor, &wanted, None, Unoffered::Refuse, false).await,
        Malformed
    );
    assert!(text.contains("--accept-observed"), "{text}");
    wanted.accept_observed = true;
    conduit::allow(&bench.plant, &actor, &wanted, None, Unoffered::Refuse, false).await.unwrap();
}

#[tokio::test]
async fn accepting_that_a_zone_observes_is_the_other_zones_concern_too() {
    let office = Office::new().await;
    let (plant, ada) = (&office.plant, &office.ada);
    let act = |who, act| async move { crate::admin::authorize(plant, who, act).await.unwrap() };
    for name in ["vendor", "cell-5"] {
        zone::create(plant, &act(ada, Act::CreateZone).await, &enforcing(name), false).await.unwrap();
    }
    conduit::allow(
        plant,
        &act(ada, Act::AllowConduit).await,
        &opcua("vendor", "cell-5"),
        None,
        Unoffered::Refuse,
        false,
    )
    .await
    .unwrap();
    let to =
        |accept_observed| zone::Settings { mode: Some(Mode::Observe), accept_observed, ..Default::default() };
    let name = "vendor".parse().unwrap();
    let text =
        refused!(zone::set(plant, &act(ada, Act::SetZone).await, &name, &to(false), false).await, Malformed);
    assert!(text.contains("--accept-observed"), "{text}");
    let vic = office.administrator("vic", AdminRole::Security, Some(&["vendor"])).await;
    let text = refused!(
        zone::set(plant, &act(&vic, Act::SetZone).await, &name, &to(true), false).await,
        NotPermitted
    );
    assert!(text.contains("touches zone cell-5"), "{text}");
    zone::set(plant, &act(ada, Act::SetZone).await, &name, &to(true), false).await.unwrap();
    assert!(trust::segmentation(plant).await.unwrap().conduits()[0].accept_observed);

    let enforce = zone::Settings { mode: Some(Mode::Enforce), ..Default::default() };
    zone::set(plant, &act(ada, Act::SetZone).await, &name, &enforce, false).await.unwrap();
    let text =
        refused!(zone::set(plant, &act(&vic, Act::SetZone).await, &name, &to(false), false).await, Malformed);
    assert!(text.contains("--accept-observed"), "what was accepted once is not accepted for ever: {text}");
}

#[tokio::test]
async fn a_conduit_to_a_service_that_nobody_offers_while_they_offer_others_may_be_misspelt() {
    let bench = Bench::new().await;
    for name in ["cell-3", "historian"] {
        bench.zone(&observing(name)).await;
    }
    let actor = bench.actor(Act::AllowConduit).await;
    let mut wanted = opcua("historian", "cell-3");
    wanted.service = "opc-ua".parse().unwrap();
    let allow = async |wanted: &Conduit, unoffered| {
        conduit::allow(&bench.plant, &actor, wanted, None, unoffered, false).await
    };
    allow(&Conduit { service: "ssh".parse().unwrap(), ..wanted.clone() }, Unoffered::Refuse).await.unwrap();
    bench.device("press-7", &["cell-3"]).await;
    let text = refused!(allow(&wanted, Unoffered::Refuse).await, Conflict);
    assert_eq!(
        text,
        "no device of zone cell-3 offers opc-ua; they offer opcua: write --service opcua if that is meant, or say --unoffered if it comes later"
    );
    let look = async |wanted: &Conduit| conduit::opens_nothing(&bench.plant, wanted).await.unwrap();
    let told = look(&wanted).await.unwrap();
    assert!(
        told.contains("opens nothing: no device of zone cell-3 offers opc-ua (they offer opcua)"),
        "{told}"
    );
    let told = look(&opcua("cell-3", "historian")).await.unwrap();
    assert!(told.contains("no device of zone historian offers opcua; start it there"), "{told}");
    assert_eq!(look(&opcua("historian", "cell-3")).await, None, "it is offered");
    allow(&wanted, Unoffered::Accept).await.unwrap();
    wanted.expires = Some(NOW.plus(60));
    allow(&wanted, Unoffered::Refuse).await.unwrap();
    assert_eq!(trust::segmentation(&bench.plant).await.unwrap().conduits().len(), 2, "it only gets an end");
}
