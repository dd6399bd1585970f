//! Complete in parts: the request, then a list of Linux IMA that no message holds. And the room for lists of that length,
//! however they come.
//!
//! Promises: whoever sends a list has answered the session's challenge with the AK that it began with; a list has at
//! most [`MAX_IMA_IN_PARTS`] bytes, and all of a door together as many as there is room for. Whoever sends slowly
//! gives way to others and is told to come again; who sends nothing takes no room. How long it may take is bounded for every
//! request alike.

mod room;

use prost::Message;
use proto::v1;
use proto::v1::complete_part::Part;
use proto::{MAX_IMA_IN_PARTS, MAX_REQUEST};
use tonic::{Status, Streaming};

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

/// The place that the list of `request` takes, if it is longer than a message with its beginning, which the broker adds.
pub(super) fn completed(
    plant: &Plant,
    places: &Places,
    door: Door,
    request: &v1::CompleteRequest,
) -> Result<Option<Place>, Refusal> {
    let Some(before) = &request.ima_before else { return Ok(None) };
    let length = usize::try_from(before.length).unwrap_or(usize::MAX).saturating_add(request.ima_log.len());
    // One that is too long is refused before any of it is read.
    if !(MAX_REQUEST..=MAX_IMA_IN_PARTS).contains(&length) {
        return Ok(None);
    }
    proof::answered(plant, request, door)?;
    let mut place = places.take(door);
    place.grow(length)?;
    place.keep()?;
    Ok(Some(place))
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
