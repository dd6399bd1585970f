//! Logs that need not be sent again: the broker has them from the proof before, and their stated digests stand for them. Of
//! the IMA list, which grows by every program that starts, it is what was sent of it then.
//!
//! Does not promise that the broker still has one: it asks for what it lacks, and then the whole request goes.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use policy::digest::Digest;
use proto::v1;

use crate::evidence::Beginning;

/// The logs that came with the last proof that the broker took.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Logs>);

/// The logs of a request.
#[derive(Debug, Default)]
pub(super) struct Logs {
    /// Of those that are sent whole or not at all.
    pub(super) digests: BTreeSet<Digest>,
    /// What was sent of the IMA list.
    pub(super) ima: Option<Beginning>,
}

impl Known {
    /// What the broker knows of the IMA list.
    pub(super) fn ima(&self) -> Option<Beginning> {
        self.logs().ima
    }

    /// `request` without the logs that the broker knows; None if it knows none of them.
    pub(super) fn without(&self, request: &v1::CompleteRequest) -> Option<v1::CompleteRequest> {
        let known = self.logs();
        let mut short = request.clone();
        let mut less = false;
        for log in [&mut short.firmware_log, &mut short.userspace_log, &mut short.image_log] {
            if !log.is_empty() && known.digests.contains(&Digest::of(log)) {
                log.clear();
                less = true;
            }
        }
        less.then_some(short)
    }

    /// The broker took a proof with these.
    pub(super) fn are(&self, logs: Logs) {
        *self.logs() = logs;
    }

    fn logs(&self) -> MutexGuard<'_, Logs> {
        // Whatever it holds is only tried.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The digests of the logs in `request`.
pub(super) fn digests(request: &v1::CompleteRequest) -> BTreeSet<Digest> {
    let logs = [&request.firmware_log, &request.userspace_log, &request.image_log];
    logs.into_iter().filter(|log| !log.is_empty()).map(|log| Digest::of(log)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(firmware: &[u8], userspace: &[u8]) -> v1::CompleteRequest {
        v1::CompleteRequest {
            statement: b"says".to_vec(),
            firmware_log: firmware.to_vec(),
            userspace_log: userspace.to_vec(),
            ..v1::CompleteRequest::default()
        }
    }

    #[test]
    fn what_the_broker_took_last_is_left_out_and_nothing_else() {
        let known = Known::default();
        let whole = request(b"firmware", b"userspace");
        assert_eq!(known.without(&whole), None, "it took nothing yet");
        known.are(Logs { digests: digests(&whole), ima: None });
        assert_eq!(known.without(&whole), Some(request(b"", b"")));
        assert_eq!(known.without(&request(b"firmware", b"grown")), Some(request(b"", b"grown")));
        assert_eq!(known.without(&request(b"", b"")), None, "there is nothing to leave out");
        known.are(Logs { digests: digests(&request(b"another boot", b"")), ima: None });
        assert_eq!(known.without(&whole), None);
    }
}
