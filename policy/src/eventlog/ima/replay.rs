//! Replay of a list into PCR values.

use std::collections::{BTreeMap, BTreeSet};

use super::list::{ImaList, ImaListError, Record};
use crate::eventlog::replay::reset_value;
use crate::tpm::alg::{HashAlg, HashValue};
use crate::tpm::pcr::{PcrIndex, PcrValues};

/// Values of the PCRs that records extended, of one bank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Running {
    bank: HashAlg,
    values: BTreeMap<PcrIndex, HashValue>,
}

impl Running {
    pub(super) const fn new(bank: HashAlg) -> Self {
        Self { bank, values: BTreeMap::new() }
    }

    pub(super) fn with(bank: HashAlg, values: BTreeMap<PcrIndex, HashValue>) -> Self {
        Self { bank, values }
    }

    pub(super) const fn bank(&self) -> HashAlg {
        self.bank
    }

    pub(super) const fn values(&self) -> &BTreeMap<PcrIndex, HashValue> {
        &self.values
    }

    /// Extends by a record. A PCR that no record extended yet begins as `before` has it.
    pub(super) fn extend(&mut self, record: &Record<'_>, before: &PcrValues) {
        let value = self.values.entry(record.pcr).or_insert_with(|| start(before, record.pcr));
        *value = value.extend(record.extends(self.bank).as_bytes());
    }

    /// The first PCR that was extended here and not in `earlier`, although its quoted value is another than
    /// it began with.
    pub(super) fn missed_by(
        &self,
        earlier: &Self,
        quoted: &PcrValues,
        before: &PcrValues,
    ) -> Option<(PcrIndex, HashValue)> {
        let later = self.values.iter().filter(|(pcr, _)| !earlier.values.contains_key(pcr));
        let mut missed = later.filter(|(pcr, _)| quoted.value(**pcr) != Some(&start(before, **pcr)));
        missed.next().map(|(pcr, value)| (*pcr, *value))
    }

    /// The first PCR whose value is not the quoted one.
    pub(super) fn differs_from(&self, quoted: &PcrValues) -> Option<(PcrIndex, HashValue)> {
        let differs = |(pcr, value): &(&PcrIndex, &HashValue)| quoted.value(**pcr) != Some(*value);
        self.values.iter().find(differs).map(|(pcr, value)| (*pcr, *value))
    }
}

/// What a PCR holds before IMA extends it: what the firmware measured into it, or its reset value. PCR 10 is
/// IMA's own and begins at reset whatever a firmware log says: nothing confirms what a log tells of it.
fn start(before: &PcrValues, pcr: PcrIndex) -> HashValue {
    let own = before.value(pcr).filter(|_| pcr != PcrIndex::IMA);
    own.copied().unwrap_or_else(|| reset_value(before.bank(), pcr, 0))
}

/// What a list amounts to, for people who look at one; nothing is decided by it.
#[derive(Debug, Clone)]
pub struct ImaSummary<'a> {
    /// Number of records.
    pub records: usize,
    /// How many of them are violations.
    pub violations: usize,
    /// How many have each template.
    pub templates: BTreeMap<&'a str, usize>,
    /// The values of each bank that was asked for, of the PCRs that a record extends.
    pub values: Vec<PcrValues>,
}

/// Replays a whole list in these banks, from the reset values.
pub fn summarize<'a>(list: &ImaList<'a>, banks: &BTreeSet<HashAlg>) -> Result<ImaSummary<'a>, ImaListError> {
    let mut running: Vec<Running> = banks.iter().map(|bank| Running::new(*bank)).collect();
    let mut summary =
        ImaSummary { records: 0, violations: 0, templates: BTreeMap::new(), values: Vec::new() };
    for record in list.records() {
        let record = record?;
        summary.records = summary.records.saturating_add(1);
        summary.violations = summary.violations.saturating_add(usize::from(record.is_violation()));
        let count = summary.templates.entry(record.template).or_default();
        *count = count.saturating_add(1);
        for running in &mut running {
            let nothing = PcrValues::new(running.bank());
            running.extend(&record, &nothing);
        }
    }
    summary.values = running.iter().map(pcr_values).collect();
    Ok(summary)
}

fn pcr_values(running: &Running) -> PcrValues {
    let mut values = PcrValues::new(running.bank());
    for (pcr, value) in running.values() {
        values.set(*pcr, *value);
    }
    values
}
