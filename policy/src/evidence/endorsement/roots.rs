//! The certificates of TPM manufacturers that an administrator trusts.
//!
//! A self-signed certificate becomes an anchor: a chain may end there. Any other becomes an intermediate, which
//! only helps to find the way. An authority whose own root its manufacturer keeps to itself (AMD Pluton) can be
//! made an anchor by [`RootStore::pin`]. An empty store endorses nothing.

use std::collections::BTreeMap;

use crate::x509::der::{self, DerError};
use crate::x509::pem::{self, PemError};
use crate::x509::signature::{self, SignatureError};
use crate::x509::{Certificate, extension, name, oid};

/// Largest file of certificates in bytes: all known manufacturers together have less than 1 MiB.
pub const MAX_BUNDLE: usize = 8 * 1024 * 1024;

/// Why a file of roots was not taken; nothing of it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RootError {
    /// Too large.
    #[error("{label} has {found} bytes, at most {MAX_BUNDLE} are read; split it")]
    TooLarge {
        /// The file.
        label: String,
        /// Its size.
        found: usize,
    },
    /// Neither PEM nor DER.
    #[error("{label} is neither a DER certificate nor a PEM bundle of certificates")]
    Pem {
        /// The file.
        label: String,
        /// Why it is no PEM.
        #[source]
        source: PemError,
    },
    /// A certificate that cannot be read.
    #[error("{label}: certificate {number} is malformed; remove it")]
    Malformed {
        /// The file.
        label: String,
        /// Which certificate, counted from 1.
        number: usize,
        /// Why.
        #[source]
        source: DerError,
    },
}

/// What a file added to a store; certificates that were there already do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Added {
    /// Certificates at which a chain may end.
    pub anchors: usize,
    /// Certificates on the way.
    pub intermediates: usize,
}

/// Whether a chain may end at a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Anchor,
    Intermediate,
}

#[derive(Debug, Clone)]
struct Item {
    der: Vec<u8>,
    label: String,
    role: Role,
}

/// The trusted certificates of TPM manufacturers, found by their subject.
#[derive(Debug, Clone, Default)]
pub struct RootStore {
    by_subject: BTreeMap<Vec<u8>, Vec<Item>>,
}

impl RootStore {
    /// A store that endorses nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the certificates of one file, PEM bundle or DER: self-signed ones as anchors, others as
    /// intermediates. `label` names the file in messages. A malformed certificate refuses the whole file.
    pub fn add(&mut self, label: &str, bytes: &[u8]) -> Result<Added, RootError> {
        self.insert(label, bytes, role)
    }

    /// Adds the certificates of one file as anchors, self-signed or not: the administrator vouches for each.
    pub fn pin(&mut self, label: &str, bytes: &[u8]) -> Result<Added, RootError> {
        self.insert(label, bytes, |_| Role::Anchor)
    }

    /// How many certificates a chain may end at.
    #[must_use]
    pub fn anchors(&self) -> usize {
        self.count(Role::Anchor)
    }

    /// How many certificates are on the way only.
    #[must_use]
    pub fn intermediates(&self) -> usize {
        self.count(Role::Intermediate)
    }

    fn count(&self, role: Role) -> usize {
        self.by_subject.values().flatten().filter(|item| item.role == role).count()
    }

    /// The certificates with this subject, given in its comparable form; anchors first.
    pub(super) fn issuers<'s>(
        &'s self,
        subject: &[u8],
    ) -> impl Iterator<Item = (Certificate<'s>, Role, &'s str)> {
        let items = self.by_subject.get(subject).map(Vec::as_slice).unwrap_or_default();
        let of = |role| items.iter().filter(move |item| item.role == role);
        of(Role::Anchor).chain(of(Role::Intermediate)).filter_map(|item| {
            // It was parsed when it was added; a certificate that could not be would endorse nothing.
            let certificate = Certificate::parse(&item.der).ok()?;
            Some((certificate, item.role, item.label.as_str()))
        })
    }

    fn insert(
        &mut self,
        label: &str,
        bytes: &[u8],
        role_of: impl Fn(&Certificate<'_>) -> Role,
    ) -> Result<Added, RootError> {
        let mut items = Vec::new();
        for (index, der) in split(label, bytes)?.into_iter().enumerate() {
            let number = index.saturating_add(1);
            let malformed = |source| RootError::Malformed { label: label.to_owned(), number, source };
            let certificate = Certificate::parse(&der).map_err(malformed)?;
            let (subject, role) = (name::comparable(certificate.subject()), role_of(&certificate));
            items.push((subject, Item { der, label: label.to_owned(), role }));
        }
        let mut added = Added::default();
        for (subject, item) in items {
            self.insert_item(subject, item, &mut added);
        }
        Ok(added)
    }

    /// A certificate that is both pinned and added stays an anchor, in whatever order it came.
    fn insert_item(&mut self, subject: Vec<u8>, item: Item, added: &mut Added) {
        let known = self.by_subject.entry(subject).or_default();
        if known
            .iter()
            .any(|other| other.der == item.der && (other.role == item.role || other.role == Role::Anchor))
        {
            return;
        }
        known.retain(|other| other.der != item.der);
        match item.role {
            Role::Anchor => added.anchors = added.anchors.saturating_add(1),
            Role::Intermediate => added.intermediates = added.intermediates.saturating_add(1),
        }
        known.push(item);
    }
}

fn split(label: &str, bytes: &[u8]) -> Result<Vec<Vec<u8>>, RootError> {
    if bytes.len() > MAX_BUNDLE {
        return Err(RootError::TooLarge { label: label.to_owned(), found: bytes.len() });
    }
    if bytes.first() == Some(&der::SEQUENCE) {
        return Ok(vec![bytes.to_vec()]);
    }
    pem::certificates(bytes).map_err(|source| RootError::Pem { label: label.to_owned(), source })
}

/// Self-signed: the names are equal, the key identifiers agree, and the signature is its own key's. A signature
/// by an algorithm that is not verified here, as SHA-1 with ECDSA, is taken for its own: nothing rests on an
/// anchor's signature, only on the administrator who added it.
fn role(certificate: &Certificate<'_>) -> Role {
    let [subject, issuer] = [certificate.subject(), certificate.issuer()].map(name::comparable);
    if subject != issuer || !key_ids_agree(certificate, certificate) {
        return Role::Intermediate;
    }
    match signature::verify(certificate, certificate) {
        Ok(_) | Err(SignatureError::Sha1 | SignatureError::Algorithm(_)) => Role::Anchor,
        Err(_) => Role::Intermediate,
    }
}

/// Whether the key identifier that `certificate` names for its issuer can be that of `issuer`; one that is
/// missing or unreadable excludes nothing, the signature decides.
pub(super) fn key_ids_agree(certificate: &Certificate<'_>, issuer: &Certificate<'_>) -> bool {
    match (authority_key_id(certificate), subject_key_id(issuer)) {
        (Some(wanted), Some(own)) => wanted == own,
        _ => true,
    }
}

/// The key identifier that `certificate` names for its issuer.
pub(super) fn authority_key_id<'a>(certificate: &Certificate<'a>) -> Option<&'a [u8]> {
    let found = certificate.extension(oid::AUTHORITY_KEY_IDENTIFIER)?;
    extension::parse_authority_key_id(found.value).ok().flatten()
}

fn subject_key_id<'a>(certificate: &Certificate<'a>) -> Option<&'a [u8]> {
    let found = certificate.extension(oid::SUBJECT_KEY_IDENTIFIER)?;
    extension::parse_subject_key_id(found.value).ok()
}
