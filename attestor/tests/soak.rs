//! The short form of `cargo bench -p attestor --bench soak`, in a process of its own: others' memory is not counted.
//! `TOUCHSTONE_SOAK=10000` makes it as long as that one.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "../benches/soak/run.rs"]
mod run;

/// Quotes unless others are asked for: half a minute of a software TPM.
const QUOTES: u32 = 500;

#[test]
fn many_quotes_leave_nothing_behind() {
    let asked = std::env::var("TOUCHSTONE_SOAK").map(|number| number.parse().unwrap());
    let Some(leaks) = run::soak(asked.unwrap_or(QUOTES)) else { return };
    assert!(leaks.is_empty(), "left behind: {leaks:?}");
}
