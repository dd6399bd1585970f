//! Changes: decided on what was read, committed only if it still holds, decided anew if not.

use crate::plant::Plant;
use crate::session::Refusal;
use crate::store::{Txn, TxnError};

/// How often a change is decided anew when somebody else was faster. Losing five times in a row means
/// that the plant is busy with something larger.
const ATTEMPTS: usize = 5;
/// When to come again after that, in seconds.
const AGAIN: u32 = 2;

/// What a change came to: the answer, and the transaction that makes it true. Without a transaction
/// there is nothing to write: a dry run, or everything is so already.
pub(super) struct Draft<T> {
    pub(super) answer: T,
    pub(super) txn: Option<Txn>,
}

impl<T> Draft<T> {
    /// A change that writes.
    pub(super) const fn write(answer: T, txn: Txn) -> Self {
        Self { answer, txn: Some(txn) }
    }

    /// Nothing to write.
    pub(super) const fn nothing(answer: T) -> Self {
        Self { answer, txn: None }
    }

    /// A change that writes unless it is a dry run.
    pub(super) fn unless(dry_run: bool, answer: T, txn: Txn) -> Self {
        Self { answer, txn: (!dry_run).then_some(txn) }
    }
}

/// Commits what `decide` comes to; decides anew when what it rests on was changed in between.
pub(super) async fn commit<T, D>(plant: &Plant, decide: impl Fn() -> D) -> Result<T, Refusal>
where
    D: Future<Output = Result<Draft<T>, Refusal>>,
{
    for _ in 0..ATTEMPTS {
        let Draft { answer, txn } = decide().await?;
        let Some(txn) = txn else { return Ok(answer) };
        match plant.store.transact(txn).await {
            Ok(_) => return Ok(answer),
            Err(TxnError::Conflict { .. }) => {}
            Err(error) => return Err(Refusal::internal(error)),
        }
    }
    Err(Refusal::TryLater { why: "others change the same things at this moment".to_owned(), seconds: AGAIN })
}
