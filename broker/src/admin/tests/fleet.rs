//! Devices without a TPM, and machines that gateways vouch for.

use policy::appraisal::claims::{Claim, ClaimValue, LeastClaims};
use policy::id::DeviceName;
use policy::zone::Zone;

use super::{Bench, observing, refused};
use crate::admin::Act;
use crate::admin::device::import::{Entry, import};
use crate::admin::device::retire::retire;
use crate::admin::device::vouch::{Request, settle};
use crate::record::fetch;
use crate::record::vouched::{About, Machine, MachineOwner, machine_key, vouched_key};
use crate::session::Refusal;

fn lenient(name: &str) -> Zone {
    let least = LeastClaims::new([(Claim::InstanceIdentity, ClaimValue::AFFIRMING)].into());
    Zone { least, ..observing(name) }
}

fn plc(gateway: &DeviceName, accept: bool) -> Request {
    let about = About { kind: "PLC".to_owned(), address: "10.9.0.7".to_owned(), serial: "A1".to_owned() };
    let (gateway, machine) = (gateway.clone(), "plc-1".parse().unwrap());
    Request { gateway, machine, about: accept.then_some(about), accept }
}

async fn ask(bench: &Bench, request: &Request) -> Result<Option<Machine>, Refusal> {
    settle(&bench.plant, &bench.actor(Act::SettleVouched).await, request, false).await
}

#[tokio::test]
async fn only_a_zone_that_takes_machines_without_a_tpm_takes_one_that_is_vouched_for() {
    let bench = Bench::new().await;
    bench.zone(&observing("cell-3")).await;
    let gateway = bench.device("gateway", &["cell-3"]).await;
    let text = refused!(ask(&bench, &plc(&gateway, true)).await, NotPermitted);
    assert!(text.starts_with("every zone of gateway asks for a TPM, and plc-1 has none"), "{text}");
}

#[tokio::test]
async fn a_vouched_name_is_nobody_elses_until_it_is_dropped_also_behind_a_retired_gateway() {
    let bench = Bench::new().await;
    bench.zone(&lenient("cell-3")).await;
    let gateway = bench.device("gateway", &["cell-3"]).await;
    let other = bench.device("gateway-2", &["cell-3"]).await;
    ask(&bench, &plc(&gateway, true)).await.unwrap();
    let text = refused!(ask(&bench, &plc(&other, true)).await, Conflict);
    assert!(text.starts_with("the name plc-1 belongs to a machine behind gateway;"), "{text}");
    let entry = Entry {
        name: "plc-1".parse().unwrap(),
        ek: policy::digest::Digest([9; 32]),
        zones: vec!["cell-3".parse().unwrap()],
        inventory: [].into(),
    };
    let importer = bench.actor(Act::ImportDevices).await;
    let text = refused!(import(&bench.plant, &importer, &[entry], false).await, Conflict);
    assert!(text.contains("the name plc-1 belongs to a machine behind gateway"), "{text}");

    retire(&bench.plant, &bench.actor(Act::RetireDevice).await, &gateway, "sold", false).await.unwrap();
    refused!(ask(&bench, &plc(&gateway, true)).await, Retired);
    ask(&bench, &plc(&gateway, false)).await.unwrap();
    let store = bench.plant.store.as_ref();
    assert!(
        fetch::<MachineOwner>(store, machine_key(&"plc-1".parse().unwrap())).await.unwrap().is_none()
            && fetch::<Machine>(store, vouched_key(&gateway, &"plc-1".parse().unwrap()))
                .await
                .unwrap()
                .is_none()
    );
    ask(&bench, &plc(&other, true)).await.unwrap();
}
