//! The devices, in a process of their own: each holds a Watch stream and reads what comes.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use prost::Message;
use proto::v1;
use proto::v1::watch_client::WatchClient;
use proto::v1::watch_event::Event;
use tokio::sync::{Semaphore, mpsc};

use crate::rig::measure::processor_time;
use crate::{CHANGES, now, wire};

/// Names the folder of the plant to the process that is the devices.
pub(crate) const FOLDER: &str = "TOUCHSTONE_BENCH_DEVICES_OF";
/// Handshakes at once.
const AT_ONCE: usize = 64;

/// What the devices have got of the change under way.
struct Told {
    devices: u64,
    got: AtomicU64,
    first: Mutex<(u64, f64)>,
    /// First and last moment in nanoseconds, and how long the processors were busy in between.
    changes: mpsc::Sender<(u64, u64, u64)>,
}

impl Told {
    /// A device has read its trust set.
    fn one(&self) {
        let moment = u64::try_from(now().as_nanos()).unwrap();
        let before = self.got.fetch_add(1, Ordering::SeqCst);
        if before.is_multiple_of(self.devices) {
            *self.first.lock().unwrap() = (moment, processor_time());
        }
        if (before + 1).is_multiple_of(self.devices) {
            let (first, busy) = *self.first.lock().unwrap();
            let busy = std::time::Duration::from_secs_f64(processor_time() - busy).as_nanos();
            self.changes.try_send((first, moment, u64::try_from(busy).unwrap())).unwrap();
        }
    }
}

/// Connects every device, says `ready` when all have their first trust set, and then a line for each change.
pub(crate) async fn run(dir: &Path) {
    let address = wire::address(dir).await;
    let leaves = pem::parse_many(std::fs::read_to_string(dir.join("devices.pem")).unwrap()).unwrap();
    let key = std::fs::read_to_string(dir.join("devices.key")).unwrap();
    let key = pem::parse(key).unwrap().contents().to_vec();
    let (changes, mut known) = mpsc::channel(CHANGES);
    let devices = u64::try_from(leaves.len()).unwrap();
    let told = Arc::new(Told { devices, got: AtomicU64::new(0), first: Mutex::default(), changes });
    let places = Arc::new(Semaphore::new(AT_ONCE));
    for (n, leaf) in leaves.into_iter().enumerate() {
        let identity = wire::Identity { chain: vec![leaf.into_contents()], key: key.clone() };
        let (dir, address) = (dir.to_owned(), address.clone());
        let (told, place) = (Arc::clone(&told), Arc::clone(&places).acquire_owned().await.unwrap());
        tokio::spawn(async move {
            let channel = wire::connect(&dir, &address, &identity).await.unwrap();
            let mut client = WatchClient::new(channel);
            let mut events = client.watch(v1::WatchRequest { trust_sequence: 0 }).await.unwrap().into_inner();
            drop(place);
            let (name, mut sequence) = (format!("press-{n}"), 0);
            while let Some(event) = events.message().await.unwrap() {
                let Some(Event::Trust(signed)) = event.event else { continue };
                let set = v1::TrustSet::decode(signed.trust_set.as_slice()).unwrap();
                assert!(set.device == name && set.sequence > sequence && !set.files.is_empty());
                sequence = set.sequence;
                told.one();
            }
        });
    }
    known.recv().await.unwrap();
    println!("ready");
    while let Some((first, last, busy)) = known.recv().await {
        println!("{first} {last} {busy}");
    }
}
