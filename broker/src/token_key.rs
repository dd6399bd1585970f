//! Keys that sign tokens: one for attestation results, one for grants.
//!
//! Each signs its own kind of token and nothing else, and no certificate hangs on it. It is made on first use, and
//! wrapped at rest like every other key. What this module does not promise: rotation of a key, or revocation of a
//! token; a token ends soon.

use std::marker::PhantomData;

use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::Serialize;

use crate::access::GrantKey;
use crate::audit::Event;
use crate::ca::{AuthorityKey, CaError};
use crate::ear::EarKey;
use crate::plant::Plant;
use crate::ports::EntropyError;
use crate::record::plant::TokenSigning;
use crate::record::{Held, RecordError, fetch, stored};
use crate::secrets::OpenError;
use crate::session::Refusal;
use crate::store::{Txn, TxnError};
use crate::trust;

/// The algorithm of every token, and the only one that is verified.
pub(crate) const ALGORITHM: Algorithm = Algorithm::ES256;

/// What tokens of one kind are for.
pub trait Purpose: Send + Sync + 'static {
    /// Key of the record, and the context that the key is wrapped in.
    const KEY: &'static str;
    /// What the audit calls the key.
    const NAME: &'static str;
    /// Media type of the tokens, without `application/` (RFC 7515, section 4.1.9).
    const TYPE: &'static str;
    /// Whether devices are sent the public key: it is in their trust sets.
    const TOLD: bool;
}

/// A key for tokens cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenKeyError {
    /// The store cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The store refused the new key.
    #[error("a new key for tokens cannot be stored")]
    Store(#[from] TxnError),
    /// The trust sets that are to name it cannot be raised.
    #[error("devices cannot be told of a new key for tokens")]
    Trust(#[from] Refusal),
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// No key could be made.
    #[error("no key for tokens could be made")]
    Make(#[from] CaError),
    /// The key-encryption key is another one.
    #[error(
        "the key for tokens does not open under this broker's key-encryption key; put back the `secrets` folder that belongs to this store"
    )]
    Wrapped(#[from] OpenError),
    /// The token library does not take the key.
    #[error("the key for tokens cannot be used")]
    Token(#[from] jsonwebtoken::errors::Error),
    /// It was written and is not there.
    #[error("the key for tokens is gone; restore the last backup")]
    Gone,
}

/// A key, opened. Never printed.
pub struct TokenKey<P> {
    pub(crate) signing: EncodingKey,
    public: Jwk,
    pub(crate) kid: String,
    purpose: PhantomData<P>,
}

impl<P> std::fmt::Debug for TokenKey<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// Makes the key of every kind of token that has none yet.
pub async fn make_all(plant: &Plant) -> Result<(), TokenKeyError> {
    EarKey::open(plant).await?;
    GrantKey::open(plant).await.map(drop)
}

/// The public keys of every kind of token that there is a key for; nothing is made for whoever asks.
pub async fn published(plant: &Plant) -> Result<JwkSet, TokenKeyError> {
    let (results, grants) = (EarKey::find(plant).await?, GrantKey::find(plant).await?);
    let keys = results.map(|key| key.jwks().keys).into_iter().flatten();
    Ok(JwkSet { keys: keys.chain(grants.map(|key| key.jwks().keys).into_iter().flatten()).collect() })
}

impl<P: Purpose> TokenKey<P> {
    /// Opens the key, and makes it first where there is none yet.
    pub async fn open(plant: &Plant) -> Result<Self, TokenKeyError> {
        if let Some(key) = Self::find(plant).await? {
            return Ok(key);
        }
        Self::make(plant).await?;
        Self::find(plant).await?.ok_or(TokenKeyError::Gone)
    }

    /// Opens the key, if there is one.
    pub async fn find(plant: &Plant) -> Result<Option<Self>, TokenKeyError> {
        let held: Option<Held<TokenSigning>> = fetch(plant.store.as_ref(), P::KEY.to_owned()).await?;
        let Some(held) = held else { return Ok(None) };
        let pkcs8 = plant.kek.open(P::KEY.as_bytes(), &held.record.wrapped_key.0)?;
        Self::from_pkcs8(&pkcs8).map(Some)
    }

    /// The key in this PKCS#8 document; its id is the thumbprint of its public part (RFC 7638).
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, TokenKeyError> {
        let signing = EncodingKey::from_ec_der(pkcs8);
        let mut public = Jwk::from_encoding_key(&signing, ALGORITHM)?;
        let kid = public.thumbprint(ThumbprintHash::SHA256)?;
        public.common.key_id = Some(kid.clone());
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(Self { signing, public, kid, purpose: PhantomData })
    }

    /// What Relying Parties verify tokens with (RFC 7517, section 5).
    #[must_use]
    pub fn jwks(&self) -> JwkSet {
        JwkSet { keys: vec![self.public.clone()] }
    }

    /// Signs claims as a token of this kind.
    pub fn sign(&self, claims: &impl Serialize) -> Result<String, jsonwebtoken::errors::Error> {
        let mut header = Header::new(ALGORITHM);
        header.typ = Some(P::TYPE.to_owned());
        header.kid = Some(self.kid.clone());
        encode(&header, claims, &self.signing)
    }

    /// Stores a new key; somebody else's is as good, if it was faster.
    async fn make(plant: &Plant) -> Result<(), TokenKeyError> {
        let key = AuthorityKey::generate()?.to_pkcs8();
        let wrapped_key = plant.kek.seal(plant.entropy.as_ref(), P::KEY.as_bytes(), &key)?.into();
        let now = plant.now();
        let event = Event::new(now, "broker", &format!("{}.create", P::NAME), P::KEY, "made on first use");
        let record = TokenSigning { wrapped_key, created: now };
        let txn = Txn::new().absent(P::KEY).put(P::KEY, stored(&record)?).audit(event.entry());
        let txn = if P::TOLD { trust::raise(plant, txn, now).await? } else { txn };
        match plant.store.transact(txn).await {
            Ok(_) | Err(TxnError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
