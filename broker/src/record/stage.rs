//! Changes that are too large for one transaction: their records are written first and count once one key says
//! that the change is committed.

use std::collections::BTreeMap;

use policy::time::UnixTime;
use serde::{Deserialize, Serialize};

use super::RecordError;
use crate::store::Store;
use crate::store::record::{Record, decode};

/// Prefix of changes.
pub const STAGE: &str = "stage/";

/// How far a change is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Progress {
    /// Its records are being written.
    Open,
    /// Its records count. The record stays: they name it.
    Committed,
    /// Given up; its records are being removed.
    Abandoned,
}

/// One change.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stage {
    /// How far it is.
    pub progress: Progress,
    /// Who asked for it.
    pub by: String,
    /// When it began.
    pub at: UnixTime,
}

impl Record for Stage {
    const VERSION: u32 = 1;
    const KIND: &'static str = "staged change";
}

/// Key of the change `id`.
#[must_use]
pub fn stage_key(id: &str) -> String {
    format!("{STAGE}{id}")
}

/// Which changes are committed, as far as somebody asked: a scan meets the same one often.
#[derive(Debug, Default)]
pub(super) struct Commits(BTreeMap<String, bool>);

impl Commits {
    /// Whether a record of the change `stage` counts.
    pub(super) async fn count(
        &mut self,
        store: &dyn Store,
        stage: Option<String>,
    ) -> Result<bool, RecordError> {
        let Some(id) = stage else { return Ok(true) };
        if let Some(known) = self.0.get(&id) {
            return Ok(*known);
        }
        let key = stage_key(&id);
        let found = store.get(&key).await?;
        let progress = found.map(|found| decode::<Stage>(&key, &found.value)).transpose()?;
        let committed = progress.is_some_and(|stage| stage.progress == Progress::Committed);
        self.0.insert(id, committed);
        Ok(committed)
    }
}
