//! The plant itself: its root, issuing and sealing keys, administrators, trust head.

use std::collections::BTreeSet;

use policy::digest::Digest;
use policy::id::{PlantDomain, ZoneName};
use policy::time::UnixTime;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Bytes;
use crate::store::record::Record;

/// Key of the one [`Plant`].
pub const PLANT: &str = "plant";
/// Key of the one [`Issuing`] that is in use.
pub const ISSUING: &str = "issuing";
/// Key of the [`TokenSigning`] of attestation results, once one was asked for.
pub const EAR: &str = "ear";
/// Key of the [`TokenSigning`] of grants, once one was asked for.
pub const GRANT: &str = "grant";
/// Key of the [`TrustHead`].
pub const TRUST: &str = "trust";
/// Prefix of sealing keys.
pub const SEALING: &str = "sealing/";
/// Prefix of administrators.
pub const ADMIN: &str = "admin/";

/// What the plant is, since `init`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plant {
    /// Its domain.
    pub domain: PlantDomain,
    /// Random id: a challenge of another plant of the same name never opens here.
    pub id: String,
    /// Raised by every restore; ends older challenges and orders trust sets.
    pub epoch: u64,
    /// Certificate of the plant root, DER. Its key is in the recovery kit.
    pub root: Bytes,
    /// Certificate of the authority whose key nobody kept.
    pub nobody: Bytes,
    /// Its CRL.
    pub nobody_crl: Bytes,
}

impl Record for Plant {
    const VERSION: u32 = 1;
    const KIND: &'static str = "plant";
}

/// The issuing key, wrapped.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Issuing {
    /// Counts issuing keys.
    pub generation: u32,
    /// Certificate under the plant root, DER.
    pub certificate: Bytes,
    /// PKCS#8 under the KEK.
    pub wrapped_key: Bytes,
    /// When the certificate ends.
    pub not_after: UnixTime,
}

impl Record for Issuing {
    const VERSION: u32 = 1;
    const KIND: &'static str = "issuing key";
}

/// A key that challenges are sealed under, wrapped.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sealing {
    /// Its id, first part of every challenge sealed under it.
    pub id: u32,
    /// The key under the KEK.
    pub wrapped_key: Bytes,
    /// When it was made.
    pub created: UnixTime,
}

impl Record for Sealing {
    const VERSION: u32 = 1;
    const KIND: &'static str = "sealing key";
}

/// A key that signs tokens of one kind, wrapped.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TokenSigning {
    /// PKCS#8 under the KEK.
    pub wrapped_key: Bytes,
    /// When it was made.
    pub created: UnixTime,
}

impl Record for TokenSigning {
    const VERSION: u32 = 1;
    const KIND: &'static str = "key for tokens";
}

/// Raised in every transaction that changes any device's trust set.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct TrustHead {
    /// Counts changes within the plant epoch.
    pub n: u64,
    /// When the last change was made.
    pub at: UnixTime,
}

impl Record for TrustHead {
    const VERSION: u32 = 1;
    const KIND: &'static str = "trust head";
}

/// What an administrator may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdminRole {
    /// Reads everything.
    Viewer,
    /// Golden values.
    Engineer,
    /// Devices, tokens, quarantine.
    Operator,
    /// Zones, conduits, authorities, revocation.
    Security,
    /// Everything, backup and restore too.
    Owner,
}

impl AdminRole {
    /// Every role, the least first.
    pub const ALL: [Self; 5] = [Self::Viewer, Self::Engineer, Self::Operator, Self::Security, Self::Owner];

    /// The role as people write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Engineer => "engineer",
            Self::Operator => "operator",
            Self::Security => "security",
            Self::Owner => "owner",
        }
    }
}

/// An administrator. Removing the record ends the certificate's power at once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Administrator {
    /// Name in the certificate.
    pub name: String,
    /// What they may do.
    pub role: AdminRole,
    /// Digest of the certified key.
    pub spki: Digest,
    /// When they became an administrator.
    pub created: UnixTime,
    /// The zones they are limited to; none: the whole plant.
    #[serde(default)]
    pub zones: Option<BTreeSet<ZoneName>>,
    /// When the certificate ends.
    pub not_after: UnixTime,
    /// The owner who alone let them in. None: two owners did, or nobody has to vouch for them; not known of one who
    /// came to a broker before it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub let_in_by: Option<String>,
}

/// How long the certificates of administrators lived of which version 1 of the record does not say when they end.
const FIRST_LIFETIME: u64 = 2 * 365 * 86_400;

impl Record for Administrator {
    /// 2: a broker that does not know `zones` would let them reach the whole plant.
    const VERSION: u32 = 2;
    const KIND: &'static str = "administrator";

    /// One of version 1 reaches the whole plant, which is the default, and was made by `init`.
    fn upgrade(from: u32, mut data: Value) -> Option<Value> {
        if from != 1 {
            return None;
        }
        let created = data.get("created")?.as_u64()?;
        data.as_object_mut()?.insert("not_after".to_owned(), created.saturating_add(FIRST_LIFETIME).into());
        Some(data)
    }
}

/// Key of the administrator `name`.
#[must_use]
pub fn admin_key(name: &str) -> String {
    format!("{ADMIN}{name}")
}
