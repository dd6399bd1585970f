//! The issuing key of a plant that is recovered: the one that is there, or a new one under the plant root.

use policy::time::{UnixTime, Validity};

use super::RecoverError;
use crate::ca::{AuthorityKey, Issuer, profile};
use crate::init::{ISSUING_LIFETIME, serial};
use crate::ports::Entropy;
use crate::record::plant::{ISSUING, Issuing, Plant};
use crate::record::{RecordError, fetch, stored};
use crate::secrets::SecretKey;
use crate::store::{Store, Txn};

/// The issuing key that the recovered plant has.
pub(super) struct IssuingKey {
    pub(super) issuer: Issuer,
    /// Its record, if it was made just now and the store does not know it yet.
    made: Option<Issuing>,
}

/// What is needed to make one.
pub(super) struct Maker<'a> {
    pub(super) root: &'a Issuer,
    pub(super) plant: &'a Plant,
    pub(super) kek: &'a SecretKey,
    pub(super) now: UnixTime,
    pub(super) entropy: &'a dyn Entropy,
}

impl IssuingKey {
    /// Generation of a key that was made just now.
    pub(super) fn made(&self) -> Option<u32> {
        self.made.as_ref().map(|record| record.generation)
    }

    /// The transaction, with the key if it is new.
    pub(super) fn kept(&self, txn: Txn) -> Result<Txn, RecordError> {
        Ok(match &self.made {
            Some(record) => txn.put(ISSUING, stored(record)?),
            None => txn,
        })
    }
}

impl Maker<'_> {
    /// The key that the store holds, or a new one if `anew`, or if that one has ended or cannot be used.
    pub(super) async fn issuing_key(
        &self,
        store: &dyn Store,
        anew: bool,
    ) -> Result<IssuingKey, RecoverError> {
        let held = match fetch::<Issuing>(store, ISSUING.to_owned()).await {
            Ok(held) => held.map(|held| held.record),
            Err(RecordError::Read(error)) => return Err(RecordError::Read(error).into()),
            // A record that cannot be understood is a lost key.
            Err(_) => None,
        };
        let generation = held.as_ref().map(|record| record.generation);
        let usable = held.filter(|record| !anew && record.not_after > self.now);
        match usable.and_then(|record| self.opened(record)) {
            Some(issuer) => Ok(IssuingKey { issuer, made: None }),
            None => self.make(generation),
        }
    }

    fn opened(&self, record: Issuing) -> Option<Issuer> {
        let key = self.kek.open(ISSUING.as_bytes(), &record.wrapped_key.0).ok()?;
        let key = AuthorityKey::from_pkcs8(&key).ok()?;
        Issuer::new(record.certificate.0, record.not_after, key).ok()
    }

    fn make(&self, former: Option<u32>) -> Result<IssuingKey, RecoverError> {
        // Seconds since 1970 (until 2106) count on from any that was: devices refuse a number below the highest they
        // saw, and a former one may not be known, or be of a backup from before another recovery.
        let seconds = u32::try_from(self.now.0).unwrap_or(u32::MAX);
        let generation = seconds.max(former.map_or(0, |former| former.saturating_add(1)));
        let not_after = self.now.plus(ISSUING_LIFETIME).min(self.root.not_after());
        let validity = Validity { not_before: self.now.minus(86_400), not_after };
        let key = AuthorityKey::generate()?;
        let params = profile::issuing(&self.plant.domain, generation, validity, serial(self.entropy)?)?;
        let certificate = self.root.sign_certificate(&params, &key.spki())?;
        let record = Issuing {
            generation,
            certificate: certificate.clone().into(),
            wrapped_key: self.kek.seal(self.entropy, ISSUING.as_bytes(), &key.to_pkcs8())?.into(),
            not_after,
        };
        Ok(IssuingKey { issuer: Issuer::new(certificate, not_after, key)?, made: Some(record) })
    }
}
