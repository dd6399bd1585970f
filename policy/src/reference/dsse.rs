//! DSSE envelopes (Dead Simple Signing Envelope, version 1.0.2): how a manifest is signed.
//!
//! A signature is over the pre-authentication encoding of type and payload, so it cannot be taken for
//! one over something else, and the payload is kept as the bytes that were signed. Signing itself
//! happens outside: [`Unsigned::to_be_signed`] gives the bytes, [`Unsigned::signed_by`] takes a signature,
//! [`Envelope::new`] holds it.
//!
//! What this module does not promise: it does not know which keys are in force. Verify what is new under today's
//! [`ReleaseKeys`]; what was signed by a key that was removed since is then refused by name.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use super::keys::{ReleaseKey, ReleaseKeys};
use super::manifest::{MAX_MANIFEST_BYTES, Manifest, ManifestFaults};
use super::release::ReleaseId;
use crate::digest::Digest;
use crate::id::{ProductName, ReleaseKeyName};
use crate::time::UnixTime;

/// What the payload of a release's envelope is.
pub const PAYLOAD_TYPE: &str = "application/vnd.touchstone.release.v1+toml";
/// Longest envelope in bytes: a manifest in base64, sixteen signatures, and room for JSON.
pub const MAX_ENVELOPE_BYTES: usize = MAX_MANIFEST_BYTES / 3 * 4 + 64 * 1024;
/// Most signatures of an envelope; each may be tried against every release key.
pub const MAX_SIGNATURES: usize = 16;

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// The pre-authentication encoding (DSSE protocol, "Signature Definition"):
/// `DSSEv1 <len(type)> <type> <len(payload)> <payload>`.
#[must_use]
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// One signature of an envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvelopeSignature {
    /// A hint at the key. Touchstone writes the digest of its `SubjectPublicKeyInfo`; what others
    /// write is ignored, since nothing protects it.
    #[serde(default)]
    pub keyid: String,
    /// The signature in base64.
    pub sig: String,
}

/// A signed manifest as it travels: parsed JSON, nothing verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

/// An envelope is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// More bytes than are read.
    #[error("the envelope has {0} bytes; {MAX_ENVELOPE_BYTES} are allowed")]
    TooLarge(usize),
    /// Not the JSON of an envelope.
    #[error("this is no DSSE envelope: {0}; sign the manifest with `touchstone golden sign`")]
    NotAnEnvelope(String),
    /// An envelope of something else.
    #[error("the envelope holds `{0}`, not a release; its payloadType must be {PAYLOAD_TYPE}")]
    PayloadType(String),
    /// A field that is not base64.
    #[error("`{0}` is not base64")]
    NotBase64(&'static str),
    /// A payload that is not UTF-8.
    #[error("the payload is no text; sign the manifest's TOML")]
    NotText,
    /// More signatures than are tried.
    #[error(
        "the envelope has {0} signatures; {MAX_SIGNATURES} are allowed, so sign the manifest itself again with the keys that are needed"
    )]
    TooManySignatures(usize),
    /// Signatures over another text.
    #[error(
        "the file that is signed already holds another text, so both signatures cannot be in one envelope; sign the manifest itself again with every key"
    )]
    OtherPayload,
    /// No signature at all.
    #[error("the envelope is not signed; sign it with a registered release key")]
    Unsigned,
    /// No signature by a registered key.
    #[error(
        "none of the {0} signature(s) is by a registered release key over this payload; sign it again or register the key"
    )]
    UnknownSigner(usize),
    /// A key that was removed signed, and those in force do not suffice.
    #[error(
        "it is signed by the release key {name} ({key}), which was removed on {at}; sign it with keys in force, which `touchstone golden key list` shows"
    )]
    RemovedSigner {
        /// What people called the key.
        name: ReleaseKeyName,
        /// The key.
        key: Digest,
        /// When it was removed.
        at: UnixTime,
    },
    /// The payload is no manifest.
    #[error("{0}")]
    Manifest(ManifestFaults),
    /// Signed by keys that may not sign this product.
    #[error("the signing key {key} may not sign releases of {product}; sign it with a key for that product")]
    OtherProduct {
        /// The product of the manifest.
        product: ProductName,
        /// A key that signed.
        key: Digest,
    },
    /// Signed by too few keys.
    #[error(
        "{release} is signed by {found} of {needed} needed keys for its product; have it signed by more of those that `touchstone golden key list` shows"
    )]
    TooFewSigners {
        /// The release.
        release: ReleaseId,
        /// Different keys that signed and may.
        found: usize,
        /// How many are asked.
        needed: u8,
    },
    /// A payload that is written in another way than the canonical one.
    #[error(
        "the payload is not in canonical form from line {line} on; sign what `touchstone golden show` prints"
    )]
    NotCanonical {
        /// First line that differs, from 1.
        line: usize,
    },
}

/// A signature that was made outside is none by the key over the manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no signature by the key {key} over {release}; sign the very bytes that `touchstone golden payload` writes: with SHA-256 for a P-256 key (DER, or 64 bytes), as they are for an Ed25519 key"
)]
pub struct ForeignSignature {
    /// The key that is said to have signed.
    pub key: Digest,
    /// The release.
    pub release: ReleaseId,
}

/// A manifest that waits for its signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsigned {
    release: ReleaseId,
    text: String,
}

impl Unsigned {
    /// The canonical text of `manifest`.
    #[must_use]
    pub fn new(manifest: &Manifest) -> Self {
        Self { release: manifest.id().clone(), text: manifest.render() }
    }

    /// The bytes that a release key signs.
    #[must_use]
    pub fn to_be_signed(&self) -> Vec<u8> {
        pae(PAYLOAD_TYPE, self.text.as_bytes())
    }

    /// A signature by `key` that was made outside, as [`Envelope::new`] takes it.
    pub fn signed_by(
        &self,
        key: &ReleaseKey,
        signature: &[u8],
    ) -> Result<(Digest, Vec<u8>), ForeignSignature> {
        let foreign = |_| ForeignSignature { key: key.id(), release: self.release.clone() };
        let signature = key.signature(&self.to_be_signed(), signature).map_err(foreign)?;
        Ok((key.id(), signature))
    }
}

impl Envelope {
    /// The envelope of a manifest with signatures over [`Unsigned::to_be_signed`], each with the id of
    /// its key.
    #[must_use]
    pub fn new(unsigned: &Unsigned, signatures: &[(Digest, Vec<u8>)]) -> Self {
        let signatures = signatures
            .iter()
            .map(|(key, sig)| EnvelopeSignature { keyid: key.to_string(), sig: BASE64_STANDARD.encode(sig) })
            .collect();
        Self {
            payload: BASE64_STANDARD.encode(&unsigned.text),
            payload_type: PAYLOAD_TYPE.to_owned(),
            signatures,
        }
    }

    /// Reads the JSON of an envelope. Unknown fields are ignored, as the specification asks.
    pub fn parse(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        if bytes.len() > MAX_ENVELOPE_BYTES {
            return Err(EnvelopeError::TooLarge(bytes.len()));
        }
        let envelope: Self =
            serde_json::from_slice(bytes).map_err(|error| EnvelopeError::NotAnEnvelope(error.to_string()))?;
        match envelope.signatures.len() {
            0 => Err(EnvelopeError::Unsigned),
            1..=MAX_SIGNATURES => Ok(envelope),
            more => Err(EnvelopeError::TooManySignatures(more)),
        }
    }

    /// The JSON of the envelope.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Three strings and a list of pairs of strings always have a JSON form.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Adds the signatures of another envelope of the same payload.
    pub fn merge(mut self, other: &Self) -> Result<Self, EnvelopeError> {
        if self.payload != other.payload || self.payload_type != other.payload_type {
            return Err(EnvelopeError::OtherPayload);
        }
        for signature in &other.signatures {
            if !self.signatures.contains(signature) {
                self.signatures.push(signature.clone());
            }
        }
        match self.signatures.len() {
            0..=MAX_SIGNATURES => Ok(self),
            more => Err(EnvelopeError::TooManySignatures(more)),
        }
    }

    /// Whether `key` signed the payload. ECDSA signatures of one key differ each time, so that a second one of the
    /// same key is not seen by comparing them.
    #[must_use]
    pub fn is_signed_by(&self, key: &ReleaseKey) -> bool {
        decode(&self.payload, "payload").is_ok_and(|payload| self.has_signature(&payload, key))
    }

    /// The manifest that the payload states. Nothing is verified: it only says which keys to ask, or what it was.
    pub fn stated(&self) -> Result<Manifest, EnvelopeError> {
        let payload = decode(&self.payload, "payload")?;
        let text = str::from_utf8(&payload).map_err(|_| EnvelopeError::NotText)?;
        Manifest::parse(text).map_err(EnvelopeError::Manifest)
    }

    /// Verifies that enough registered keys for its product signed the manifest, in canonical form.
    pub fn verify(&self, keys: &ReleaseKeys) -> Result<SignedRelease, EnvelopeError> {
        if self.payload_type != PAYLOAD_TYPE {
            return Err(EnvelopeError::PayloadType(self.payload_type.chars().take(120).collect()));
        }
        let payload = decode(&self.payload, "payload")?;
        let signers = self.signers(&payload, keys)?;
        let text = str::from_utf8(&payload).map_err(|_| EnvelopeError::NotText)?;
        let manifest = Manifest::parse(text).map_err(EnvelopeError::Manifest)?;
        let signers = signers_for_product(signers, &manifest, keys);
        let signers = signers.map_err(|error| self.naming_removed(error, &payload, keys))?;
        match first_difference(text, &manifest.render()) {
            None => Ok(SignedRelease { manifest, signers, needed: keys.threshold() }),
            Some(line) => Err(EnvelopeError::NotCanonical { line }),
        }
    }

    /// The registered keys that signed `payload`, whatever they may sign.
    fn signers(&self, payload: &[u8], keys: &ReleaseKeys) -> Result<BTreeSet<Digest>, EnvelopeError> {
        let message = pae(PAYLOAD_TYPE, payload);
        let mut signers = BTreeSet::new();
        for signature in &self.signatures {
            let bytes = decode(&signature.sig, "sig")?;
            let signer = keys.iter().find(|key| key.verify(&message, &bytes).is_ok());
            signers.extend(signer.map(ReleaseKey::id));
        }
        if signers.is_empty() {
            let unknown = EnvelopeError::UnknownSigner(self.signatures.len());
            return Err(self.naming_removed(unknown, payload, keys));
        }
        Ok(signers)
    }

    /// The refusal, or, if a key that was removed signed, one that names it.
    fn naming_removed(&self, error: EnvelopeError, payload: &[u8], keys: &ReleaseKeys) -> EnvelopeError {
        let signed = keys.removed().iter().find(|removed| self.has_signature(payload, &removed.key));
        signed.map_or(error, |removed| EnvelopeError::RemovedSigner {
            name: removed.name.clone(),
            key: removed.key.id(),
            at: removed.at,
        })
    }

    fn has_signature(&self, payload: &[u8], key: &ReleaseKey) -> bool {
        let message = pae(&self.payload_type, payload);
        let signatures = self.signatures.iter().filter_map(|signature| decode(&signature.sig, "sig").ok());
        signatures.into_iter().any(|signature| key.verify(&message, &signature).is_ok())
    }
}

fn signers_for_product(
    signers: BTreeSet<Digest>,
    manifest: &Manifest,
    keys: &ReleaseKeys,
) -> Result<BTreeSet<Digest>, EnvelopeError> {
    let may_sign = |id: &Digest| keys.key(id).is_some_and(|key| key.products().contains(manifest.product()));
    let (allowed, others): (BTreeSet<Digest>, BTreeSet<Digest>) = signers.into_iter().partition(may_sign);
    match others.first() {
        Some(key) if allowed.is_empty() => {
            Err(EnvelopeError::OtherProduct { product: manifest.product().clone(), key: *key })
        }
        _ if allowed.len() < usize::from(keys.threshold()) => Err(EnvelopeError::TooFewSigners {
            release: manifest.id().clone(),
            found: allowed.len(),
            needed: keys.threshold(),
        }),
        _ => Ok(allowed),
    }
}

/// The specification lets the writer choose either alphabet; padding is as the writer likes.
fn decode(text: &str, field: &'static str) -> Result<Vec<u8>, EnvelopeError> {
    let engine = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
    engine.decode(text).map_err(|_| EnvelopeError::NotBase64(field))
}

/// The first line, from 1, at which two texts differ.
fn first_difference(found: &str, canonical: &str) -> Option<usize> {
    if found == canonical {
        return None;
    }
    let same = found.split('\n').zip(canonical.split('\n')).take_while(|(a, b)| a == b).count();
    Some(same + 1)
}

/// A manifest that enough release keys of its product signed. Outside this crate only
/// [`Envelope::verify`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRelease {
    manifest: Manifest,
    signers: BTreeSet<Digest>,
    needed: u8,
}

impl SignedRelease {
    /// A manifest that nobody signed, for [`ReferenceByHand`](super::by_hand::ReferenceByHand) and
    /// [`Supposed`](super::supposed::Supposed) alone.
    pub(super) const fn by_hand(manifest: Manifest) -> Self {
        Self { manifest, signers: BTreeSet::new(), needed: 0 }
    }

    /// What the release accepts.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Product and version.
    #[must_use]
    pub const fn id(&self) -> &ReleaseId {
        self.manifest.id()
    }

    /// The keys that signed it and may.
    #[must_use]
    pub const fn signers(&self) -> &BTreeSet<Digest> {
        &self.signers
    }

    /// How many of them were needed.
    #[must_use]
    pub const fn needed(&self) -> u8 {
        self.needed
    }
}
