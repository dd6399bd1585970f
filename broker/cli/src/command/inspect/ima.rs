//! `touchstone inspect ima`: a measurement list of Linux IMA, replayed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use policy::budget::MAX_IMA_BYTES;
use policy::cause::chain;
use policy::eventlog::ima::list::ImaList;
use policy::eventlog::ima::replay::{ImaSummary, summarize};
use policy::tpm::alg::HashAlg;
use serde::Serialize;

use super::Pcrs;
use crate::failure::{Failure, Result};
use crate::file;
use crate::output::table::Table;
use crate::output::{Page, Report, Session, View, words};

/// Which list, and in which banks.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 read, 2 malformed: one line names the offset and what is wrong.
Lists of every template are read, and those of one bank, whose template digest is 20, 32, 48 or 64 bytes
wide; the first record tells which. Each record's template digest is compared with its data. A violation
(template digest zero) extends ones. Numbers must be little-endian.
-o json: {schema, records, violations, templates: {name: count}, pcrs: {bank: {pcr: hex}}}
Example: touchstone inspect ima binary_runtime_measurements --bank sha256 -o json")]
pub(crate) struct ImaArgs {
    /// List as /sys/kernel/security/ima/binary_runtime_measurements has it, or one of a bank beside it
    file: PathBuf,
    /// Bank to replay: sha1, sha256, sha384 or sha512; may repeat
    #[arg(long = "bank", value_name = "BANK", default_values_t = [HashAlg::Sha1, HashAlg::Sha256])]
    banks: Vec<HashAlg>,
}

/// What the list amounts to.
#[derive(Debug, Serialize)]
struct ListView {
    records: usize,
    violations: usize,
    templates: BTreeMap<String, usize>,
    pcrs: BTreeMap<&'static str, Pcrs>,
}

impl From<ImaSummary<'_>> for ListView {
    fn from(summary: ImaSummary<'_>) -> Self {
        let templates = summary.templates.iter().map(|(name, count)| ((*name).to_owned(), *count));
        let pcrs = summary.values.iter().map(|values| (values.bank().name(), super::pcrs_of(values)));
        Self {
            records: summary.records,
            violations: summary.violations,
            templates: templates.collect(),
            pcrs: pcrs.collect(),
        }
    }
}

impl View for ListView {
    fn text(&self, page: &Page) -> String {
        let mut templates = Table::new(["TEMPLATE", "RECORDS"]);
        for (name, count) in &self.templates {
            templates.row([name.clone(), count.to_string()]);
        }
        let records = words::count(self.records, "record");
        let violations = words::count(self.violations, "violation");
        let templates = templates.text("no template", page.colour);
        let pcrs = super::pcr_table(&self.pcrs, "no record extends a PCR", page);
        format!("IMA list, {records}, {violations}\n\n{templates}\n{pcrs}")
    }
}

/// Replays the list; a malformed one is told in one line.
pub(super) fn run(args: &ImaArgs, session: &Session) -> Result<Report> {
    let refuse = |why: String| Failure::unusable(format!("{}: {why}", args.file.display()));
    let limit = u64::try_from(MAX_IMA_BYTES).unwrap_or(u64::MAX);
    let bytes = file::read_up_to(&args.file, limit)?;
    if bytes.len() > MAX_IMA_BYTES {
        return Err(refuse(format!("offset {limit}: the list goes on, at most {limit} bytes are read")));
    }
    let banks = args.banks.iter().copied().collect();
    let list = ImaList::parse(&bytes, 0).map_err(|error| refuse(chain(&error)))?;
    let summary = summarize(&list, &banks).map_err(|error| refuse(chain(&error)))?;
    session.report(&ListView::from(summary))
}
