//! Records of the whole fleet, read kind beside kind in the order of device names, so that no more of them is in
//! memory than a few pages.

use std::iter::Peekable;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::plant::Plant;
use crate::record::{Held, RecordError, list_page};
use crate::session::Refusal;
use crate::store::MAX_SCAN;
use crate::store::record::Record;

/// Pages that are read ahead of whoever takes them.
const AHEAD: usize = 2;

type Page<R> = Result<Vec<Held<R>>, RecordError>;

/// The records under a prefix. Whoever drops it ends the reading.
pub(super) struct Records<R> {
    prefix: &'static str,
    pages: mpsc::Receiver<Page<R>>,
    page: Peekable<std::vec::IntoIter<Held<R>>>,
    over: bool,
}

impl<R: Record + Send + 'static> Records<R> {
    /// Begins to read.
    pub(super) fn read(plant: &Plant, prefix: &'static str) -> Self {
        let (send, pages) = mpsc::channel(AHEAD);
        let store = Arc::clone(&plant.store);
        tokio::spawn(async move {
            let mut after: Option<String> = None;
            loop {
                let found = list_page(store.as_ref(), prefix, after.as_deref(), MAX_SCAN).await;
                // The last page is empty, and says that it is the last.
                let (page, last) = match found {
                    Ok(page) if page.last.is_some() && page.records.is_empty() => {
                        after = page.last;
                        continue;
                    }
                    Ok(page) => (Ok(page.records), page.last),
                    Err(error) => (Err(error), None),
                };
                after = last;
                if send.send(page).await.is_err() || after.is_none() {
                    return;
                }
            }
        });
        Self { prefix, pages, page: Vec::new().into_iter().peekable(), over: false }
    }

    /// The next record, with what follows the prefix in its key.
    pub(super) async fn next(&mut self) -> Result<Option<(String, R)>, Refusal> {
        if !self.is_ready().await? {
            return Ok(None);
        }
        let name = |key: &str| key.strip_prefix(self.prefix).unwrap_or_default().to_owned();
        Ok(self.page.next().map(|held| (name(&held.key), held.record)))
    }

    /// The record of `name`. Names are asked for in their order, and each once.
    pub(super) async fn of(&mut self, name: &str) -> Result<Option<R>, Refusal> {
        while self.is_ready().await? {
            let prefix = self.prefix;
            let place = |held: &Held<R>| held.key.strip_prefix(prefix).unwrap_or_default().cmp(name);
            match self.page.peek().map(place) {
                Some(std::cmp::Ordering::Less) => drop(self.page.next()),
                Some(std::cmp::Ordering::Equal) => return Ok(self.page.next().map(|held| held.record)),
                Some(std::cmp::Ordering::Greater) | None => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Whether there is a record; false: the end.
    async fn is_ready(&mut self) -> Result<bool, Refusal> {
        while self.page.peek().is_none() && !self.over {
            // A reader that stops without saying so must not pass for the end of the fleet.
            let page = self.pages.recv().await.ok_or_else(|| {
                Refusal::internal(format!("the records under {} were not read to their end", self.prefix))
            })??;
            self.over = page.is_empty();
            self.page = page.into_iter().peekable();
        }
        Ok(!self.over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::tests::{Bench, observing};
    use crate::record::device::{ATTESTED, Attested, DEVICE, Decision, Device};

    #[tokio::test]
    async fn records_of_two_kinds_are_joined_by_name() {
        let bench = Bench::new().await;
        bench.zone(&observing("cell-3")).await;
        for n in 0..2_100 {
            bench.device(&format!("press-{n:04}"), &["cell-3"]).await;
        }
        for n in [1, 1_000, 2_099] {
            let name = format!("press-{n:04}").parse().unwrap();
            bench.attest(&name, "boot-a", Decision::Trusted).await;
        }
        let gone = "press-0500-gone".parse().unwrap();
        bench.attest(&gone, "boot-a", Decision::Trusted).await;
        let mut devices = Records::<Device>::read(&bench.plant, DEVICE);
        let mut attested = Records::<Attested>::read(&bench.plant, ATTESTED);
        let (mut all, mut with) = (0, Vec::new());
        while let Some((name, device)) = devices.next().await.unwrap() {
            assert_eq!(name, device.name.as_str());
            all += 1;
            if attested.of(&name).await.unwrap().is_some() {
                with.push(name);
            }
        }
        assert_eq!((all, with.join(" ").as_str()), (2_100, "press-0001 press-1000 press-2099"));
        assert!(devices.next().await.unwrap().is_none(), "the end stays the end");
    }

    #[tokio::test]
    async fn a_reader_that_fails_is_no_end() {
        let bench = Bench::new().await;
        let damaged = crate::store::Txn::new().put("device/press-7", b"{}".to_vec());
        bench.plant.store.transact(damaged).await.unwrap();
        let mut devices = Records::<Device>::read(&bench.plant, DEVICE);
        assert!(matches!(devices.next().await, Err(Refusal::Internal(_))));
        assert!(matches!(devices.next().await, Err(Refusal::Internal(_))), "nor is what follows");
    }
}
