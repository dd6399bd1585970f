//! Another content in place of the present one, and the removal of what no longer counts.
//!
//! The new content is written beside the old one, as a generation of its own; one transaction then makes it the one
//! that counts. Whoever reads or writes compares the generation, so nobody sees a mixture.

use super::{
    super::{
        ChainHead, Content, ReplaceError, Revision,
        chain::{AUDIT_PREFIX, head_at},
        commit::{Journal, Position, Replacement},
        limit::LimitError,
    },
    cluster::{Trouble, absent, ranged, read},
    committer::{Committer, encoded, put},
    layout::{Tip, end_of, generation_after, number_of, pages, stored, versioned},
};
use proto::etcd::{
    DeleteRangeRequest, KeyValue, RangeRequest, RequestOp, TxnRequest,
    range_request::{SortOrder, SortTarget},
    request_op::Request as Op,
};
use std::{collections::BTreeMap, io, sync::Arc};

/// Records that are written at once: with the longest values half a megabyte.
const CHUNK: usize = 100;

/// Keys that are removed at once.
const SWEPT: i64 = 1000;

/// Some records, and the rest of the content.
type Chunk = (Content, Vec<io::Result<(String, Vec<u8>)>>);

impl Committer {
    /// Replaces the content.
    pub(super) async fn replace(
        &mut self,
        content: Content,
        past: Revision,
    ) -> Result<Revision, ReplaceError> {
        let away = |trouble: Trouble| ReplaceError::Away { why: trouble.to_string() };
        let snapshot = loop {
            if let Some(why) = &self.poison {
                return Err(ReplaceError::Poisoned { why: why.clone() });
            }
            if let Some(snapshot) = self.snapshot(&[]).await.map_err(away)? {
                break snapshot;
            }
        };
        let begun = snapshot.writer.as_ref().map(|writer| writer.position.clone()).unwrap_or_default();
        let journal =
            Journal::resume(self.broker.clone(), Position { revision: snapshot.tip.revision, ..begun });
        let mut replacement = journal.replace(past)?;
        let generation = generation_after(&snapshot.generation, &self.process);
        self.fill(&generation, content, &mut replacement).await?;

        let revision = replacement.revision;
        self.commits = self.commits.saturating_add(1);
        let tip = Tip { revision, changes: Vec::new() };
        let success = vec![
            put(&self.view.layout.generation(), generation.clone().into_bytes()),
            put(&self.view.layout.position(), encoded(&tip).map_err(away)?),
            self.put_writer(&generation, journal.replaced(replacement)).map_err(away)?,
        ];
        match self.sent(&snapshot, success).await {
            Ok(true) => {}
            Ok(false) => return Err(ReplaceError::Overtaken),
            Err(trouble @ Trouble::Unanswered { .. }) => {
                return Err(ReplaceError::OutcomeUnknown { why: trouble.to_string() });
            }
            Err(trouble) => return Err(away(trouble)),
        }
        self.seen = revision;
        self.view.generation.store(Arc::new(generation));
        self.feed.follow(revision, Vec::new());
        if let Err(trouble) = self.sweep().await {
            tracing::warn!(%trouble, "the replaced content stays in etcd until a broker starts");
        }
        Ok(revision)
    }

    /// Writes the content as `generation`.
    async fn fill(
        &self,
        generation: &str,
        mut content: Content,
        replacement: &mut Replacement,
    ) -> Result<(), ReplaceError> {
        let data = self.view.layout.data(generation);
        // What an attempt before left.
        self.clear(&data).await.map_err(|trouble| ReplaceError::Away { why: trouble.to_string() })?;
        loop {
            let (rest, chunk) = next_chunk(content).await?;
            content = rest;
            let mut records = BTreeMap::new();
            for record in chunk {
                let (key, value) = record.map_err(ReplaceError::Source)?;
                replacement.note(&key, &value).map_err(ReplaceError::Limit)?;
                if records.insert(key.clone(), stored(replacement.revision, &value)).is_some() {
                    return Err(ReplaceError::Limit(LimitError::WrittenTwice { key }));
                }
            }
            if records.is_empty() {
                return Ok(());
            }
            self.add(&data, records).await?;
        }
    }

    /// Adds records that are not there yet.
    async fn add(&self, data: &str, records: BTreeMap<String, Vec<u8>>) -> Result<(), ReplaceError> {
        let keys = || records.keys().map(|key| format!("{data}{key}"));
        let txn = TxnRequest {
            compare: keys().map(|key| absent(&key)).collect(),
            success: records.iter().map(|(key, value)| put(&format!("{data}{key}"), value.clone())).collect(),
            failure: keys().map(|key| read(&key)).collect(),
        };
        let answer = self.view.cluster.txn(txn).await;
        let answer = answer.map_err(|trouble| ReplaceError::Away { why: trouble.to_string() })?;
        if answer.succeeded {
            return Ok(());
        }
        let found: Vec<Option<KeyValue>> = pages(answer).map(|page| page.into_iter().next()).collect();
        // All of them, with these values: a first copy of this transaction, whose answer was lost.
        let same = |(found, value): (&Option<KeyValue>, &Vec<u8>)| {
            found.as_ref().is_some_and(|found| found.value == *value)
        };
        if found.iter().zip(records.values()).all(same) {
            return Ok(());
        }
        let twice = records.keys().zip(&found).find(|(_, found)| found.is_some());
        let key = twice.map(|(key, _)| key.clone()).unwrap_or_default();
        Err(ReplaceError::Limit(LimitError::WrittenTwice { key }))
    }

    /// The start and head of this broker's last chain in a content that came from a backup.
    pub(super) async fn inherited(&self) -> Result<Option<(u64, ChainHead)>, Trouble> {
        let chains = format!("{AUDIT_PREFIX}{}.", self.broker);
        let (mut after, mut last) = (chains.clone(), None);
        // The chains of the starts, one by one: there are as many as are kept.
        while let Some(found) = self.one(&after, &chains, SortOrder::Ascend).await? {
            let Some((start, _)) = head_at(&self.broker, &found.0, &[]) else { break };
            last = last.max(Some(start));
            after = format!("{chains}{start}/\x7f");
        }
        let Some(start) = last else { return Ok(None) };
        let chain = format!("{chains}{start}/");
        let found = self.one(&chain, &chain, SortOrder::Descend).await?;
        Ok(found.and_then(|(key, value)| head_at(&self.broker, &key, &value)))
    }

    /// The first or last record from `first` on whose key begins with `prefix`.
    async fn one(
        &self,
        first: &str,
        prefix: &str,
        order: SortOrder,
    ) -> Result<Option<(String, Vec<u8>)>, Trouble> {
        let reads = |data: &str| {
            vec![ranged(RangeRequest {
                key: format!("{data}{first}").into_bytes(),
                range_end: end_of(&format!("{data}{prefix}")),
                limit: 1,
                sort_order: order.into(),
                sort_target: SortTarget::Key.into(),
                ..RangeRequest::default()
            })]
        };
        let (generation, pages) = self.view.read(reads).await?;
        let Some(found) = pages.into_iter().flatten().next() else { return Ok(None) };
        let key = String::from_utf8_lossy(&found.key).into_owned();
        let key = key.strip_prefix(&self.view.layout.data(&generation)).unwrap_or(&key).to_owned();
        let record = versioned(&found.value).map_err(|why| Trouble::Damaged { why })?;
        Ok(Some((key, record.value)))
    }

    /// Removes contents that were replaced, or never came to count.
    pub(super) async fn sweep(&self) -> Result<(), Trouble> {
        let all = self.view.layout.all_data();
        let mut first = all.clone();
        while let Some(found) = self.keys(&first, &all, 1).await?.first() {
            let generation =
                found.strip_prefix(&all).and_then(|rest| rest.split('/').next()).unwrap_or_default();
            let data = self.view.layout.data(generation);
            let current = self.view.generation.load_full();
            // A higher number is a restore under way.
            if generation != *current && number_of(generation) <= number_of(&current) {
                self.clear(&data).await?;
            }
            first = format!("{data}\x7f");
        }
        Ok(())
    }

    async fn clear(&self, prefix: &str) -> Result<(), Trouble> {
        loop {
            let found = self.keys(prefix, prefix, SWEPT).await?;
            let (Some(first), Some(last)) = (found.first(), found.last()) else { return Ok(()) };
            let (key, range_end) = (first.as_bytes().to_vec(), format!("{last}\0").into_bytes());
            let remove =
                RequestOp { request: Some(Op::RequestDeleteRange(DeleteRangeRequest { key, range_end })) };
            self.view.cluster.txn(TxnRequest { success: vec![remove], ..TxnRequest::default() }).await?;
        }
    }

    /// The first keys of etcd from `first` on that begin with `prefix`.
    async fn keys(&self, first: &str, prefix: &str, limit: i64) -> Result<Vec<String>, Trouble> {
        let range = RangeRequest {
            key: first.as_bytes().to_vec(),
            range_end: end_of(prefix),
            limit,
            keys_only: true,
            ..RangeRequest::default()
        };
        let answer =
            self.view.cluster.txn(TxnRequest { success: vec![ranged(range)], ..TxnRequest::default() });
        let found = pages(answer.await?).flatten();
        Ok(found.map(|found| String::from_utf8_lossy(&found.key).into_owned()).collect())
    }
}

/// The next records of the content, which reads files.
async fn next_chunk(mut content: Content) -> Result<Chunk, ReplaceError> {
    let taken = tokio::task::spawn_blocking(move || {
        let chunk = content.by_ref().take(CHUNK).collect();
        (content, chunk)
    });
    taken.await.map_err(|error| ReplaceError::Source(io::Error::other(error)))
}
