//! Whatever changes zones and conduits leaves a graph whose export can be applied.

use std::collections::BTreeSet;

use policy::id::ProductName;
use policy::zone::document::{MAX_DOCUMENT, parse, render};
use policy::zone::{Conduit, Segmentation, Zone};

use super::{Bench, observing, refused};
use crate::admin::conduit::{Unoffered, allow, close};
use crate::admin::reach::Scope;
use crate::admin::zone::{Settings, create, set};
use crate::admin::{Act, graph};
use crate::record::stored;
use crate::record::zone::{conduit_key, zone_key};
use crate::store::Txn;
use crate::trust;

/// What a refusal says.
const TOO_LARGE: &str = "and none of more than 2097152 can be applied; close conduits that ended";

fn products(count: usize) -> BTreeSet<ProductName> {
    (0..count).map(|at| format!("product-{at:032}").parse().unwrap()).collect()
}

/// A zone that takes as much of a file as one can.
fn large(at: usize) -> Zone {
    let subnets = (0..16).map(|net| {
        format!("fd00:{:x}:1111:2222:3333:4444:{:x}:0/112", 0x1000 + at, 0x10 + net).parse().unwrap()
    });
    Zone { products: products(32), subnets: subnets.collect(), ..observing(&format!("zone-{at:035}")) }
}

fn conduit(to: &str) -> Conduit {
    let [from, to] = ["from", to].map(|name| name.parse().unwrap());
    let service = "opcua".parse().unwrap();
    Conduit { from, to, service, schedule: None, expires: None, accept_observed: false }
}

fn bytes(zones: &[Zone]) -> usize {
    render(&Segmentation::new(zones.to_vec(), vec![conduit("to")]).unwrap()).len()
}

/// Zones, with [`conduit`] between two of them, of which the file has room for less than a product more.
fn full() -> Vec<Zone> {
    let mut small = ["from", "to", "last"].map(observing).to_vec();
    let each = bytes(&[small.clone(), vec![large(0)]].concat()) - bytes(&small);
    let larges = (MAX_DOCUMENT - bytes(&small)) / each;
    for (at, count) in (0..3).flat_map(|at| (1..=32).map(move |count| (at, count))) {
        small[at].products = products(count);
        if bytes(&small) + larges * each > MAX_DOCUMENT {
            small[at].products = products(count - 1);
            break;
        }
    }
    small.into_iter().chain((0..larges).map(large)).collect()
}

async fn plant_of(zones: &[Zone]) -> Bench {
    let bench = Bench::new().await;
    for some in zones.chunks(40) {
        let put = |txn: Txn, zone: &Zone| txn.put(zone_key(&zone.name), stored(zone).unwrap());
        bench.plant.store.transact(some.iter().fold(Txn::new(), put)).await.unwrap();
    }
    let one = conduit("to");
    let key = conduit_key(&one.from, &one.to, &one.service);
    bench.plant.store.transact(Txn::new().put(key, stored(&one).unwrap())).await.unwrap();
    bench
}

#[tokio::test]
async fn a_graph_does_not_grow_out_of_what_can_be_applied() {
    let bench = plant_of(&full()).await;
    let plant = &bench.plant;
    let before = bench.revision();
    let (allowing, creating, setting) = (
        bench.actor(Act::AllowConduit).await,
        bench.actor(Act::CreateZone).await,
        bench.actor(Act::SetZone).await,
    );
    let opened = allow(plant, &allowing, &conduit("last"), None, Unoffered::Refuse, false).await;
    let text = refused!(opened, Malformed);
    assert!(text.contains(TOO_LARGE), "{text}");
    let text = refused!(create(plant, &creating, &observing("more"), false).await, Malformed);
    assert!(text.contains(TOO_LARGE), "{text}");
    let settings = Settings { products: Some(products(31)), ..Settings::default() };
    let text = refused!(set(plant, &setting, &"last".parse().unwrap(), &settings, false).await, Malformed);
    assert!(text.contains(TOO_LARGE), "{text}");
    assert_eq!(bench.revision(), before);

    let document = graph::view(plant, &Scope::Plant).await.unwrap().document;
    assert!(MAX_DOCUMENT - document.len() < 50, "it is full: {} bytes", document.len());
    assert_eq!(parse(&document).unwrap(), trust::segmentation(plant).await.unwrap());
}

#[tokio::test]
async fn a_graph_that_is_too_large_already_may_shrink() {
    let bench = plant_of(&[full(), vec![large(5_000)]].concat()).await;
    let plant = &bench.plant;
    let setting = bench.actor(Act::SetZone).await;
    let settings = Settings { products: Some(products(0)), ..Settings::default() };
    set(plant, &setting, &"from".parse().unwrap(), &settings, false).await.unwrap();
    close(plant, &bench.actor(Act::CloseConduit).await, &conduit("to"), None, false).await.unwrap();
    let applying = bench.actor(Act::ApplyGraph).await;
    let seen = trust::segmentation(plant).await.unwrap();
    assert!(render(&seen).len() > MAX_DOCUMENT);
    let fewer = seen.zones().filter(|zone| zone.name != large(0).name && zone.name != large(1).name).cloned();
    let fewer = render(&Segmentation::new(fewer.collect(), Vec::new()).unwrap());
    let planned = graph::plan(plant, &Scope::Plant, &fewer).await.unwrap();
    graph::apply(plant, &applying, &fewer, &planned.before, Unoffered::Refuse, true).await.unwrap();
    let allowing = bench.actor(Act::AllowConduit).await;
    let again = allow(plant, &allowing, &conduit("to"), None, Unoffered::Refuse, false).await;
    let text = refused!(again, Malformed);
    assert!(text.contains(TOO_LARGE), "{text}");
}
