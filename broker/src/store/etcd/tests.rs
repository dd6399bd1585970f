//! The conformance suite on etcd, and what only etcd can get wrong.

use super::{node::Node, *};
use crate::{
    ports::System,
    store::{
        WatchEvent,
        conformance::{Bench, broker, suite},
    },
};
use proto::etcd::{CompactionRequest, kv_client::KvClient};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustix::process::Signal;
use std::{fs, path::Path, time::Duration};
use tempfile::TempDir;
use tokio::time::{Instant, timeout};

/// How long a test waits for what must come.
const DEADLINE: Duration = Duration::from_secs(60);

async fn open(node: &Node, id: &str) -> EtcdStore {
    open_with(&node.options(), id).await
}

async fn open_with(options: &EtcdOptions, id: &str) -> EtcdStore {
    let end = Instant::now() + DEADLINE;
    loop {
        match EtcdStore::join(options, id.parse().unwrap(), &System::default()).await {
            Ok(store) => return store,
            // The node may still be starting.
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
    }
}

impl Bench for Node {
    fn open(&self) -> Arc<dyn Store> {
        let id = broker().to_string();
        let opening = open(self, &id);
        Arc::new(tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(opening)))
    }
}

suite!(Node::start().await, optional);

async fn put(store: &EtcdStore, key: &str, value: &str) -> Revision {
    store.transact(Txn::new().put(key, value)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_brokers_share_content_changes_and_decisions() {
    let Some(node) = Node::start().await else { return };
    let (one, two) = (open(&node, "one").await, open(&node, "two").await);
    let mut watch = two.watch(two.revision());
    let version = put(&one, "challenge", "open").await;
    assert_eq!(two.get("challenge").await.unwrap().unwrap().version, version);
    let event = timeout(DEADLINE, watch.next()).await.unwrap();
    assert!(
        matches!(&event, Some(WatchEvent::Change(change)) if change.revision == version && *change.keys == ["challenge"]),
        "{event:?}"
    );

    let take = || Txn::new().unchanged("challenge", version).delete("challenge").audit("taken");
    let (first, second) = tokio::join!(one.transact(take()), two.transact(take()));
    let lost = [&first, &second].into_iter().filter(|outcome| outcome.is_err()).count();
    assert_eq!(lost, 1, "{first:?} {second:?}");
    for outcome in [first, second] {
        let conflict = matches!(&outcome, Err(TxnError::Conflict { key, .. }) if key == "challenge");
        assert!(outcome.is_ok() || conflict, "{outcome:?}");
    }
    assert_eq!(one.scan("audit/", None, 9).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_two_brokers_are_told_once_and_in_order() {
    const EACH: u64 = 200;
    let Some(node) = Node::start().await else { return };
    let (one, two) = (Arc::new(open(&node, "one").await), Arc::new(open(&node, "two").await));
    let mut watches = [one.watch(Revision(0)), two.watch(Revision(0))];
    let tasks: Vec<_> = (0..EACH)
        .flat_map(|n| [(&one, "a", n), (&two, "b", n)])
        .map(|(store, name, n)| {
            let (store, txn) = (store.clone(), Txn::new().put(format!("{name}/{n}"), "").audit("e"));
            tokio::spawn(async move { store.transact(txn).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    for watch in &mut watches {
        let mut seen = Revision(0);
        while seen < Revision(2 * EACH) {
            let event = timeout(DEADLINE, watch.next()).await.unwrap().unwrap();
            let revision = match event {
                WatchEvent::Change(change) => {
                    assert_eq!((change.revision, change.keys.len()), (Revision(seen.0 + 1), 2));
                    change.revision
                }
                // A machine that is slow falls behind, and says so.
                WatchEvent::Resync { revision } => revision,
            };
            assert!(revision > seen);
            seen = revision;
        }
    }
    assert_eq!(two.scan("a/", None, 1000).await.unwrap().len(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_of_a_broker_ends_the_first() {
    let Some(node) = Node::start().await else { return };
    let first = open(&node, "one").await;
    put(&first, "a", "1").await;
    let second = open(&node, "one").await;
    let error = first.transact(Txn::new().put("a", "2")).await.unwrap_err();
    assert!(error.to_string().contains("another process writes as broker one"), "{error}");
    assert!(matches!(error, TxnError::Poisoned { .. }), "{error}");
    assert!(first.probe().await.is_err());
    put(&second, "a", "3").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_by_one_broker_is_followed_by_the_other() {
    let Some(node) = Node::start().await else { return };
    let (one, two) = (open(&node, "one").await, open(&node, "two").await);
    let old = put(&two, "a", "1").await;
    two.transact(Txn::new().audit("before")).await.unwrap();
    let mut watch = two.watch(two.revision());
    let content = [Ok(("b".to_owned(), b"2".to_vec()))];
    let revision = one.replace_all(Box::new(content.into_iter()), Revision(0)).await.unwrap();
    assert_eq!(timeout(DEADLINE, watch.next()).await.unwrap(), Some(WatchEvent::Resync { revision }));
    assert_eq!(two.get("a").await.unwrap(), None);
    assert_eq!(two.get("b").await.unwrap().unwrap().version, revision);
    let error = two.transact(Txn::new().unchanged("a", old).put("a", "2")).await.unwrap_err();
    assert!(matches!(error, TxnError::Conflict { .. }), "{error}");
    two.transact(Txn::new().audit("after")).await.unwrap();
    let chains = two.scan("audit/", None, 9).await.unwrap();
    let keys: Vec<_> = chains.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["audit/two.2/00000000000000000001"], "a new chain, as the old one was cut");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_whose_history_is_gone_resyncs() {
    let Some(node) = Node::start().await else { return };
    let store = open(&node, "one").await;
    let mut last = Revision(0);
    for n in 0..20 {
        last = put(&store, "a", &n.to_string()).await;
    }
    let mut kv = KvClient::connect(node.url.clone()).await.unwrap();
    let found = kv.range(proto::etcd::RangeRequest { key: b"x".to_vec(), ..Default::default() }).await;
    let revision = found.unwrap().into_inner().header.unwrap().revision;
    kv.compact(CompactionRequest { revision, physical: true }).await.unwrap();

    // A broker that was away since revision 1 of etcd.
    let feed = Arc::new(Feed::new(Revision(0)));
    let mut watch = feed.watch(Revision(0));
    let (cluster, layout) = (store.view.cluster.clone(), store.view.layout.clone());
    let follower = tokio::spawn(Follower { cluster, layout, feed: feed.clone(), next: 1 }.run());
    let event = timeout(DEADLINE, watch.next()).await.unwrap();
    assert_eq!(event, Some(WatchEvent::Resync { revision: last }));
    let next = put(&store, "b", "1").await;
    let event = timeout(DEADLINE, watch.next()).await.unwrap();
    assert!(matches!(&event, Some(WatchEvent::Change(change)) if change.revision == next), "{event:?}");
    follower.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_is_away_is_named_and_serves_again_when_it_is_back() {
    let Some(node) = Node::start().await else { return };
    let store = open(&node, "one").await;
    put(&store, "a", "1").await;
    node.signal(Signal::STOP);
    // It stops at a moment of its own: the first transaction may still be read from, or even kept.
    let mut outcomes = Vec::new();
    while !matches!(outcomes.last(), Some(Err(TxnError::Away { .. }))) && outcomes.len() < 100 {
        outcomes.push(timeout(DEADLINE, store.transact(Txn::new().put("a", "2"))).await.unwrap());
    }
    let error = outcomes.pop().unwrap().unwrap_err();
    assert!(matches!(error, TxnError::Away { .. }), "{error}");
    assert!(error.to_string().contains("check that etcd runs"), "{error}");
    let error = timeout(DEADLINE, store.get("a")).await.unwrap().unwrap_err();
    assert!(matches!(&error, ReadError::Away { key, .. } if key == "a"), "{error}");
    node.signal(Signal::CONT);
    let end = Instant::now() + DEADLINE;
    while let Err(error) = store.transact(Txn::new().put("a", "3")).await {
        assert!(Instant::now() < end, "{error}");
    }
    assert_eq!(store.get("a").await.unwrap().unwrap().value, b"3");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_node_is_asked_when_one_is_not_there() {
    let Some(node) = Node::start().await else { return };
    drop(open(&node, "one").await);
    let mut options = node.options();
    // Nobody listens on port 9, discard.
    options.endpoints.insert(0, "http://127.0.0.1:9".to_owned());
    let store = EtcdStore::join(&options, "one".parse().unwrap(), &System::default()).await.unwrap();
    put(&store, "a", "1").await;
}

/// A CA in `folder`, and a certificate with its key for each of `names`, all for 127.0.0.1.
fn certify(folder: &Path, names: &[&str]) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    fs::write(folder.join("ca"), params.self_signed(&key).unwrap().pem()).unwrap();
    let ca = Issuer::new(params, key);
    for name in names {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        fs::write(folder.join(name), params.signed_by(&key, &ca).unwrap().pem()).unwrap();
        fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_by_certificates_of_both_sides() {
    let (folder, stranger) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    certify(folder.path(), &["server", "client"]);
    certify(stranger.path(), &["client"]);
    let file = |name: &str| folder.path().join(name).display().to_string();
    let arguments = [
        "--client-cert-auth".to_owned(),
        format!("--trusted-ca-file={}", file("ca")),
        format!("--cert-file={}", file("server")),
        format!("--key-file={}", file("server.key")),
    ];
    let Some(node) = Node::start_as("https", &arguments).await else { return };
    put(&open_with(&node.options_with(folder.path()), "one").await, "a", "1").await;

    let refused = async |options: EtcdOptions| {
        EtcdStore::join(&options, "one".parse().unwrap(), &System::default()).await.unwrap_err().to_string()
    };
    let mut options = node.options_with(folder.path());
    let theirs = node.options_with(stranger.path()).tls.unwrap();
    let ours = options.tls.clone().unwrap();
    options.tls = Some(EtcdTls { ca: theirs.ca.clone(), ..ours.clone() });
    let error = refused(options.clone()).await;
    assert!(error.contains("certificate"), "{error}");
    options.tls = Some(EtcdTls { ca: ours.ca, ..theirs });
    let error = refused(options.clone()).await;
    assert!(error.contains("check that etcd runs"), "{error}");
    fs::remove_file(folder.path().join("client.key")).unwrap();
    let error = refused(node.options_with(folder.path())).await;
    assert!(error.contains("client.key") && error.contains("store.key"), "{error}");
}

#[tokio::test]
async fn plain_text_and_faults_of_the_options_are_refused() {
    let refusal = |endpoint: &str| {
        let endpoints = vec![endpoint.to_owned()];
        let options = EtcdOptions { endpoints, prefix: "touchstone".to_owned(), tls: None };
        Cluster::new(&options).unwrap_err().to_string()
    };
    assert!(refusal("http://10.0.0.1:2379").contains("use https"));
    assert!(refusal("https://10.0.0.1:2379").contains("store.ca"));
    assert!(refusal("http://127.0.0.1").contains("no port"));
    assert!(refusal("10.0.0.1").contains("no port") || refusal("10.0.0.1").contains("https"));
    let none = EtcdOptions { endpoints: Vec::new(), prefix: String::new(), tls: None };
    assert!(matches!(Cluster::new(&none), Err(OptionsError::NoEndpoint)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_that_are_asked_for_together_are_each_what_is_there() {
    let Some(node) = Node::start().await else { return };
    let store = Arc::new(open(&node, "one").await);
    for n in 0..150 {
        put(&store, &format!("value/{n}"), &format!("of {n}")).await;
    }
    // More than one read holds, some twice and some that are not there.
    let get = |n: usize| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { (n, store.get(&format!("value/{}", n % 200)).await.unwrap()) })
    };
    let all: Vec<_> = (0..600).map(get).collect();
    for one in all {
        let (n, found) = timeout(DEADLINE, one).await.unwrap().unwrap();
        let expected = (n % 200 < 150).then(|| format!("of {}", n % 200).into_bytes());
        assert_eq!(found.map(|found| found.value), expected, "{n}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_value_spoils_none_that_is_read_with_it() {
    let Some(node) = Node::start().await else { return };
    let store = open(&node, "one").await;
    put(&store, "value/good", "press").await;
    let damaged = format!("{}value/damaged", store.view.layout.data(FIRST_GENERATION));
    let success = vec![committer::put(&damaged, vec![7])];
    store.view.cluster.txn(TxnRequest { success, ..TxnRequest::default() }).await.unwrap();
    let (good, damaged) = tokio::join!(store.get("value/good"), store.get("value/damaged"));
    assert_eq!(good.unwrap().unwrap().value, b"press");
    let told = damaged.unwrap_err();
    assert!(matches!(&told, ReadError::Unreadable { key, .. } if key == "value/damaged"), "{told}");
    assert!(told.to_string().contains("a stored value is cut short"), "{told}");
}
