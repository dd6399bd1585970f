//! What the broker does between a decided grant and a signed certificate, beside what nobody can leave out: one check
//! of a request's signature, and one signature. Then what a whole Complete of a renewing device takes, over a real
//! store, of which nothing is promised: the disk has most of it.
//!
//! Run with `cargo bench -p broker --bench issue`; the lines that begin with `ratio` are the result.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "what a benchmark makes itself is well formed"
)]

#[path = "issue/granted.rs"]
mod granted;
#[expect(dead_code, reason = "the benchmarks of verifying use the rest")]
#[expect(clippy::allow_attributes, reason = "what is unfulfilled cannot be expected")]
#[allow(unfulfilled_lint_expectations, reason = "policy forbids randomness, the broker does not")]
#[path = "../../policy/benches/measure/mod.rs"]
mod measure;
#[path = "issue/renewal.rs"]
mod renewal;
#[expect(dead_code, reason = "the other benchmarks use the rest")]
mod rig;
#[path = "issue/tpm.rs"]
mod tpm;

use std::process::ExitCode;

use granted::Granted;
use measure::ratio::Ratios;

/// What is promised: this often the floor.
const PROMISED: f64 = 1.6;

fn main() -> ExitCode {
    let mut ratios = Ratios::new();
    let granted = Granted::new();
    let floor = "one request's signature checked, and one made";
    let issued = "request checked, certificate granted, built and signed";
    ratios.measure(floor, || granted.floor());
    let each = ratios.measure(issued, || granted.issue());
    ratios.measure("request checked", || granted.checked());
    ratios.promise(issued, floor, PROMISED);
    if let Some(each) = each {
        println!("certificates a second and core: {:.0}", each.as_secs_f64().recip());
    }
    tokio::runtime::Runtime::new().unwrap().block_on(renewal::measure());
    ratios.finish()
}
