//! The kernel command line: words, separated by blanks.

use std::path::Path;

use super::{Found, Source, SourceError, read};

/// The value of `name=VALUE`; two of them are refused, because it would be a guess which one is meant.
pub(super) fn find(file: &Path, name: &'static str) -> Result<Option<Found>, SourceError> {
    let source = || Source::CommandLine(file.to_owned());
    let refuse = |fault: &str| SourceError { name, origin: source(), fault: fault.to_owned() };
    let line = read(file).map_err(|error| refuse(&error.to_string()))?.unwrap_or_default();
    let line = String::from_utf8_lossy(&line);
    let values = line.split_ascii_whitespace().filter_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let values: Vec<&str> = values.collect();
    match values.as_slice() {
        [] => Ok(None),
        [value] => Found::new(name, *value, source()).map(Some),
        _ => Err(refuse("it is there twice; leave one")),
    }
}
