//! Three nodes of etcd and two brokers, one node killed or stopped under load: nothing that was answered is lost or
//! untrue, and the brokers write again.

use super::{node::Node, *};
use crate::ports::System;
use rustix::process::Signal;
use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// How long a test waits for what must come.
const DEADLINE: Duration = Duration::from_secs(60);

/// Pairs of callers that ask for the same at the same time.
const CALLERS: usize = 8;

/// Challenges that are taken before the fault, and again after it.
const TAKEN: usize = 100;

/// Who took which challenge, and when the answer came.
type Log = Arc<Mutex<Vec<(String, &'static str, Instant)>>>;

async fn open(nodes: &[Node], id: &str) -> Arc<EtcdStore> {
    let endpoints = nodes.iter().map(|node| node.url.clone()).collect();
    let options = EtcdOptions { endpoints, ..nodes[0].options() };
    let end = Instant::now() + DEADLINE;
    loop {
        match EtcdStore::join(&options, id.parse().unwrap(), &System::default()).await {
            Ok(store) => return Arc::new(store),
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
    }
}

/// Gives challenges by one broker and takes each by both, until told to stop.
async fn load(caller: usize, one: Arc<EtcdStore>, two: Arc<EtcdStore>, log: Log, stop: Arc<AtomicBool>) {
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        number += 1;
        let challenge = format!("challenge/{caller}/{number}");
        let giver = if number % 2 == 0 { &one } else { &two };
        let Ok(version) = giver.transact(Txn::new().absent(&challenge).put(&challenge, "open")).await else {
            continue;
        };
        let take = |who: &str| {
            let txn = Txn::new().unchanged(&challenge, version).delete(&challenge);
            txn.put(format!("taken/{caller}/{number}"), who).audit(challenge.as_str())
        };
        let (first, second) = tokio::join!(one.transact(take("one")), two.transact(take("two")));
        assert!(first.is_err() || second.is_err(), "both took {challenge}");
        for (who, outcome) in [("one", first), ("two", second)] {
            match outcome {
                Ok(_) => log.lock().unwrap().push((format!("taken/{caller}/{number}"), who, Instant::now())),
                Err(TxnError::Conflict { .. } | TxnError::Away { .. } | TxnError::Undecided { .. }) => {}
                Err(error) => panic!("{challenge}: {error}"),
            }
        }
    }
}

async fn until_taken(log: &Log, count: usize) {
    let end = Instant::now() + DEADLINE;
    while log.lock().unwrap().len() < count {
        assert!(Instant::now() < end, "{} of {count} were taken", log.lock().unwrap().len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Strikes one of the nodes under load.
async fn strike(name: &str, choose_leader: bool, signal: Signal) {
    let Some(nodes) = Node::start_three().await else { return };
    let (one, two) = (open(&nodes, "one").await, open(&nodes, "two").await);
    let (log, stop) = (Log::default(), Arc::new(AtomicBool::new(false)));
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| tokio::spawn(load(caller, one.clone(), two.clone(), log.clone(), stop.clone())))
        .collect();
    until_taken(&log, TAKEN).await;
    let leader = nodes.iter().max_by_key(|node| node.leads_since()).unwrap();
    // Both brokers ask the first node while it answers.
    let struck = if choose_leader { leader } else { &nodes[0] };
    struck.signal(signal);
    let (at, before) = (Instant::now(), log.lock().unwrap().len());
    until_taken(&log, before + TAKEN).await;
    stop.store(true, Ordering::SeqCst);
    for caller in callers {
        caller.await.unwrap();
    }
    if signal == Signal::STOP {
        struck.signal(Signal::CONT);
    }

    let taken = log.lock().unwrap().clone();
    for (key, who, _) in &taken {
        let found = two.get(key).await.unwrap().map(|record| record.value);
        assert_eq!(found.as_deref(), Some(who.as_bytes()), "{key} was answered");
    }
    let times: Vec<_> = taken.iter().map(|(_, _, time)| *time).filter(|time| *time >= at).collect();
    let longest = [at].iter().chain(&times).zip(&times).map(|(from, to)| to.duration_since(*from)).max();
    println!("{name}: no answer for at most {longest:?}, {} challenges taken", taken.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_loses_nothing_and_stops_nobody_for_long() {
    strike("leader killed", true, Signal::KILL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stands_still_is_left_for_another() {
    strike("the brokers' node stopped", false, Signal::STOP).await;
}
