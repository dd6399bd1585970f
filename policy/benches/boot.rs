//! What it costs to verify and appraise a boot, as a ratio to the work that nobody can leave out: the hash of the
//! log's bytes, one extend for each event, and the check of the quote's signature.
//!
//! The boots are recorded ones, of this project and of other people's machines, and a long one of 120 events. Run
//! with `cargo bench -p policy --bench boot`; the lines that begin with `ratio` are the result.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "what a benchmark builds itself is well formed"
)]

#[path = "boot/logs.rs"]
mod logs;
mod measure;

use std::process::ExitCode;

use measure::floor::{LogFloor, QuoteFloor};
use measure::ratio::Ratios;
use measure::signer::Signer;
use measure::subject::Subject;
use policy::eventlog::replay::replay;
use policy::eventlog::tcg::EventLog;

fn main() -> ExitCode {
    let mut ratios = Ratios::new();
    measure_boot(&mut ratios, "120 events, P-256 AK", &logs::long(Signer::p256()));
    measure_boot(&mut ratios, "120 events, RSA AK", &logs::long(Signer::rsa()));
    for (name, subject) in logs::recorded().chain(logs::third_party()) {
        measure_boot(&mut ratios, name, &subject);
    }
    ratios.finish()
}

/// Parse and replay against the hash of the bytes and the extends; verify and appraise against the signature too.
fn measure_boot(ratios: &mut Ratios, name: &str, subject: &Subject) {
    let evidence = &subject.evidence;
    let (log, quote) = (LogFloor::of(&evidence.firmware_log), QuoteFloor::of(subject));
    let named = |what: &str| format!("{name}: {what}");
    ratios.measure(&named("floor of the log"), || log.compute());
    ratios.measure(&named("parse"), || EventLog::parse(&evidence.firmware_log).unwrap().events().len());
    ratios.measure(&named("parse and replay"), || {
        let log = EventLog::parse(&evidence.firmware_log).unwrap();
        replay(&log, evidence.pcrs.bank()).unwrap().values().clone()
    });
    ratios.measure(&named("floor of all"), || (log.compute(), quote.compute()));
    ratios.measure(&named("verify"), || subject.verify());
    ratios.measure(&named("verify and appraise"), || subject.verify_and_appraise());
    ratios.promise(&named("parse"), &named("floor of the log"), 1.0);
    ratios.promise(&named("parse and replay"), &named("floor of the log"), 2.0);
    ratios.promise(&named("verify and appraise"), &named("floor of all"), subject.signer.promised());
}
