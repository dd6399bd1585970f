//! What PCR 7 says about Secure Boot.

use std::collections::BTreeMap;

use crate::digest::Digest;
use crate::eventlog::event::EventType;
use crate::eventlog::typed::Guid;
use crate::eventlog::typed::signature_list::{Signature, parse_database};
use crate::reader::ReadError;
use crate::x509::{Certificate, name};

/// Most certificates of one variable: collected machines have at most four, and a device's owner may well
/// enroll some dozen.
pub const MAX_CERTIFICATES: usize = 1024;

/// The Secure Boot state that a log tells in PCR 7, every part of it covered by a digest.
///
/// It proves nothing by itself: [`VerifiedEvidence`](crate::evidence::verify::VerifiedEvidence) holds one
/// whose digests a quote confirms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecureBootState {
    pub(super) flags: Flags,
    pub(super) pk: KeyDatabase,
    pub(super) kek: KeyDatabase,
    pub(super) db: KeyDatabase,
    pub(super) dbx: KeyDatabase,
    pub(super) authorities: Vec<Authority>,
    pub(super) others: Vec<OtherEvent>,
}

/// The flags that decide whether images are verified (UEFI 2.10, 3.3 and 32.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flags {
    pub(super) secure_boot: bool,
    pub(super) setup_mode: Option<bool>,
    pub(super) audit_mode: Option<bool>,
    pub(super) deployed_mode: Option<bool>,
}

impl SecureBootState {
    /// Whether firmware verified what it started: SecureBoot is 1, and neither setup nor audit mode is on.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.flags.secure_boot && !self.is_in_setup_mode() && !self.is_in_audit_mode()
    }

    /// Whether anybody may replace the keys: the variable says so, or there is no platform key (UEFI 2.10,
    /// 32.3).
    #[must_use]
    pub fn is_in_setup_mode(&self) -> bool {
        self.flags.setup_mode == Some(true) || self.pk.is_empty()
    }

    /// The measured AuditMode, in which every image starts; `None` where firmware does not measure it.
    #[must_use]
    pub const fn audit_mode(&self) -> Option<bool> {
        self.flags.audit_mode
    }

    /// The measured DeployedMode, in which the keys are hardest to replace; `None` where firmware does not
    /// measure it.
    #[must_use]
    pub const fn deployed_mode(&self) -> Option<bool> {
        self.flags.deployed_mode
    }

    fn is_in_audit_mode(&self) -> bool {
        self.flags.audit_mode == Some(true)
    }

    /// The platform key.
    #[must_use]
    pub const fn pk(&self) -> &KeyDatabase {
        &self.pk
    }

    /// The key exchange keys.
    #[must_use]
    pub const fn kek(&self) -> &KeyDatabase {
        &self.kek
    }

    /// What may vouch for images.
    #[must_use]
    pub const fn db(&self) -> &KeyDatabase {
        &self.db
    }

    /// What is forbidden.
    #[must_use]
    pub const fn dbx(&self) -> &KeyDatabase {
        &self.dbx
    }

    /// What vouched for images, and shim's own state, in the log's order.
    #[must_use]
    pub fn authorities(&self) -> &[Authority] {
        &self.authorities
    }

    /// Everything else in PCR 7 but the separator: dbt, dbr and vendors' variables, actions such as `UEFI Debug
    /// Mode`, device policies. None of it is understood here.
    #[must_use]
    pub fn others(&self) -> &[OtherEvent] {
        &self.others
    }
}

/// The contents of PK, KEK, db or dbx.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyDatabase {
    position: usize,
    digest: Digest,
    len: usize,
    certificates: Vec<KeyCertificate>,
    hashes: usize,
    others: BTreeMap<Guid, usize>,
}

/// The contents cannot be taken.
pub(super) enum DatabaseError {
    Structure(ReadError),
    TooManyCertificates,
}

impl KeyDatabase {
    /// Reads the contents of the variable that the event at `position` measures.
    pub(super) fn parse(position: usize, contents: &[u8]) -> Result<Self, DatabaseError> {
        let signatures = parse_database(contents).map_err(DatabaseError::Structure)?;
        let digest = Digest::of(contents);
        let mut database = Self {
            position,
            digest,
            len: contents.len(),
            certificates: Vec::new(),
            hashes: 0,
            others: BTreeMap::new(),
        };
        for signature in signatures {
            match signature.kind {
                Guid::CERT_X509 => database.certificates.push(KeyCertificate::of(&signature)),
                Guid::CERT_SHA256 => database.hashes = database.hashes.saturating_add(1),
                kind => {
                    let count = database.others.entry(kind).or_default();
                    *count = count.saturating_add(1);
                }
            }
            if database.certificates.len() > MAX_CERTIFICATES {
                return Err(DatabaseError::TooManyCertificates);
            }
        }
        Ok(database)
    }

    /// Place of the event in the log.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.position
    }

    /// The SHA-256 of the variable's contents.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Length of the contents in bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether the variable is empty, which is how one that does not exist is measured.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The certificates, in the variable's order.
    #[must_use]
    pub fn certificates(&self) -> &[KeyCertificate] {
        &self.certificates
    }

    /// Number of SHA-256 hashes of images.
    #[must_use]
    pub const fn hashes(&self) -> usize {
        self.hashes
    }

    /// Number of signatures of each other type.
    #[must_use]
    pub const fn others(&self) -> &BTreeMap<Guid, usize> {
        &self.others
    }
}

/// A certificate in a key variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyCertificate {
    /// Who put it there.
    pub owner: Guid,
    /// What it is known by.
    pub name: CertificateName,
}

impl KeyCertificate {
    fn of(signature: &Signature<'_>) -> Self {
        Self { owner: signature.owner, name: CertificateName::of(signature.data) }
    }
}

/// What a certificate is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateName {
    /// The SHA-256 of its DER form.
    pub fingerprint: Digest,
    /// The DER of its subject, which becomes text when somebody asks: few ever do.
    subject: Option<Vec<u8>>,
}

impl CertificateName {
    /// The name of what claims to be a certificate.
    pub(super) fn of(der: &[u8]) -> Self {
        let subject = Certificate::parse(der).ok().map(|certificate| certificate.subject().to_vec());
        Self { fingerprint: Digest::of(der), subject }
    }

    /// Its subject for people; `None` if it cannot be read.
    #[must_use]
    pub fn subject(&self) -> Option<String> {
        self.subject.as_deref().map(name::text)
    }
}

/// Something that vouched for an image, or what shim says about itself the same way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// Place of the event in the log.
    pub position: usize,
    /// Vendor GUID of the variable that it is from.
    pub guid: Guid,
    /// Name of the variable that it is from: `db` for firmware's, `Shim` for shim's built-in certificate.
    pub variable: String,
    /// Who put it into the variable, where it is an entry of one.
    pub owner: Option<Guid>,
    /// What it is.
    pub voucher: Voucher,
}

/// What an authority is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Voucher {
    /// A certificate: the image's signature chains to it.
    Certificate(CertificateName),
    /// The hash of the image itself.
    Hash(Digest),
    /// shim's revocation level (SBAT): vouches for nothing.
    Sbat {
        /// SHA-256 of the measured variable.
        digest: Digest,
        /// The level as text, several lines.
        text: Option<String>,
    },
    /// Another variable, as shim's MokListTrusted: what it means is not known here.
    Variable {
        /// SHA-256 of the measured variable.
        digest: Digest,
    },
}

impl Authority {
    /// What a release lists to accept it: the certificate's fingerprint, the image's hash, or the SHA-256 of
    /// the measured variable, with GUID and name. No two kinds can be mistaken for one another: that would take
    /// a second preimage.
    #[must_use]
    pub const fn identity(&self) -> Digest {
        match &self.voucher {
            Voucher::Certificate(name) => name.fingerprint,
            Voucher::Hash(digest) | Voucher::Sbat { digest, .. } | Voucher::Variable { digest } => *digest,
        }
    }

    /// Whether the firmware itself found it in db.
    #[must_use]
    pub fn is_of_firmware(&self) -> bool {
        self.guid == Guid::IMAGE_SECURITY_DATABASE && self.variable == "db"
    }
}

/// An event of PCR 7 that no part of the state holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherEvent {
    /// Place of the event in the log.
    pub position: usize,
    /// Its type, which nothing binds.
    pub event_type: EventType,
    /// The variable's name or the action's text, covered by the digest.
    pub text: String,
    /// SHA-256 of the measured variable or text.
    pub digest: Digest,
}
