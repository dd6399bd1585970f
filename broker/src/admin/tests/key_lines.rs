//! Keys of devices without a TPM that followed since a backup are those of the restored plant, if it is still here.

use policy::digest::Digest;
use policy::id::DeviceName;
use policy::time::UnixTime;

use super::backup::{furnished, put_back, save};
use super::{Bench, NOW};
use crate::record::device::{Admitted, BoundAk, Device, KeyLine, Prover, Tpm, device_key, ek_key, no_ek};
use crate::record::stored;
use crate::store::Txn;

fn meter() -> DeviceName {
    "meter-4".parse().unwrap()
}

fn keyed(line: UnixTime, generation: u64) -> Device {
    let key = KeyLine { generation, epoch: 1, ..KeyLine::default() };
    let admitted = Admitted {
        name: meter(),
        ek: no_ek(&meter()),
        prover: Prover::Key(key),
        zones: vec!["cell-3".parse().unwrap()],
        by: "join token of ada".to_owned(),
        at: line,
    };
    let name = Digest::of(&generation.to_be_bytes()).0.to_vec();
    let ak = Some(BoundAk { public: vec![1].into(), name: name.into(), since: line });
    Device { ak, counter: generation, ..Device::new(admitted) }
}

async fn put(bench: &Bench, device: &Device) {
    let tpm = Tpm {
        device: Some(meter()),
        registered: false,
        quarantine: None,
        retired: false,
        manufacturer: None,
        other_eks: Vec::new(),
    };
    let txn = Txn::new()
        .put(device_key(&meter()), stored(device).unwrap())
        .put(ek_key(&device.ek), stored(&tpm).unwrap());
    bench.plant.store.transact(txn).await.unwrap();
}

/// What a device comes to that the backup has as `then`, and the plant as `now`.
async fn restored(then: &Device, now: &Device) -> Device {
    let bench = furnished().await;
    put(&bench, then).await;
    let file = save(&bench).await;
    put(&bench, now).await;
    put_back(&bench, &file, &[]).await.unwrap();
    bench.read(device_key(&meter())).await
}

#[tokio::test]
async fn a_key_that_was_followed_does_not_come_back() {
    let now = Device { zones: Vec::new(), ..keyed(NOW, 9) };
    let device = restored(&keyed(NOW, 5), &now).await;
    assert_eq!((device.turn(), device.ak.unwrap().name.0), (now.turn(), now.ak.unwrap().name.0));
    assert_eq!((device.counter, device.zones.len()), (9, 1), "everything else is the backup's");
}

#[tokio::test]
async fn a_line_of_keys_that_ended_does_not_come_back() {
    let joined_again = keyed(NOW.plus(60), 1);
    let device = restored(&keyed(NOW, 5), &joined_again).await;
    assert_eq!(device.turn(), joined_again.turn());
    let readmitted = Device { ak: None, ..keyed(NOW, 5) };
    assert!(restored(&keyed(NOW, 5), &readmitted).await.ak.is_none());
}

#[tokio::test]
async fn of_two_backups_the_later_counts_whatever_was_restored_before() {
    let device = restored(&keyed(NOW, 9), &keyed(NOW, 5)).await;
    assert_eq!(device.turn(), keyed(NOW, 9).turn());
}
