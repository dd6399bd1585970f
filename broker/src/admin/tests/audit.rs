//! Seals, exports and retention, verified as the tool does.

use std::sync::Arc;
use std::time::Duration;

use policy::audit::{AuditRecord, Event, Fault, Found, Seal, Trail};
use policy::digest::Digest;
use policy::time::UnixTime;
use tokio::sync::mpsc;

use super::{Bench, NOW, observing, refused};
use crate::admin::Act;
use crate::admin::audit::follow::{Cursor, follow};
use crate::admin::audit::{Filter, Part, export, latest};
use crate::audit::archive::archive;
use crate::audit::refusals::{Caller, HandshakeFault};
use crate::audit::seal::{newest, once};
use crate::record::plant::admin_key;
use crate::session::Refusal;
use crate::store::Txn;

/// Everything an export gives, seals verified under the plant root.
async fn exported(bench: &Bench, since: UnixTime) -> (Vec<Seal>, Vec<Vec<u8>>) {
    let root = bench.plant.keys.load().root.clone();
    let (send, mut receive) = mpsc::channel(1000);
    export(&bench.plant, since, &send).await.unwrap();
    drop(send);
    let (mut seals, mut records) = (Vec::new(), Vec::new());
    while let Some(part) = receive.recv().await {
        match part {
            Part::Seals(signed) => {
                assert!(records.is_empty(), "seals come first");
                seals.extend(signed.iter().map(|seal| seal.verify(&root).unwrap()));
            }
            Part::Records(more) => records.extend(more),
        }
    }
    (seals, records)
}

fn walk(seals: &[Seal], records: &[Vec<u8>], partial: bool) -> Result<Found, Fault> {
    let mut trail = Trail::new(seals, partial);
    for record in records {
        trail.follow(record)?;
    }
    trail.finish()
}

async fn write(bench: &Bench, at: UnixTime, count: usize) {
    for number in 0..count {
        let event = Event::new(at, "ada", "zone.create", &format!("zone-{number}"), "made");
        bench.plant.store.transact(Txn::new().audit(event.entry())).await.unwrap();
    }
}

#[tokio::test]
async fn an_export_is_sealed_to_its_end_and_nothing_new_is_not_sealed_again() {
    let bench = Bench::new().await;
    write(&bench, NOW, 250).await;
    let (seals, records) = exported(&bench, UnixTime(0)).await;
    let found = walk(&seals, &records, false).unwrap();
    assert!(found.records > 250 && found.unsealed == 0, "{found:?}");
    assert_eq!(newest(&bench.plant).await.unwrap(), newest(&bench.plant).await.unwrap());
    write(&bench, NOW.plus(60), 3).await;
    let (seals, late) = exported(&bench, NOW.plus(60)).await;
    assert_eq!(late.len(), 3);
    assert!(matches!(walk(&seals, &late, false), Err(Fault::NoBeginning { .. })));
    assert_eq!(walk(&seals, &late, true).unwrap().records, 3);
    assert!(matches!(walk(&seals, &records, false), Err(Fault::Truncated { .. })), "an older export");
}

#[tokio::test]
async fn what_is_beyond_retention_goes_behind_a_seal_and_the_rest_verifies() {
    let bench = Bench::new().await;
    write(&bench, NOW, 250).await;
    let before = exported(&bench, UnixTime(0)).await.1;
    bench.clock.set(NOW.plus(1000));
    write(&bench, NOW.plus(1000), 5).await;
    let gone = archive(&bench.plant, NOW.plus(500)).await.unwrap();
    assert!(gone >= before.len(), "{gone} of {}", before.len());
    let (seals, left) = exported(&bench, UnixTime(0)).await;
    let found = walk(&seals, &left, false).unwrap();
    assert!(left.len() < 10 && found.notes.len() == 1, "{found:?}");
    assert!(matches!(walk(&seals, &left[1..], false), Err(Fault::NoBeginning { .. })));
    assert_eq!(archive(&bench.plant, NOW.plus(500)).await.unwrap(), 0);
    archive(&bench.plant, NOW.plus(9000)).await.unwrap();
    let (seals, last) = exported(&bench, UnixTime(0)).await;
    walk(&seals, &last, false).unwrap();
}

/// Everything that comes until a seal covers as many records as are expected.
async fn read(parts: &mut mpsc::Receiver<Part>, root: &[u8], until: usize) -> (Vec<Seal>, Vec<Vec<u8>>) {
    let (mut seals, mut records) = (Vec::new(), Vec::new());
    let all = async {
        while records.len() < until || seals.is_empty() {
            match parts.recv().await.expect("the audit goes on") {
                Part::Seals(signed) => seals.extend(signed.iter().map(|seal| seal.verify(root).unwrap())),
                Part::Records(more) => records.extend(more),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all).await.expect("what was written comes");
    (seals, records)
}

#[tokio::test]
async fn a_follower_misses_nothing_also_when_it_comes_back() {
    let bench = Bench::new().await;
    write(&bench, NOW, 120).await;
    newest(&bench.plant).await.unwrap();
    let actor = bench.actor(Act::ReadAudit).await;
    let (root, there) = (bench.plant.keys.load().root.clone(), exported(&bench, UnixTime(0)).await.1.len());
    let (plant, _dir) = bench.into_plant();
    let begin = async |last: &[(String, u64)]| {
        let cursor = Cursor::after(&plant, last).await?;
        let (send, receive) = mpsc::channel(4);
        let (plant, actor) = (Arc::clone(&plant), actor.clone());
        let task = tokio::spawn(async move { follow(&plant, &actor, UnixTime(0), cursor, &send).await });
        Ok::<_, Refusal>((receive, task))
    };
    let (mut parts, task) = begin(&[]).await.unwrap();
    let (seals, mut records) = read(&mut parts, &root, there).await;
    assert_eq!(walk(&seals, &records, false).unwrap().unsealed, 0);
    let last = AuditRecord::parse(records.last().unwrap()).unwrap();
    drop(parts);
    let event = Event::new(NOW, "ada", "zone.create", "late", "made");
    plant.store.transact(Txn::new().audit(event.entry())).await.unwrap();
    task.await.unwrap().unwrap();

    let place = (last.writer.clone(), last.sequence);
    newest(&plant).await.unwrap();
    let (mut parts, task) = begin(std::slice::from_ref(&place)).await.unwrap();
    let (seals, late) = read(&mut parts, &root, 1).await;
    records.extend(late);
    assert_eq!(records.len(), there + 1, "each record once");
    walk(&seals, &records, false).unwrap();
    // Whoever is removed while they follow, follows no more.
    let removed = Txn::new().delete(admin_key("ada")).audit(event.entry());
    plant.store.transact(removed).await.unwrap();
    refused!(task.await.unwrap(), NotPermitted);

    refused!(begin(&[("b9.1".to_owned(), 1)]).await, NotFound);
    refused!(begin(&[("b9".to_owned(), 1)]).await, Malformed);
    refused!(begin(&vec![place; 65]).await, Malformed);
}

#[tokio::test]
async fn a_follower_is_told_that_records_were_dropped_meanwhile() {
    let bench = Bench::new().await;
    write(&bench, NOW, 20).await;
    let first = AuditRecord::parse(&exported(&bench, UnixTime(0)).await.1[0]).unwrap();
    bench.clock.set(NOW.plus(1000));
    write(&bench, NOW.plus(1000), 5).await;
    archive(&bench.plant, NOW.plus(500)).await.unwrap();
    let text = refused!(Cursor::after(&bench.plant, &[(first.writer, first.sequence)]).await, Conflict);
    assert!(text.contains("were dropped"), "{text}");
    Cursor::after(&bench.plant, &[]).await.unwrap();
}

#[tokio::test]
async fn handshakes_are_on_record_once_for_each_fault() {
    let bench = Bench::new().await;
    for n in 0..500 {
        let fault = HandshakeFault::ALL[n % HandshakeFault::ALL.len()];
        bench.plant.refusals.note_handshake(&bench.plant, fault, &format!("from 10.0.0.{n}: no")).await;
    }
    let events = async |at| {
        bench.clock.set(at);
        once(&bench.plant).await;
        let all = bench.events(None, 100).await.into_iter();
        all.filter(|event| event.action == "tls.handshake.refused")
            .map(|event| event.text)
            .collect::<Vec<_>>()
    };
    assert_eq!(events(NOW).await.len(), HandshakeFault::ALL.len());
    let texts = events(NOW.plus(3600)).await;
    assert_eq!(texts.len(), 2 * HandshakeFault::ALL.len(), "{texts:?}");
    let counted = format!("CERTIFICATE: 124 more times since {NOW}, last at {NOW}");
    assert!(texts.contains(&counted), "{texts:?}");
}

#[tokio::test]
async fn a_refused_act_is_on_record_once() {
    let bench = Bench::new().await;
    let refusal = Refusal::NotPermitted("zone.create needs the role security".to_owned());
    for _ in 0..50 {
        bench.plant.refusals.note(&bench.plant, Caller::Proven("eve"), "zone.create", &refusal).await;
    }
    let filter = Filter { actor: "eve".to_owned(), action: "zone".to_owned(), ..Filter::default() };
    let found = latest(&bench.plant, &bench.actor(Act::ReadAudit).await, &filter, 10).await.unwrap();
    assert_eq!(found.events.len(), 1);
    assert_eq!(found.events[0].text, "NOT_PERMITTED: zone.create needs the role security");
}

/// Bytes of the audit that a renewal takes, which decides how much a fleet keeps.
#[tokio::test]
async fn what_a_renewal_costs() {
    let bench = Bench::new().await;
    bench.zone(&observing("cell-3")).await;
    let text = "2 certificates issued, 0 revoked; cell-3 trusted";
    let event = Event::new(NOW, "press-7", "device.attest", "press-7", text)
        .issuing(vec!["ab".repeat(16), "cd".repeat(16)], Digest::of(b"evidence"));
    bench.plant.store.transact(Txn::new().audit(event.entry())).await.unwrap();
    let (_, records) = exported(&bench, UnixTime(0)).await;
    let found = records.iter().find(|record| {
        AuditRecord::parse(record).is_ok_and(|record| Event::parse(&record.entry).is_ok_and(|e| e == event))
    });
    let bytes = found.unwrap().len();
    assert!((500..800).contains(&bytes), "a renewal takes {bytes} bytes");
}
