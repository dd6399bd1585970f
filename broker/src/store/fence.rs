//! Any store, whose transactions may carry the term that they are made in.
//!
//! Promises: what a task writes within [`within`] is written only while the term lasts, whatever it is that it calls;
//! who comes late is told so by [`TxnError::Fenced`].
//! Does not promise: that for tasks which that one spawns; leader work spawns none that writes.

use async_trait::async_trait;

use super::{
    Content, Expect, ProbeError, ReadError, ReplaceError, Revision, Store, Txn, TxnError, Versioned, Watch,
};

/// What a transaction expects of a term: that `key` was last written by `version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    /// The key that each term writes.
    pub key: &'static str,
    /// The revision that this term wrote it by.
    pub version: Revision,
}

tokio::task_local! {
    static TERM: Term;
}

/// Does `work`, whose transactions are of `term`.
pub async fn within<F: Future>(term: Term, work: F) -> F::Output {
    TERM.scope(term, work).await
}

/// A store that knows terms.
pub struct Fenced<S>(pub S);

#[async_trait]
impl<S: Store> Store for Fenced<S> {
    async fn get(&self, key: &str) -> Result<Option<Versioned>, ReadError> {
        self.0.get(key).await
    }

    async fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Versioned)>, ReadError> {
        self.0.scan(prefix, after, limit).await
    }

    async fn transact(&self, txn: Txn) -> Result<Revision, TxnError> {
        let Ok(Term { key, version }) = TERM.try_with(|term| *term) else {
            return self.0.transact(txn).await;
        };
        // First, so that a late one is told that it is late, and not what else changed meanwhile.
        let txn = Txn::new().expecting(key, Expect::Version(version)).and(txn);
        self.0.transact(txn).await.map_err(|error| match error {
            TxnError::Conflict { key: conflicting, .. } if conflicting == key => TxnError::Fenced,
            error => error,
        })
    }

    fn watch(&self, after: Revision) -> Watch {
        self.0.watch(after)
    }

    fn revision(&self) -> Revision {
        self.0.revision()
    }

    async fn replace_all(&self, content: Content, past: Revision) -> Result<Revision, ReplaceError> {
        self.0.replace_all(content, past).await
    }

    async fn probe(&self) -> Result<(), ProbeError> {
        self.0.probe().await
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::{MemoryDisk, MemoryStore};
    use super::*;

    #[tokio::test]
    async fn a_late_one_writes_nothing() {
        let store = Fenced(MemoryStore::open(&MemoryDisk::default(), "one".parse().unwrap()));
        let begin = async || store.transact(Txn::new().put("leader", "somebody")).await.unwrap();
        let former = Term { key: "leader", version: begin().await };
        let work = || store.transact(Txn::new().put("work", "done").audit("done"));
        within(former, work()).await.unwrap();
        let present = Term { key: "leader", version: begin().await };
        let late = within(former, store.transact(Txn::new().absent("work").put("work", "late"))).await;
        assert!(matches!(late, Err(TxnError::Fenced)), "{late:?}");
        assert_eq!(store.get("work").await.unwrap().unwrap().value, b"done");
        within(present, work()).await.unwrap();
        work().await.unwrap();
    }
}
