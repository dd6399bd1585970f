//! People who stand for something that happens later.

use policy::time::UnixTime;
use serde::{Deserialize, Serialize};

/// An administrator who stands for something that happens later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// Their name.
    pub name: String,
    /// Since when they are an administrator: another one of this name has another time. Not known of older records.
    pub since: Option<UnixTime>,
}

/// Everybody who stands for a record, who asked for it first. An older record names `by` alone.
pub(super) fn people(recorded: &[Person], by: &str) -> Vec<Person> {
    match recorded {
        [] => vec![Person { name: by.to_owned(), since: None }],
        people => people.to_vec(),
    }
}
