//! What a device without a TPM proves itself with: a key in software, which another follows with every proof.
//!
//! Promises: the next key is on disk before the broker hears of it, so whichever of the two the broker accepted last,
//! the device has it.
//! Does not promise that nobody copied the keys: that they change betrays it (`policy::evidence::device_key`).

use policy::digest::Digest;

use crate::software_key::SoftwareKey;

/// The key, what the broker gave with its acceptance, and the key that is to follow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceKey {
    /// The key that the broker accepted last, as far as the device knows.
    pub key: SoftwareKey,
    /// The broker's ticket for it; empty if it gave none, or the answer was lost.
    pub ticket: Vec<u8>,
    /// The key that was offered as the next, if no answer came yet.
    pub next: Option<SoftwareKey>,
}

impl DeviceKey {
    /// A first key.
    pub fn generate() -> Result<Self, rcgen::Error> {
        Ok(Self { key: SoftwareKey::generate()?, ticket: Vec::new(), next: None })
    }

    /// Takes over that the broker expects the next key: it accepted it, and its answer was lost.
    pub fn expected(&mut self, digest: &[u8]) {
        if let Some(next) = self.next.take_if(|next| next.digest().0 == digest) {
            (self.key, self.ticket) = (next, Vec::new());
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
            (self.key, self.ticket) = (next, ticket);
        }
    }

    /// SHA-256 of the key's SubjectPublicKeyInfo.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.key.digest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whichever_key_the_broker_accepted_last_is_there() {
        let mut held = DeviceKey::generate().unwrap();
        let (first, next) = (held.key.clone(), held.offer().unwrap());
        assert_eq!(held.offer().unwrap(), next, "the same is offered until it is accepted");
        held.expected(&first.digest().0);
        assert_eq!((&held.key, held.next.as_ref()), (&first, Some(&next)), "the broker did not hear of it");
        held.expected(&next.digest().0);
        assert_eq!((&held.key, &held.next, held.ticket.len()), (&next, &None, 0), "its answer was lost");
        let last = held.offer().unwrap();
        held.accepted(vec![7]);
        assert_eq!((&held.key, &held.next, held.ticket.as_slice()), (&last, &None, &[7][..]));
    }
}
