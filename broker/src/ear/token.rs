//! An EAR as a JWT: signing it, and believing it.

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, TokenData, Validation, decode, decode_header};
use policy::appraisal::ear::{Ear, EarError};
use policy::time::UnixTime;
use serde::{Deserialize, Serialize};

use crate::record::plant::EAR;
use crate::token_key::{ALGORITHM, Purpose, TokenKey};

/// Media type of the token, without `application/` (RFC 9782).
const TYPE: &str = "eat+jwt";
/// Longest token that is read: a result takes 1 KiB.
const MAX_TOKEN: usize = 16 * 1024;

/// Tokens that are attestation results.
#[derive(Debug)]
pub enum Results {}

impl Purpose for Results {
    const KEY: &'static str = EAR;
    const NAME: &'static str = "ear-key";
    const TYPE: &'static str = TYPE;
    const TOLD: bool = false;
}

/// The key that signs attestation results.
pub type EarKey = TokenKey<Results>;

/// What is signed: the EAR, who says it, and of whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// The plant's domain.
    pub iss: String,
    /// SPIFFE ID of the device in the zone that appraised it.
    pub sub: String,
    /// The result.
    #[serde(flatten)]
    pub ear: Ear,
}

/// A token is not to be believed.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Too long.
    #[error("the token has {0} bytes; at most {MAX_TOKEN} are read")]
    TooLarge(usize),
    /// Not signed, signed otherwise, or not by this key.
    #[error("the token is not validly signed with ES256 by a key of the broker")]
    Signature(#[source] jsonwebtoken::errors::Error),
    /// A token of another kind, or with a header that must be understood and is not.
    #[error("the token's header says {0}; an attestation result is needed")]
    Header(String),
    /// A key that the set does not have.
    #[error("no key of the set has the id {0:?}; fetch it again with `touchstone authority jwks`")]
    Key(Option<String>),
    /// Signed, and not to be relied on.
    #[error(transparent)]
    Ear(#[from] EarError),
}

/// Believes a token at `now`: ES256 by a key of `keys`, an attestation result by its header, the pinned
/// profile, not ended, and no status above its claims. The algorithm is ours to name, never the token's.
pub fn verify(token: &str, keys: &JwkSet, now: UnixTime) -> Result<Signed, TokenError> {
    if token.len() > MAX_TOKEN {
        return Err(TokenError::TooLarge(token.len()));
    }
    let header = decode_header(token).map_err(TokenError::Signature)?;
    if header.typ.as_deref() != Some(TYPE) {
        return Err(TokenError::Header(format!("typ {:?}", header.typ)));
    }
    if header.crit.is_some() {
        return Err(TokenError::Header("crit".to_owned()));
    }
    let key = header.kid.as_deref().and_then(|kid| keys.find(kid));
    let key = key.ok_or_else(|| TokenError::Key(header.kid.clone()))?;
    let key = DecodingKey::from_jwk(key).map_err(TokenError::Signature)?;
    let TokenData { claims, .. } =
        decode::<Signed>(token, &key, &validation()).map_err(TokenError::Signature)?;
    claims.ear.verify(now)?;
    Ok(claims)
}

/// The algorithm and the claims that must be there. The library would take the time from the system and
/// a minute of leeway; [`Ear::verify`] takes the time as a value and seconds.
fn validation() -> Validation {
    let mut validation = Validation::new(ALGORITHM);
    validation.set_required_spec_claims(&["exp", "iss", "sub"]);
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.leeway = 0;
    validation
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
    use policy::appraisal::AppraisalRecord;
    use policy::appraisal::Verdict;
    use policy::appraisal::claims::{Claim, ClaimValue, Claims};
    use policy::appraisal::ear::{PROFILE, VerifierId};

    use super::*;
    use crate::ca::AuthorityKey;

    const AT: UnixTime = UnixTime(1_800_000_000);

    fn key() -> EarKey {
        EarKey::from_pkcs8(&AuthorityKey::generate().unwrap().to_pkcs8()).unwrap()
    }

    fn signed() -> Signed {
        let mut claims = Claims::default();
        claims.lower_to(Claim::Executables, ClaimValue::BOOT_APPROVED);
        let record = AppraisalRecord {
            zone: "cell-3".parse().unwrap(),
            at: AT,
            verdict: Verdict::Affirming,
            claims,
            release: None,
            closest: None,
            findings: Vec::new(),
            findings_left_out: 0,
            not_appraised: Vec::new(),
        };
        let verifier = VerifierId { developer: "t".to_owned(), build: "1".to_owned() };
        Signed {
            iss: "plant.example".to_owned(),
            sub: "spiffe://cell-3.plant.example/device/press-7".to_owned(),
            ear: Ear::of(&record, None, verifier, AT.plus(900)),
        }
    }

    /// Signs with a header of the test's own.
    fn with_header(key: &EarKey, change: impl Fn(&mut Header)) -> String {
        let mut header = Header::new(ALGORITHM);
        header.typ = Some(TYPE.to_owned());
        header.kid = Some(key.kid.clone());
        change(&mut header);
        encode(&header, &signed(), &key.signing).unwrap()
    }

    #[test]
    fn a_token_is_believed_with_the_published_keys() {
        let key = key();
        let token = key.sign(&signed()).unwrap();
        assert_eq!(verify(&token, &key.jwks(), AT).unwrap(), signed());
        let jwks = serde_json::to_value(key.jwks()).unwrap();
        let published = &jwks["keys"][0];
        for (field, expected) in [("kty", "EC"), ("crv", "P-256"), ("alg", "ES256"), ("use", "sig")] {
            assert_eq!(published[field], expected, "{published}");
        }
        assert!(published["d"].is_null(), "the private key is published");
        // RFC 7638, section 3: required members in order, no white space.
        let text = format!(r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#, published["x"], published["y"]);
        let thumbprint = policy::digest::Digest::of(text.as_bytes());
        assert_eq!(published["kid"], URL_SAFE_NO_PAD.encode(thumbprint.0));
        assert_eq!(decode_header(&token).unwrap().kid.as_deref(), published["kid"].as_str());
    }

    #[test]
    fn another_key_time_or_profile_is_refused_for_what_it_is() {
        let (key, other) = (key(), key());
        let token = key.sign(&signed()).unwrap();
        assert!(matches!(verify(&token, &other.jwks(), AT), Err(TokenError::Key(Some(_)))));
        // The right id over a wrong key.
        let mut forged = other.jwks();
        forged.keys[0].common.key_id = Some(key.kid.clone());
        assert!(matches!(verify(&token, &forged, AT), Err(TokenError::Signature(_))));
        let late = verify(&token, &key.jwks(), AT.plus(905));
        assert!(matches!(late, Err(TokenError::Ear(EarError::Expired(_)))), "{late:?}");
        let mut foreign = signed();
        foreign.ear.eat_profile = "tag:ietf.org,2026:rats/ear#03".to_owned();
        let foreign = verify(&key.sign(&foreign).unwrap(), &key.jwks(), AT);
        assert!(matches!(foreign, Err(TokenError::Ear(EarError::Profile(_)))), "{foreign:?}");
        assert_eq!(signed().ear.eat_profile, PROFILE);
    }

    #[test]
    fn the_token_does_not_choose_its_algorithm() {
        let key = key();
        let token = key.sign(&signed()).unwrap();
        let parts: Vec<&str> = token.split('.').collect();
        let none = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"none","typ":"{TYPE}","kid":"{}"}}"#, key.kid));
        for unsigned in [format!("{none}.{}.", parts[1]), format!("{none}.{}.{}", parts[1], parts[2])] {
            let refused = verify(&unsigned, &key.jwks(), AT);
            assert!(matches!(refused, Err(TokenError::Signature(_))), "{refused:?}");
        }
        // The public key as an HMAC secret.
        let mut header = Header::new(Algorithm::HS256);
        header.typ = Some(TYPE.to_owned());
        header.kid = Some(key.kid.clone());
        let secret = serde_json::to_vec(&key.jwks()).unwrap();
        let hmac = encode(&header, &signed(), &EncodingKey::from_secret(&secret)).unwrap();
        assert!(matches!(verify(&hmac, &key.jwks(), AT), Err(TokenError::Signature(_))));
    }

    #[test]
    fn a_changed_payload_another_kind_and_unknown_demands_are_refused() {
        let key = key();
        let token = key.sign(&signed()).unwrap();
        let parts: Vec<&str> = token.split('.').collect();
        let mut better = signed();
        better.ear.exp += 1;
        let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&better).unwrap());
        let changed = format!("{}.{payload}.{}", parts[0], parts[2]);
        assert!(matches!(verify(&changed, &key.jwks(), AT), Err(TokenError::Signature(_))));
        let changes: [fn(&mut Header); 3] = [
            |header| header.typ = Some("JWT".to_owned()),
            |header| header.typ = None,
            |header| header.crit = Some(vec!["b64".to_owned()]),
        ];
        for change in changes {
            let refused = verify(&with_header(&key, change), &key.jwks(), AT);
            assert!(matches!(refused, Err(TokenError::Header(_))), "{refused:?}");
        }
        let nameless = verify(&with_header(&key, |header| header.kid = None), &key.jwks(), AT);
        assert!(matches!(nameless, Err(TokenError::Key(None))), "{nameless:?}");
        let long = verify(&"a".repeat(MAX_TOKEN + 1), &key.jwks(), AT);
        assert!(matches!(long, Err(TokenError::TooLarge(_))), "{long:?}");
    }
}
