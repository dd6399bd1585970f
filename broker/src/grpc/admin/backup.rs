//! Backup and restore as streams.

use std::pin::Pin;
use std::sync::Arc;

use proto::v1;
use tokio::sync::OwnedSemaphorePermit;
use tonic::{Status, Streaming};

use super::Administration;
use crate::admin::Actor;
use crate::session::Refusal;

/// Seconds after which an administrator who found another backup running asks again.
const BUSY: u32 = 30;

/// The chunks of a backup.
pub(super) type Stream = Pin<Box<dyn tokio_stream::Stream<Item = Result<v1::BackupChunk, Status>> + Send>>;

pub(super) async fn backup(service: &Administration, _: Actor) -> Result<Stream, Refusal> {
    let _place = place(service)?;
    Err(Refusal::internal("backups are not served yet".to_owned()))
}

pub(super) async fn restore(
    service: &Administration,
    _: &Actor,
    _: Streaming<v1::RestoreChunk>,
) -> Result<v1::RestoreResponse, Refusal> {
    let _place = place(service)?;
    Err(Refusal::internal("restores are not served yet".to_owned()))
}

fn place(service: &Administration) -> Result<OwnedSemaphorePermit, Refusal> {
    Arc::clone(&service.copies)
        .try_acquire_owned()
        .map_err(|_| Refusal::TryLater { why: "another backup or restore runs".to_owned(), seconds: BUSY })
}
