//! A device is changed only by who saw it as it is.

use proto::v1;
use proto::v1::DenialReason as Reason;
use proto::v1::admin_server::Admin;

use super::office::{Office, by, refusal};

async fn seen(office: &Office, device: &str) -> Option<v1::Seen> {
    let request = v1::GetDeviceRequest { name: device.to_owned() };
    office.service.get_device(by(&office.ada, request)).await.unwrap().into_inner().seen
}

async fn quarantine(office: &Office) {
    let request = v1::QuarantineDeviceRequest { name: "press-8".to_owned(), reason: "odd".to_owned() };
    office.service.quarantine_device(by(&office.ada, request)).await.unwrap();
}

#[tokio::test]
async fn moving_admitting_and_readmitting_are_refused_on_what_is_so_no_more() {
    let office = Office::new().await;
    let looked = seen(&office, "press-8").await;
    quarantine(&office).await;
    let before = office.state().await;
    let words = "press-8 was changed since you looked: you saw in cell-4, it is now in cell-4, quarantined; \
                 look again with `touchstone device show press-8`, then decide";
    let (name, reason) = ("press-8".to_owned(), "checked".to_owned());
    let readmit = v1::ReadmitDeviceRequest { name: name.clone(), reason, seen: looked.clone() };
    let moving = v1::MoveDeviceRequest {
        name: name.clone(),
        to: "cell-3".to_owned(),
        seen: looked.clone(),
        ..Default::default()
    };
    let admit = v1::AdmitDeviceRequest {
        device: name,
        zones: vec!["cell-3".to_owned()],
        seen: looked,
        ..Default::default()
    };
    let told = [
        refusal(office.service.readmit_device(by(&office.ada, readmit.clone())).await),
        refusal(office.service.move_device(by(&office.ada, moving)).await),
        refusal(office.service.admit_device(by(&office.ada, admit)).await),
    ];
    for (reason, text) in told {
        assert_eq!((reason, text.as_str()), (Reason::Conflict, words));
    }
    assert!(office.state().await == before, "nothing was changed");
    let now = v1::ReadmitDeviceRequest { seen: seen(&office, "press-8").await, ..readmit };
    office.service.readmit_device(by(&office.ada, now)).await.unwrap();
}

#[tokio::test]
async fn what_a_device_does_by_itself_is_no_change_of_it() {
    use crate::record::device::{Device, device_key};
    let office = Office::new().await;
    let looked = seen(&office, "press-8").await;
    let device = office.device("press-8").await;
    let attested = Device { counter: device.counter + 1, answered: 7, trust_sequence: 9, ..device };
    let value = crate::record::stored(&attested).unwrap();
    let txn = crate::store::Txn::new().put(device_key(&attested.name), value);
    office.plant.store.transact(txn).await.unwrap();
    assert_eq!(seen(&office, "press-8").await, looked);
    let moving = v1::MoveDeviceRequest {
        name: "press-8".to_owned(),
        to: "cell-3".to_owned(),
        dry_run: true,
        seen: looked.clone(),
        ..Default::default()
    };
    let answer = office.service.move_device(by(&office.ada, moving)).await.unwrap().into_inner();
    assert_eq!(answer.seen, looked, "what a dry run shows can be sent back");
}
