//! Changes: decided on what was read, committed only if it still holds, decided anew if not.
//!
//! A caller may say what they saw of the thing before they decided ([`Seen`]). If it is another by then, they are
//! shown both and decide again: the last of two administrators does not win unheard.

use policy::time::UnixTime;

use super::reach::Deed;
use super::second::settle;
use crate::plant::Plant;
use crate::record::Held;
use crate::session::Refusal;
use crate::store::{Revision, Txn, TxnError};

/// How often a change is decided anew when somebody else was faster. Losing five times in a row means
/// that the plant is busy with something larger.
pub(super) const ATTEMPTS: usize = 5;
/// When to come again after that, in seconds.
const AGAIN: u32 = 2;

/// What a caller saw of a thing before they changed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The revision that last wrote it; 0: it was not there.
    pub revision: Revision,
    /// What it was, for people.
    pub words: String,
}

impl Seen {
    /// A record, or that there is none.
    pub(super) fn of<R>(held: Option<&Held<R>>, words: impl FnOnce(&R) -> String, none: &str) -> Self {
        match held {
            Some(held) => Self { revision: held.version, words: words(&held.record) },
            None => Self { revision: Revision(0), words: none.to_owned() },
        }
    }

    /// Refuses a change of `what`, which is `self` now, by somebody who saw something else of it; `last` is who
    /// changed it when, and `look` the command that shows it. Who does not say what they saw is not asked.
    pub(super) fn expected(
        &self,
        seen: Option<&Self>,
        what: &str,
        last: Option<(&str, UnixTime)>,
        look: &str,
    ) -> Result<(), Refusal> {
        let Some(seen) = seen.filter(|seen| seen.revision != self.revision) else { return Ok(()) };
        let who = last.map_or_else(String::new, |(by, at)| format!(", by {by} at {at}"));
        Err(Refusal::Conflict(format!(
            "{what} was changed since you looked: you saw {}, it is now {}{who}; look again with `{look}`, then decide",
            seen.words, self.words
        )))
    }
}

/// What a change came to: the answer, and the transaction that makes it true, with the deed that it is.
/// Without a transaction there is nothing to write: a dry run, or everything is so already.
pub(super) struct Draft<T> {
    answer: T,
    write: Option<(Txn, Deed)>,
}

impl<T> Draft<T> {
    /// A change that writes.
    pub(super) const fn write(answer: T, txn: Txn, deed: Deed) -> Self {
        Self { answer, write: Some((txn, deed)) }
    }

    /// Nothing to write.
    pub(super) const fn nothing(answer: T) -> Self {
        Self { answer, write: None }
    }

    /// A change that writes unless it is a dry run.
    pub(super) fn unless(dry_run: bool, answer: T, txn: Txn, deed: Deed) -> Self {
        Self { answer, write: (!dry_run).then_some((txn, deed)) }
    }
}

/// Commits what `decide` comes to, with its audit events, or lets it wait for a second person; decides anew when
/// what it rests on was changed in between.
pub(super) async fn commit<T, D>(plant: &Plant, decide: impl Fn() -> D) -> Result<T, Refusal>
where
    D: Future<Output = Result<Draft<T>, Refusal>>,
{
    for _ in 0..ATTEMPTS {
        let Draft { answer, write } = decide().await?;
        let Some((txn, deed)) = write else { return Ok(answer) };
        let Some(txn) = settle(plant, &deed, txn).await? else { return Ok(answer) };
        match plant.store.transact(txn).await {
            Ok(_) => {
                if let Some(second) = deed.reach().actor().second() {
                    second.committed();
                }
                return Ok(answer);
            }
            Err(TxnError::Conflict { .. }) => {}
            Err(error) => return Err(Refusal::internal(error)),
        }
    }
    Err(overtaken())
}

/// What is said to whoever was slower than others each time.
pub(super) fn overtaken() -> Refusal {
    Refusal::TryLater { why: "others change the same things at this moment".to_owned(), seconds: AGAIN }
}
