//! What a device without a TPM proves itself with: a key in software, which another follows with every proof.
//!
//! Promises: the next key is on disk before the broker hears of it, so whichever of the two the broker accepted last,
//! the device has it. So is the broker's ticket for a key before the key is used: what the broker was told by a key that
//! somebody copied, it can tell from what the device said.
//! Does not promise that nobody copied the keys: that they change betrays it (`policy::evidence::device_key`).

use policy::digest::Digest;

use crate::software_key::SoftwareKey;

/// Longest ticket that is kept, in bytes: that of a broker is a name and some numbers, sealed.
const MAX_TICKET: usize = 4096;

/// The key, what the broker gave with its acceptance, and the key that is to follow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceKey {
    /// The key that the broker accepted last, as far as the device knows.
    pub key: SoftwareKey,
    /// The broker's ticket for it; empty if it gave none yet: it is the first.
    pub ticket: Vec<u8>,
    /// The key that was offered as the next, if no answer came yet.
    pub next: Option<SoftwareKey>,
}

impl DeviceKey {
    /// A first key.
    pub fn generate() -> Result<Self, rcgen::Error> {
        Ok(Self { key: SoftwareKey::generate()?, ticket: Vec::new(), next: None })
    }

    /// Whether the key with this digest is the device's: its current one, or the next one, if the answer was lost that
    /// accepted it.
    #[must_use]
    pub fn has(&self, digest: &[u8]) -> bool {
        self.key.digest().0 == digest || self.is_next(digest)
    }

    fn is_next(&self, digest: &[u8]) -> bool {
        self.next.as_ref().is_some_and(|next| next.digest().0 == digest)
    }

    /// Takes over which key the broker expects, with its ticket for that.
    pub fn expected(&mut self, digest: &[u8], ticket: Vec<u8>) {
        if self.is_next(digest) {
            self.accepted(ticket);
        } else if self.key.digest().0 == digest && is_ticket(&ticket) {
            self.ticket = ticket;
        }
    }

    /// The next key, which is made if there is none.
    pub fn offer(&mut self) -> Result<SoftwareKey, rcgen::Error> {
        let next = match self.next.take() {
            Some(next) => next,
            None => SoftwareKey::generate()?,
        };
        self.next = Some(next.clone());
        Ok(next)
    }

    /// The broker accepted the next key with this ticket.
    pub fn accepted(&mut self, ticket: Vec<u8>) {
        if let Some(next) = self.next.take() {
            (self.key, self.ticket) = (next, if is_ticket(&ticket) { ticket } else { Vec::new() });
        }
    }

    /// SHA-256 of the key's SubjectPublicKeyInfo.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.key.digest()
    }
}

const fn is_ticket(ticket: &[u8]) -> bool {
    !ticket.is_empty() && ticket.len() <= MAX_TICKET
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whichever_key_the_broker_accepted_last_is_there() {
        let mut held = DeviceKey::generate().unwrap();
        let (first, next) = (held.key.clone(), held.offer().unwrap());
        assert_eq!(held.offer().unwrap(), next, "the same is offered until it is accepted");
        held.expected(&first.digest().0, vec![1]);
        assert_eq!((&held.key, held.next.as_ref()), (&first, Some(&next)), "the broker did not hear of it");
        assert_eq!(held.ticket, [1]);
        assert!(held.has(&first.digest().0) && held.has(&next.digest().0) && !held.has(&[0; 32]));
        held.expected(&[0; 32], vec![2]);
        assert_eq!((&held.key, held.ticket.as_slice()), (&first, &[1][..]), "it is of another's key");
        held.expected(&next.digest().0, vec![3]);
        assert_eq!(
            (&held.key, &held.next, held.ticket.as_slice()),
            (&next, &None, &[3][..]),
            "its answer was lost"
        );
        held.expected(&next.digest().0, vec![4; MAX_TICKET + 1]);
        assert_eq!(held.ticket, [3]);
        let last = held.offer().unwrap();
        held.accepted(vec![7]);
        assert_eq!((&held.key, &held.next, held.ticket.as_slice()), (&last, &None, &[7][..]));
    }
}
