//! The short form of `cargo bench -p attestor --bench soak`, in a process of its own: others' memory is not counted.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "../benches/soak/run.rs"]
mod run;

#[test]
fn two_hundred_quotes_leave_nothing_behind() {
    let Some(leaks) = run::soak(200) else { return };
    assert!(leaks.is_empty(), "left behind: {leaks:?}");
}
