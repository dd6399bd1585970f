//! Drops audit records whose time is over.
//!
//! Promises: first a signed seal says after which record each chain begins from then on, then records go; so what is
//! left verifies, and a beginning that somebody else cut off does not. A broker's last record stays, whatever its age.
//! A crash in between leaves records that nobody reads any more; the next time they go.

use policy::audit::{AuditRecord, ChainHead};
use policy::time::UnixTime;

use super::{Event, chains, seal};
use crate::plant::Plant;
use crate::session::Refusal;
use crate::session::complete::commit;
use crate::store::{MAX_SCAN, MAX_TXN_KEYS, Txn, audit_key};

/// Most records that one sweep drops for each broker: more than a day brings, without holding up devices for long.
const MOST: usize = 500_000;
/// Records that one transaction drops; one key more is for the term of whoever leads.
const STEP: usize = MAX_TXN_KEYS - 1;

/// Records that go, by writer and number, and the last of them.
#[derive(Debug, Default)]
struct Over {
    records: Vec<(String, u64)>,
    last: Option<ChainHead>,
}

/// Drops the records from before `until`, and returns how many.
pub(crate) async fn archive(plant: &Plant, until: UnixTime) -> Result<usize, Refusal> {
    let heads = chains::heads(plant).await?;
    let (mut over, mut begins) = (Vec::new(), seal::read(&seal::newest(plant).await?)?.archived);
    for (broker, writers) in chains::writers(plant).await? {
        let of_broker = |head: &&ChainHead| head.place().is_some_and(|(of, _)| of == broker);
        let Some(newest) = heads.iter().find(of_broker) else { continue };
        let begin = begins.iter().find(of_broker).cloned();
        let found = before(plant, &writers, newest, until).await?;
        let Some(last) = found.last else { continue };
        over.extend(found.records);
        // What a crash left behind is before the beginning already.
        if begin.as_ref().is_none_or(|begin| later(&last, begin)) {
            begins.retain(|head| !of_broker(&head));
            begins.push(last);
        }
    }
    if over.is_empty() {
        return Ok(0);
    }
    let text = format!("{} records from before {until} are dropped", over.len());
    let event = Event::new(plant.now(), "broker", "audit.archive", "audit", &text);
    commit(plant, Txn::new().audit(event.entry())).await?;
    seal::make(plant, Some(&begins)).await?;
    for step in over.chunks(STEP) {
        let delete = |txn: Txn, (writer, number): &(String, u64)| txn.delete(audit_key(writer, *number));
        commit(plant, step.iter().fold(Txn::new(), delete)).await?;
    }
    Ok(over.len())
}

fn later(head: &ChainHead, than: &ChainHead) -> bool {
    let start = |head: &ChainHead| head.place().map(|(_, start)| start);
    (start(head), head.sequence) > (start(than), than.sequence)
}

/// The records of a broker, from its first on, that are from before `until`.
async fn before(
    plant: &Plant,
    writers: &[String],
    newest: &ChainHead,
    until: UnixTime,
) -> Result<Over, Refusal> {
    let mut over = Over::default();
    for writer in writers {
        let mut after = 0;
        loop {
            let page = chains::page(plant, writer, after, MAX_SCAN).await?;
            let Some((last, _)) = page.last() else { break };
            after = *last;
            for (number, bytes) in page {
                let record = AuditRecord::parse(&bytes).map_err(Refusal::internal)?;
                let is_old = Event::parse(&record.entry).is_ok_and(|event| event.at < until);
                let head = record.head(&bytes);
                if !is_old || head == *newest || over.records.len() >= MOST {
                    return Ok(over);
                }
                over.records.push((writer.clone(), number));
                over.last = Some(head);
            }
        }
    }
    Ok(over)
}
