//! A device that moves, attestation by attestation: which zone gives it certificates, and when it is out of the old one.

use policy::id::DeviceName;
use policy::zone::Zone;
use proto::v1;
use proto::v1::complete_response::Outcome;

use super::plant_with;
use super::tpm::TestTpm;
use crate::admin::Act;
use crate::admin::device::moving::{Request, begin};
use crate::admin::tests::{Bench, NOW, enforcing, observing};
use crate::record::device::{Device, device_key};

const OLD: [(&str, v1::Role); 2] = [("cell-3", v1::Role::Caller), ("cell-3", v1::Role::Listener)];
const NEW: [(&str, v1::Role); 2] = [("cell-4", v1::Role::Caller), ("cell-4", v1::Role::Listener)];

const WEEK: u64 = 7 * 86_400;

struct Scene {
    bench: Bench,
    name: DeviceName,
    tpm: TestTpm,
}

impl Scene {
    /// A device of cell-3 that is on its way to `to`, which is cell-4.
    async fn moving(to: &Zone) -> Self {
        let mut tpm = TestTpm::new();
        let (bench, name) = plant_with(&observing("cell-3"), &tpm, true).await;
        bench.zone(to).await;
        (tpm.asks, tpm.delivered) = (OLD.to_vec(), Some(Vec::new()));
        let mut scene = Self { bench, name, tpm };
        scene.certificates().await;
        let request = Request {
            name: scene.name.clone(),
            to: to.name.clone(),
            from: None,
            window: None,
            reason: String::new(),
            seen: None,
        };
        let actor = scene.bench.actor(Act::MoveDevice).await;
        begin(&scene.bench.plant, &actor, &request, false).await.unwrap();
        scene
    }

    async fn attest(&mut self) -> v1::Issued {
        let answer = self.tpm.enroll(&self.bench.plant, "press-7").await.unwrap();
        let Some(Outcome::Issued(issued)) = answer.outcome else { panic!("issued") };
        issued
    }

    /// Zones of the certificates that it gets.
    async fn certificates(&mut self) -> Vec<String> {
        let mut zones: Vec<String> = self.attest().await.svids.into_iter().map(|svid| svid.zone).collect();
        zones.dedup();
        zones
    }

    async fn device(&self) -> Device {
        self.bench.read(device_key(&self.name)).await
    }

    async fn zones(&self) -> Vec<String> {
        self.device().await.zones.iter().map(ToString::to_string).collect()
    }
}

#[tokio::test]
async fn it_leaves_when_it_says_that_it_delivered_and_gets_nothing_of_the_old_zone_beside_the_new() {
    let mut scene = Scene::moving(&observing("cell-4")).await;
    scene.tpm.asks = [OLD, NEW].concat();
    let issued = scene.attest().await;
    assert!(issued.svids.iter().all(|svid| svid.zone == "cell-4"), "{:?}", issued.svids);
    assert_eq!(issued.valid_serials.len(), 4, "those of the old zone hold");
    let device = scene.device().await;
    assert!(device.asked > device.answered, "it is asked to say soon that it delivered them");

    scene.tpm.asks = OLD.to_vec();
    assert!(scene.certificates().await.is_empty(), "none of the old zone is made anew");
    assert_eq!(scene.zones().await, ["cell-3", "cell-4"]);
    let serial = |svid: &v1::Svid| {
        policy::x509::certificate::Certificate::parse(&svid.chain[0]).map(|one| one.serial_text()).unwrap()
    };
    let serials = issued.svids.iter().map(|svid| hex::decode(serial(svid)).unwrap());
    scene.tpm.delivered = Some(serials.collect());
    scene.tpm.asks = Vec::new();
    assert_eq!(scene.attest().await.valid_serials.len(), 2);
    assert_eq!(scene.zones().await, ["cell-4"]);
}

#[tokio::test]
async fn one_certificate_of_the_new_zone_ends_those_of_the_old() {
    let mut scene = Scene::moving(&observing("cell-4")).await;
    // Never asking for the other role must not keep the old zone for ever.
    scene.tpm.asks = [OLD[0], OLD[1], NEW[0]].to_vec();
    assert_eq!(scene.certificates().await, ["cell-4"]);
    scene.tpm.asks = OLD.to_vec();
    assert!(scene.certificates().await.is_empty());
    let life = observing("cell-3").timing.certificate_lifetime();
    scene.bench.clock.set(NOW.plus(life - 60));
    scene.tpm.asks = NEW.to_vec();
    scene.certificates().await;
    scene.bench.clock.set(NOW.plus(life));
    scene.attest().await;
    assert_eq!(scene.zones().await, ["cell-4"], "the last of the old zone has ended");
}

#[tokio::test]
async fn a_zone_that_does_not_take_it_stops_it_no_earlier_than_in_a_week() {
    let mut scene = Scene::moving(&enforcing("cell-4")).await;
    scene.tpm.asks = [OLD, NEW].concat();
    let life = observing("cell-3").timing.certificate_lifetime();
    scene.bench.clock.set(NOW.plus(2 * life));
    assert_eq!(scene.certificates().await, ["cell-3"], "it was away until those of the old zone had ended");
    assert_eq!(scene.zones().await, ["cell-3", "cell-4"]);

    scene.bench.clock.set(NOW.plus(WEEK));
    assert_eq!(scene.certificates().await, ["cell-3"]);
    scene.bench.clock.set(NOW.plus(WEEK + 3600));
    assert!(scene.certificates().await.is_empty(), "somebody has looked by now");
    scene.bench.clock.set(NOW.plus(WEEK + life + 3600));
    let refusal = scene.tpm.enroll(&scene.bench.plant, "press-7").await.unwrap_err();
    assert!(matches!(refusal, crate::session::Refusal::ReferenceMismatch { .. }), "{refusal:?}");
    assert_eq!(scene.zones().await, ["cell-4"]);
}
