//! The TPM room: what the attestor asks of its TPM, in domain verbs.
//!
//! Promises: the port [`Tpm`] speaks bytes in TCG wire form (TPM 2.0 part 2, big-endian) and names no type of
//! the TPM library; every key and parent made here sets noDA and has an empty password; no verb leaves a
//! transient object or a session in the TPM; every error names the operation and what to do next.
//! Does not promise: that any of the bytes are true. The Verifier decides that. Whoever may open the TPM can
//! use these keys, so device permissions (group tss) are the wall. libtss2 opens the TPM without close-on-exec:
//! whoever starts a program from this process has to close what it inherits, as `program` does, or the program holds the
//! TPM as well.
//!
//! [`EsapiTpm`] is the port on libtss2 and the only user of that library, [`TpmHandle`] gives it a thread of its
//! own, and [`TpmIdentityKey`] makes one of its keys usable by rustls and rcgen.
//!
//! libtss2 writes its own complaints to standard error unless `TSS2_LOG=all+NONE` is in the environment when
//! the process starts. Nothing here changes the environment: the service's unit file sets it.

mod actor;
mod address;
mod certificate;
mod error;
mod esapi;
mod identity;
mod key_blob;
mod manufacturer_key;
mod pcr;
mod template;
mod wire;

use zeroize::Zeroizing;

pub use actor::{COMMAND_DEADLINE, KEY_GENERATION_DEADLINE, QUEUE_LENGTH, Spent, TpmHandle};
pub use address::{TpmAddress, TpmAddressError};
pub use error::{Operation, TpmError, TpmFault};
pub use esapi::EsapiTpm;
pub use identity::TpmIdentityKey;
pub use key_blob::{IdentityKeyBlob, KeyBlobError};
pub use manufacturer_key::{ManufacturerKey, ManufacturerSignature, PERSISTENT_HANDLES};
pub use pcr::{PCR_COUNT, PcrBank, PcrIndex, PcrIndexError, PcrSelection, PcrValue};
pub use template::EkTemplate;

/// What the attestor asks of its TPM. Synchronous: [`TpmHandle`] is the door for async code.
pub trait Tpm: Send {
    /// The endorsement keys for which the TPM holds a certificate; if it holds none, those of the low range.
    fn endorsement(&mut self) -> Result<Endorsement, TpmError>;

    /// The public area (TPMT_PUBLIC) of the attestation key: P-256, ECDSA with SHA-256, restricted, a primary of
    /// the endorsement hierarchy made from a fixed template. The same after restart, reinstallation and TPM2_Clear.
    fn attestation_key(&mut self) -> Result<Vec<u8>, TpmError>;

    /// Opens a credential challenge (TPM2_ActivateCredential) that was made for the endorsement key of
    /// `endorsement_key` and the Name of the attestation key, and gives its secret.
    fn activate(&mut self, endorsement_key: EkTemplate, credential: &Credential) -> Result<Secret, TpmError>;

    /// The values of the selected PCRs, ascending. They may stem from several moments: a quote tells.
    fn read_pcrs(&mut self, bank: PcrBank, selection: PcrSelection) -> Result<Vec<PcrValue>, TpmError>;

    /// Extends one bank of a PCR with a digest of that bank's length. Other banks keep their value.
    fn extend(&mut self, pcr: PcrIndex, bank: PcrBank, digest: &[u8]) -> Result<(), TpmError>;

    /// The selected PCRs and the TPM's counters, signed by the attestation key. `qualifying_data` comes back in
    /// the quote's extraData; 32 bytes fit every TPM.
    fn quote(
        &mut self,
        qualifying_data: &[u8],
        bank: PcrBank,
        selection: PcrSelection,
    ) -> Result<Attestation, TpmError>;

    /// Makes a new identity key under the storage root key, which is made and persisted first if it is missing.
    fn create_identity_key(&mut self) -> Result<IdentityKeyBlob, TpmError>;

    /// The attestation key's word (TPM2_Certify) that the identity key lives in this TPM.
    fn certify(&mut self, key: &IdentityKeyBlob, qualifying_data: &[u8]) -> Result<Attestation, TpmError>;

    /// Signs a SHA-256 digest with an identity key; gives a DER Ecdsa-Sig-Value (RFC 3279, section 2.2.3).
    fn sign_digest(&mut self, key: &IdentityKeyBlob, digest: &[u8; 32]) -> Result<Vec<u8>, TpmError>;

    /// Signs `message` with a key that the manufacturer left in this TPM, and has the attestation key certify that key over
    /// `qualifying_data`.
    fn sign_as_manufacturer(
        &mut self,
        key: &ManufacturerKey,
        message: &[u8],
        qualifying_data: &[u8],
    ) -> Result<ManufacturerSignature, TpmError>;

    /// Ends a batch of verbs: where the TPM serves one program at a time, others get their turn.
    fn release(&mut self);
}

/// What the TPM knows about its own origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endorsement {
    /// The endorsement keys, in the order of [`EkTemplate::ALL`].
    pub keys: Vec<EndorsementKey>,
    /// Certificates (DER) between those of the keys and the manufacturer's root, if the TPM stores any.
    pub chain: Vec<Vec<u8>>,
    /// TPM_PT_MANUFACTURER, four ASCII characters as a number.
    pub manufacturer: u32,
    /// TPM_PT_FIRMWARE_VERSION_1 and _2.
    pub firmware_version: u64,
    /// What model it says that it is.
    pub model: TpmModel,
    /// EK certificates in NV for keys that are made from none of [`EkTemplate::ALL`]: shown to people, and not used.
    pub others: Vec<OtherCertificate>,
}

/// What a TPM says of its model. Nothing of it is signed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TpmModel {
    /// TPM_PT_VENDOR_STRING_1 to _4 as text, such as `SLB9670`; empty where it says nothing.
    pub vendor: String,
    /// TPM_PT_REVISION, a hundred times the revision of the TPM 2.0 library specification; None where it says nothing.
    pub revision: Option<u32>,
}

/// An EK certificate for a kind of key that is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherCertificate {
    /// Where it is in NV.
    pub index: u32,
    /// What TCG has this index for.
    pub kind: &'static str,
    /// DER; None: it is unreadable.
    pub certificate: Option<Vec<u8>>,
}

/// A property whose four bytes are text, without its padding.
#[must_use]
pub fn ascii(property: u32) -> String {
    let characters = property.to_be_bytes().map(char::from);
    characters.into_iter().filter(|c| c.is_ascii_graphic() || *c == ' ').collect::<String>()
}

/// An endorsement key of the TPM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndorsementKey {
    /// The TCG template the key was made from.
    pub template: EkTemplate,
    /// Its public area, TPMT_PUBLIC.
    pub public: Vec<u8>,
    /// Its certificate (DER) as read from NV, without header and padding. None if there is none or it is unreadable.
    pub certificate: Option<Vec<u8>>,
}

/// A credential challenge as MakeCredential gives it (TPM 2.0 part 1, section 24).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The content of TPM2B_ID_OBJECT: HMAC and encrypted secret, without the outer size.
    pub id_object: Vec<u8>,
    /// The content of TPM2B_ENCRYPTED_SECRET, without the outer size.
    pub encrypted_secret: Vec<u8>,
}

/// The secret of a credential challenge.
pub type Secret = Zeroizing<Vec<u8>>;

/// A statement of the TPM, signed by the attestation key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attestation {
    /// TPMS_ATTEST.
    pub attest: Vec<u8>,
    /// TPMT_SIGNATURE over it.
    pub signature: Vec<u8>,
}
