//! Whole renewals: challenge opened, quote and certifications checked, log replayed and appraised, two certificates,
//! evidence and records on disk.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::admin::device::import::{Entry, import};
use broker::admin::golden::learn::draft;
use broker::admin::reach::Scope;
use broker::admin::{Act, zone};
use broker::plant::Plant;
use broker::server;
use broker::session::challenge::{Challenge, Door};
use broker::session::{begin, complete};
use policy::tpm::alg::HashAlg;
use policy::zone::Zone;
use proto::v1;
use proto::v1::complete_response::Outcome;

use crate::measure::tpm::{boot, pcrs_after, write_log};
use crate::rig;
use crate::rig::measure::processor_time;
use crate::tpm::{Boot, Device};

/// Devices that renew, each once: one that comes again at once is told to wait.
const DEVICES: usize = if cfg!(debug_assertions) { 4 } else { 400 };
/// Renewals at once in the second run: those of a plant that powers up.
const AT_ONCE: usize = 16;

/// Measures renewals one after the other, and many at once.
pub(crate) async fn measure() {
    let folder = tempfile::tempdir().unwrap();
    let (plant, devices) = renewing(&folder.path().join("plant")).await;
    let mut requests = Vec::new();
    for mut device in devices {
        let begun = begin::attestation(&plant, &device.begin_attestation()).await.unwrap();
        requests.push(device.answer(begun.challenge.unwrap().sealed, None));
    }
    let together = requests.split_off(DEVICES / 2);
    let (one, processor) = timed(&plant, requests, 1).await;
    println!("whole Complete, one after the other: {one:.2?} each, {processor:.2?} of processor");
    let (many, processor) = timed(&plant, together, AT_ONCE).await;
    println!("whole Complete, {AT_ONCE} at once: {many:.2?} each, {processor:.2?} of processor");
}

async fn timed(
    plant: &Arc<Plant>,
    requests: Vec<v1::CompleteRequest>,
    at_once: usize,
) -> (Duration, Duration) {
    let count = u32::try_from(requests.len()).unwrap();
    let (busy, begin) = (processor_time(), Instant::now());
    let mut running = tokio::task::JoinSet::new();
    for request in requests {
        if running.len() >= at_once {
            renewed(running.join_next().await.unwrap().unwrap());
        }
        let plant = Arc::clone(plant);
        running.spawn(async move { complete::complete(&plant, request, Door::Attestation).await.unwrap() });
    }
    running.join_all().await.into_iter().for_each(renewed);
    let busy = Duration::from_secs_f64(processor_time() - busy);
    (begin.elapsed() / count, busy / count)
}

fn renewed(answer: v1::CompleteResponse) {
    let Some(Outcome::Issued(issued)) = answer.outcome else { panic!("{answer:?}") };
    assert_eq!(issued.svids.len(), 2);
}

/// A plant whose devices are enrolled, and boot what its release accepts.
async fn renewing(dir: &Path) -> (Arc<Plant>, Vec<Device>) {
    rig::initialized(dir).await;
    let plant = server::open(dir).await.unwrap();
    let mut cell = Zone::new("cell-3".parse().unwrap());
    cell.products = ["edge".parse().unwrap()].into();
    let actor = rig::actor(&plant, Act::CreateZone).await;
    zone::create(&plant, &actor, &cell, false).await.unwrap();
    let events = boot();
    let boot = Boot { pcrs: pcrs_after(&events, HashAlg::Sha256, 0), log: write_log(&events) };
    let mut devices: Vec<Device> =
        (0..DEVICES).map(|n| Device::new(format!("press-{n}"), boot.clone())).collect();
    let entry = |device: &Device| Entry {
        name: device.name().parse().unwrap(),
        zones: vec![cell.name.clone()],
        ek: device.ek_digest(),
        inventory: std::collections::BTreeMap::new(),
    };
    let list: Vec<Entry> = devices.iter().map(entry).collect();
    import(&plant, &rig::actor(&plant, Act::ImportDevices).await, &list, false).await.unwrap();
    for device in &mut devices {
        enroll(&plant, device).await;
    }
    let names = [devices[0].name().parse().unwrap()];
    let (product, version) = ("edge".parse().unwrap(), "1.0".parse().unwrap());
    let learned = draft(&plant, &Scope::Plant, &names, product, version, false).await.unwrap();
    rig::release::activate(&plant, dir, &learned.manifest).await;
    (plant, devices)
}

async fn enroll(plant: &Plant, device: &mut Device) {
    let begun = begin::enrollment(plant, &device.begin_enrollment()).await.unwrap();
    let sealed = begun.challenge.unwrap().sealed;
    // The TPM of a benchmark opens no credential: the plant knows what is in it.
    let challenge = Challenge::open(&plant.keys.load(), plant.now(), &sealed).unwrap();
    let request = device.answer(sealed, challenge.secret.map(|secret| secret.0));
    renewed(complete::complete(plant, request, Door::Enrollment).await.unwrap());
}
