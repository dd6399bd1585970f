//! The image log and its PCR, which are kept in step: an entry is written and synced first, then extended into every
//! bank. The log lies in /run and ends with the boot, as the PCR does.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use policy::budget::{MAX_RECORD_BYTES, MAX_SEQUENCE_BYTES};
use policy::cause::chain;
use policy::eventlog::image::recovery::Recovery;
use policy::eventlog::image::{IMAGE_PCR, ImageKind, ImageLog, ImageMeasurement};
use policy::tpm::alg::{HashAlg, HashValue};

use super::refusal::Refusal;
use crate::durable;
use crate::tpm::{PcrBank, PcrIndex, PcrIndexError, PcrSelection, TpmError, TpmFault, TpmHandle};

/// Longest log in bytes: what a Verifier reads, less room for the entry that says that it is full. So many bytes are
/// some 1,700 entries in one bank, fewer than a Verifier reads (`MAX_RECORDS`).
const MAX_LOG: usize = MAX_SEQUENCE_BYTES - MAX_RECORD_BYTES;
/// The banks that may be quoted.
const BANKS: [(PcrBank, HashAlg); 3] = [
    (PcrBank::Sha256, HashAlg::Sha256),
    (PcrBank::Sha384, HashAlg::Sha384),
    (PcrBank::Sha512, HashAlg::Sha512),
];

/// A measurement cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The log cannot be read or written.
    #[error("the image log {} cannot be written: {source}; free space there, or let the attestor's user write it", log.display())]
    Log {
        /// The log.
        log: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The TPM did not do its part.
    #[error(transparent)]
    Tpm(#[from] TpmError),
    /// The PCR is not one of the TPM's.
    #[error(transparent)]
    Pcr(#[from] PcrIndexError),
    /// Log and PCR differ since the attestor started.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A change could not be logged, so what the log says is not all.
    #[error("an image changed and could not be logged: {0}")]
    Unlogged(String),
    /// What a file holds cannot be read, nor whether it changed.
    #[error(
        "{path} does not give its content: its file system hangs; see what is mounted there, or take the file out of \
         [images] and restart the attestor"
    )]
    Hangs {
        /// The file.
        path: String,
    },
}

/// The log of this boot.
#[derive(Debug)]
pub struct Ledger {
    tpm: TpmHandle,
    path: PathBuf,
    file: File,
    length: usize,
    entries: usize,
    banks: Vec<HashAlg>,
    last: BTreeMap<String, ImageMeasurement>,
    /// The last entry may not be in every bank: the TPM failed.
    behind: bool,
}

impl Ledger {
    /// Takes up the log at `path`, or begins one; the inner error is one that only a restart ends.
    pub async fn open(tpm: TpmHandle, path: &Path) -> Result<Result<Self, Refusal>, LedgerError> {
        let failed = |source| LedgerError::Log { log: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            durable::make_dir(folder, 0o755).map_err(failed)?;
        }
        let file = OpenOptions::new().append(true).create(true).mode(0o644).open(path).map_err(failed)?;
        let values = values(&tpm).await?;
        let banks = values.iter().map(HashValue::alg).collect();
        let (path, last) = (path.to_owned(), BTreeMap::new());
        let mut ledger = Self { tpm, path, file, length: 0, entries: 0, banks, last, behind: true };
        match ledger.recover().await {
            Ok(()) => Ok(Ok(ledger)),
            Err(LedgerError::Refused(refusal)) => Ok(Err(refusal)),
            Err(error) => Err(error),
        }
    }

    /// The last entry of each path.
    pub(super) const fn last(&self) -> &BTreeMap<String, ImageMeasurement> {
        &self.last
    }

    /// How many entries there are.
    pub(super) const fn entries(&self) -> usize {
        self.entries
    }

    /// Whether nothing more can be logged until the device restarts.
    pub(super) const fn is_full(&self) -> bool {
        self.length > MAX_LOG
    }

    /// Logs and extends. Where the log has no room, its last entry says so.
    pub(super) async fn append(&mut self, image: ImageMeasurement) -> Result<(), LedgerError> {
        self.catch_up().await?;
        if self.is_full() {
            return Ok(());
        }
        let record = image.to_record(&self.banks);
        if self.length.saturating_add(record.len()) > MAX_LOG {
            let full = ImageMeasurement { kind: ImageKind::Overflow, ..image };
            return self.write(full.to_record(&self.banks), full).await;
        }
        self.write(record, image).await
    }

    async fn write(&mut self, record: Vec<u8>, image: ImageMeasurement) -> Result<(), LedgerError> {
        if let Err(source) = self.file.write_all(&record).and_then(|()| self.file.sync_data()) {
            // What was written of it would spoil the next one.
            let _ = self.cut();
            return Err(self.failed(source));
        }
        self.length = self.length.saturating_add(record.len());
        self.entries = self.entries.saturating_add(1);
        self.behind = true;
        let text = image.measured_text();
        self.last.insert(image.path.clone(), image);
        for bank in self.banks.clone() {
            self.extend(bank.hash(&[text.as_bytes()])).await?;
        }
        self.behind = false;
        Ok(())
    }

    /// The log as the Verifier may read it: each entry is in the PCR.
    pub(super) async fn proven(&mut self) -> Result<Vec<u8>, LedgerError> {
        self.catch_up().await?;
        read(&self.path)
    }

    /// Extends what the TPM refused the last time.
    pub(super) async fn catch_up(&mut self) -> Result<(), LedgerError> {
        if self.behind { self.recover().await } else { Ok(()) }
    }

    /// Compares log and PCR and does what is lacking. A command that was given up may have been carried out since, so
    /// the PCR is asked and nothing is assumed.
    async fn recover(&mut self) -> Result<(), LedgerError> {
        let bytes = read(&self.path)?;
        let malformed = |why| Refusal::Malformed { log: self.path.clone(), why };
        let log = ImageLog::parse(&bytes).map_err(|error| malformed(chain(&error)))?;
        // A record without its end was being written when the attestor died: it was not extended.
        self.length = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at.saturating_add(1));
        let unexplained = |why| Refusal::Unexplained { log: self.path.clone(), why };
        match log.recovery(&values(&self.tpm).await?).map_err(unexplained)? {
            Recovery::BeginAnew => self.begin_anew()?,
            Recovery::Extend(lacking) => {
                self.entries = log.entries().len();
                self.last = log.entries().iter().map(|e| (e.image.path.clone(), e.image.clone())).collect();
                self.cut().map_err(|source| self.failed(source))?;
                for digest in lacking {
                    tracing::info!(bank = %digest.alg(), "the last entry of the image log is extended now");
                    self.extend(digest).await?;
                }
            }
        }
        self.behind = false;
        Ok(())
    }

    fn begin_anew(&mut self) -> Result<(), LedgerError> {
        (self.length, self.entries) = (0, 0);
        self.last.clear();
        self.cut().map_err(|source| self.failed(source))
    }

    /// Takes back what is no whole entry.
    fn cut(&self) -> io::Result<()> {
        self.file.set_len(u64::try_from(self.length).unwrap_or(u64::MAX))?;
        self.file.sync_data()
    }

    async fn extend(&self, digest: HashValue) -> Result<(), LedgerError> {
        let bank = BANKS.iter().find(|(_, alg)| *alg == digest.alg()).map(|(bank, _)| *bank);
        let Some(bank) = bank else { return Ok(()) };
        Ok(self.tpm.extend(index()?, bank, digest.as_bytes().to_vec()).await?)
    }

    fn failed(&self, source: io::Error) -> LedgerError {
        LedgerError::Log { log: self.path.clone(), source }
    }
}

/// A log as it is sent; empty where there is none.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, LedgerError> {
    let limit = u64::try_from(MAX_SEQUENCE_BYTES).unwrap_or(u64::MAX);
    match durable::read_bounded(path, limit) {
        Ok(log) => Ok(log),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(LedgerError::Log { log: path.to_owned(), source }),
    }
}

fn index() -> Result<PcrIndex, PcrIndexError> {
    PcrIndex::try_from(IMAGE_PCR.number())
}

/// The PCR in every bank that the TPM keeps and that may be quoted.
async fn values(tpm: &TpmHandle) -> Result<Vec<HashValue>, LedgerError> {
    let selection: PcrSelection = std::iter::once(index()?).collect();
    let mut values = Vec::new();
    for (bank, alg) in BANKS {
        match tpm.read_pcrs(bank, selection).await {
            Ok(read) => values.extend(read.first().and_then(|value| HashValue::new(alg, &value.digest))),
            Err(TpmError { fault: TpmFault::BankMissing { .. }, .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(values)
}
