//! Whether a backup may be restored here: read whole, before anything is replaced.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use policy::digest::Digest;
use policy::id::{DeviceName, ZoneName};
use policy::time::UnixTime;
use policy::zone::Zone;

use super::format::{FormatError, Header, Piece, Reader};
use super::kinds::{self, KindError};
use super::named_blobs;
use crate::ca::Serial;
use crate::record::audit::{AUDIT_KEY, AuditSigning};
use crate::record::device::{EK, HELD, HeldCertificates, Tpm, held_place};
use crate::record::golden::GOLDEN;
use crate::record::plant::{
    ADMIN, EAR, GRANT, ISSUING, Issuing, PLANT, SEALING, Sealing, TRUST, TokenSigning,
};
use crate::record::zone::{AUTHORITY, AuthorityRecord, RevokedCertificate, ZONE, revoked_key};
use crate::secrets::SecretKey;
use crate::store::record::{DecodeError, decode, decode_staged};

/// Records, or prefixes of records, without which there is no plant.
const NEEDED: [&str; 6] = [PLANT, ISSUING, TRUST, GOLDEN, SEALING, ADMIN];

/// Why a backup is not restored. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The file is broken.
    #[error("the backup is broken: {0}; nothing was restored, use another backup")]
    Format(#[from] FormatError),
    /// A record cannot be read.
    #[error("the backup cannot be used: {0}; nothing was restored")]
    Kind(#[from] KindError),
    /// A record that every plant has is not there.
    #[error("the backup is not whole, it holds no record {0}; nothing was restored, use another backup")]
    NoRecord(&'static str),
    /// A blob that a release needs is not there.
    #[error("the backup is not whole, it lacks blob {0}; nothing was restored, use another backup")]
    NoBlob(Digest),
    /// Its keys are wrapped under another key-encryption key.
    #[error(
        "the key {0} of the backup does not open under this broker's key-encryption key; nothing was restored, put secrets/kek of the host that made the backup in place first"
    )]
    Wrapped(String),
}

impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Self {
        Self::Kind(KindError::Decode(error))
    }
}

/// A backup that was found whole, and what a restore needs to know of it. Only [`inspect`] makes it.
#[derive(Debug)]
pub(super) struct Inspected {
    /// What it is of.
    pub(super) header: Header,
    /// Records in it.
    pub(super) records: usize,
    /// Blobs in it.
    pub(super) blobs: usize,
    /// Highest id of its sealing keys.
    pub(super) sealing: u32,
    /// Number of its issuing key.
    pub(super) issuing: u32,
    /// Certificates that are to be revoked, by store key.
    pub(super) revocations: BTreeMap<String, RevokedCertificate>,
    /// Serials of those certificates.
    pub(super) revoked: BTreeSet<String>,
    /// Its zones.
    pub(super) zones: BTreeSet<ZoneName>,
    /// Its TPMs by store key, and whether each is stopped.
    pub(super) tpms: BTreeMap<String, bool>,
    /// Blobs of evidence and results that records name and the backup lacks.
    pub(super) lacking: usize,
}

/// Reads the whole file. `serials` are of certificates that were revoked after it was made.
pub(super) fn inspect(
    file: &Path,
    kek: &SecretKey,
    serials: &BTreeSet<Serial>,
    now: UnixTime,
) -> Result<Inspected, Fault> {
    let source = BufReader::new(File::open(file).map_err(FormatError::Read)?);
    let mut reader = Reader::open(source)?;
    let mut found = Found::default();
    while let Some(piece) = reader.next()? {
        match piece {
            Piece::Record(key, value) => found.record(&key, &value, kek, serials, now)?,
            Piece::Blob(digest, _) => {
                found.blobs.insert(digest);
            }
        }
    }
    reader.vouched_for(kek)?;
    found.inspected(reader.header().clone())
}

/// What was found so far.
#[derive(Default)]
struct Found {
    records: usize,
    single: BTreeSet<&'static str>,
    blobs: BTreeSet<Digest>,
    /// Blobs that records name, and whether they are worth nothing without.
    named: BTreeMap<Digest, bool>,
    sealing: u32,
    issuing: u32,
    revocations: BTreeMap<String, RevokedCertificate>,
    revoked: BTreeSet<String>,
    zones: BTreeSet<ZoneName>,
    tpms: BTreeMap<String, bool>,
}

impl Found {
    fn record(
        &mut self,
        key: &str,
        value: &[u8],
        kek: &SecretKey,
        serials: &BTreeSet<Serial>,
        now: UnixTime,
    ) -> Result<(), Fault> {
        kinds::read(key, value)?;
        self.records = self.records.saturating_add(1);
        self.single.extend(NEEDED.into_iter().filter(|needed| key.starts_with(needed)));
        for blob in named_blobs(key, value)? {
            let needed = self.named.entry(blob.digest).or_default();
            *needed |= blob.needed;
        }
        if key.starts_with(SEALING) {
            self.sealing = self.sealing.max(decode::<Sealing>(key, value)?.id);
        }
        if key == ISSUING {
            self.issuing = decode::<Issuing>(key, value)?.generation;
        }
        if let Some((context, wrapped)) = wrapped(key, value)? {
            kek.open(context.as_bytes(), &wrapped).map_err(|_| Fault::Wrapped(key.to_owned()))?;
        }
        if key.starts_with(ZONE) {
            self.zones.insert(decode_staged::<Zone>(key, value)?.0.name);
        }
        if key.starts_with(EK) {
            self.tpms.insert(key.to_owned(), decode_staged::<Tpm>(key, value)?.0.is_barred());
        }
        if !serials.is_empty() && key.starts_with(HELD) {
            self.revoke(key, &decode(key, value)?, serials, now);
        }
        Ok(())
    }

    fn revoke(&mut self, key: &str, held: &HeldCertificates, serials: &BTreeSet<Serial>, now: UnixTime) {
        let Some((device, zone)) = owner(key) else { return };
        for certificate in &held.certificates {
            let Some(serial) = Serial::from_hex(&certificate.serial) else { continue };
            if !serials.contains(&serial) {
                continue;
            }
            let record = RevokedCertificate {
                device: device.clone(),
                at: now,
                reason: "revoked after the backup that was restored".to_owned(),
                not_after: certificate.validity.not_after,
            };
            self.revoked.insert(certificate.serial.clone());
            self.revocations
                .insert(revoked_key(&zone, certificate.role, certificate.generation, serial), record);
        }
    }

    fn inspected(self, header: Header) -> Result<Inspected, Fault> {
        if let Some(missing) = NEEDED.into_iter().find(|needed| !self.single.contains(needed)) {
            return Err(Fault::NoRecord(missing));
        }
        let lacking = |(digest, _): &(&Digest, &bool)| !self.blobs.contains(*digest);
        if let Some((digest, _)) = self.named.iter().filter(lacking).find(|(_, needed)| **needed) {
            return Err(Fault::NoBlob(*digest));
        }
        Ok(Inspected {
            header,
            records: self.records,
            lacking: self.named.iter().filter(lacking).count(),
            blobs: self.blobs.len(),
            sealing: self.sealing,
            issuing: self.issuing,
            revocations: self.revocations,
            revoked: self.revoked,
            zones: self.zones,
            tpms: self.tpms,
        })
    }
}

/// Whose certificates the record under `key` lists.
fn owner(key: &str) -> Option<(DeviceName, ZoneName)> {
    let (device, place) = key.strip_prefix(HELD)?.split_once('/')?;
    Some((device.parse().ok()?, held_place(place)?.0))
}

/// The wrapped key that a record holds, with the context that it was wrapped in.
fn wrapped<'a>(key: &'a str, value: &[u8]) -> Result<Option<(&'a str, Vec<u8>)>, DecodeError> {
    if key == ISSUING {
        return Ok(Some((ISSUING, decode::<Issuing>(key, value)?.wrapped_key.0)));
    }
    if key == AUDIT_KEY {
        return Ok(Some((AUDIT_KEY, decode::<AuditSigning>(key, value)?.wrapped_key.0)));
    }
    if [EAR, GRANT].contains(&key) {
        return Ok(Some((key, decode::<TokenSigning>(key, value)?.wrapped_key.0)));
    }
    if key.starts_with(SEALING) {
        return Ok(Some((SEALING, decode::<Sealing>(key, value)?.wrapped_key.0)));
    }
    if key.starts_with(AUTHORITY) {
        return Ok(Some((key, decode_staged::<AuthorityRecord>(key, value)?.0.wrapped_key.0)));
    }
    Ok(None)
}
