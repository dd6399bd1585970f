//! Believing the signature of a grant: its claims are `policy::access`'s to judge.

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use policy::access::grant::{MAX_TOKEN, TYPE};
use policy::access::{AccessGrant, AccessGrantError};

/// A grant is not to be believed.
#[derive(Debug, thiserror::Error)]
pub enum GrantFault {
    /// Too long.
    #[error("the grant has {0} bytes; at most {MAX_TOKEN} are read")]
    TooLarge(usize),
    /// A token of another kind, or with a header that must be understood and is not.
    #[error("the token's header says {0}; a grant is needed")]
    Header(String),
    /// A key that the trust set does not have.
    #[error("no key that this device was told of has the id of the grant")]
    Key,
    /// Not signed, signed otherwise, or not by this key.
    #[error("the grant is not validly signed with ES256 by a key of the broker")]
    Signature(#[source] jsonwebtoken::errors::Error),
    /// Signed, and not for this.
    #[error(transparent)]
    Claims(#[from] AccessGrantError),
}

/// The claims of `token`, if a key of the JWK Set `keys` signed it as a grant. The algorithm is ours to name, never the
/// token's.
pub(super) fn verify(token: &str, keys: &str) -> Result<AccessGrant, GrantFault> {
    if token.len() > MAX_TOKEN {
        return Err(GrantFault::TooLarge(token.len()));
    }
    let header = decode_header(token).map_err(GrantFault::Signature)?;
    if header.typ.as_deref() != Some(TYPE) {
        return Err(GrantFault::Header(format!("typ {:?}", header.typ)));
    }
    if header.crit.is_some() {
        return Err(GrantFault::Header("crit".to_owned()));
    }
    let keys: JwkSet = serde_json::from_str(keys).map_err(|_| GrantFault::Key)?;
    let key = header.kid.as_deref().and_then(|kid| keys.find(kid)).ok_or(GrantFault::Key)?;
    let key = DecodingKey::from_jwk(key).map_err(GrantFault::Signature)?;
    let decoded = decode::<AccessGrant>(token, &key, &validation()).map_err(GrantFault::Signature)?;
    Ok(decoded.claims)
}

/// The algorithm, and the claims that must be there. Their values and times are judged by [`AccessGrant::verify`], which
/// takes the time as a value.
fn validation() -> Validation {
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation.leeway = 0;
    validation
}
