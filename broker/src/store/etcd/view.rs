//! Reads of the content that counts: each is one snapshot of etcd, and as new as everything that was answered before.

use super::{
    super::{BrokerId, ReadError, Revision, Versioned},
    cluster::{Cluster, Trouble, holds, ranged, read},
    layout::{Layout, Tip, Writer, decode, end_of, pages, versioned},
};
use arc_swap::ArcSwap;
use proto::etcd::{KeyValue, RangeRequest, RequestOp, TxnRequest};
use std::{collections::BTreeMap, sync::Arc};

/// The content in etcd.
#[derive(Debug)]
pub(super) struct View {
    pub(super) cluster: Arc<Cluster>,
    pub(super) layout: Layout,
    /// The generation that counted last; each read finds out whether it still does.
    pub(super) generation: ArcSwap<String>,
}

/// The store at one moment, as a writer needs it.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) generation: Arc<String>,
    pub(super) tip: Tip,
    /// etcd's revision of the tip.
    pub(super) tip_at: i64,
    pub(super) writer: Option<Writer>,
    /// etcd's revision of the writer; zero without one.
    pub(super) writer_at: i64,
    /// The version of each key that was asked for, if it is there.
    pub(super) versions: BTreeMap<String, Revision>,
}

impl View {
    /// What `reads` finds, given what the keys of the content begin with; and the content's generation.
    pub(super) async fn read(
        &self,
        reads: impl Fn(&str) -> Vec<RequestOp>,
    ) -> Result<(Arc<String>, Vec<Vec<KeyValue>>), Trouble> {
        let pointer = self.layout.generation();
        loop {
            let generation = self.generation.load_full();
            let txn = TxnRequest {
                compare: vec![holds(&pointer, generation.as_bytes())],
                success: reads(&self.layout.data(&generation)),
                failure: vec![read(&pointer)],
            };
            let answer = self.cluster.txn(txn).await?;
            let succeeded = answer.succeeded;
            let mut found = pages(answer);
            if succeeded {
                return Ok((generation, found.collect()));
            }
            let now = found.next().and_then(|page| page.into_iter().next()).ok_or(Trouble::Lost)?;
            self.generation.store(Arc::new(String::from_utf8(now.value).map_err(|_| Trouble::Lost)?));
        }
    }

    /// The records that begin with `prefix` and come after `after`, at most `limit`.
    pub(super) async fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Versioned)>, ReadError> {
        let first = match after {
            // The next key in the order of bytes.
            Some(after) if after >= prefix => format!("{after}\0"),
            _ => prefix.to_owned(),
        };
        let limit = match i64::try_from(limit) {
            // etcd takes zero for no limit.
            Ok(0) | Err(_) => return Ok(Vec::new()),
            Ok(limit) => limit,
        };
        let page = |data: &str| {
            let (key, range_end) =
                (format!("{data}{first}").into_bytes(), end_of(&format!("{data}{prefix}")));
            vec![ranged(RangeRequest { key, range_end, limit, ..RangeRequest::default() })]
        };
        let (generation, pages) = self.read(page).await.map_err(away(prefix))?;
        let data = self.layout.data(&generation);
        pages
            .into_iter()
            .flatten()
            .map(|found| {
                let key = String::from_utf8(found.key).map_err(|_| "a stored key is not ASCII".to_owned())?;
                let key = key.strip_prefix(&data).unwrap_or(&key).to_owned();
                Ok((key, versioned(&found.value)?))
            })
            .collect::<Result<_, String>>()
            .map_err(unreadable(prefix))
    }

    /// The ids of the brokers that ever wrote.
    pub(super) async fn writers(&self) -> Result<Vec<String>, Trouble> {
        let prefix = self.layout.writers();
        let (key, range_end) = (prefix.clone().into_bytes(), end_of(&prefix));
        let reads = |_: &str| {
            let range =
                RangeRequest { key: key.clone(), range_end: range_end.clone(), ..RangeRequest::default() };
            vec![ranged(RangeRequest { keys_only: true, limit: 1000, ..range })]
        };
        let (_, pages) = self.read(reads).await?;
        let id = |found: KeyValue| {
            let key = String::from_utf8_lossy(&found.key).into_owned();
            key.strip_prefix(&prefix).unwrap_or(&key).to_owned()
        };
        Ok(pages.into_iter().flatten().map(id).collect())
    }

    /// The store as `broker` finds it before it writes, with the versions of `keys`.
    pub(super) async fn snapshot(&self, broker: &BrokerId, keys: &[&str]) -> Result<Snapshot, Trouble> {
        let (position, writer) = (self.layout.position(), self.layout.writer(broker));
        let reads = |data: &str| {
            let own = [read(&position), read(&writer)];
            own.into_iter().chain(keys.iter().map(|key| read(&format!("{data}{key}")))).collect()
        };
        let (generation, pages) = self.read(reads).await?;
        let damaged = |error: &dyn std::fmt::Display| Trouble::Damaged { why: error.to_string() };
        let mut pages = pages.into_iter().map(|page| page.into_iter().next());
        let found = pages.next().flatten().ok_or(Trouble::Lost)?;
        let tip = decode(&position, &found).map_err(|error| damaged(&error))?;
        let tip_at = found.mod_revision;
        let found = pages.next().flatten();
        let writer_at = found.as_ref().map_or(0, |found| found.mod_revision);
        let writer =
            found.map(|found| decode(&writer, &found)).transpose().map_err(|error| damaged(&error))?;
        let mut versions = BTreeMap::new();
        for (key, found) in keys.iter().zip(pages) {
            if let Some(found) = found {
                let record = versioned(&found.value).map_err(|error| damaged(&error))?;
                versions.insert((*key).to_owned(), record.version);
            }
        }
        Ok(Snapshot { generation, tip, tip_at, writer, writer_at, versions })
    }
}

fn away(key: &str) -> impl FnOnce(Trouble) -> ReadError {
    let key = key.to_owned();
    move |trouble| ReadError::Away { key, why: trouble.to_string() }
}

fn unreadable(key: &str) -> impl FnOnce(String) -> ReadError {
    let key = key.to_owned();
    move |why| ReadError::Unreadable { key, why }
}
