//! The conformance suite on sled, and what only sled can get wrong.

use super::{database::Sync, open::open_database, place::Place, *};
use crate::store::conformance::{Bench, broker, suite};
use std::{
    collections::BTreeSet,
    fs::{self, File, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};
use tempfile::TempDir;
use tokio::sync::Notify;

impl Bench for TempDir {
    fn open(&self) -> Arc<dyn Store> {
        Arc::new(reopen(self.path()))
    }
}

fn reopen(root: &Path) -> SledStore {
    SledStore::open(root, broker()).unwrap()
}

suite!(TempDir::new().unwrap());

/// A store whose sync is `wrap` of the true one.
fn open_with(root: &Path, wrap: impl FnOnce(Sync) -> Sync) -> SledStore {
    let place = Place::find(root).unwrap();
    let mut database = open_database(&place).unwrap();
    database.sync = wrap(database.sync);
    SledStore::start(place, database, broker()).unwrap()
}

#[tokio::test]
async fn failed_sync_poisons_the_store() {
    let root = TempDir::new().unwrap();
    let failing = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&failing);
    let store = open_with(root.path(), |mut sync| {
        Box::new(move || match switch.load(Ordering::SeqCst) {
            true => Err(io::Error::other("no such disk")),
            false => sync(),
        })
    });
    let first = store.transact(Txn::new().put("a", "1")).await.unwrap();
    let mut watch = store.watch(first);

    failing.store(true, Ordering::SeqCst);
    let error = store.transact(Txn::new().put("a", "2").put("b", "2")).await.unwrap_err();
    assert!(matches!(&error, TxnError::OutcomeUnknown { why } if why == "no such disk"), "{error}");

    failing.store(false, Ordering::SeqCst);
    let error = store.transact(Txn::new().put("c", "3")).await.unwrap_err();
    assert!(matches!(&error, TxnError::Poisoned { why } if why == "no such disk"), "{error}");
    let error = store.replace_all(Box::new(std::iter::empty()), Revision(0)).await.unwrap_err();
    assert!(matches!(&error, ReplaceError::Poisoned { why } if why == "no such disk"), "{error}");
    assert_eq!(store.probe().await.unwrap_err().why, "no such disk");

    assert_eq!(store.get("a").await.unwrap().unwrap().value, b"1", "readers stay at what is durable");
    assert_eq!(store.scan("", None, 9).await.unwrap().len(), 1);
    assert_eq!(store.revision(), first);
    drop(store);
    assert_eq!(watch.next().await, None, "no watcher is told of a change that failed");
    let store = reopen(root.path());
    assert_eq!(store.get("c").await.unwrap(), None, "a poisoned store does nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_nothing_before_the_sync() {
    let root = TempDir::new().unwrap();
    let syncing = Arc::new(Notify::new());
    let (release, released) = std::sync::mpsc::channel::<()>();
    let announce = Arc::clone(&syncing);
    let mut first = true;
    let store = Arc::new(open_with(root.path(), |mut sync| {
        Box::new(move || {
            // The sync of the open itself is not held up.
            if !std::mem::take(&mut first) {
                announce.notify_one();
                released.recv().map_err(io::Error::other)?;
            }
            sync()
        })
    }));
    let before = [("a", "1"), ("b", "1")].into_iter().fold(Txn::new(), |txn, (k, v)| txn.put(k, v));
    release.send(()).unwrap();
    store.transact(before).await.unwrap();
    syncing.notified().await;

    let seen = || async {
        format!("{:?} {:?}", store.scan("", None, 9).await.unwrap(), store.get("b").await.unwrap())
    };
    let durable = seen().await;
    let writer = Arc::clone(&store);
    let txn = Txn::new().put("a", "22").delete("b").put("c", "2").audit("e");
    let writing = tokio::spawn(async move { writer.transact(txn).await });
    syncing.notified().await;
    assert_eq!(seen().await, durable);
    assert_eq!(store.scan("b", None, 1).await.unwrap().len(), 1, "a deletion shows no sooner");
    assert_eq!(store.revision(), Revision(1));
    release.send(()).unwrap();
    writing.await.unwrap().unwrap();
    let keys: Vec<_> = store.scan("", None, 9).await.unwrap().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["a", "audit/b1.1/00000000000000000001", "c"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_share_a_sync() {
    let root = TempDir::new().unwrap();
    let syncs = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&syncs);
    let store = Arc::new(open_with(root.path(), |mut sync| {
        Box::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
            sync()
        })
    }));
    let tasks: Vec<_> = (0..1000)
        .map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(
                async move { store.transact(Txn::new().put(format!("k/{n}"), "1").audit("e")).await },
            )
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(store.revision(), Revision(1000));
    let syncs = syncs.load(Ordering::SeqCst);
    assert!(syncs < 500, "{syncs} syncs for 1000 transactions");
}

#[test]
fn taken_store_is_named_and_freed_by_drop() {
    let root = TempDir::new().unwrap();
    let store = reopen(root.path());
    let error = SledStore::open(root.path(), broker()).unwrap_err();
    assert!(matches!(&error, OpenError::Taken { folder } if *folder == root.path().join("db-1")), "{error}");
    drop(store);
    reopen(root.path());
}

#[test]
fn folder_that_was_replaced_while_waiting_for_its_lock_is_not_used() {
    let root = TempDir::new().unwrap();
    drop(reopen(root.path()));
    let place = Place::find(root.path()).unwrap();
    let database = open_database(&place).unwrap();
    let mut restored = place.next().unwrap();
    restored.point().unwrap();
    let error = SledStore::start(place, database, broker()).unwrap_err();
    assert!(matches!(&error, OpenError::Taken { .. }), "{error}");
    assert!(restored.folder().exists(), "the other's content is not swept away");
}

#[test]
fn folder_that_others_can_read_is_refused() {
    let root = TempDir::new().unwrap();
    drop(reopen(root.path()));
    let folder = root.path().join("db-1");
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    fs::set_permissions(&folder, Permissions::from_mode(0o750)).unwrap();
    let error = SledStore::open(root.path(), broker()).unwrap_err();
    assert!(matches!(error, OpenError::Exposed { mode: 0o750, .. }), "{error}");
}

#[test]
fn missing_permission_and_other_faults_differ() {
    let root = TempDir::new().unwrap();
    let denied = OpenError::io(root.path(), io::Error::from(io::ErrorKind::PermissionDenied));
    assert!(matches!(&denied, OpenError::NotPermitted { .. }), "{denied}");
    assert!(denied.to_string().contains("give the folder and its files to the broker's user"), "{denied}");
    fs::write(root.path().join("db-1"), "a file where the folder should be").unwrap();
    let error = SledStore::open(root.path(), broker()).unwrap_err();
    assert!(matches!(&error, OpenError::Io { .. }), "{error}");
}

#[tokio::test]
async fn store_that_lost_its_content_is_not_taken_for_a_new_one() {
    let root = TempDir::new().unwrap();
    let store = reopen(root.path());
    store.transact(Txn::new().put("a", "1")).await.unwrap();
    drop(store);
    let folder = root.path().join("db-1");
    let lost = |reason: &str| {
        let error = SledStore::open(root.path(), broker()).unwrap_err();
        assert!(matches!(&error, OpenError::Damaged { why, .. } if why == reason), "{error}");
        assert!(error.to_string().contains("touchstone restore"), "{error}");
        assert!(error.to_string().contains("never delete its snap.* files"), "{error}");
    };
    fs::remove_dir_all(&folder).unwrap();
    lost("the folder is gone");
    fs::DirBuilder::new().mode(0o700).create(&folder).unwrap();
    lost("its content is gone");
    fs::write(root.path().join("db.current"), "").unwrap();
    lost("db.current holds no number");
    fs::remove_file(root.path().join("db.current")).unwrap();
    fs::rename(&folder, root.path().join("db-2")).unwrap();
    lost("db.current is missing, so it is unknown which folder counts");
}

#[tokio::test]
async fn garbled_file_is_damage_not_a_panic() {
    let root = TempDir::new().unwrap();
    let store = reopen(root.path());
    for n in 0..200 {
        store.transact(Txn::new().put(format!("k/{n}"), vec![7; 4000])).await.unwrap();
    }
    drop(store);
    let file = root.path().join("db-1/db");
    let length = fs::metadata(&file).unwrap().len();
    let garbled = vec![0xa5; usize::try_from(length).unwrap()];
    fs::write(&file, garbled).unwrap();
    let error = SledStore::open(root.path(), broker()).unwrap_err();
    assert!(matches!(&error, OpenError::Damaged { .. }), "{error}");
    File::open(&file).unwrap();
}

#[tokio::test]
async fn replaced_content_is_removed_at_the_next_open() {
    let root = TempDir::new().unwrap();
    let store = reopen(root.path());
    store.transact(Txn::new().put("a", "1")).await.unwrap();
    for _ in 0..2 {
        let content = [Ok(("b".to_owned(), b"2".to_vec()))];
        store.replace_all(Box::new(content.into_iter()), Revision(0)).await.unwrap();
    }
    drop(store);
    let store = reopen(root.path());
    assert_eq!(store.scan("", None, 9).await.unwrap().len(), 1);
    let names = fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(
        names.collect::<BTreeSet<_>>(),
        BTreeSet::from(["db-3", "db.acknowledged", "db.current"].map(Into::into))
    );
}

#[tokio::test]
async fn a_store_that_lost_what_was_acknowledged_does_not_open() {
    let root = TempDir::new().unwrap();
    let store = reopen(root.path());
    for number in 0..20 {
        store.transact(Txn::new().put(format!("key-{number}"), vec![b'x'; 200])).await.unwrap();
    }
    drop(store);
    // sled itself opens such a log and says nothing.
    let log = root.path().join("db-1").join("db");
    let mut bytes = fs::read(&log).unwrap();
    let last = bytes.windows(6).rposition(|window| window == b"key-15").unwrap();
    bytes[last..last + 64].fill(0xa5);
    fs::write(&log, bytes).unwrap();
    let error = SledStore::open(root.path(), broker()).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}
