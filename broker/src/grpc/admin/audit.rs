//! The audit: convert, call, convert.

use std::pin::Pin;
use std::sync::Arc;

use policy::audit::{Event, SignedSeal};
use policy::time::UnixTime;
use proto::v1;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::Administration;
use crate::admin::Actor;
use crate::admin::audit::follow::{Cursor, follow};
use crate::admin::audit::{self, Filter, Part};
use crate::audit::seal;
use crate::grpc::status::status;
use crate::plant::Plant;
use crate::session::Refusal;

/// Seconds after which an administrator who found others exporting asks again.
const BUSY: u32 = 30;
/// Parts that wait for a slow reader.
const WAITING: usize = 4;

/// The parts of an export.
pub(super) type Stream = Pin<Box<dyn tokio_stream::Stream<Item = Result<v1::AuditChunk, Status>> + Send>>;

pub(super) async fn list(
    plant: &Plant,
    actor: &Actor,
    request: v1::ListAuditEventsRequest,
) -> Result<v1::ListAuditEventsResponse, Refusal> {
    let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
    let filter = Filter {
        device: request.device,
        actor: request.actor,
        action: request.action,
        since: UnixTime(request.since),
        until: UnixTime(request.until),
    };
    let latest = audit::latest(plant, actor, &filter, limit).await?;
    let events = latest.events.into_iter().map(event).collect();
    Ok(v1::ListAuditEventsResponse { events, incomplete: latest.incomplete })
}

/// An event, to send.
pub(super) fn event(event: Event) -> v1::AuditEvent {
    v1::AuditEvent {
        at: event.at.0,
        actor: event.actor,
        action: event.action,
        subject: event.subject,
        text: event.text,
        serials: event.serials,
        evidence: event.evidence.map(|digest| digest.0.to_vec()).unwrap_or_default(),
    }
}

pub(super) async fn newest_seal(
    plant: &Plant,
    _: &Actor,
    _: v1::GetAuditSealRequest,
) -> Result<v1::GetAuditSealResponse, Refusal> {
    Ok(v1::GetAuditSealResponse { seal: Some(sealed(seal::newest(plant).await?)) })
}

fn sealed(seal: SignedSeal) -> v1::AuditSeal {
    v1::AuditSeal { payload: seal.payload, signature: seal.signature, certificates: seal.certificates }
}

fn chunk(part: Part) -> v1::AuditChunk {
    match part {
        Part::Seals(seals) => {
            v1::AuditChunk { seals: seals.into_iter().map(sealed).collect(), records: Vec::new() }
        }
        Part::Records(records) => v1::AuditChunk { seals: Vec::new(), records },
    }
}

pub(super) async fn export(
    service: &Administration,
    actor: Actor,
    request: v1::ExportAuditRequest,
) -> Result<Stream, Refusal> {
    // It shows everything, so it is for those who see everything.
    actor.reach(&service.plant, &[]).await?;
    let places = if request.follow { &service.siems } else { &service.exports };
    let busy = || Refusal::TryLater { why: "others export the audit".to_owned(), seconds: BUSY };
    let place = Arc::clone(places).try_acquire_owned().map_err(|_| busy())?;
    let plant = Arc::clone(&service.plant);
    let last: Vec<_> = request.after.into_iter().map(|place| (place.writer, place.number)).collect();
    let cursor = match (request.follow, last.is_empty()) {
        (true, _) => Some(Cursor::after(&plant, &last).await?),
        (false, true) => None,
        (false, false) => {
            return Err(Refusal::malformed("only who follows goes on after a record".to_owned()));
        }
    };
    let (parts, receive) = mpsc::channel(WAITING);
    let (failed, failure) = mpsc::channel(1);
    tokio::spawn(async move {
        let _place = place;
        let since = UnixTime(request.since);
        let done = match cursor {
            Some(cursor) => follow(&plant, &actor, since, cursor, &parts).await,
            None => audit::export(&plant, since, &parts).await,
        };
        if let Err(refusal) = done {
            // A reader that is gone needs no reason.
            let _ = failed.send(status(&plant, &refusal)).await;
        }
    });
    let chunks = ReceiverStream::new(receive).map(|part| Ok(chunk(part)));
    // A failure comes after the last part, so a reader never takes a part for the whole.
    Ok(Box::pin(chunks.chain(ReceiverStream::new(failure).map(Err))))
}
