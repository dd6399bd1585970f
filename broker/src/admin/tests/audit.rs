//! Seals, exports and retention, verified as the tool does.

use policy::audit::{AuditRecord, Event, Fault, Found, Seal, Trail};
use policy::digest::Digest;
use policy::time::UnixTime;
use tokio::sync::mpsc;

use super::{Bench, NOW, observing};
use crate::admin::Act;
use crate::admin::audit::{Filter, Part, export, latest};
use crate::audit::archive::archive;
use crate::audit::refusals::Caller;
use crate::audit::seal::newest;
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
