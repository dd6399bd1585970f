//! The key that signs attestation results.

use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey};

use crate::audit::Event;
use crate::ca::{AuthorityKey, CaError};
use crate::plant::Plant;
use crate::ports::EntropyError;
use crate::record::plant::{EAR, EarSigning};
use crate::record::{Held, RecordError, fetch, stored};
use crate::secrets::OpenError;
use crate::store::{Txn, TxnError};

/// The algorithm of every token, and the only one that is verified.
pub(super) const ALGORITHM: Algorithm = Algorithm::ES256;

/// The key for attestation results cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EarKeyError {
    /// The store cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The store refused the new key.
    #[error("the new key for attestation results cannot be stored")]
    Store(#[from] TxnError),
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// No key could be made.
    #[error("no key for attestation results could be made")]
    Make(#[from] CaError),
    /// The key-encryption key is another one.
    #[error(
        "the key for attestation results does not open under this broker's key-encryption key; put back the `secrets` folder that belongs to this store"
    )]
    Wrapped(#[from] OpenError),
    /// The token library does not take the key.
    #[error("the key for attestation results cannot be used")]
    Token(#[from] jsonwebtoken::errors::Error),
    /// It was written and is not there.
    #[error("the key for attestation results is gone; restore the last backup")]
    Gone,
}

/// The key, opened. Never printed.
pub struct EarKey {
    pub(super) signing: EncodingKey,
    public: Jwk,
    pub(super) kid: String,
}

impl std::fmt::Debug for EarKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EarKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl EarKey {
    /// Opens the key, and makes it first where there is none yet.
    pub async fn open(plant: &Plant) -> Result<Self, EarKeyError> {
        let store = plant.store.as_ref();
        let held: Option<Held<EarSigning>> = fetch(store, EAR.to_owned()).await?;
        let record = match held {
            Some(held) => held.record,
            None => {
                make(plant).await?;
                let made: Option<Held<EarSigning>> = fetch(store, EAR.to_owned()).await?;
                made.ok_or(EarKeyError::Gone)?.record
            }
        };
        let pkcs8 = plant.kek.open(EAR.as_bytes(), &record.wrapped_key.0)?;
        Self::from_pkcs8(&pkcs8)
    }

    /// The key in this PKCS#8 document; its id is the thumbprint of its public part (RFC 7638).
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, EarKeyError> {
        let signing = EncodingKey::from_ec_der(pkcs8);
        let mut public = Jwk::from_encoding_key(&signing, ALGORITHM)?;
        let kid = public.thumbprint(ThumbprintHash::SHA256)?;
        public.common.key_id = Some(kid.clone());
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(Self { signing, public, kid })
    }

    /// What Relying Parties verify results with (RFC 7517, section 5).
    #[must_use]
    pub fn jwks(&self) -> JwkSet {
        JwkSet { keys: vec![self.public.clone()] }
    }
}

/// Stores a new key; somebody else's is as good, if it was faster.
async fn make(plant: &Plant) -> Result<(), EarKeyError> {
    let key = AuthorityKey::generate()?.to_pkcs8();
    let wrapped_key = plant.kek.seal(plant.entropy.as_ref(), EAR.as_bytes(), &key)?.into();
    let now = plant.now();
    let event = Event::new(now, "broker", "ear-key.create", "ear", "made on first use");
    let record = EarSigning { wrapped_key, created: now };
    let txn = Txn::new().absent(EAR).put(EAR, stored(&record)?).audit(event.entry());
    match plant.store.transact(txn).await {
        Ok(_) | Err(TxnError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
