//! What it costs to verify and appraise IMA lists, as a ratio to the work that nobody can leave out: the hashes of
//! the records, and the check of the signatures where files are approved by those. And how much memory it takes.
//!
//! Run with `cargo bench -p policy --bench ima`; the lines that begin with `ratio` are the result.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "what a benchmark builds itself is well formed"
)]

#[expect(dead_code, reason = "the tests use the whole rig")]
#[path = "../tests/rig/ima.rs"]
mod ima;
#[path = "ima/list.rs"]
mod list;
#[expect(dead_code, reason = "RSA AKs are measured with boots")]
mod measure;

use std::process::ExitCode;

use ima::{Device, list_of, part};
use list::{ListFloor, Vendor};
use measure::floor::{LogFloor, QuoteFloor};
use measure::ratio::Ratios;
use measure::signer::Signer;
use measure::subject::{Subject, quote};
use measure::tpm;
use peak_alloc::PeakAlloc;
use policy::eventlog::ima::verify::ImaPart;
use policy::tpm::alg::HashAlg;

/// Counts what is allocated. Reading a list allocates next to nothing, so times are as without it.
#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// Without optimization, as `cargo test` builds, a small part of everything shows that it works.
const SCALE: usize = if cfg!(debug_assertions) { 100 } else { 1 };
/// Records of a long list: a busy server after weeks.
const LONG: usize = 50_000 / SCALE;
/// Records that are new when the device attests again.
const NEW: usize = 100;
/// Files that are approved by their signatures.
const SIGNED: usize = 500 / SCALE;

fn main() -> ExitCode {
    let mut ratios = Ratios::new();
    let mut long = list::device(LONG);
    measure_long(&mut ratios, &long);
    measure_memory(&mut ratios, &long);
    measure_increment(&mut ratios, &mut long);
    measure_signed(&mut ratios, "RSA", &Vendor::rsa());
    measure_signed(&mut ratios, "P-256", &Vendor::p256());
    ratios.finish()
}

/// A device that booted and attests with a list, and the release that approves both.
fn subject_of(device: &Device, list: Vec<u8>, rules: &str) -> Subject {
    let events = tpm::boot();
    let booted = tpm::pcrs_after(&events, HashAlg::Sha256, 0);
    let mut subject = Subject::new(Signer::p256(), booted, tpm::write_log(&events), rules);
    attest(&mut subject, device, part(0, list));
    subject
}

/// The device attests, with this list or part of one.
fn attest(subject: &mut Subject, device: &Device, ima: ImaPart) {
    subject.evidence.quote = quote(&subject.signer, &device.pcrs);
    subject.evidence.pcrs = device.pcrs.clone();
    subject.evidence.ima = Some(ima);
}

/// Of the classic list the SHA-1 and the SHA-256 of each record are due; of the one that newer kernels show for the
/// bank, the SHA-256 alone.
fn measure_long(ratios: &mut Ratios, device: &Device) {
    let (classic, own) = (device.list(), list_of(HashAlg::Sha256, &device.records));
    let floor = ListFloor::of(&classic);
    ratios.measure("IMA, 50,000 records: floor", || floor.compute());
    ratios.measure("IMA, 50,000 records of the bank: floor", || floor.compute_own());
    for (name, list) in [("IMA, 50,000 records", &classic), ("IMA, 50,000 records of the bank", &own)] {
        let subject = subject_of(device, list.clone(), &list::rules());
        let named = |what: &str| format!("{name}: {what}");
        ratios.measure(&named("verify"), || subject.verify());
        ratios.measure(&named("verify and appraise"), || subject.verify_and_appraise());
        ratios.promise(&named("verify"), &named("floor"), 3.0);
        ratios.promise(&named("verify and appraise"), &named("floor"), 3.0);
    }
}

/// The list itself and the most that is allocated beside it while it is verified and appraised.
fn measure_memory(ratios: &mut Ratios, device: &Device) {
    let subject = subject_of(device, device.list(), &list::rules());
    let size = device.list().len();
    HEAP.reset_peak_usage();
    let before = HEAP.current_usage();
    let result = subject.verify_and_appraise();
    let taken = HEAP.peak_usage().saturating_sub(before);
    drop(result);
    let ratio = |bytes: usize| f64::from(u32::try_from(bytes).unwrap());
    ratios.tell(
        "IMA, 50,000 records: peak memory / size of the list",
        ratio(size + taken) / ratio(size),
        2.0,
    );
}

/// What is new since 50,000 records were accepted, against a list that has no more than that.
fn measure_increment(ratios: &mut Ratios, device: &mut Device) {
    let mut subject = subject_of(device, device.list(), &list::rules());
    subject.accepted = subject.verify_and_appraise().ima().cloned();
    device.measure(&(LONG..LONG + NEW).map(list::measured).collect::<Vec<_>>());
    let new = device.from(LONG);
    attest(&mut subject, device, new);
    let fresh = list::of((LONG + 1..LONG + NEW).map(list::measured).collect());
    let fresh = subject_of(&fresh, fresh.list(), &list::rules());
    ratios.measure("IMA, 100 records: verify and appraise", || fresh.verify_and_appraise());
    ratios.measure("IMA, 100 records after 50,000: verify and appraise", || subject.verify_and_appraise());
    ratios.promise(
        "IMA, 100 records after 50,000: verify and appraise",
        "IMA, 100 records: verify and appraise",
        1.2,
    );
}

/// Files that the release approves by their signatures alone.
fn measure_signed(ratios: &mut Ratios, kind: &str, vendor: &Vendor) {
    let device = list::of((0..SIGNED).map(|n| vendor.signed(n)).collect());
    let list = device.list();
    let subject = subject_of(&device, list.clone(), &vendor.rules());
    let (hashes, signatures) = (ListFloor::of(&list), list::signatures(&list));
    let (log, quote) = (LogFloor::of(&subject.evidence.firmware_log), QuoteFloor::of(&subject));
    let named = |what: &str| format!("IMA, 500 files signed by {kind}: {what}");
    ratios.measure(&named("floor"), || {
        vendor.check(&signatures);
        quote.compute();
        (hashes.compute(), log.compute())
    });
    ratios.measure(&named("verify and appraise"), || subject.verify_and_appraise());
    ratios.promise(&named("verify and appraise"), &named("floor"), 1.5);
}
