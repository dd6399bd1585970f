//! A device decides about peers, by the trust set that it was sent, as the broker that sent it: whatever zones and conduits
//! say, whatever was revoked or distrusted, and also in hours that begin or end after it was sent.

use std::collections::BTreeSet;
use std::sync::Arc;

use attestor::plant::PlantRoot;
use attestor::trust::{self as device, About, Expected, Seen};
use broker::access::{Question, authorize};
use broker::admin::Act;
use broker::admin::authority::{Distrust, distrust};
use broker::admin::conduit::{self, Unoffered};
use broker::admin::device::stop;
use broker::admin::zone::{self, Settings};
use broker::grpc::peer::DevicePeer;
use broker::plant::Plant;
use broker::ports::System;
use broker::server::{self, Ground};
use broker::store::memory::MemoryStore;
use broker::trust;
use policy::access::Decision;
use policy::time::UnixTime;
use policy::zone::{Conduit, Direction, IntraZone, Role};
use sim::machine::{Machine, SERVICE};
use sim::plan::Boot;
use sim::plant::{CELL, DOMAIN, LIFE, NAMES, PRESS, chip, copy, exchange, folder, owner, runtime, template};
use sim::rng::{BEGIN, Hand, Rng};
use sim::stream::identified;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Graphs that are tried, one every few seconds of the life of certificates.
const GRAPHS: u64 = 300;
/// From then on a device is quarantined, and from then on an authority is distrusted.
const QUARANTINED: u64 = 120;
const DISTRUSTED: u64 = 220;
/// What must have been decided at some time, or the rest says little.
const CODES: [&str; 8] = [
    "",
    "no-conduit",
    "conduit-closed",
    "conduit-ended",
    "ended",
    "revoked",
    "unknown-authority",
    "not-offered",
];

struct World {
    runtime: Runtime,
    clock: Arc<Hand>,
    plant: Arc<Plant>,
    root: PlantRoot,
    /// A device of each zone, which asks.
    asking: Vec<Arc<DevicePeer>>,
    /// Certificates that are shown: those of all devices, and what is none.
    shown: Vec<Vec<u8>>,
    _folder: TempDir,
}

impl World {
    fn new() -> Self {
        let (runtime, folder, clock) = (runtime(), folder(), Arc::new(Hand::default()));
        copy(template().folder.path(), folder.path());
        let id = server::broker_id(folder.path()).expect("init writes an id");
        let store = Arc::new(MemoryStore::open(&template().disk.copied(), id));
        let ground =
            Ground { store, clock: Arc::<Hand>::clone(&clock), entropy: Arc::new(System::default()) };
        let plant = runtime.block_on(server::open_on(ground, folder.path())).expect("the plant opens");
        let file = folder.path().join("plant-root.pem");
        let (mut asking, mut shown) = (Vec::new(), vec![b"no certificate".to_vec()]);
        for (number, (name, zone)) in NAMES.into_iter().enumerate() {
            let mut machine = Machine::new(name, zone, chip(number), &file, 0);
            runtime.block_on(machine.start(Boot::First));
            exchange(&runtime, &plant, &mut machine);
            let leaf = machine.caller().expect("a certificate");
            if name.ends_with('0') {
                asking.push(runtime.block_on(identified(&plant, &leaf)).expect("a device"));
            }
            let held = machine.look(|state| {
                let chains = state.holding().map(|(_, svid)| svid.chain().first().cloned());
                chains.collect::<Option<Vec<_>>>()
            });
            shown.extend(held.flatten().expect("certificates"));
        }
        let root = PlantRoot::load(&file).expect("the plant root");
        Self { runtime, clock, plant, root, asking, shown, _folder: folder }
    }

    /// Changes zones and conduits.
    fn change(&self, rng: &mut Rng, now: u64) {
        let ends = if rng.percent(75) { [CELL, PRESS] } else { [PRESS, CELL] };
        let [from, to] = ends.map(|name| name.parse().expect("a name"));
        let hours =
            ["mon-sun 08:05-08:15 in UTC", "mon-sun 08:00-08:10 in UTC", "mon-sun 09:00-10:00 in UTC"];
        let hours = hours.get(usize::try_from(rng.below(6)).expect("a place"));
        let conduit = Conduit {
            from,
            to,
            service: SERVICE.parse().expect("a name"),
            schedule: hours.map(|hours| hours.parse().expect("hours")),
            expires: rng.percent(40).then(|| UnixTime(now + 1 + rng.below(600))),
            accept_observed: false,
        };
        let act = |act| async move { owner(&self.plant, act).await.expect("an owner") };
        self.runtime.block_on(async {
            match rng.below(4) {
                0 => drop(
                    conduit::close(&self.plant, &act(Act::CloseConduit).await, &conduit, None, false).await,
                ),
                1 => {
                    let rule = if rng.percent(50) { IntraZone::Allow } else { IntraZone::Deny };
                    let settings = Settings { intra_zone: Some(rule), ..Settings::default() };
                    let name = PRESS.parse().expect("a name");
                    zone::set(&self.plant, &act(Act::SetZone).await, &name, &settings, false)
                        .await
                        .expect("the zone");
                }
                // Hours that never come before the end are refused, and nothing changes.
                _ => drop(
                    conduit::allow(
                        &self.plant,
                        &act(Act::AllowConduit).await,
                        &conduit,
                        None,
                        Unoffered::Accept,
                        false,
                    )
                    .await,
                ),
            }
        });
    }

    fn quarantine(&self) {
        let name = "cell-1".parse().expect("a name");
        self.runtime.block_on(async {
            let actor = owner(&self.plant, Act::QuarantineDevice).await.expect("an owner");
            stop::quarantine(&self.plant, &actor, &name, "odd traffic").await.expect("it is quarantined");
        });
    }

    /// Those of the cell are believed no more, and so is what asks there.
    fn distrust(&mut self) {
        let (zone, reason) = (CELL.parse().expect("a name"), "stolen".to_owned());
        let wanted = Distrust { zone, role: Role::Caller, generation: 1, reason };
        self.runtime.block_on(async {
            let actor = owner(&self.plant, Act::DistrustAuthority).await.expect("an owner");
            distrust(&self.plant, &actor, &wanted, false).await.expect("it is distrusted");
        });
        self.asking.retain(|peer| peer.zone.as_str() != CELL);
    }

    /// The trust set that a device is sent, read as it reads it.
    fn sent(&self, peer: &DevicePeer) -> device::TrustSet {
        let name = peer.id.device();
        let signed = self.runtime.block_on(trust::signed(&self.plant, name)).expect("a trust set");
        let plant = DOMAIN.parse().expect("a domain");
        let expected = Expected { root: &self.root, plant: &plant, device: name, seen: Seen::default() };
        device::TrustSet::verify(signed, &expected, self.plant.now()).expect("it is the plant's")
    }

    /// Both decide about all that may be shown, alike. Adds what they came to.
    fn decide(&self, peer: &DevicePeer, sent: &device::TrustSet, found: &mut BTreeSet<&'static str>) {
        let plant = DOMAIN.parse().expect("a domain");
        let sides = [
            (Direction::Inbound, device::Direction::Inbound),
            (Direction::Outbound, device::Direction::Outbound),
        ];
        for (certificate, service) in self.shown.iter().flat_map(|shown| [(shown, SERVICE), (shown, "ssh")]) {
            for (direction, side) in sides {
                let (certificate, service) = (certificate.clone(), service.parse().expect("a name"));
                let question = Question { certificate, service, direction, zone: None, grant: false };
                let online = self.runtime.block_on(authorize(&self.plant, peer, &question));
                let online = online.expect("the broker decides").decision;
                let about = About { zone: &peer.zone, service: &question.service, direction: side };
                let offline = sent.decide(&plant, &about, &question.certificate, self.plant.now());
                assert_eq!(offline, online, "{} asks about {} {direction:?}", peer.id, question.service);
                found.extend(match online {
                    Decision::Allowed(_) => vec![""],
                    Decision::Refused { reasons, .. } => reasons.iter().map(|reason| reason.code()).collect(),
                });
            }
        }
    }
}

#[test]
fn a_device_decides_as_the_broker_that_sent_its_trust_set() {
    let (mut world, mut rng, mut found) = (World::new(), Rng::new(7), BTreeSet::new());
    for graph in 0..GRAPHS {
        let now = BEGIN + graph * LIFE / GRAPHS;
        world.clock.set(now);
        match graph {
            QUARANTINED => world.quarantine(),
            DISTRUSTED => world.distrust(),
            _ => world.change(&mut rng, now),
        }
        let sent: Vec<_> = world.asking.iter().map(|peer| (Arc::clone(peer), world.sent(peer))).collect();
        // The device is not told of hours that begin or end meanwhile.
        world.clock.set(now + rng.below(400));
        sent.iter().for_each(|(peer, sent)| world.decide(peer, sent, &mut found));
    }
    let missing: Vec<_> = CODES.iter().filter(|code| !found.contains(*code)).collect();
    assert!(missing.is_empty(), "never decided: {missing:?} of {found:?}");
}
