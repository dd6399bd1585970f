//! Backup and restore as streams.

use std::pin::Pin;
use std::sync::Arc;

use proto::v1;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{Administration, parse};
use crate::admin::backup::restore::Staged;
use crate::admin::{Actor, backup as copy};
use crate::grpc::status::status;
use crate::session::Refusal;

/// Seconds after which an administrator who found another backup running asks again.
const BUSY: u32 = 30;
/// Chunks that wait for a slow reader.
const WAITING: usize = 4;

/// The chunks of a backup.
pub(super) type Stream = Pin<Box<dyn tokio_stream::Stream<Item = Result<v1::BackupChunk, Status>> + Send>>;

fn place(service: &Administration) -> Result<OwnedSemaphorePermit, Refusal> {
    Arc::clone(&service.copies)
        .try_acquire_owned()
        .map_err(|_| Refusal::TryLater { why: "another backup or restore runs".to_owned(), seconds: BUSY })
}

pub(super) async fn backup(service: &Administration, actor: Actor) -> Result<Stream, Refusal> {
    let reach = actor.reach(&service.plant, &[]).await?;
    let place = place(service)?;
    let plant = Arc::clone(&service.plant);
    let (data, chunks) = mpsc::channel(WAITING);
    let (failed, failure) = mpsc::channel(1);
    tokio::spawn(async move {
        let _place = place;
        if let Err(refusal) = copy::backup(&plant, &reach, &data).await {
            // A reader that is gone needs no reason.
            let _ = failed.send(status(&plant, &refusal)).await;
        }
    });
    let chunks = ReceiverStream::new(chunks).map(|data| Ok(v1::BackupChunk { data }));
    // A failure comes after the last chunk, so a reader never takes a part for the whole.
    Ok(Box::pin(chunks.chain(ReceiverStream::new(failure).map(Err))))
}

pub(super) async fn restore(
    service: &Administration,
    actor: Actor,
    mut chunks: Streaming<v1::RestoreChunk>,
) -> Result<v1::RestoreResponse, Refusal> {
    let reach = actor.reach(&service.plant, &[]).await?;
    let place = place(service)?;
    let mut staged = Staged::create(&service.plant).await?;
    let mut serials: Option<Vec<String>> = None;
    let broken = |status: Status| Refusal::malformed(format!("the backup broke off: {}", status.message()));
    while let Some(chunk) = chunks.message().await.map_err(broken)? {
        serials.get_or_insert(chunk.revoked_serials);
        staged.append(&chunk.data).await?;
    }
    let serials = serials.unwrap_or_default();
    let plant = Arc::clone(&service.plant);
    // In a task: it runs to its end even if the caller is gone.
    let work = tokio::spawn(async move {
        let _place = place;
        copy::restore::restore(&plant, &reach, staged, &serials).await
    });
    let done = work.await.map_err(Refusal::internal)??;
    Ok(v1::RestoreResponse {
        plant_epoch: done.epoch,
        records: parse::count(done.records),
        blobs: parse::count(done.blobs),
        notes: done.notes,
    })
}
