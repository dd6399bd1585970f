//! Checklist row 25: lengths that a log claims take no memory. Other readers took 137 GB for one count.

use std::process::Command;

use policy::eventlog::tcg::{EventLog, EventLogError};
use policy::reader::ReadError;

use crate::rig::{encode, event, header};

/// Address space of the process that reads the hostile logs, in KiB: enough for its code, threads and every log
/// within its bound, and a hundredth of what the counts claim.
const LIMIT: &str = "1048576";
/// Tells the process that it is the limited one.
const MARK: &str = "TOUCHSTONE_LIMITED_MEMORY";

/// Logs whose counts and sizes are all ones, from each place where a log has one.
fn hostile() -> Vec<Vec<u8>> {
    let all_ones = [0xff; 4];
    let banks = [(0x0004, 20), (0x000b, 32)];
    let good = [header(&banks), encode(&event(0, 8, b"1.0\0"))].concat();
    let start = header(&banks).len();
    let data = start + 12 + 22 + 34;
    // Size of the header's data, number of banks, number of digests, size of an event's data.
    let mut logs: Vec<Vec<u8>> = [28, 56, start + 8, data]
        .into_iter()
        .map(|at| {
            let mut log = good.clone();
            log[at..at + 4].copy_from_slice(&all_ones);
            log
        })
        .collect();
    // Padding of ones that something follows.
    logs.push([good, vec![0xff; 65_536], vec![1]].concat());
    logs
}

fn read(log: &[u8]) {
    match EventLog::parse(log).unwrap_err() {
        EventLogError::Structure(ReadError::TooLarge { .. } | ReadError::Truncated { .. }) => {}
        other => panic!("refused for another reason: {other:?}"),
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the limit is one of a process")]
fn row_25_claimed_lengths_take_no_memory() {
    hostile().iter().for_each(|log| read(log));
    if std::env::var_os(MARK).is_some() {
        return;
    }
    let this = std::env::current_exe().unwrap();
    let script =
        format!("ulimit -v {LIMIT} && exec \"$0\" --exact memory::row_25_claimed_lengths_take_no_memory");
    let output = Command::new("sh").arg("-c").arg(script).arg(this).env(MARK, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("1 passed"), "{said}");
}
