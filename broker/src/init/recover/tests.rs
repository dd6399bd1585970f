//! A plant that lost its owner or its issuing key, on the real store.

use std::sync::Arc;

use policy::time::UnixTime;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tempfile::TempDir;

use super::*;
use crate::grpc::peer::{Anchors, Peer};
use crate::init::{Request as InitRequest, init};
use crate::plant::PlantKeys;
use crate::ports::System;
use crate::record::plant::{ISSUING, Issuing};
use crate::store::sled::SledStore;

const NOW: UnixTime = UnixTime(1_800_000_000);
const YEAR: u64 = 365 * 86_400;

/// A clock that stands still.
#[derive(Debug)]
struct At(UnixTime);

impl Clock for At {
    fn now(&self) -> UnixTime {
        self.0
    }
}

/// A plant, stopped, with its kit and passphrase.
struct Plant {
    folder: TempDir,
    passphrase: String,
}

impl Plant {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let request = InitRequest {
            dir: folder.path().join("broker"),
            plant: "plant.example".parse().unwrap(),
            listen: "127.0.0.1:8443".to_owned(),
            address: "127.0.0.1:8443".to_owned(),
            owner: "ada".to_owned(),
            tpm_roots: Vec::new(),
            idevid_roots: Vec::new(),
            kek: None,
            store: crate::config::Backend::Sled,
        };
        let made = init(&request, &At(NOW), &System::default()).await.unwrap();
        Self { passphrase: made.passphrase.to_string(), folder }
    }

    fn dir(&self) -> PathBuf {
        self.folder.path().join("broker")
    }

    fn store(&self) -> SledStore {
        SledStore::open(&self.dir(), broker_id(&self.dir()).unwrap()).unwrap()
    }

    fn request(&self, owner: &str) -> Request {
        Request {
            dir: self.dir(),
            kit: self.dir().join("recovery-kit"),
            owner: owner.to_owned(),
            out: self.folder.path().join(owner),
            address: None,
            issuing_key: false,
        }
    }

    async fn recover(&self, request: &Request, now: UnixTime) -> Result<Recovered, RecoverError> {
        recover(request, &self.passphrase, &At(now), &System::default()).await
    }

    /// Whom the broker would know by the context folder `out` at `now`.
    async fn known(&self, out: &Path, now: UnixTime) -> Option<Administrator> {
        let store = self.store();
        let kek = kek::open(&kek_file(&self.dir())).unwrap();
        let keys = PlantKeys::open(&store, &kek).await.unwrap();
        let pem = std::fs::read(out.join("admin.pem")).unwrap();
        let leaf = CertificateDer::pem_slice_iter(&pem).next().unwrap().unwrap();
        let issuing = keys.issuing.certificate().to_vec();
        let anchors = Anchors { plant: Some(keys.domain), issuing, callers: Vec::new() };
        let Ok(Peer::Administrator(peer)) = anchors.identify(&leaf, &[], now) else { return None };
        let peer = Arc::unwrap_or_clone(peer);
        let held: Option<Held<Administrator>> = fetch(&store, admin_key(&peer.name)).await.unwrap();
        held.map(|held| held.record).filter(|record| record.spki == peer.spki)
    }
}

#[tokio::test]
async fn a_new_owner_stands_beside_the_others_or_in_their_place() {
    let plant = Plant::new().await;
    let former = plant.dir().join("owner");
    let request = plant.request("bob");
    let done = plant.recover(&request, NOW).await.unwrap();
    assert_eq!(done, Recovered { owners: vec!["ada".to_owned()], ..Recovered::default() });
    assert_eq!(plant.known(&request.out, NOW).await.unwrap().role, AdminRole::Owner);
    assert!(plant.known(&former, NOW).await.is_some());
    let text = std::fs::read_to_string(request.out.join("context.toml")).unwrap();
    assert_eq!(text, "plant = \"plant.example\"\naddress = \"127.0.0.1:8443\"\n");

    let request = plant.request("ada");
    plant.recover(&request, NOW).await.unwrap();
    assert!(plant.known(&request.out, NOW).await.is_some());
    assert!(plant.known(&former, NOW).await.is_none(), "the lost key counts no more");
}

#[tokio::test]
async fn an_issuing_key_that_ended_or_is_damaged_is_replaced() {
    let plant = Plant::new().await;
    let late = NOW.plus(11 * YEAR);
    let request = plant.request("bob");
    let done = plant.recover(&request, late).await.unwrap();
    let number = u32::try_from(late.0).unwrap();
    assert_eq!((done.issuing, done.removed), (Some(number), vec!["ada".to_owned()]));
    assert!(plant.known(&request.out, late).await.is_some());

    // Damaged again a minute later: nothing tells the number of before.
    for (minutes, damage) in [(1, b"no record".to_vec()), (2, Vec::new())] {
        let late = late.plus(60 * minutes);
        let txn = match damage.as_slice() {
            [] => Txn::new().delete(ISSUING),
            _ => Txn::new().put(ISSUING, damage),
        };
        plant.store().transact(txn).await.unwrap();
        let request = Request { out: plant.folder.path().join("again"), ..plant.request("bob") };
        let done = plant.recover(&request, late).await.unwrap();
        let number = u32::try_from(late.0).unwrap();
        assert_eq!(done.issuing, Some(number), "above every one of before, of this day too");
        assert!(plant.known(&request.out, late).await.is_some());
        std::fs::remove_dir_all(&request.out).unwrap();
    }
    let again = Request { out: plant.folder.path().join("again"), issuing_key: true, ..plant.request("bob") };
    let done = plant.recover(&again, late).await.unwrap();
    assert_eq!(done.issuing, Some(number + 121), "above the one that is there, whatever the clock shows");
    let held: Held<Issuing> = fetch(&plant.store(), ISSUING.to_owned()).await.unwrap().unwrap();
    assert!(held.record.not_after > late.plus(9 * YEAR), "it lives ten years, within the root's life");
}

#[tokio::test]
async fn an_issuing_key_that_ended_or_has_not_begun_is_named_with_the_remedy() {
    let plant = Plant::new().await;
    let kek = kek::open(&kek_file(&plant.dir())).unwrap();
    let keys = PlantKeys::open(&plant.store(), &kek).await.unwrap();
    assert!(keys.serve_at(NOW).is_ok());
    let ended = keys.serve_at(NOW.plus(11 * YEAR)).unwrap_err().to_string();
    assert!(ended.contains("issuing key 1 of the plant ended at"), "{ended}");
    assert!(ended.contains("touchstone-broker recover --kit DIR --issuing-key"), "{ended}");
    let early = keys.serve_at(UnixTime(0)).unwrap_err().to_string();
    assert!(
        early.contains("the clock here shows 1970-01-01T00:00:00Z") && early.contains("set the clock"),
        "{early}"
    );
    plant.recover(&plant.request("bob"), NOW.plus(11 * YEAR)).await.unwrap();
    let keys = PlantKeys::open(&plant.store(), &kek).await.unwrap();
    assert!(keys.serve_at(NOW.plus(11 * YEAR)).is_ok());
}

#[tokio::test]
async fn a_refusal_makes_nothing() {
    let (plant, other) = (Plant::new().await, Plant::new().await);
    let request = plant.request("bob");
    let store = plant.store();
    let before = store.revision();
    let taken = plant.recover(&request, NOW).await.unwrap_err();
    assert!(matches!(&taken, RecoverError::Runs(_)), "{taken}");
    drop(store);
    let foreign = Request { kit: other.dir().join("recovery-kit"), ..request.clone() };
    let wrong = plant.recover(&foreign, NOW).await.unwrap_err();
    assert!(matches!(wrong, RecoverError::Kit(KitError::Passphrase)), "{wrong}");
    let wrong = recover(&foreign, &other.passphrase, &At(NOW), &System::default()).await.unwrap_err();
    assert!(wrong.to_string().contains("is not that of the root of plant.example"), "{wrong}");
    let named = Request { owner: "Bob Smith".to_owned(), ..request.clone() };
    assert!(matches!(plant.recover(&named, NOW).await.unwrap_err(), RecoverError::Name(_)));
    let there = Request { out: plant.dir(), ..request.clone() };
    assert!(matches!(plant.recover(&there, NOW).await.unwrap_err(), RecoverError::Exists(_)));
    assert!(!request.out.exists());
    assert_eq!(plant.store().revision(), before);
}
