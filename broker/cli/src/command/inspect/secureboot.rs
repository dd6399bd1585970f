//! `touchstone inspect secureboot`: what a firmware event log tells about Secure Boot in PCR 7.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use policy::cause::chain;
use policy::eventlog::tcg::EventLog;
use policy::evidence::secure_boot::{
    Authority, KeyCertificate, KeyDatabase, OtherEvent, SecureBootState, Voucher, told_by,
};
use policy::tpm::alg::HashAlg;
use serde::Serialize;

use super::eventlog;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::output::table::Table;
use crate::output::{Page, Report, Session, View, words};

/// Which log, and which bank of it.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 the state is told, 3 the log tells none: the reason is on standard error and, with -o json,
in `refused`; 2 the log cannot be read, or has no such bank.
Digests are in hex: `sha256` of a key variable is of its contents, of a certificate its fingerprint, of a hash
the hash itself, of another authority that of the measured variable. These are what a golden release lists in
[secure_boot]. A log proves nothing without a quote: this reads what it says and that it is consistent.
Example: touchstone inspect secureboot binary_bios_measurements")]
pub(crate) struct SecurebootArgs {
    /// Log as /sys/kernel/security/tpm0/binary_bios_measurements has it
    file: PathBuf,
    /// Bank whose digests must cover the data: sha1, sha256, sha384 or sha512 [default: the strongest of the log]
    #[arg(long, value_name = "BANK")]
    bank: Option<HashAlg>,
}

/// The state as JSON has it; fields are added, never renamed or removed.
#[derive(Debug, Serialize)]
struct StateView {
    bank: &'static str,
    secure_boot: bool,
    setup_mode: bool,
    audit_mode: Option<bool>,
    deployed_mode: Option<bool>,
    pk: DatabaseView,
    kek: DatabaseView,
    db: DatabaseView,
    dbx: DatabaseView,
    authorities: Vec<AuthorityView>,
    others: Vec<OtherView>,
}

/// A key variable: its contents and what is in them.
#[derive(Debug, Serialize)]
struct DatabaseView {
    sha256: String,
    bytes: usize,
    certificates: Vec<CertificateView>,
    hashes: usize,
    others: BTreeMap<String, usize>,
}

#[derive(Debug, Serialize)]
struct CertificateView {
    sha256: String,
    subject: Option<String>,
    owner: String,
}

/// What vouched for an image, or shim's own state.
#[derive(Debug, Serialize)]
struct AuthorityView {
    event: usize,
    variable: String,
    guid: String,
    kind: &'static str,
    sha256: String,
    subject: Option<String>,
    owner: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sbat: Option<String>,
}

/// An event of PCR 7 that is none of the above.
#[derive(Debug, Serialize)]
struct OtherView {
    event: usize,
    #[serde(rename = "type")]
    event_type: String,
    text: String,
    sha256: String,
}

/// The answer when the log tells no state.
#[derive(Debug, Serialize)]
struct RefusedView {
    refused: String,
}

impl StateView {
    fn new(state: &SecureBootState, bank: HashAlg) -> Self {
        Self {
            bank: bank.name(),
            secure_boot: state.is_enabled(),
            setup_mode: state.is_in_setup_mode(),
            audit_mode: state.audit_mode(),
            deployed_mode: state.deployed_mode(),
            pk: state.pk().into(),
            kek: state.kek().into(),
            db: state.db().into(),
            dbx: state.dbx().into(),
            authorities: state.authorities().iter().map(AuthorityView::from).collect(),
            others: state.others().iter().map(OtherView::from).collect(),
        }
    }
}

impl From<&KeyDatabase> for DatabaseView {
    fn from(database: &KeyDatabase) -> Self {
        Self {
            sha256: database.digest().hex(),
            bytes: database.len(),
            certificates: database.certificates().iter().map(CertificateView::from).collect(),
            hashes: database.hashes(),
            others: database.others().iter().map(|(kind, count)| (kind.to_string(), *count)).collect(),
        }
    }
}

impl From<&KeyCertificate> for CertificateView {
    fn from(certificate: &KeyCertificate) -> Self {
        Self {
            sha256: certificate.name.fingerprint.hex(),
            subject: certificate.name.subject(),
            owner: certificate.owner.to_string(),
        }
    }
}

impl From<&Authority> for AuthorityView {
    fn from(authority: &Authority) -> Self {
        let (kind, subject, sbat) = match &authority.voucher {
            Voucher::Certificate(name) => ("certificate", name.subject(), None),
            Voucher::Hash(_) => ("hash", None, None),
            Voucher::Sbat { text, .. } => ("sbat", None, text.clone()),
            Voucher::Variable { .. } => ("variable", None, None),
        };
        Self {
            event: authority.position,
            variable: authority.variable.clone(),
            guid: authority.guid.to_string(),
            kind,
            sha256: authority.identity().hex(),
            subject,
            owner: authority.owner.map(|owner| owner.to_string()),
            sbat,
        }
    }
}

impl From<&OtherEvent> for OtherView {
    fn from(other: &OtherEvent) -> Self {
        Self {
            event: other.position,
            event_type: other.event_type.to_string(),
            text: other.text.clone(),
            sha256: other.digest.hex(),
        }
    }
}

impl View for StateView {
    fn text(&self, page: &Page) -> String {
        let yes = |flag| if flag { "yes" } else { "no" };
        let measured = |flag: Option<bool>| flag.map_or("not measured", yes);
        let mut text = String::new();
        for (label, value) in [
            ("Secure Boot", if self.secure_boot { "on" } else { "off" }),
            ("setup mode", yes(self.setup_mode)),
            ("audit mode", measured(self.audit_mode)),
            ("deployed mode", measured(self.deployed_mode)),
            ("bank", self.bank),
        ] {
            let _ = writeln!(text, "{label:<14} {value}");
        }
        let keys = [("PK", &self.pk), ("KEK", &self.kek), ("db", &self.db), ("dbx", &self.dbx)];
        let tables = [
            contents(&keys).text("", page.colour),
            certificates(&keys).text("no variable holds a certificate", page.colour),
            self.authorities().text("no authority was measured", page.colour),
        ];
        for table in tables {
            let _ = write!(text, "\n{table}");
        }
        for other in &self.others {
            let said = words::visible(&other.text);
            let _ =
                writeln!(text, "\nevent {} ({}) is not understood: {said}", other.event, other.event_type);
        }
        text
    }
}

/// What is in the variables, and what a release lists of them.
fn contents(keys: &[(&'static str, &DatabaseView)]) -> Table {
    let mut table = Table::new(["VARIABLE", "CERTIFICATES", "HASHES", "OTHERS", "SHA256"]);
    for (name, database) in keys {
        let others: usize = database.others.values().sum();
        table.row([
            (*name).to_owned(),
            database.certificates.len().to_string(),
            database.hashes.to_string(),
            others.to_string(),
            database.sha256.clone(),
        ]);
    }
    table
}

fn certificates(keys: &[(&'static str, &DatabaseView)]) -> Table {
    let mut table = Table::new(["IN", "FINGERPRINT", "SUBJECT"]);
    for (name, database) in keys {
        for certificate in &database.certificates {
            let subject = words::or_dash(certificate.subject.as_deref().unwrap_or_default());
            table.row([(*name).to_owned(), certificate.sha256.clone(), subject]);
        }
    }
    table
}

impl StateView {
    fn authorities(&self) -> Table {
        let mut table = Table::new(["EVENT", "AUTHORITY", "KIND", "SHA256", "WHICH"]);
        for authority in &self.authorities {
            let which = authority.subject.as_deref().or(authority.sbat.as_deref()).unwrap_or_default();
            table.row([
                authority.event.to_string(),
                authority.variable.clone(),
                authority.kind.to_owned(),
                authority.sha256.clone(),
                words::or_dash(which),
            ]);
        }
        table
    }
}

impl View for RefusedView {
    fn text(&self, _page: &Page) -> String {
        String::new()
    }
}

/// Reads the state; a log that tells none is refused with the reason.
pub(super) fn run(args: &SecurebootArgs, session: &Session) -> Result<Report> {
    let bytes = eventlog::read(&args.file)?;
    let log = eventlog::parse(&args.file, &bytes)?;
    match state(&log, args)? {
        Ok(view) => session.report(&view),
        Err(reason) => {
            let line = format!("{}: {reason}", args.file.display());
            if !session.is_json() {
                return Err(Failure::new(Exit::Negative, line));
            }
            let report = session.report(&RefusedView { refused: reason })?;
            Ok(report.ending(Exit::Negative).aside(format!("touchstone: {line}")))
        }
    }
}

/// The strongest bank that any event carries: headers list banks that firmware could log and does not.
fn strongest(log: &EventLog<'_>) -> Option<HashAlg> {
    let extending = || log.events().iter().filter(|event| event.extends().is_some());
    let carried = |bank: &&HashAlg| extending().any(|event| event.digest(**bank).is_some());
    let banks = log.banks();
    banks.iter().filter(carried).max().or_else(|| banks.iter().max()).copied()
}

/// The state, or the reason why the log tells none.
fn state(log: &EventLog<'_>, args: &SecurebootArgs) -> Result<std::result::Result<StateView, String>> {
    if let Some(bank) = args.bank.filter(|bank| !log.banks().contains(bank)) {
        let had: Vec<&str> = log.banks().iter().map(|bank| bank.name()).collect();
        let what = format!("{}: the log has no {bank} bank", args.file.display());
        return Err(Failure::unusable(what).next(format!("its banks: {}", words::list(&had))));
    }
    let Some(bank) = args.bank.or_else(|| strongest(log)) else {
        return Ok(Err("the log has no bank that can be computed here".to_owned()));
    };
    Ok(match told_by(log, bank) {
        Ok(state) => Ok(StateView::new(&state, bank)),
        Err(error) => Err(chain(&error)),
    })
}
