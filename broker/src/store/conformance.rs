//! The one suite that every backend must pass.

use super::{
    AUDIT_PREFIX, AuditRecord, BrokerId, ChainHead, Content, Expect, LimitError, MAX_AUDIT_ENTRY, MAX_KEY,
    MAX_REVISION, MAX_SCAN, MAX_TXN_KEYS, MAX_VALUE, ReadError, ReplaceError, Revision, Store, Txn, TxnError,
    Versioned, WatchEvent, feed::RING_KEYS,
};
use policy::audit::Trail;
use std::{io, sync::Arc};

/// A place for a store. Each `open` is a restart: drop the former store first.
pub(super) trait Bench {
    fn open(&self) -> Arc<dyn Store>;
}

/// The broker that opens the stores of the suite.
pub(super) fn broker() -> BrokerId {
    "b1".parse().unwrap()
}

/// Runs the whole suite on a backend: `suite!(an expression that makes a Bench)`, or an `optional` one that may be
/// `None`, on a machine that cannot have the backend.
macro_rules! suite {
    ($bench:expr) => {
        $crate::store::conformance::suite!(Some($bench), optional);
    };
    ($bench:expr, optional) => {
        $crate::store::conformance::suite!($bench;
            put_get_delete, compare_and_swap, refusals_change_nothing, limits, reads_are_bounded, scan_pages,
            watch_tells_changes, watch_resyncs, audit_chain, audit_is_reserved, survives_reopen, replaces_all,
            refused_replacement_changes_nothing, restored_chain_is_followed, one_of_many_wins, probes
        );
    };
    ($bench:expr; $($case:ident),+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let Some(bench) = $bench else { return };
                $crate::store::conformance::$case(&bench).await;
            }
        )+
    };
}
pub(super) use suite;

async fn value(store: &dyn Store, key: &str) -> Option<Vec<u8>> {
    store.get(key).await.unwrap().map(|record| record.value)
}

async fn put(store: &dyn Store, key: &str, value: &str) -> Revision {
    store.transact(Txn::new().put(key, value)).await.unwrap()
}

async fn keys(store: &dyn Store, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
    store.scan(prefix, after, limit).await.unwrap().into_iter().map(|(key, _)| key).collect()
}

/// Every record below `prefix`, page by page.
async fn all(store: &dyn Store, prefix: &str) -> Vec<(String, Versioned)> {
    let mut found: Vec<(String, Versioned)> = Vec::new();
    loop {
        let after = found.last().map(|(key, _)| key.clone());
        let page = store.scan(prefix, after.as_deref(), 3).await.unwrap();
        if page.is_empty() {
            return found;
        }
        found.extend(page);
    }
}

async fn chain(store: &dyn Store, writer: &str) -> (ChainHead, Option<ChainHead>, Vec<Vec<u8>>) {
    let mut trail = Trail::new(&[], true);
    let (mut entries, mut before) = (Vec::new(), None);
    for (_, record) in all(store, &format!("{AUDIT_PREFIX}{writer}/")).await {
        let AuditRecord { entry, follows, .. } = trail.follow(&record.value).unwrap();
        if entries.is_empty() {
            before = follows;
        }
        entries.push(entry);
    }
    let (broker, _) = writer.split_once('.').unwrap();
    (trail.head(broker).unwrap().clone(), before, entries)
}

fn content(records: &[(&str, &str)]) -> Content {
    let records: Vec<_> =
        records.iter().map(|(key, value)| Ok(((*key).to_owned(), value.as_bytes().to_vec()))).collect();
    Box::new(records.into_iter())
}

pub(super) async fn put_get_delete(bench: &dyn Bench) {
    let store = bench.open();
    assert_eq!(store.revision(), Revision(0));
    assert_eq!(store.get("a").await.unwrap(), None);

    let first = store.transact(Txn::new().put("a", "1").put("b", "2")).await.unwrap();
    assert_eq!(first, Revision(1));
    assert_eq!(store.get("a").await.unwrap(), Some(Versioned { version: first, value: b"1".to_vec() }));

    let second = store.transact(Txn::new().put("a", "3").delete("b").delete("c")).await.unwrap();
    assert_eq!((second, store.revision()), (Revision(2), Revision(2)));
    assert_eq!(store.get("a").await.unwrap(), Some(Versioned { version: second, value: b"3".to_vec() }));
    assert_eq!(value(&*store, "b").await, None);
}

pub(super) async fn compare_and_swap(bench: &dyn Bench) {
    let store = bench.open();
    let version = store.transact(Txn::new().absent("a").put("a", "1")).await.unwrap();
    store.transact(Txn::new().present("a").put("b", "1")).await.unwrap();
    store.transact(Txn::new().unchanged("a", version).put("a", "2")).await.unwrap();

    let now = Revision(3);
    let cases = [
        ("a", Expect::Absent, Some(now)),
        ("a", Expect::Version(version), Some(now)),
        ("x", Expect::Present, None),
        ("x", Expect::Version(version), None),
    ];
    for (key, expect, found) in cases {
        let error = store.transact(Txn::new().expecting(key, expect).put("b", "9")).await.unwrap_err();
        assert!(
            matches!(&error, TxnError::Conflict { key: at, expected, found: seen }
                if at == key && *expected == expect && *seen == found),
            "{error}"
        );
    }
    assert_eq!(value(&*store, "b").await.unwrap(), b"1");
}

pub(super) async fn refusals_change_nothing(bench: &dyn Bench) {
    let store = bench.open();
    put(&*store, "a", "1").await;
    let txn = Txn::new().absent("x").absent("a").put("x", "1").delete("a").audit("never");
    let error = store.transact(txn).await.unwrap_err();
    assert!(matches!(&error, TxnError::Conflict { key, .. } if key == "a"), "{error}");
    assert_eq!(keys(&*store, "", None, 10).await, ["a"]);
    assert_eq!(store.revision(), Revision(1));
}

pub(super) async fn limits(bench: &dyn Bench) {
    let store = bench.open();
    let refusal = async |txn: Txn| match store.transact(txn).await {
        Err(TxnError::Limit(limit)) => limit,
        other => panic!("no limit was named: {other:?}"),
    };
    let long = "k".repeat(MAX_KEY + 1);
    let key = |key: &str| key.to_owned();
    assert_eq!(refusal(Txn::new().put("", "")).await, LimitError::KeyEmpty);
    assert_eq!(refusal(Txn::new().delete(&long)).await, LimitError::KeyTooLong { key: long });
    for bad in ["a b", "a\0", "\0position", "ü", "a\n"] {
        let expected = LimitError::KeyNotPrintable { key: key(bad) };
        assert_eq!(refusal(Txn::new().absent(bad)).await, expected);
    }
    let length = MAX_VALUE + 1;
    assert_eq!(
        refusal(Txn::new().put("a", vec![0; length])).await,
        LimitError::ValueTooLong { key: key("a"), length }
    );
    assert_eq!(
        refusal(Txn::new().put("a", "").delete("a")).await,
        LimitError::WrittenTwice { key: key("a") }
    );
    let length = MAX_AUDIT_ENTRY + 1;
    assert_eq!(refusal(Txn::new().audit(vec![0; length])).await, LimitError::AuditTooLong { length });

    let full = |count: usize| {
        (1..count).fold(Txn::new().audit("e"), |txn, n| txn.put(n.to_string(), [0; MAX_VALUE]))
    };
    let count = MAX_TXN_KEYS + 1;
    assert_eq!(refusal(full(count)).await, LimitError::TooManyKeys { count });
    assert_eq!(refusal(full(MAX_TXN_KEYS).present("x")).await, LimitError::TooManyKeys { count });
    assert_eq!(store.revision(), Revision(0));
    store.transact(full(MAX_TXN_KEYS).absent("1").put("k".repeat(MAX_KEY), "")).await.unwrap_err();
    store.transact(full(MAX_TXN_KEYS).absent("1")).await.unwrap();
    store.transact(Txn::new().put("k".repeat(MAX_KEY), vec![7; MAX_VALUE])).await.unwrap();
    assert_eq!(value(&*store, &"k".repeat(MAX_KEY)).await, Some(vec![7; MAX_VALUE]));
}

pub(super) async fn reads_are_bounded(bench: &dyn Bench) {
    let store = bench.open();
    put(&*store, "a", "1").await;
    store.probe().await.unwrap();
    assert!(matches!(store.get("").await, Err(ReadError::Limit(LimitError::KeyEmpty))));
    for hidden in ["\0position", "\0health", "\0"] {
        let found = store.get(hidden).await;
        assert!(matches!(found, Err(ReadError::Limit(LimitError::KeyNotPrintable { .. }))), "{found:?}");
        assert!(matches!(store.scan(hidden, None, 9).await, Err(ReadError::Limit(_))));
    }
    assert_eq!(keys(&*store, "", None, 10).await, ["a"]);
    assert_eq!(keys(&*store, "", Some("\0"), 10).await, ["a"]);

    for chunk in 0..=MAX_SCAN / 50 {
        let txn = (0..50).fold(Txn::new(), |txn, n| txn.put(format!("n/{chunk:03}/{n:02}"), ""));
        store.transact(txn).await.unwrap();
    }
    assert_eq!(keys(&*store, "n/", None, usize::MAX).await.len(), MAX_SCAN);
}

pub(super) async fn scan_pages(bench: &dyn Bench) {
    let store = bench.open();
    let txn = ["d/10", "d/2", "d/1", "e/1", "d", "c/1", "d/1/x", "d~"].into_iter();
    store.transact(txn.fold(Txn::new(), |txn, key| txn.put(key, key))).await.unwrap();
    let under = ["d/1", "d/1/x", "d/10", "d/2"];
    assert_eq!(keys(&*store, "d/", None, 10).await, under);
    assert_eq!(keys(&*store, "d/", None, 2).await, under[..2]);
    assert_eq!(keys(&*store, "d/", Some("d/1/x"), 10).await, under[2..]);
    assert_eq!(keys(&*store, "d/", Some("d/1/a"), 1).await, under[1..2], "after need not exist");
    assert_eq!(keys(&*store, "d/", Some("a"), 10).await, under, "after may precede the prefix");
    assert!(keys(&*store, "d/", Some("d/2"), 10).await.is_empty());
    assert!(keys(&*store, "d/", Some("z"), 10).await.is_empty());
    assert!(keys(&*store, "d/", None, 0).await.is_empty());
    assert_eq!(all(&*store, "").await.len(), 8);
}

pub(super) async fn watch_tells_changes(bench: &dyn Bench) {
    let store = bench.open();
    let mut early = store.watch(store.revision());
    let first = store.transact(Txn::new().put("a", "1").delete("b").audit("e")).await.unwrap();
    let second = put(&*store, "c", "1").await;
    for mut watch in [early, store.watch(Revision(0))] {
        let event = watch.next().await;
        let Some(WatchEvent::Change(change)) = event else { panic!("{event:?}") };
        assert_eq!(change.revision, first);
        assert_eq!(change.keys.to_vec(), ["a", "b", "audit/b1.1/00000000000000000001"]);
        let event = watch.next().await;
        assert!(matches!(&event, Some(WatchEvent::Change(change)) if change.revision == second), "{event:?}");
    }
    early = store.watch(second);
    let waiting = tokio::spawn(async move { early.next().await });
    let third = put(&*store, "d", "1").await;
    let event = waiting.await.unwrap();
    assert!(matches!(&event, Some(WatchEvent::Change(change)) if change.revision == third), "{event:?}");

    let mut last = store.watch(third);
    drop(store);
    assert_eq!(last.next().await, None, "a closed store ends its watches");
}

pub(super) async fn watch_resyncs(bench: &dyn Bench) {
    let store = bench.open();
    let mut slow = store.watch(Revision(0));
    let fill = |n: usize| (0..MAX_TXN_KEYS).fold(Txn::new(), |txn, key| txn.put(format!("{n}/{key}"), ""));
    for n in 0..=RING_KEYS / MAX_TXN_KEYS {
        store.transact(fill(n % 3)).await.unwrap();
    }
    let revision = store.revision();
    assert_eq!(slow.next().await, Some(WatchEvent::Resync { revision }));
    let next = put(&*store, "a", "1").await;
    let event = slow.next().await;
    assert!(matches!(&event, Some(WatchEvent::Change(change)) if change.revision == next), "{event:?}");

    drop(store);
    let store = bench.open();
    for seen in [Revision(0), revision, Revision(next.0 + 1)] {
        let event = store.watch(seen).next().await;
        assert_eq!(event, Some(WatchEvent::Resync { revision: next }), "seen {seen}");
    }
}

pub(super) async fn audit_chain(bench: &dyn Bench) {
    let store = bench.open();
    store.transact(Txn::new().audit("one").audit("two")).await.unwrap();
    store.transact(Txn::new().put("a", "1").audit("three")).await.unwrap();
    let (first, before, entries) = chain(&*store, "b1.1").await;
    assert_eq!(
        (first.sequence, before, entries),
        (3, None, vec![b"one".into(), b"two".into(), b"three".into()])
    );

    drop(store);
    drop(bench.open());
    let store = bench.open();
    store.transact(Txn::new().audit("four")).await.unwrap();
    let writers = all(&*store, AUDIT_PREFIX).await;
    let writer = writers.last().unwrap().0.split('/').nth(1).unwrap();
    assert_ne!(writer, "b1.1", "every start that writes begins a chain");
    let (second, before, entries) = chain(&*store, writer).await;
    assert_eq!((second.sequence, before, entries), (1, Some(first), vec![b"four".to_vec()]));

    store.transact(Txn::new().audit("five")).await.unwrap();
    assert_eq!(chain(&*store, writer).await.0.sequence, 2);
}

pub(super) async fn audit_is_reserved(bench: &dyn Bench) {
    let store = bench.open();
    store.transact(Txn::new().audit("one").audit("two")).await.unwrap();
    let first = "audit/b1.1/00000000000000000001";
    let error = store.transact(Txn::new().put(first, "forged")).await.unwrap_err();
    assert!(matches!(&error, TxnError::Limit(LimitError::KeyReserved { key }) if key == first), "{error}");
    store.transact(Txn::new().present(first).delete(first)).await.unwrap();
    assert_eq!(keys(&*store, AUDIT_PREFIX, None, 9).await, ["audit/b1.1/00000000000000000002"]);
}

pub(super) async fn survives_reopen(bench: &dyn Bench) {
    let store = bench.open();
    put(&*store, "a", "1").await;
    let version = put(&*store, "b", "2").await;
    let gone = store.transact(Txn::new().delete("a")).await.unwrap();
    drop(store);
    let store = bench.open();
    assert_eq!(store.revision(), gone, "a deletion is a revision too");
    assert_eq!(all(&*store, "").await, [("b".to_owned(), Versioned { version, value: b"2".to_vec() })]);
    assert_eq!(put(&*store, "a", "1").await, Revision(gone.0 + 1));
}

pub(super) async fn replaces_all(bench: &dyn Bench) {
    let store = bench.open();
    let old = put(&*store, "a", "1").await;
    store.transact(Txn::new().put("b", "2").audit("one")).await.unwrap();
    let (replaced, ..) = chain(&*store, "b1.1").await;
    let mut watch = store.watch(store.revision());

    let past = Revision(1000);
    let revision = store.replace_all(content(&[("c", "3"), ("a", "0")]), past).await.unwrap();
    assert_eq!((revision, store.revision()), (Revision(1001), Revision(1001)), "above the backup's");
    assert_eq!(watch.next().await, Some(WatchEvent::Resync { revision }));
    let restored = [("a", "0"), ("c", "3")];
    let restored = restored.map(|(k, v)| (k.to_owned(), Versioned { version: revision, value: v.into() }));
    assert_eq!(all(&*store, "").await, restored);
    let error = store.transact(Txn::new().unchanged("a", old).put("a", "9")).await.unwrap_err();
    assert!(matches!(error, TxnError::Conflict { .. }), "no old version compares equal: {error}");

    store.transact(Txn::new().audit("two")).await.unwrap();
    let (_, before, _) = chain(&*store, "b1.2").await;
    assert_eq!(before, Some(replaced), "the new chain names the one that was cut");

    drop(store);
    let store = bench.open();
    assert_eq!(store.revision(), Revision(1002));
    assert_eq!(value(&*store, "c").await.unwrap(), b"3");
    let again = store.replace_all(content(&[]), Revision(5)).await.unwrap();
    assert_eq!(again, Revision(1003), "above its own");
    assert!(all(&*store, "").await.is_empty());
}

pub(super) async fn refused_replacement_changes_nothing(bench: &dyn Bench) {
    let store = bench.open();
    put(&*store, "a", "1").await;
    let broken: Content =
        Box::new([Ok(("x".to_owned(), Vec::new())), Err(io::Error::other("cut short"))].into_iter());
    let error = store.replace_all(broken, Revision(0)).await.unwrap_err();
    assert!(matches!(&error, ReplaceError::Source(source) if source.to_string() == "cut short"), "{error}");
    let error = store.replace_all(content(&[("x", ""), ("x", "")]), Revision(0)).await.unwrap_err();
    assert!(matches!(&error, ReplaceError::Limit(LimitError::WrittenTwice { key }) if key == "x"), "{error}");
    let error = store.replace_all(content(&[("\0position", "")]), Revision(0)).await.unwrap_err();
    assert!(matches!(error, ReplaceError::Limit(LimitError::KeyNotPrintable { .. })), "{error}");
    let past = Revision(MAX_REVISION + 1);
    let error = store.replace_all(content(&[]), past).await.unwrap_err();
    assert!(matches!(error, ReplaceError::PastTooHigh { past: named } if named == past), "{error}");

    assert_eq!(put(&*store, "b", "1").await, Revision(2), "the store goes on");
    drop(store);
    let store = bench.open();
    assert_eq!(keys(&*store, "", None, 9).await, ["a", "b"]);
    store.replace_all(content(&[("x", "")]), Revision(0)).await.unwrap();
    assert_eq!(keys(&*store, "", None, 9).await, ["x"]);
}

pub(super) async fn restored_chain_is_followed(bench: &dyn Bench) {
    let store = bench.open();
    // A new store takes the backup of one that had been started nine and ten times.
    let record = |writer: &str, entry: &str| {
        let appended = super::chain::append(writer, None, entry.as_bytes()).unwrap();
        (appended.key, appended.value, appended.head)
    };
    let (key_9, value_9, _) = record("b1.9", "x");
    let (key_10, value_10, head) = record("b1.10", "y");
    let (key_other, value_other, _) = record("b2.77", "z");
    let records = [(key_9, value_9), (key_10, value_10), (key_other, value_other)];
    store.replace_all(Box::new(records.into_iter().map(Ok)), Revision(9)).await.unwrap();
    store.transact(Txn::new().audit("two")).await.unwrap();
    let (_, before, entries) = chain(&*store, "b1.11").await;
    assert_eq!((before, entries), (Some(head), vec![b"two".to_vec()]));
}

pub(super) async fn one_of_many_wins(bench: &dyn Bench) {
    let store = bench.open();
    let version = put(&*store, "counter", "0").await;
    let tasks: Vec<_> = (0..64)
        .map(|n| {
            let store = Arc::clone(&store);
            let txn =
                Txn::new().unchanged("counter", version).put("counter", n.to_string()).put("winner", "");
            tokio::spawn(async move { store.transact(txn).await })
        })
        .collect();
    let mut won = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(revision) => {
                won += 1;
                assert_eq!(store.get("counter").await.unwrap().unwrap().version, revision);
            }
            Err(error) => {
                assert!(matches!(&error, TxnError::Conflict { key, .. } if key == "counter"), "{error}")
            }
        }
    }
    assert_eq!((won, store.revision()), (1, Revision(version.0 + 1)));
}

pub(super) async fn probes(bench: &dyn Bench) {
    let store = bench.open();
    put(&*store, "a", "1").await;
    store.probe().await.unwrap();
    store.probe().await.unwrap();
    assert_eq!((store.revision(), all(&*store, "").await.len()), (Revision(1), 1));
}
