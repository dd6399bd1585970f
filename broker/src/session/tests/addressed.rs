//! Certificates that are to be replaced because others would name other addresses.

use std::net::IpAddr;

use policy::id::DeviceName;

use crate::admin::Act;
use crate::admin::device::address::{Request, change};
use crate::admin::tests::{Bench, NOW, observing};
use crate::admin::zone::{Settings, set};
use crate::record::device::{Device, HeldCertificates, device_key, held_key};
use crate::record::stored;
use crate::session::addressed;
use crate::store::Txn;

const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 3, 7));

/// A device with a certificate that names `addresses`, and the serials that are to be replaced.
async fn stale(bench: &Bench, press: &DeviceName, addresses: &[IpAddr]) -> Vec<Vec<u8>> {
    let zone = "cell-3".parse().unwrap();
    bench.certificate(press, "cell-3", 0x41).await;
    let mut held: HeldCertificates = bench.read(held_key(press, &zone)).await;
    held.certificates[0].addresses = addresses.iter().copied().collect();
    let txn = Txn::new().put(held_key(press, &zone), stored(&held).unwrap());
    bench.plant.store.transact(txn).await.unwrap();
    of_now(bench, press).await
}

async fn of_now(bench: &Bench, press: &DeviceName) -> Vec<Vec<u8>> {
    let device: Device = bench.read(device_key(press)).await;
    addressed::stale(&bench.plant, &device, bench.plant.now()).await.unwrap()
}

#[tokio::test]
async fn certificates_with_other_addresses_than_one_of_now_are_to_be_replaced() {
    let bench = Bench::new().await;
    let mut zone = observing("cell-3");
    zone.subnets = ["10.1.3.0/24".parse().unwrap()].into();
    bench.zone(&zone).await;
    let press = bench.device("press-7", &["cell-3"]).await;
    let told = vec![vec![0x41; 16]];
    assert!(stale(&bench, &press, &[]).await.is_empty(), "it has no address");
    assert_eq!(stale(&bench, &press, &[ADDRESS]).await, told, "it has none any more");
    let add = [ADDRESS].into();
    let request = Request { name: press.clone(), zone: None, add, remove: [].into() };
    change(&bench.plant, &bench.actor(Act::ChangeAddresses).await, &request, false).await.unwrap();
    assert_eq!(stale(&bench, &press, &[]).await, told, "it has one now");
    assert!(stale(&bench, &press, &[ADDRESS]).await.is_empty());
    // The zone does not permit it any more.
    let narrower = Settings { subnets: Some(["fd00::/8".parse().unwrap()].into()), ..Settings::default() };
    let actor = bench.actor(Act::SetZone).await;
    set(&bench.plant, &actor, &"cell-3".parse().unwrap(), &narrower, false).await.unwrap();
    assert_eq!(stale(&bench, &press, &[ADDRESS]).await, told);
    assert!(stale(&bench, &press, &[]).await.is_empty(), "a new one would name none");
    assert_eq!(stale(&bench, &press, &[ADDRESS]).await, told);
    bench.clock.set(NOW.plus(3600));
    assert!(of_now(&bench, &press).await.is_empty(), "it has ended");
}
