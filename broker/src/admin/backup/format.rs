//! The file: one JSON object a line, the last with the SHA-256 of everything before it.
//!
//! ```text
//! {"header":{"format":1,"plant":"plant.example",...,"needs":"..."}}
//! {"record":{"key":"device/press-7","value":"<base64>"}}
//! {"blob":{"digest":"sha256:...","size":70000}}
//! {"part":"<base64>"}
//! {"end":{"sha256":"sha256:...","mac":"..."}}
//! ```

use std::io::{BufRead, Read};

use aws_lc_rs::digest::{Context, SHA256};
use policy::digest::Digest;
use policy::time::UnixTime;
use serde::{Deserialize, Serialize};

use crate::record::Bytes;
use crate::secrets::SecretKey;
use crate::store::Revision;
use crate::store::blobs::MAX_BLOB;

/// The layout that this broker writes and reads.
pub(super) const VERSION: u32 = 1;
/// Bytes of a blob in one line.
pub(super) const PART: usize = 48 * 1024;
/// Longest line in bytes: a part in base64, and its name.
const MAX_LINE: usize = PART / 3 * 4 + 1024;

/// What a backup is of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Header {
    /// The layout.
    pub(super) format: u32,
    /// The plant's domain.
    pub(super) plant: String,
    /// The plant's random id.
    pub(super) plant_id: String,
    /// Its epoch.
    pub(super) plant_epoch: u64,
    /// The store's revision.
    pub(super) revision: Revision,
    /// When it was made.
    pub(super) made_at: UnixTime,
    /// What restoring it needs, for people.
    pub(super) needs: String,
}

/// A line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Line {
    /// The first.
    Header(Header),
    /// A record as it is stored.
    Record {
        /// Its key.
        key: String,
        /// Its value.
        value: Bytes,
    },
    /// A blob; its parts follow.
    Blob {
        /// Its name.
        digest: Digest,
        /// Its bytes, all parts together.
        size: usize,
    },
    /// Bytes of the last blob.
    Part(Bytes),
    /// The last.
    End {
        /// Of every byte before this line.
        sha256: Digest,
        /// Proof that a broker with this key-encryption key wrote them: HMAC-SHA-256 of the sum.
        mac: Bytes,
    },
}

/// What the proof of the last line is for.
const LABEL: &[u8] = b"touchstone/v1/backup";

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub(super) enum FormatError {
    /// The system refused.
    #[error("it cannot be read ({0})")]
    Read(#[from] std::io::Error),
    /// A line that is not one of ours.
    #[error("line {0} is no line of a backup")]
    Line(usize),
    /// The first line is something else.
    #[error("it does not begin with a backup's header; this is no backup")]
    NoHeader,
    /// Another layout.
    #[error("it has format {0}, this broker reads {VERSION}; restore it with the broker that made it")]
    Version(u32),
    /// The end is missing.
    #[error("it ends without its check sum: it was cut off after line {0}")]
    Cut(usize),
    /// The check sum does not fit.
    #[error("its check sum does not fit its content: it was changed, or the disk lost some of it")]
    Sum,
    /// Whoever wrote it does not hold this plant's key-encryption key.
    #[error(
        "it was not written by a broker with this `secrets/kek`, or was changed since; put back the `secrets` folder that belongs to it"
    )]
    Foreign,
    /// Bytes after the end.
    #[error("something follows its last line")]
    Trailing,
    /// The parts of a blob do not fit its name.
    #[error("blob {0} does not have the bytes that its name says")]
    Blob(Digest),
    /// A part without a blob, or a second header.
    #[error("line {0} stands where it must not")]
    Order(usize),
}

fn digest(context: Context) -> Digest {
    // SHA-256 always has 32 bytes.
    Digest::try_from(context.finish().as_ref()).unwrap_or(Digest([0; 32]))
}

/// Collects lines and hands them out in chunks.
pub(super) struct Writer {
    sum: Context,
    waiting: Vec<u8>,
}

impl Default for Writer {
    fn default() -> Self {
        Self { sum: Context::new(&SHA256), waiting: Vec::new() }
    }
}

impl Writer {
    /// Takes a line.
    pub(super) fn line(&mut self, line: &Line) -> Result<(), serde_json::Error> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.sum.update(&text);
        self.waiting.extend_from_slice(&text);
        Ok(())
    }

    /// Takes the last line.
    pub(super) fn end(&mut self, kek: &SecretKey) -> Result<(), serde_json::Error> {
        let sha256 = digest(self.sum.clone());
        let mac = kek.authenticate(LABEL, &sha256.0).into();
        self.line(&Line::End { sha256, mac })
    }

    /// The next chunk, if at least `least` bytes wait.
    pub(super) fn chunk(&mut self, least: usize) -> Option<Vec<u8>> {
        if self.waiting.is_empty() || self.waiting.len() < least {
            return None;
        }
        let rest = self.waiting.split_off(self.waiting.len().min(super::CHUNK));
        Some(std::mem::replace(&mut self.waiting, rest))
    }
}

/// What a file holds, piece by piece.
#[derive(Debug)]
pub(super) enum Piece {
    /// A record.
    Record(String, Vec<u8>),
    /// A whole blob, with the digest of its bytes.
    Blob(Digest, Vec<u8>),
}

/// Reads a file from its beginning. Gives `None` only after the whole of it was found in order.
pub(super) struct Reader<R> {
    source: R,
    sum: Context,
    line: usize,
    header: Header,
    end: Option<(Digest, Vec<u8>)>,
}

impl<R: BufRead> Reader<R> {
    /// Reads the header.
    pub(super) fn open(source: R) -> Result<Self, FormatError> {
        let nothing = Header {
            format: VERSION,
            plant: String::new(),
            plant_id: String::new(),
            plant_epoch: 0,
            revision: Revision(0),
            made_at: UnixTime(0),
            needs: String::new(),
        };
        let mut reader = Self { source, sum: Context::new(&SHA256), line: 0, header: nothing, end: None };
        let (line, _) = reader.next_line().map_err(|error| match error {
            FormatError::Read(error) => FormatError::Read(error),
            _ => FormatError::NoHeader,
        })?;
        match line {
            Line::Header(header) if header.format == VERSION => Ok(Self { header, ..reader }),
            Line::Header(header) => Err(FormatError::Version(header.format)),
            _ => Err(FormatError::NoHeader),
        }
    }

    /// Refuses a file, read to its end, that no broker with this key-encryption key wrote.
    pub(super) fn vouched_for(&self, kek: &SecretKey) -> Result<(), FormatError> {
        let (sum, mac) = self.end.as_ref().ok_or(FormatError::Cut(self.line))?;
        kek.verify(LABEL, &sum.0, mac).map_err(|_| FormatError::Foreign)
    }

    /// What the backup is of.
    pub(super) const fn header(&self) -> &Header {
        &self.header
    }

    /// The next piece; `None` at the end of a whole file.
    pub(super) fn next(&mut self) -> Result<Option<Piece>, FormatError> {
        let (line, before) = self.next_line()?;
        match line {
            Line::Record { key, value } => Ok(Some(Piece::Record(key, value.0))),
            Line::Blob { digest, size } => self.blob(digest, size).map(Some),
            Line::End { sha256, mac } => self.end(sha256, &mac.0, before),
            Line::Header(_) | Line::Part(_) => Err(FormatError::Order(self.line)),
        }
    }

    fn blob(&mut self, name: Digest, size: usize) -> Result<Piece, FormatError> {
        let wrong = || FormatError::Blob(name);
        if size > MAX_BLOB {
            return Err(wrong());
        }
        let mut bytes = Vec::new();
        while bytes.len() < size {
            let (Line::Part(part), _) = self.next_line()? else { return Err(wrong()) };
            // An empty part would never end.
            if part.0.is_empty() {
                return Err(wrong());
            }
            bytes.extend_from_slice(&part.0);
        }
        if bytes.len() != size || Digest::of(&bytes) != name {
            return Err(wrong());
        }
        Ok(Piece::Blob(name, bytes))
    }

    fn end(&mut self, sum: Digest, mac: &[u8], before: Context) -> Result<Option<Piece>, FormatError> {
        if digest(before) != sum {
            return Err(FormatError::Sum);
        }
        self.end = Some((sum, mac.to_vec()));
        if self.source.fill_buf()?.is_empty() { Ok(None) } else { Err(FormatError::Trailing) }
    }

    /// The next line, with the sum of everything before it.
    fn next_line(&mut self) -> Result<(Line, Context), FormatError> {
        let mut text = Vec::new();
        let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
        self.source.by_ref().take(limit).read_until(b'\n', &mut text)?;
        if text.is_empty() {
            return Err(FormatError::Cut(self.line));
        }
        self.line = self.line.saturating_add(1);
        if text.last() != Some(&b'\n') {
            let long = text.len() == MAX_LINE;
            return Err(if long { FormatError::Line(self.line) } else { FormatError::Cut(self.line) });
        }
        let before = self.sum.clone();
        self.sum.update(&text);
        let line = serde_json::from_slice(&text).map_err(|_| FormatError::Line(self.line))?;
        Ok((line, before))
    }
}
