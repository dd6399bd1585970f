//! The firmware event log (TCG PC Client Platform Firmware Profile 1.06, chapter 10).
//!
//! Two formats are read: the crypto-agile one, which a Spec ID event introduces, and the older
//! SHA-1 one. Events borrow from the log and keep its order. The parser is lenient where firmware is
//! odd and strict where bytes stop making sense; what a log must hold to count as evidence is
//! decided by the evidence grammar, not here.

use crate::budget::{MAX_BANKS, MAX_DIGEST_BYTES, MAX_EVENT_LOG_BYTES, MAX_EVENTS};
use crate::eventlog::event::EventType;
use crate::reader::{ReadError, Reader};
use crate::tpm::alg::{HashAlg, HashValue};
use crate::tpm::pcr::PcrIndex;

/// Signature of the Spec ID event of a crypto-agile log (clause 10.4.5.1).
const SPEC_ID: &[u8; 16] = b"Spec ID Event03\0";
/// Signature of the event that tells PCR 0's first value (clause 10.4.5.3).
const STARTUP_LOCALITY: &[u8; 16] = b"StartupLocality\0";
/// The PCR index that Windows writes in events that extend nothing.
const NO_PCR: u32 = u32::MAX;

/// A log cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventLogError {
    /// No event at all.
    #[error("the log holds no event; read it from /sys/kernel/security/tpm0/binary_bios_measurements")]
    Empty,
    /// More events than are read.
    #[error("the log holds more than {MAX_EVENTS} events, at offset {offset}; no firmware writes that many")]
    TooManyEvents {
        /// Offset of the first event too many.
        offset: usize,
    },
    /// The header lists a bank twice, or with a digest length that is not its own.
    #[error("offset {offset}: the header lists bank {alg:#06x} twice or with a wrong digest length")]
    Bank {
        /// Offset of the entry.
        offset: usize,
        /// `TPM_ALG_ID` of the bank.
        alg: u16,
    },
    /// An event carries a digest of a bank that the header does not list.
    #[error("offset {offset}: the event carries a digest of bank {alg:#06x}, which the header does not list")]
    UnlistedBank {
        /// Offset of the digest.
        offset: usize,
        /// `TPM_ALG_ID` of the bank.
        alg: u16,
    },
    /// An event carries two digests of one bank.
    #[error("offset {offset}: the event carries two {bank} digests")]
    SecondDigest {
        /// Offset of the second one.
        offset: usize,
        /// The bank.
        bank: HashAlg,
    },
    /// An event that extends a PCR that does not exist.
    #[error("offset {offset}: the event extends PCR {pcr}, a TPM has PCRs 0 to 23")]
    Pcr {
        /// Offset of the event.
        offset: usize,
        /// The index.
        pcr: u32,
    },
    /// The bytes stop making sense.
    #[error("the log is malformed or cut; send it exactly as the kernel shows it")]
    Structure(#[from] ReadError),
}

/// How a log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `TCG_PCR_EVENT`: SHA-1 alone.
    Sha1,
    /// `TCG_PCR_EVENT2`: the banks of the Spec ID event.
    CryptoAgile,
}

/// A parsed log; nothing of it is proven.
#[derive(Debug, Clone)]
pub struct EventLog<'a> {
    format: Format,
    banks: Vec<HashAlg>,
    events: Vec<Event<'a>>,
}

/// One event of a log.
#[derive(Debug, Clone)]
pub struct Event<'a> {
    /// Place in the log, the header of a crypto-agile log being 0.
    pub position: usize,
    /// Offset of its first byte in the log.
    pub offset: usize,
    /// The PCR; `None` for the index 0xffffffff of an event that extends nothing.
    pub pcr: Option<PcrIndex>,
    /// What the log says it is. Nothing binds it: an attacker may write any type.
    pub event_type: EventType,
    /// Event data. Bound only where the type's rule makes the digest the data's hash.
    pub data: &'a [u8],
    digests: [Option<&'a [u8]>; HashAlg::ALL.len()],
}

impl Event<'_> {
    /// The digest of `bank`, if the event carries one.
    #[must_use]
    pub fn digest(&self, bank: HashAlg) -> Option<HashValue> {
        let slot = HashAlg::ALL.iter().position(|alg| *alg == bank)?;
        HashValue::new(bank, (*self.digests.get(slot)?)?)
    }

    /// The PCR that it extends; `None` for `EV_NO_ACTION`, which extends nothing.
    #[must_use]
    pub fn extends(&self) -> Option<PcrIndex> {
        self.pcr.filter(|_| self.event_type != EventType::NO_ACTION)
    }

    /// Whether it presents itself as the event that tells the startup locality.
    #[must_use]
    pub fn is_startup_locality(&self) -> bool {
        self.event_type == EventType::NO_ACTION && self.data.starts_with(STARTUP_LOCALITY)
    }

    /// The locality, if it is a well-formed StartupLocality event.
    #[must_use]
    pub fn startup_locality(&self) -> Option<u8> {
        match self.data.strip_prefix(STARTUP_LOCALITY) {
            Some([locality]) if self.event_type == EventType::NO_ACTION => Some(*locality),
            _ => None,
        }
    }
}

impl<'a> EventLog<'a> {
    /// Parses a log, whole: up to its end or to padding that reaches it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EventLogError> {
        // Compares the length, then stops where the padding begins.
        Reader::at_most(bytes, MAX_EVENT_LOG_BYTES, "firmware event log")?;
        let end = padding_start(bytes);
        let mut reader = Reader::new(bytes);
        if end == 0 {
            return Err(EventLogError::Empty);
        }
        let first = sha1_event(&mut reader, 0)?;
        let header = Header::of(&first, &mut reader)?;
        let mut log = Self { format: header.format, banks: header.known(), events: vec![first] };
        while reader.offset() < end {
            if log.events.len() >= MAX_EVENTS {
                return Err(EventLogError::TooManyEvents { offset: reader.offset() });
            }
            let position = log.events.len();
            log.events.push(match header.format {
                Format::Sha1 => sha1_event(&mut reader, position)?,
                Format::CryptoAgile => header.event(&mut reader, position)?,
            });
        }
        Ok(log)
    }

    /// How it is written.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// The banks of the log that can be computed here, in the header's order.
    #[must_use]
    pub fn banks(&self) -> &[HashAlg] {
        &self.banks
    }

    /// The events, header included, in the log's order.
    #[must_use]
    pub fn events(&self) -> &[Event<'a>] {
        &self.events
    }

    /// The startup locality of the first event that tells one, for people: strict replay decides
    /// whether it counts.
    #[must_use]
    pub fn startup_locality(&self) -> Option<u8> {
        self.events.iter().find_map(Event::startup_locality)
    }
}

/// Offset from which every byte is 0x00 or every byte is 0xff: the unused rest of the area that
/// ACPI reserves. Found once from the end, so that zeros cost no second look.
fn padding_start(bytes: &[u8]) -> usize {
    match bytes.last() {
        Some(fill @ (0x00 | 0xff)) => {
            bytes.iter().rposition(|byte| byte != fill).map_or(0, |last| last.saturating_add(1))
        }
        _ => bytes.len(),
    }
}

/// What the first event says about the rest.
struct Header {
    format: Format,
    banks: Vec<Bank>,
}

#[derive(Clone, Copy)]
struct Bank {
    id: u16,
    digest_len: usize,
}

impl Header {
    fn of(first: &Event<'_>, reader: &mut Reader<'_>) -> Result<Self, EventLogError> {
        let is_spec_id = first.event_type == EventType::NO_ACTION && first.data.starts_with(SPEC_ID);
        if !is_spec_id {
            let sha1 = Bank { id: HashAlg::Sha1.id(), digest_len: HashAlg::Sha1.len() };
            return Ok(Self { format: Format::Sha1, banks: vec![sha1] });
        }
        // Offsets in the data are those in the log.
        let mut data = Reader::within(first.data, first.offset.saturating_add(SHA1_EVENT_HEADER));
        data.take(SPEC_ID.len(), "Spec ID signature")?;
        data.take(8, "Spec ID platform class, version and uintn size")?;
        let banks = Self::banks(&mut data)?;
        let vendor_info = usize::from(data.u8("Spec ID vendorInfoSize")?);
        if data.is_empty() {
            // Some firmware leaves vendorInfo out of the event's size and writes it behind the event.
            reader.take(vendor_info, "Spec ID vendorInfo")?;
        } else {
            data.take(vendor_info, "Spec ID vendorInfo")?;
        }
        data.finish("Spec ID event")?;
        Ok(Self { format: Format::CryptoAgile, banks })
    }

    fn banks(data: &mut Reader<'_>) -> Result<Vec<Bank>, EventLogError> {
        let offset = data.offset();
        let what = "number of banks";
        let count = data.u32_le(what)?;
        if count > MAX_BANKS {
            let (found, limit) = (count.into(), MAX_BANKS.into());
            return Err(ReadError::TooLarge { offset, what, found, limit }.into());
        }
        let mut banks: Vec<Bank> = Vec::new();
        for _ in 0..count {
            let offset = data.offset();
            let id = data.u16_le("bank")?;
            let digest_len = usize::from(data.u16_le("digest size of a bank")?);
            let fits =
                HashAlg::from_id(id).map_or(digest_len <= MAX_DIGEST_BYTES, |alg| alg.len() == digest_len);
            if !fits || banks.iter().any(|bank| bank.id == id) {
                return Err(EventLogError::Bank { offset, alg: id });
            }
            banks.push(Bank { id, digest_len });
        }
        Ok(banks)
    }

    fn known(&self) -> Vec<HashAlg> {
        self.banks.iter().filter_map(|bank| HashAlg::from_id(bank.id)).collect()
    }

    /// A `TCG_PCR_EVENT2` (clause 10.2.2).
    fn event<'a>(&self, reader: &mut Reader<'a>, position: usize) -> Result<Event<'a>, EventLogError> {
        let offset = reader.offset();
        let (pcr, event_type) = (reader.u32_le("PCR index")?, EventType(reader.u32_le("event type")?));
        let count = reader.u32_le("number of digests")?;
        let limit = u32::try_from(self.banks.len()).unwrap_or(MAX_BANKS);
        if count > limit {
            let what = "number of digests";
            let offset = offset.saturating_add(8);
            return Err(ReadError::TooLarge { offset, what, found: count.into(), limit: limit.into() }.into());
        }
        let mut digests = [None; HashAlg::ALL.len()];
        for _ in 0..count {
            self.digest(reader, &mut digests)?;
        }
        let data = data(reader)?;
        Ok(Event { position, offset, pcr: pcr_index(offset, pcr, event_type)?, event_type, data, digests })
    }

    fn digest<'a>(
        &self,
        reader: &mut Reader<'a>,
        digests: &mut [Option<&'a [u8]>; HashAlg::ALL.len()],
    ) -> Result<(), EventLogError> {
        let offset = reader.offset();
        let id = reader.u16_le("bank of a digest")?;
        let bank = self.banks.iter().find(|bank| bank.id == id);
        let len = bank.ok_or(EventLogError::UnlistedBank { offset, alg: id })?.digest_len;
        let bytes = reader.take(len, "digest")?;
        for (bank, slot) in HashAlg::ALL.into_iter().zip(digests).filter(|(bank, _)| bank.id() == id) {
            if slot.replace(bytes).is_some() {
                return Err(EventLogError::SecondDigest { offset, bank });
            }
        }
        Ok(())
    }
}

/// Bytes before the data of a `TCG_PCR_EVENT`.
const SHA1_EVENT_HEADER: usize = 32;

/// A `TCG_PCR_EVENT` (clause 10.2.1).
fn sha1_event<'a>(reader: &mut Reader<'a>, position: usize) -> Result<Event<'a>, EventLogError> {
    let offset = reader.offset();
    let (pcr, event_type) = (reader.u32_le("PCR index")?, EventType(reader.u32_le("event type")?));
    let sha1 = reader.take(HashAlg::Sha1.len(), "digest")?;
    let data = data(reader)?;
    let pcr = pcr_index(offset, pcr, event_type)?;
    Ok(Event { position, offset, pcr, event_type, data, digests: [Some(sha1), None, None, None] })
}

fn data<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], ReadError> {
    let size = reader.u32_le("size of event data")?;
    // Bounded by the log, which is bounded: nothing is copied.
    reader.bounded(size.into(), MAX_EVENT_LOG_BYTES, "event data")
}

fn pcr_index(offset: usize, pcr: u32, event_type: EventType) -> Result<Option<PcrIndex>, EventLogError> {
    match PcrIndex::new(pcr) {
        None if pcr == NO_PCR && event_type == EventType::NO_ACTION => Ok(None),
        None => Err(EventLogError::Pcr { offset, pcr }),
        some => Ok(some),
    }
}
