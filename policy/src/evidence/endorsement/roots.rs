//! The certificates of TPM manufacturers that an administrator trusts.
//!
//! A self-signed certificate becomes an anchor: a chain may end there. Any other becomes an intermediate, which
//! only helps to find the way. An authority whose own root its manufacturer keeps to itself (AMD Pluton) can be
//! made an anchor by [`RootStore::pin`]. An empty store endorses nothing.
//!
//! A file is a DER certificate, a PEM bundle, or a cabinet as Microsoft publishes it. A PEM bundle is a person's
//! work: one malformed certificate refuses all of it, so that a bad edit is seen. A cabinet is the work of many
//! manufacturers and nobody here can mend it: a malformed certificate in it is named in
//! [`Added::refused`] and the others count.

use std::collections::BTreeMap;

use super::cabinet::{self, Cabinet, CabinetError};
use super::pinning::Vouches;
use super::tcg::Manufacturer;
use crate::digest::Digest;
use crate::time::UnixTime;
use crate::x509::der::{self, DerError};
use crate::x509::pem::{self, PemError};
use crate::x509::signature::{self, SignatureError};
use crate::x509::{Certificate, extension, name, oid};

/// Largest file of certificates in bytes: Microsoft's cabinet has 2.5 MB, a PEM bundle of all that is in it 5 MB.
pub const MAX_BUNDLE: usize = 16 * 1024 * 1024;

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
    /// Neither DER nor PEM nor a cabinet.
    #[error("{0} is neither a DER certificate, a PEM bundle of certificates nor a cabinet of them")]
    NoCertificates(String),
    /// PEM that is no bundle of certificates.
    #[error("{label} is no PEM bundle of certificates")]
    Pem {
        /// The file.
        label: String,
        /// Why.
        #[source]
        source: PemError,
    },
    /// A cabinet that cannot be unpacked.
    #[error("{label} is a cabinet that cannot be read")]
    Cabinet {
        /// The file.
        label: String,
        /// Why.
        #[source]
        source: CabinetError,
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

/// What a file added to a store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Added {
    /// New certificates at which a chain may end.
    pub anchors: usize,
    /// New certificates on the way.
    pub intermediates: usize,
    /// Certificates that the store had already.
    pub known: usize,
    /// Files of a cabinet whose certificates cannot be read, and why; the others count.
    pub refused: Vec<RootError>,
    /// Files of a cabinet that hold no certificate: `setup.cmd`.
    pub passed_over: Vec<String>,
}

impl Added {
    fn join(&mut self, other: Self) {
        self.anchors = self.anchors.saturating_add(other.anchors);
        self.intermediates = self.intermediates.saturating_add(other.intermediates);
        self.known = self.known.saturating_add(other.known);
        self.refused.extend(other.refused);
        self.passed_over.extend(other.passed_over);
    }
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
    vouches: Vouches,
}

/// A certificate of a store, as a chain meets it.
#[derive(Debug)]
pub(super) struct Known<'s> {
    pub(super) certificate: Certificate<'s>,
    pub(super) role: Role,
    pub(super) label: &'s str,
    /// The manufacturers for whose TPMs it vouches; nothing if for all.
    pub(super) only: Option<Vec<Manufacturer>>,
}

/// A certificate that a chain may end at, as calendars tell of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// Its subject.
    pub name: String,
    /// The file that it came from.
    pub file: String,
    /// Of its DER.
    pub digest: Digest,
    /// Its end.
    pub not_after: UnixTime,
}

/// A file to be added: what messages call it, and the path whose folders may name its manufacturer.
struct Source<'a> {
    label: &'a str,
    path: &'a str,
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

    /// Adds the certificates of one file: self-signed ones as anchors, others as intermediates. `label` names
    /// the file in messages. A malformed certificate refuses the whole file, except in a cabinet.
    pub fn add(&mut self, label: &str, bytes: &[u8]) -> Result<Added, RootError> {
        self.insert(&Source { label, path: "" }, bytes, role)
    }

    /// As [`Self::add`], for a file that lies at `path` below the folder that was named, with `/` between
    /// folders: one named after a manufacturer says for whose TPMs its roots vouch.
    pub fn add_at(&mut self, label: &str, path: &str, bytes: &[u8]) -> Result<Added, RootError> {
        self.insert(&Source { label, path }, bytes, role)
    }

    /// Adds the certificates of one file as anchors, self-signed or not: the administrator vouches for each.
    pub fn pin(&mut self, label: &str, bytes: &[u8]) -> Result<Added, RootError> {
        self.insert(&Source { label, path: "" }, bytes, |_| Role::Anchor)
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

    /// The certificates that a chain may end at, each once.
    pub fn each_anchor(&self) -> impl Iterator<Item = Anchor> {
        let anchors = self.by_subject.values().flatten().filter(|item| item.role == Role::Anchor);
        anchors.filter_map(|item| {
            let certificate = Certificate::parse(&item.der).ok()?;
            let (name, not_after) = (certificate.label(), certificate.validity().not_after);
            Some(Anchor { name, file: item.label.clone(), digest: Digest::of(&item.der), not_after })
        })
    }

    /// Names what is in the store: another one vouches for other TPMs.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut items: Vec<(&[u8], String)> = self
            .by_subject
            .values()
            .flatten()
            .map(|item| (item.der.as_slice(), format!("{:?} {:?}", item.role, item.vouches)))
            .collect();
        items.sort_unstable();
        let each = items.iter().flat_map(|(der, as_what)| [Digest::of(der), Digest::of(as_what.as_bytes())]);
        Digest::of(&each.flat_map(|digest| digest.0).collect::<Vec<u8>>())
    }

    fn count(&self, role: Role) -> usize {
        self.by_subject.values().flatten().filter(|item| item.role == role).count()
    }

    /// The certificates with this subject, given in its comparable form; anchors first.
    pub(super) fn issuers<'s>(&'s self, subject: &[u8]) -> impl Iterator<Item = Known<'s>> {
        let items = self.by_subject.get(subject).map(Vec::as_slice).unwrap_or_default();
        let of = |role| items.iter().filter(move |item| item.role == role);
        of(Role::Anchor).chain(of(Role::Intermediate)).filter_map(|item| {
            // It was parsed when it was added; a certificate that could not be would endorse nothing.
            let certificate = Certificate::parse(&item.der).ok()?;
            Some(Known { certificate, role: item.role, label: &item.label, only: item.vouches.only() })
        })
    }

    fn insert(
        &mut self,
        source: &Source<'_>,
        bytes: &[u8],
        role_of: impl Fn(&Certificate<'_>) -> Role,
    ) -> Result<Added, RootError> {
        if bytes.len() > MAX_BUNDLE {
            return Err(RootError::TooLarge { label: source.label.to_owned(), found: bytes.len() });
        }
        if cabinet::is_cabinet(bytes) {
            return self.insert_cabinet(source, bytes, &role_of);
        }
        self.insert_file(source, bytes, &role_of)
    }

    fn insert_cabinet(
        &mut self,
        source: &Source<'_>,
        bytes: &[u8],
        role_of: &impl Fn(&Certificate<'_>) -> Role,
    ) -> Result<Added, RootError> {
        let label = source.label;
        let cabinet =
            Cabinet::open(bytes).map_err(|source| RootError::Cabinet { label: label.to_owned(), source })?;
        let mut added = Added::default();
        for file in cabinet.files() {
            let inside = Source { label: &format!("{label}:{}", file.name), path: file.name };
            match self.insert_file(&inside, file.bytes, role_of) {
                Ok(more) => added.join(more),
                Err(RootError::NoCertificates(_)) => added.passed_over.push(file.name.to_owned()),
                Err(refused) => added.refused.push(refused),
            }
        }
        Ok(added)
    }

    fn insert_file(
        &mut self,
        source: &Source<'_>,
        bytes: &[u8],
        role_of: &impl Fn(&Certificate<'_>) -> Role,
    ) -> Result<Added, RootError> {
        let label = source.label;
        let mut items = Vec::new();
        for (index, der) in split(label, bytes)?.into_iter().enumerate() {
            let number = index.saturating_add(1);
            let malformed = |source| RootError::Malformed { label: label.to_owned(), number, source };
            let certificate = Certificate::parse(&der).map_err(malformed)?;
            let (subject, role) = (name::comparable(certificate.subject()), role_of(&certificate));
            let vouches = Vouches::of(&certificate, source.path);
            items.push((subject, Item { der, label: label.to_owned(), role, vouches }));
        }
        let mut added = Added::default();
        for (subject, item) in items {
            self.insert_item(subject, item, &mut added);
        }
        Ok(added)
    }

    /// A certificate that is both pinned and added stays an anchor, in whatever order it came.
    fn insert_item(&mut self, subject: Vec<u8>, mut item: Item, added: &mut Added) {
        let known = self.by_subject.entry(subject).or_default();
        if let Some(other) = known.iter_mut().find(|other| other.der == item.der) {
            if other.role == item.role || other.role == Role::Anchor {
                other.vouches.join(item.vouches);
                added.known = added.known.saturating_add(1);
                return;
            }
            item.vouches.join(other.vouches.clone());
        }
        known.retain(|other| other.der != item.der);
        match item.role {
            Role::Anchor => added.anchors = added.anchors.saturating_add(1),
            Role::Intermediate => added.intermediates = added.intermediates.saturating_add(1),
        }
        known.push(item);
    }
}

/// The certificates of a file that is no cabinet, each in DER.
fn split(label: &str, bytes: &[u8]) -> Result<Vec<Vec<u8>>, RootError> {
    if bytes.first() == Some(&der::SEQUENCE) {
        return Ok(vec![bytes.to_vec()]);
    }
    pem::certificates(bytes).map_err(|source| match source {
        PemError::Empty => RootError::NoCertificates(label.to_owned()),
        source => RootError::Pem { label: label.to_owned(), source },
    })
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
