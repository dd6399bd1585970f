//! Logs that need not be sent again: the broker has them from the proof before, and their stated digests stand for them.
//!
//! Does not promise that the broker still has one: it asks for what it lacks, and then the whole request goes.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use policy::digest::Digest;
use proto::v1;

/// Digests of the logs that came with the last proof that the broker took.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Digests>);

/// Of the logs of a request.
pub(super) type Digests = BTreeSet<Digest>;

impl Known {
    /// `request` without the logs that the broker knows; None if it knows none of them.
    pub(super) fn without(&self, request: &v1::CompleteRequest) -> Option<v1::CompleteRequest> {
        let known = self.digests();
        let mut short = request.clone();
        let mut less = false;
        for log in [&mut short.firmware_log, &mut short.userspace_log, &mut short.image_log] {
            if !log.is_empty() && known.contains(&Digest::of(log)) {
                log.clear();
                less = true;
            }
        }
        less.then_some(short)
    }

    /// The broker took a proof with these.
    pub(super) fn are(&self, digests: Digests) {
        *self.digests() = digests;
    }

    fn digests(&self) -> MutexGuard<'_, Digests> {
        // Whatever it holds is only tried.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The digests of the logs in `request`.
pub(super) fn digests(request: &v1::CompleteRequest) -> Digests {
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
        known.are(digests(&whole));
        assert_eq!(known.without(&whole), Some(request(b"", b"")));
        assert_eq!(known.without(&request(b"firmware", b"grown")), Some(request(b"", b"grown")));
        assert_eq!(known.without(&request(b"", b"")), None, "there is nothing to leave out");
        known.are(digests(&request(b"another boot", b"")));
        assert_eq!(known.without(&whole), None);
    }
}
