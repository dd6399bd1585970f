//! Whether anything is left behind by many quotes and signatures: memory, open files, objects and sessions in the TPM.
//!
//! Run with `cargo bench -p attestor --bench soak` (`-- NUMBER` for another number of quotes than 10,000). Each line
//! names what is counted, how much, its unit, how much it was at the start, and the ratio of the two.

#![expect(clippy::unwrap_used, reason = "a benchmark stops at the first surprise")]

#[path = "soak/run.rs"]
mod run;

use std::process::ExitCode;

/// Quotes of a device that proves itself each 15 minutes for more than a quarter of a year.
const QUOTES: u32 = 10_000;

fn main() -> ExitCode {
    let asked = std::env::args().find_map(|argument| argument.parse().ok());
    // `cargo test --benches` only sees that it works.
    let quotes = asked.unwrap_or(if cfg!(debug_assertions) { 200 } else { QUOTES });
    match run::soak(quotes) {
        Some(leaks) if leaks.is_empty() => ExitCode::SUCCESS,
        Some(leaks) => {
            eprintln!("left behind: {}", leaks.join(", "));
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}
