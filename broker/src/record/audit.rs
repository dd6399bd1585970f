//! The audit's own records: the key that seals are signed with, and the seals.

use policy::audit::SignedSeal;
use policy::time::UnixTime;
use serde::{Deserialize, Serialize};

use super::Bytes;
use crate::store::record::Record;

/// Key of the one [`AuditSigning`] that is in use.
pub const AUDIT_KEY: &str = "audit-key";
/// Key of the newest [`SignedSeal`].
pub const SEAL: &str = "audit-seal";
/// Prefix of the older ones that are kept.
pub const SEALS: &str = "audit-seals/";

/// The key that signs seals, wrapped.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuditSigning {
    /// Certificate under the issuing key, DER.
    pub certificate: Bytes,
    /// Certificate of the issuing key under the plant root, DER.
    pub issuing: Bytes,
    /// PKCS#8 under the KEK.
    pub wrapped_key: Bytes,
    /// When the certificate ends.
    pub not_after: UnixTime,
}

impl Record for AuditSigning {
    const VERSION: u32 = 1;
    const KIND: &'static str = "key for seals";
}

impl Record for SignedSeal {
    const VERSION: u32 = 1;
    const KIND: &'static str = "seal";
}

/// Key of the seal with this number, once a newer one took its place.
#[must_use]
pub fn seal_key(number: u64) -> String {
    format!("{SEALS}{number:020}")
}
