//! The one task of a broker that reads single values: what is asked for while a read is under way goes together in the
//! next. A proof asks for two dozen records, and many devices prove at once; each read by itself is a call that three
//! nodes have to agree on.
//!
//! Promises: a read begins after all that it answers was asked for, so it is as new as everything that was told before.

use super::{super::Versioned, cluster::Trouble, cluster::read, layout::versioned, view::View};
use proto::etcd::KeyValue;
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::{mpsc, oneshot};

/// Values that may be asked for. Callers beyond it wait before they enter.
pub(super) const QUEUE: usize = 1024;

/// Most keys of one read. etcd takes 128 operations by default.
const GROUP_KEYS: usize = 120;

/// Why a value was not read.
#[derive(Debug, Clone)]
pub(super) enum Unread {
    /// No node answered.
    Away(String),
    /// What is stored is damaged.
    Unreadable(String),
}

/// A value that is asked for.
pub(super) struct Asked {
    pub(super) key: String,
    pub(super) answer: oneshot::Sender<Found>,
}

/// The value, if it is there.
pub(super) type Found = Result<Option<Versioned>, Unread>;

/// Who waits for each value.
type Waiting = BTreeMap<String, Vec<oneshot::Sender<Found>>>;

/// Serves what is asked for until every sender is gone.
pub(super) async fn run(view: Arc<View>, mut asked: mpsc::Receiver<Asked>) {
    let mut group = Waiting::new();
    while let Some(one) = asked.recv().await {
        add(&mut group, one);
        while group.len() < GROUP_KEYS
            && let Ok(next) = asked.try_recv()
        {
            add(&mut group, next);
        }
        if group.is_empty() {
            continue;
        }
        if let Err(away) = serve(&view, std::mem::take(&mut group)).await {
            // Who asked meanwhile was not answered either: nobody waits for more than this read and the next.
            while let Ok(next) = asked.try_recv() {
                let _ = next.answer.send(Err(away.clone()));
            }
        }
    }
}

/// Adds a value, if somebody still waits for it.
fn add(group: &mut Waiting, Asked { key, answer }: Asked) {
    if !answer.is_closed() {
        group.entry(key).or_default().push(answer);
    }
}

/// Reads all of a group and answers it; an error is what it was answered.
async fn serve(view: &View, group: Waiting) -> Result<(), Unread> {
    let reads = |data: &str| group.keys().map(|key| read(&format!("{data}{key}"))).collect();
    let pages = view.read(reads).await.map(|(_, pages)| pages);
    let mut pages = pages.map(Vec::into_iter).map_err(|trouble| Unread::Away(trouble.to_string()));
    for answers in group.into_values() {
        let found = match &mut pages {
            Ok(pages) => pages.next().map_or_else(|| Err(Unread::Away(Trouble::Lost.to_string())), value),
            Err(away) => Err(away.clone()),
        };
        for answer in answers {
            // Who asked may have gone.
            let _ = answer.send(found.clone());
        }
    }
    pages.map(drop)
}

fn value(page: Vec<KeyValue>) -> Found {
    let found = page.into_iter().next();
    found.map(|found| versioned(&found.value)).transpose().map_err(Unread::Unreadable)
}
