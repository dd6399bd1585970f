//! The brokers of the plant, any of which serves the device: one is asked until it does not answer.

use tokio::sync::watch;

use crate::config::BrokerAddress;

/// Where the brokers are.
#[derive(Debug)]
pub(super) struct Brokers {
    first: BrokerAddress,
    others: Vec<BrokerAddress>,
    /// The one that is asked first.
    current: watch::Sender<usize>,
}

impl Brokers {
    pub(super) fn new(first: BrokerAddress, others: Vec<BrokerAddress>) -> Self {
        Self { first, others, current: watch::Sender::new(0) }
    }

    fn count(&self) -> usize {
        self.others.len().saturating_add(1)
    }

    fn at(&self, place: usize) -> &BrokerAddress {
        place.checked_sub(1).and_then(|place| self.others.get(place)).unwrap_or(&self.first)
    }

    /// The one that is asked first.
    pub(super) fn current(&self) -> &BrokerAddress {
        self.at(*self.current.borrow())
    }

    /// All of them in the order in which they are asked, each with whether it is the last.
    pub(super) fn in_order(&self) -> impl Iterator<Item = (&BrokerAddress, bool)> {
        let (count, from) = (self.count(), *self.current.borrow());
        let place = move |turn: usize| from.saturating_add(turn).checked_rem(count).unwrap_or(0);
        (0..count).map(move |turn| (self.at(place(turn)), turn.saturating_add(1) == count))
    }

    /// `broker` does not answer: the next one is asked first, unless somebody else found that out before.
    pub(super) fn leave(&self, broker: &BrokerAddress) {
        self.current.send_if_modified(|current| {
            let next = current.saturating_add(1).checked_rem(self.count()).unwrap_or(0);
            let leaves = self.at(*current) == broker && next != *current;
            if leaves {
                *current = next;
            }
            leaves
        });
    }

    /// Somebody finds that `broker`, which is asked first now, does not answer. Another that is asked meanwhile stays.
    pub(super) async fn left(&self, broker: &BrokerAddress) {
        let mut current = self.current.subscribe();
        if self.at(*current.borrow_and_update()) != broker || current.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether there is another to ask.
    pub(super) fn are_several(&self) -> bool {
        !self.others.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_asked_until_it_does_not_answer() {
        let address = |port: u16| BrokerAddress { host: "broker".to_owned(), port };
        let brokers = Brokers::new(address(1), vec![address(2), address(3)]);
        let order = || brokers.in_order().map(|(broker, last)| (broker.port, last)).collect::<Vec<_>>();
        assert_eq!(order(), [(1, false), (2, false), (3, true)]);
        brokers.leave(&address(1));
        brokers.leave(&address(1));
        assert_eq!((brokers.current().port, order()), (2, vec![(2, false), (3, false), (1, true)]));
        brokers.leave(&address(2));
        brokers.leave(&address(3));
        assert_eq!(order(), [(1, false), (2, false), (3, true)]);
        let lone = Brokers::new(address(1), Vec::new());
        lone.leave(&address(1));
        assert_eq!(lone.in_order().map(|(_, last)| last).collect::<Vec<_>>(), [true]);
    }
}
