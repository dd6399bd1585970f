//! An IMA that measures what a test tells it to, as Linux writes its lists.

use std::sync::Arc;

use policy::eventlog::ima::state::{Boot, ImaState};
use policy::eventlog::ima::verify::{ImaError, ImaPart, Quoted, VerifiedIma, verify};
use policy::tpm::alg::{HashAlg, HashValue};
use policy::tpm::pcr::{PcrIndex, PcrValues};

pub(crate) const BOOT: Boot = Boot { reset_count: 7, restart_count: 1 };

pub(crate) fn pcr(index: u32) -> PcrIndex {
    PcrIndex::new(index).unwrap()
}

pub(crate) fn sha256(data: &[u8]) -> HashValue {
    HashAlg::Sha256.hash(&[data])
}

/// A record to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) pcr: u32,
    pub(crate) template: String,
    /// The fields; of the template `ima` digest and name.
    pub(crate) fields: Vec<Vec<u8>>,
    pub(crate) violation: bool,
}

pub(crate) fn d_ng(digest: &HashValue) -> Vec<u8> {
    [digest.alg().name().as_bytes(), b":\0", digest.as_bytes()].concat()
}

pub(crate) fn n_ng(path: &str) -> Vec<u8> {
    [path.as_bytes(), b"\0"].concat()
}

pub(crate) fn record(template: &str, fields: &[Vec<u8>]) -> Written {
    Written { pcr: 10, template: template.to_owned(), fields: fields.to_vec(), violation: false }
}

/// A file without signature, template `ima-sig`.
pub(crate) fn file(path: &str, content: &str) -> Written {
    signed_file(path, content, Vec::new())
}

pub(crate) fn signed_file(path: &str, content: &str, signature: Vec<u8>) -> Written {
    record("ima-sig", &[d_ng(&sha256(content.as_bytes())), n_ng(path), signature])
}

pub(crate) fn violation(path: &str) -> Written {
    let digest = d_ng(&HashValue::repeated(HashAlg::Sha256, 0));
    Written { violation: true, ..record("ima-ng", &[digest, n_ng(path)]) }
}

/// `boot_aggregate` of these values, over PCRs 0 to 9.
pub(crate) fn aggregate(pcrs: &PcrValues) -> Written {
    let values: Vec<&[u8]> = (0..10).map(|index| pcrs.value(pcr(index)).unwrap().as_bytes()).collect();
    record("ima-sig", &[d_ng(&pcrs.bank().hash(&values)), n_ng("boot_aggregate"), Vec::new()])
}

impl Written {
    pub(crate) fn in_pcr(mut self, index: u32) -> Self {
        self.pcr = index;
        self
    }

    fn lengths(&self) -> Vec<u8> {
        let len = |field: &Vec<u8>| u32::try_from(field.len()).unwrap().to_le_bytes().to_vec();
        self.fields.iter().flat_map(|field| [len(field), field.clone()].concat()).collect()
    }

    /// What the kernel hashes.
    fn hashed(&self) -> Vec<u8> {
        if self.template != "ima" {
            return self.lengths();
        }
        let mut name = self.fields[1].clone();
        name.resize(256, 0);
        [self.fields[0].clone(), name].concat()
    }

    pub(crate) fn template_hash(&self, bank: HashAlg) -> HashValue {
        if self.violation { HashValue::repeated(bank, 0xff) } else { bank.hash(&[&self.hashed()]) }
    }

    /// The record in a list whose digest field is of `width`.
    pub(crate) fn bytes(&self, width: HashAlg) -> Vec<u8> {
        let stated = if self.violation { HashValue::repeated(width, 0) } else { self.template_hash(width) };
        let number = |n: usize| u32::try_from(n).unwrap().to_le_bytes();
        let mut out = self.pcr.to_le_bytes().to_vec();
        out.extend(stated.as_bytes());
        out.extend(number(self.template.len()));
        out.extend(self.template.as_bytes());
        if self.template == "ima" {
            out.extend(&self.fields[0]);
            out.extend(number(self.fields[1].len()));
            out.extend(&self.fields[1]);
        } else {
            let data = self.lengths();
            out.extend(number(data.len()));
            out.extend(data);
        }
        out
    }
}

pub(crate) fn list_of(width: HashAlg, records: &[Written]) -> Vec<u8> {
    records.iter().flat_map(|record| record.bytes(width)).collect()
}

/// The classic list.
pub(crate) fn list(records: &[Written]) -> Vec<u8> {
    list_of(HashAlg::Sha1, records)
}

pub(crate) fn part(first: u64, bytes: Vec<u8>) -> ImaPart {
    ImaPart { first, bytes: Arc::from(bytes) }
}

/// Values of PCRs 0 to 15 after a boot that extended 0 to 7, and nothing of Linux yet.
pub(crate) fn booted(bank: HashAlg) -> PcrValues {
    let mut values = PcrValues::new(bank);
    for index in 0..16 {
        let byte = if index < 8 { 0xa0 + u8::try_from(index).unwrap() } else { 0 };
        values.set(pcr(index), HashValue::repeated(bank, byte));
    }
    values
}

/// The same values after these records.
pub(crate) fn after(mut values: PcrValues, records: &[Written]) -> PcrValues {
    for record in records {
        let before = *values.value(pcr(record.pcr)).unwrap();
        let digest = record.template_hash(values.bank());
        values.set(pcr(record.pcr), before.extend(digest.as_bytes()));
    }
    values
}

/// A device with IMA: what it measured, and what its TPM holds.
#[derive(Clone)]
pub(crate) struct Device {
    pub(crate) records: Vec<Written>,
    pub(crate) pcrs: PcrValues,
    pub(crate) firmware: PcrValues,
    pub(crate) boot: Boot,
}

impl Device {
    /// A device that booted, made its boot aggregate and measured these.
    pub(crate) fn of(measured: &[Written]) -> Self {
        Self::in_bank(HashAlg::Sha256, measured)
    }

    pub(crate) fn in_bank(bank: HashAlg, measured: &[Written]) -> Self {
        let booted = booted(bank);
        let records = [&[aggregate(&booted)], measured].concat();
        Self::with(booted, records)
    }

    pub(crate) fn with(booted: PcrValues, records: Vec<Written>) -> Self {
        let (firmware, boot) = (PcrValues::new(booted.bank()), BOOT);
        Self { pcrs: after(booted, &records), records, firmware, boot }
    }

    /// Measures more.
    pub(crate) fn measure(&mut self, records: &[Written]) {
        self.pcrs = after(self.pcrs.clone(), records);
        self.records.extend_from_slice(records);
    }

    pub(crate) fn list(&self) -> Vec<u8> {
        list(&self.records)
    }

    /// The list from a record on.
    pub(crate) fn from(&self, first: usize) -> ImaPart {
        part(u64::try_from(first).unwrap(), list(&self.records[first..]))
    }

    pub(crate) fn judge(&self, part: &ImaPart, accepted: Option<&ImaState>) -> Result<VerifiedIma, ImaError> {
        let quoted = Quoted { pcrs: &self.pcrs, firmware: &self.firmware, boot: self.boot, accepted };
        verify(part, &quoted)
    }

    pub(crate) fn verify(&self, list: Vec<u8>) -> Result<VerifiedIma, ImaError> {
        self.judge(&part(0, list), None)
    }

    pub(crate) fn verified(&self) -> VerifiedIma {
        self.verify(self.list()).unwrap()
    }
}
