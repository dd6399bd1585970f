//! Grants on record: the first for a certificate and a service is an event at once, in the transaction that compares
//! what it rests on; the same again within the interval is counted, and told in one event when the interval ends.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use policy::digest::Digest;
use policy::id::DeviceName;
use policy::time::UnixTime;

use super::Event;
use crate::plant::Plant;
use crate::store::{MAX_TXN_KEYS, Txn};

/// Seconds over which the same grants are counted.
const INTERVAL: u64 = 3600;
/// Grants that are told apart in an interval, some 300 bytes each; beyond that each is an event of its own.
const MOST: usize = 10_000;

/// A grant as far as it can be the same again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Issued {
    /// Whom it is for.
    pub audience: String,
    /// SHA-256 of the peer's certificate.
    pub certificate: Digest,
}

#[derive(Debug)]
struct Count {
    device: DeviceName,
    peer: DeviceName,
    since: UnixTime,
    last: UnixTime,
    repeated: u64,
}

impl Count {
    /// Whether the interval goes on. A clock that was set back ends it too.
    const fn lasts(&self, now: UnixTime) -> bool {
        self.since.0 <= now.0 && now.since(self.since) < INTERVAL
    }
}

/// Counts grants.
#[derive(Debug, Default)]
pub struct Grants(Mutex<BTreeMap<Issued, Count>>);

impl Grants {
    /// Counts a grant that is on record in this interval; false if it is not, and has to be put there.
    pub fn again(&self, issued: &Issued, now: UnixTime) -> bool {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(count) = counts.get_mut(issued).filter(|count| count.lasts(now)) else { return false };
        (count.repeated, count.last) = (count.repeated.saturating_add(1), now);
        true
    }

    /// Remembers that the grant of `device` for `peer` is on record.
    pub fn first(&self, issued: Issued, device: &DeviceName, peer: &DeviceName, now: UnixTime) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What an interval that is over still has to tell stays until it is told.
        if counts.len() < MOST && !counts.contains_key(&issued) {
            let (device, peer) = (device.clone(), peer.clone());
            counts.insert(issued, Count { device, peer, since: now, last: now, repeated: 0 });
        }
    }

    /// Writes what was counted in intervals that are over.
    pub(super) async fn flush(&self, plant: &Plant) {
        for step in self.over(plant.now()).chunks(MAX_TXN_KEYS) {
            let txn = step.iter().fold(Txn::new(), |txn, event| txn.audit(event.entry()));
            if let Err(error) = plant.store.transact(txn).await {
                tracing::error!(%error, "repeated grants are not on record");
            }
        }
    }

    fn over(&self, now: UnixTime) -> Vec<Event> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut told = Vec::new();
        counts.retain(|issued, count| {
            let lasts = count.lasts(now);
            if !lasts && count.repeated > 0 {
                let Count { device, peer, since, last, repeated } = count;
                let text = format!("{repeated} more for {} since {since}, last at {last}", issued.audience);
                told.push(Event::new(now, device.as_str(), "grant.issue", peer.as_str(), &text));
            }
            lasts
        });
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime(1_800_000_000);

    #[test]
    fn the_same_grant_again_is_one_event_for_each_interval() {
        let grants = Grants::default();
        let (device, peer) = ("historian-1".parse().unwrap(), "press-7".parse().unwrap());
        let issued = Issued { audience: "a#opcua".to_owned(), certificate: Digest::of(b"one") };
        assert!(!grants.again(&issued, NOW));
        grants.first(issued.clone(), &device, &peer, NOW);
        for second in 1..100 {
            assert!(grants.again(&issued, NOW.plus(second)));
        }
        let renewed = Issued { certificate: Digest::of(b"two"), ..issued.clone() };
        assert!(!grants.again(&renewed, NOW), "another certificate is another grant");
        assert_eq!(grants.over(NOW.plus(INTERVAL - 1)), []);
        assert!(!grants.again(&issued, NOW.plus(INTERVAL)), "a new interval begins with an event");
        let told = grants.over(NOW.plus(INTERVAL));
        assert_eq!(told.len(), 1);
        assert!(told[0].text.starts_with("99 more for a#opcua since "), "{}", told[0].text);
        assert_eq!(grants.over(NOW.plus(INTERVAL)), []);
    }
}
