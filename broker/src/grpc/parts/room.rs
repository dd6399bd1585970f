//! Room for lists that are on their way: so many bytes, and whoever sends slowly never keeps the others out.
//!
//! Promises: those who send are told to go, first come first, as soon as all lists together have more bytes than there is
//! room; a list that is whole stays, and a new one finds no room while whole ones have it all. A list that comes in a second
//! gets through unless others send as much as there is room for within that second. Whoever is told to go gives its
//! memory back when its task runs next.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Lists by the order in which they began.
#[derive(Debug, Default)]
struct Lists {
    came: u64,
    coming: BTreeMap<u64, Coming>,
    /// Bytes of all, those that are whole too.
    held: usize,
}

#[derive(Debug)]
struct Coming {
    /// Tells its sender to go, by being dropped.
    _go: oneshot::Sender<()>,
    bytes: usize,
}

impl Lists {
    fn remove(&mut self, number: u64) -> Option<Coming> {
        let list = self.coming.remove(&number)?;
        self.held = self.held.saturating_sub(list.bytes);
        Some(list)
    }

    /// The one that began first goes.
    fn dismiss(&mut self) -> Option<Coming> {
        let first = *self.coming.first_key_value()?.0;
        self.remove(first)
    }
}

/// The room for the lists of one door.
#[derive(Debug, Clone)]
pub(super) struct Room {
    most: usize,
    lists: Arc<Mutex<Lists>>,
}

/// Another list needs the room.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lost;

/// The place of one list, given back with the value.
#[derive(Debug)]
pub(in crate::grpc) struct Place {
    most: usize,
    lists: Arc<Mutex<Lists>>,
    number: u64,
    lost: oneshot::Receiver<()>,
    /// Its bytes once it is whole.
    whole: Option<usize>,
}

impl Room {
    /// Room for so many bytes.
    pub(super) fn new(most: usize) -> Self {
        Self { most, lists: Arc::default() }
    }

    /// A place for a list that begins.
    pub(super) fn take(&self) -> Place {
        let mut lists = lock(&self.lists);
        lists.came = lists.came.wrapping_add(1);
        let (number, (go, lost)) = (lists.came, oneshot::channel());
        lists.coming.insert(number, Coming { _go: go, bytes: 0 });
        Place { most: self.most, lists: Arc::clone(&self.lists), number, lost, whole: None }
    }
}

impl Place {
    /// So many bytes of the list came.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), Lost> {
        let mut lists = lock(&self.lists);
        let list = lists.coming.get_mut(&self.number).ok_or(Lost)?;
        list.bytes = list.bytes.saturating_add(bytes);
        lists.held = lists.held.saturating_add(bytes);
        while lists.held > self.most && lists.dismiss().is_some() {}
        // It may have been the only one that could go.
        lists.coming.contains_key(&self.number).then_some(()).ok_or(Lost)
    }

    /// The list is whole: it is worked on, and nobody else gets its room.
    pub(super) fn keep(&mut self) -> Result<(), Lost> {
        let mut lists = lock(&self.lists);
        let list = lists.coming.remove(&self.number).ok_or(Lost)?;
        self.whole = Some(list.bytes);
        Ok(())
    }

    /// Waits until another list needs the room.
    pub(super) async fn lost(&mut self) {
        // Nothing is ever sent: it is dropped.
        drop((&mut self.lost).await);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lists = lock(&self.lists);
        match self.whole {
            Some(bytes) => lists.held = lists.held.saturating_sub(bytes),
            None => drop(lists.remove(self.number)),
        }
    }
}

fn lock(lists: &Mutex<Lists>) -> MutexGuard<'_, Lists> {
    // Bytes and entries change together: nothing can be half done.
    lists.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[tokio::test]
    async fn the_first_that_is_not_whole_goes() {
        let room = Room::new(10);
        let (mut whole, mut slow, mut next) = (room.take(), room.take(), room.take());
        whole.grow(4).unwrap();
        whole.keep().unwrap();
        slow.grow(3).unwrap();
        next.grow(3).unwrap();
        next.grow(1).unwrap();
        slow.lost().await;
        assert_eq!((slow.grow(1), slow.keep()), (Err(Lost), Err(Lost)));
        drop(slow);
        next.grow(2).unwrap();
        // Nobody else is left who could go.
        assert_eq!(next.grow(1), Err(Lost));
        drop((next, whole));
        assert_eq!(lock(&room.lists).held, 0);
    }

    #[test]
    fn senders_of_nothing_keep_nobody_out() {
        let room = Room::new(10);
        let slow: Vec<_> = (0..1_000).map(|_| room.take()).collect();
        for _ in 0..100 {
            let mut quick = room.take();
            (0..10).for_each(|_| quick.grow(1).unwrap());
            quick.keep().unwrap();
        }
        assert_eq!(lock(&room.lists).coming.len(), slow.len(), "there was room for all");
    }

    /// What becomes of a list.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Begin,
        Grow(usize, usize),
        Whole(usize),
        End(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::Begin),
            (any::<usize>(), 0..40_usize).prop_map(|(which, bytes)| Step::Grow(which, bytes)),
            any::<usize>().prop_map(Step::Whole),
            any::<usize>().prop_map(Step::End),
        ]
    }

    /// A list as the test knows it: its place, its bytes, and whether it is whole.
    type Known = (Place, usize, bool);

    fn here(place: &Place) -> bool {
        place.whole.is_some() || lock(&place.lists).coming.contains_key(&place.number)
    }

    proptest! {
        #[test]
        fn never_more_than_there_is_room_and_only_the_first_go(steps in prop::collection::vec(step(), 0..80)) {
            const MOST: usize = 100;
            let room = Room::new(MOST);
            let mut known: Vec<Known> = Vec::new();
            for step in steps {
                let count = known.len();
                let lists = match step {
                    Step::Begin => {
                        known.push((room.take(), 0, false));
                        continue;
                    }
                    Step::Grow(..) | Step::Whole(_) | Step::End(_) if count == 0 => continue,
                    step => step,
                };
                match lists {
                    Step::Grow(which, bytes) => {
                        let (place, has, whole) = &mut known[which % count];
                        if !*whole && here(place) {
                            *has += bytes;
                            // The answer is what is so.
                            prop_assert_eq!(place.grow(bytes).is_ok(), here(place));
                        }
                    }
                    Step::Whole(which) => {
                        let (place, _, whole) = &mut known[which % count];
                        if !*whole {
                            let was = here(place);
                            prop_assert_eq!(place.keep().is_ok(), was);
                            *whole = was;
                        }
                    }
                    Step::End(which) => drop(known.swap_remove(which % count)),
                    Step::Begin => {}
                }
                let held: usize = known.iter().filter(|(place, ..)| here(place)).map(|(_, has, _)| has).sum();
                prop_assert_eq!(lock(&room.lists).held, held);
                prop_assert!(held <= MOST);
                // Whoever began before one that went has gone, or is whole.
                let gone = known.iter().filter(|(place, ..)| !here(place)).map(|(place, ..)| place.number).max();
                let coming = known.iter().filter(|(place, _, whole)| here(place) && !whole);
                let first = coming.map(|(place, ..)| place.number).min();
                prop_assert!(first.is_none_or(|first| gone.is_none_or(|gone| gone < first)));
            }
            drop(known);
            prop_assert_eq!(lock(&room.lists).held, 0);
        }
    }
}
