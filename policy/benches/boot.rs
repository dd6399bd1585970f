//! What it costs to verify and appraise a boot, as a ratio to the work that nobody can leave out: the hash of the
//! log's bytes, one extend for each event, and the check of the quote's signature.
//!
//! The boots are the recorded ones of tests/vectors and a long one of 120 events. Run with
//! `cargo bench -p policy --bench boot`; the lines that begin with `ratio` are the result.

#[path = "ratio.rs"]
mod ratio;
#[expect(dead_code, reason = "the tests use the whole rig")]
#[path = "../tests/evidence_suite/rig.rs"]
mod rig;
#[path = "boot/subject.rs"]
mod subject;

use policy::appraisal::appraise;
use policy::appraisal::result::Verdict;
use policy::eventlog::replay::replay;
use policy::eventlog::tcg::EventLog;
use policy::evidence::verify::verify;
use ratio::Ratios;
use subject::{NOW, Signer, Subject};

fn main() {
    let mut ratios = Ratios::new();
    for subject in [
        Subject::recorded("boot-a", Signer::p256()),
        Subject::long("120 events, P-256 AK", Signer::p256()),
        Subject::long("120 events, RSA AK", Signer::rsa()),
    ] {
        measure(&mut ratios, &subject);
    }
}

/// Parse and replay against the hash of the bytes and the extends; verify and appraise against the signature too.
fn measure(ratios: &mut Ratios, subject: &Subject) {
    let (name, log) = (subject.name, &subject.evidence.firmware_log);
    let digests = subject.digests();
    let named = |what: &str| format!("{name}: {what}");
    ratios.measure(&named("floor of the log"), || subject.floor_of_log(&digests));
    ratios.measure(&named("parse"), || EventLog::parse(log).map(|log| log.events().len()));
    ratios.measure(&named("parse and replay"), || {
        let log = EventLog::parse(log).unwrap();
        replay(&log, subject.evidence.pcrs.bank()).unwrap().values().clone()
    });
    ratios.measure(&named("floor of all"), || (subject.floor_of_log(&digests), subject.floor_of_signature()));
    ratios.measure(&named("verify"), || verify(&subject.evidence, &subject.challenged()).unwrap());
    ratios.measure(&named("verify and appraise"), || {
        let verified = verify(&subject.evidence, &subject.challenged()).unwrap();
        let result = appraise(&verified, &subject.reference, &subject.policy, NOW);
        assert_eq!(result.record().verdict, Verdict::Affirming);
        result
    });
    ratios.compare(&named("parse and replay"), &named("floor of the log"), 3.0);
    ratios.compare(&named("verify and appraise"), &named("floor of all"), subject.promised);
}
