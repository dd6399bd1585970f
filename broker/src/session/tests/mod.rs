//! Whose device it is, asked by TPMs that nobody vouches for.

mod addressed;
mod answers;
mod by_digest;
mod drilled;
mod endorsed;
mod enforcing;
mod faulty;
mod hurry;
mod idevid;
mod ima;
mod ima_before;
mod keyed;
mod leaving;
mod other_eks;
mod overriding;
mod planning;
mod software;
mod tpm;

use policy::id::DeviceName;
use policy::zone::Zone;

use self::tpm::TestTpm;
use crate::admin::tests::{Bench, NOW, observing, refused};
use crate::record::device::{Device, Quarantine, Tpm, device_key, ek_key};
use crate::record::stored;
use crate::store::Txn;

/// A plant with one admitted device, whose EK is `tpm`'s and whose AK is not known yet.
async fn plant_of(tpm: &TestTpm, registered: bool) -> (Bench, DeviceName) {
    plant_with(&observing("cell-3"), tpm, registered).await
}

/// The same with the device in a zone of this kind, which is named cell-3.
async fn plant_with(zone: &Zone, tpm: &TestTpm, registered: bool) -> (Bench, DeviceName) {
    let bench = Bench::new().await;
    bench.zone(zone).await;
    let name = bench.device("press-7", &["cell-3"]).await;
    let mut device: Device = bench.read(device_key(&name)).await;
    (device.ek, device.ak) = (tpm.ek_digest(), None);
    let known = Tpm {
        device: Some(name.clone()),
        registered,
        quarantine: None,
        retired: false,
        manufacturer: None,
        other_eks: Vec::new(),
    };
    let txn = Txn::new()
        .put(device_key(&name), stored(&device).unwrap())
        .put(ek_key(&tpm.ek_digest()), stored(&known).unwrap());
    bench.plant.store.transact(txn).await.unwrap();
    (bench, name)
}

async fn bound_ak(bench: &Bench, name: &DeviceName) -> Vec<u8> {
    bench.read::<Device>(device_key(name)).await.ak.unwrap().name.0
}

#[tokio::test]
async fn another_ak_of_a_registered_ek_is_bound() {
    let mut tpm = TestTpm::new();
    let (bench, name) = plant_of(&tpm, true).await;
    tpm.enroll(&bench.plant, "press-7").await.unwrap();
    tpm.switch_ak();
    tpm.enroll(&bench.plant, "press-7").await.unwrap();
    assert_eq!(bound_ak(&bench, &name).await, tpm.ak_name());
}

#[tokio::test]
async fn another_ak_of_an_ek_that_nobody_registered_waits_for_a_person() {
    let mut tpm = TestTpm::new();
    let (bench, name) = plant_of(&tpm, true).await;
    tpm.enroll(&bench.plant, "press-7").await.unwrap();
    let first = tpm.ak_name();
    let mut known: Tpm = bench.read(ek_key(&tpm.ek_digest())).await;
    known.registered = false;
    let txn = Txn::new().put(ek_key(&tpm.ek_digest()), stored(&known).unwrap());
    bench.plant.store.transact(txn).await.unwrap();
    let before = bench.revision();

    tpm.switch_ak();
    let text = refused!(tpm.enroll(&bench.plant, "press-7").await, NotAdmitted);
    assert!(text.contains("press-7 comes with another attestation key"), "{text}");
    assert!(text.contains("touchstone device readmit press-7"), "{text}");
    assert_eq!((bench.revision(), bound_ak(&bench, &name).await), (before, first), "nothing changed");

    let mut device: Device = bench.read(device_key(&name)).await;
    device.clock_excused = true;
    let txn = Txn::new().put(device_key(&name), stored(&device).unwrap());
    bench.plant.store.transact(txn).await.unwrap();
    // Nobody vouches for the EK, so no zone takes it; the AK is bound all the same.
    drop(tpm.enroll(&bench.plant, "press-7").await);
    assert_eq!(bound_ak(&bench, &name).await, tpm.ak_name(), "readmitted");
}

#[tokio::test]
async fn a_tpm_that_is_a_device_already_is_no_second_one_under_another_ek() {
    let mut tpm = TestTpm::new();
    let (bench, _) = plant_of(&tpm, true).await;
    tpm.enroll(&bench.plant, "press-7").await.unwrap();
    let first = tpm.ek_digest();
    tpm.switch_ek();
    let before = bench.revision();
    let text = refused!(tpm.enroll(&bench.plant, "press-8").await, Conflict);
    assert!(text.contains(&format!("this TPM is press-7 already, under its EK {first}")), "{text}");

    let stop = Quarantine { at: NOW, by: "ada".to_owned(), reason: "stolen".to_owned(), beneath: None };
    let known: Tpm = bench.read(ek_key(&first)).await;
    let known = Tpm { quarantine: Some(stop), ..known };
    bench.plant.store.transact(Txn::new().put(ek_key(&first), stored(&known).unwrap())).await.unwrap();
    let text = refused!(tpm.enroll(&bench.plant, "press-8").await, Quarantined);
    assert!(text.contains("press-7 is quarantined") && text.contains("stolen"), "{text}");
    assert_eq!(bench.revision().0, before.0 + 1, "the refusals changed nothing");

    // Under an AK of its own it is a TPM that nobody knows.
    tpm.switch_ak();
    let text = refused!(tpm.enroll(&bench.plant, "press-8").await, NotEndorsed);
    assert!(text.contains("nor registered"), "{text}");
}
