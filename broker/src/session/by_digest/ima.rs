//! The beginning of an IMA list that a device leaves out because the broker has it from the proof before.
//!
//! Promises: it comes from the last proof of this device, of the same boot, and is what the device says it is to the byte;
//! with what was sent it is a list as it would have come whole. Whoever has not answered the challenge makes the broker
//! read none. Does not promise that records are whole: nothing is read of the list before all of it is there.

use policy::digest::Digest;
use policy::tpm::clock::ClockInfo;
use proto::{MAX_IMA_IN_PARTS, v1};

use crate::plant::Plant;
use crate::record::device::Attested;
use crate::session::challenge::Door;
use crate::session::recorded::RecordedError;
use crate::session::{Refusal, kept, proof};

/// `request` with its whole list, whose beginning may be from the `last` proof. `None`: it has to be sent whole.
pub(super) async fn completed(
    plant: &Plant,
    mut request: v1::CompleteRequest,
    last: Option<&Attested>,
    door: Door,
) -> Result<Option<v1::CompleteRequest>, Refusal> {
    let Some(before) = request.ima_before.take() else { return Ok(Some(request)) };
    let clock = proof::answered(plant, &request, door)?;
    let (length, digest) = stated(&before, request.ima_log.len())?;
    let Some(last) = last.filter(|last| is_of_the_same_boot(last, clock)) else {
        return Ok(None);
    };
    let (blobs, last) = (plant.blobs.clone(), last.clone());
    let read = tokio::task::spawn_blocking(move || {
        let list = kept::ima_beginning(&blobs, &last, length)?;
        Ok::<_, RecordedError>(Some(list).filter(|list| list.len() == length && Digest::of(list) == digest))
    });
    // What is there and cannot be read is sent again, and put anew.
    let Some(mut list) = read.await.map_err(Refusal::internal)?.ok().flatten() else {
        return Ok(None);
    };
    list.extend_from_slice(&request.ima_log);
    request.ima_log = list;
    Ok(Some(request))
}

/// Length and digest of what is left out, beside so many bytes that were sent.
fn stated(before: &v1::LogBeginning, sent: usize) -> Result<(usize, Digest), Refusal> {
    let malformed = |why: &str| Refusal::malformed(format!("what is left out of the IMA list {why}"));
    let length = usize::try_from(before.length).unwrap_or(usize::MAX);
    if length == 0 {
        return Err(malformed("is nothing; send the list alone"));
    }
    if length.saturating_add(sent) > MAX_IMA_IN_PARTS {
        return Err(malformed(&format!("makes it longer than {MAX_IMA_IN_PARTS} bytes")));
    }
    let digest = Digest::try_from(before.digest.as_slice());
    digest.map(|digest| (length, digest)).map_err(|_| malformed("has no SHA-256"))
}

/// A list begins anew with each boot.
const fn is_of_the_same_boot(last: &Attested, clock: ClockInfo) -> bool {
    last.reset_count == clock.reset_count
}
