//! Programs that the operator names: words, never a line for a shell.

use std::time::Duration;

use super::Faults;
use super::raw::RawHealth;
use crate::health::{DEFAULT_TIMEOUT, HealthCheck, MOST_TIMEOUT};
use crate::program::{MAX_WORD, MAX_WORDS};

pub(super) fn health(raw: Option<&RawHealth>, faults: &mut Faults) -> Option<HealthCheck> {
    let raw = raw?;
    faults.unknown("health.", &raw.unknown);
    let command = command("health.command", Some(&raw.command), faults)?;
    let timeout = match raw.timeout.map(|seconds| u64::try_from(seconds).map(Duration::from_secs)) {
        None => DEFAULT_TIMEOUT,
        Some(Ok(limit)) if !limit.is_zero() && limit <= MOST_TIMEOUT => limit,
        Some(_) => {
            faults.add("health.timeout", format_args!("write 1 to {} seconds", MOST_TIMEOUT.as_secs()));
            DEFAULT_TIMEOUT
        }
    };
    Some(HealthCheck { command, timeout })
}

pub(super) fn command(key: &str, raw: Option<&Vec<String>>, faults: &mut Faults) -> Option<Vec<String>> {
    let words = raw?;
    let fits = |word: &String| word.len() <= MAX_WORD && !word.contains('\0');
    let absolute = words.first().is_some_and(|program| program.starts_with('/'));
    if !absolute || words.len() > MAX_WORDS || !words.iter().all(fits) {
        faults.add(
            key,
            format_args!(
                "write the program by its full path and each argument as a word of its own, at most {MAX_WORDS}, for \
                 example [\"/usr/local/bin/program\", \"--quiet\"]"
            ),
        );
        return None;
    }
    Some(words.clone())
}
