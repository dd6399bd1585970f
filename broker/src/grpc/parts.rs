//! Complete in parts: the request, then a list of Linux IMA that no message holds. And the room for lists of that length,
//! however they come.
//!
//! Promises: whoever sends a list has answered the session's challenge with the AK that it began with; a list has at
//! most [`MAX_IMA_IN_PARTS`] bytes, and all of a door together as many as there is room for. Whoever sends slowly
//! gives way to others and is told to come again; who sends nothing takes no room. How long it may take is bounded for every
//! request alike.

mod room;

use prost::Message;
use proto::MAX_IMA_IN_PARTS;
use proto::v1;
use proto::v1::complete_part::Part;
use tonic::{Status, Streaming};
use tracing::Instrument as _;

use self::room::{Lost, Room};
use crate::plant::Plant;
use crate::session::challenge::Door;
use crate::session::{Refusal, proof};

pub(super) use self::room::Place;

/// Bytes of lists of unknown devices that are held at once: two of the longest.
const ENROLLING: usize = 2 * MAX_IMA_IN_PARTS;
/// Bytes of lists of known devices that are held at once.
const ATTESTING: usize = 4 * MAX_IMA_IN_PARTS;
/// Seconds after which a device that found no room asks again: a list takes some seconds.
const BUSY: u32 = 15;

/// The places for lists in parts.
#[derive(Debug, Clone)]
pub(super) struct Places {
    enrolling: Room,
    attesting: Room,
}

impl Default for Places {
    fn default() -> Self {
        Self { enrolling: Room::new(ENROLLING), attesting: Room::new(ATTESTING) }
    }
}

impl Places {
    fn take(&self, door: Door) -> Place {
        match door {
            Door::Enrollment => self.enrolling.take(),
            Door::Attestation => self.attesting.take(),
        }
    }
}

impl From<Lost> for Refusal {
    fn from(_: Lost) -> Self {
        Self::TryLater {
            why: "the broker is busy with the IMA lists of other devices".to_owned(),
            seconds: BUSY,
        }
    }
}

/// The request with which a completion begins.
pub(super) async fn first(parts: &mut Streaming<v1::CompletePart>) -> Result<v1::CompleteRequest, Refusal> {
    match next(parts).await? {
        Some(Part::Request(request)) => Ok(request),
        Some(Part::ImaLog(_)) | None => {
            Err(Refusal::malformed("send the request before its list".to_owned()))
        }
    }
}

/// A request with its whole list, and the place that it takes.
pub(super) async fn rest(
    plant: &Plant,
    places: &Places,
    door: Door,
    mut request: v1::CompleteRequest,
    mut parts: Streaming<v1::CompletePart>,
) -> Result<(v1::CompleteRequest, Place), Refusal> {
    proof::answered(plant, &request, door)?;
    let mut place = places.take(door);
    place.grow(request.encoded_len())?;
    if !request.ima_log.is_empty() || request.ima_before.is_some() {
        return Err(Refusal::malformed(
            "send the whole list after the request, or the whole in it".to_owned(),
        ));
    }
    loop {
        let part = tokio::select! {
            biased;
            () = place.lost() => return Err(Lost.into()),
            part = next(&mut parts) => part?,
        };
        match part {
            Some(Part::ImaLog(bytes)) if !bytes.is_empty() => {
                place.grow(bytes.len())?;
                add(&mut request.ima_log, &bytes)?;
            }
            Some(Part::ImaLog(_) | Part::Request(_)) => {
                return Err(Refusal::malformed("after the request, send parts of its list".to_owned()));
            }
            None => break,
        }
    }
    place.keep()?;
    Ok((request, place))
}

/// The place that the list of `request` takes if its beginning was left out, which the broker reads and adds.
pub(super) fn completed(
    plant: &Plant,
    places: &Places,
    door: Door,
    request: &v1::CompleteRequest,
) -> Result<Option<Place>, Refusal> {
    let Some(before) = &request.ima_before else { return Ok(None) };
    let length = usize::try_from(before.length).unwrap_or(usize::MAX).saturating_add(request.ima_log.len());
    // One that is too long is refused before any of it is read.
    if length > MAX_IMA_IN_PARTS {
        return Ok(None);
    }
    proof::answered(plant, request, door)?;
    let mut place = places.take(door);
    place.grow(length)?;
    place.keep()?;
    Ok(Some(place))
}

/// Does `work` to its end, also if nobody waits for it any more: reading a list cannot be broken off, and until it is read its
/// place is nobody else's.
pub(super) async fn to_its_end<T: Send + 'static>(
    place: Place,
    work: impl Future<Output = Result<T, Refusal>> + Send + 'static,
) -> Result<T, Refusal> {
    let work = async move {
        let ended = work.await;
        drop(place);
        ended
    };
    tokio::spawn(work.in_current_span()).await.map_err(Refusal::internal)?
}

fn add(list: &mut Vec<u8>, part: &[u8]) -> Result<(), Refusal> {
    if list.len().saturating_add(part.len()) > MAX_IMA_IN_PARTS {
        return Err(Refusal::malformed(format!(
            "the IMA list has more than {MAX_IMA_IN_PARTS} bytes; let the kernel's IMA policy measure less and reboot"
        )));
    }
    list.extend_from_slice(part);
    Ok(())
}

async fn next(parts: &mut Streaming<v1::CompletePart>) -> Result<Option<Part>, Refusal> {
    let broken = |status: Status| Refusal::malformed(format!("the parts ended early: {}", status.message()));
    let Some(message) = parts.message().await.map_err(broken)? else { return Ok(None) };
    message.part.map(Some).ok_or_else(|| Refusal::malformed("a part is empty".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Poll;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_keeps_its_place_until_it_ends() {
        let places = Places::default();
        let whole = || {
            let mut place = places.take(Door::Attestation);
            place.grow(ATTESTING).and_then(|()| place.keep()).map(|()| place)
        };
        let (end, ended) = oneshot::channel::<()>();
        let mut work =
            Box::pin(to_its_end(whole().unwrap(), async move { ended.await.map_err(Refusal::internal) }));
        assert!(std::future::poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await.is_pending());
        drop(work);
        tokio::task::yield_now().await;
        let refusal = Refusal::from(whole().unwrap_err());
        assert!(
            matches!(&refusal, Refusal::TryLater { why, .. } if why.contains("IMA lists of other devices"))
        );
        end.send(()).unwrap();
        let free = async {
            while whole().is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), free)
            .await
            .expect("its place is given back");
    }
}
