//! Bringing the certificates of manufacturers in, file by file, with an account of what became of each.
//!
//! The broker and the tool open the files; what a file means, and what is done with one that cannot be used, is
//! decided here for both:
//!
//! - a file that an administrator *named* must be usable, or the import fails;
//! - a file that was *found* in a named folder is passed over if it holds no certificate (a README), and refused
//!   by itself if it looks like certificates and cannot be read. The others count.
//!
//! Nothing is dropped in silence: every file that was looked at has an [`Imported`].

use std::fmt;

use super::roots::{Added, RootError, RootStore};

/// What became of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was taken.
    Added(Added),
    /// It holds no certificate.
    PassedOver,
    /// It looks like certificates and cannot be used.
    Refused(RootError),
}

/// One file, and what became of it. Its text is one line that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The file.
    pub label: String,
    /// What became of it.
    pub outcome: Outcome,
}

impl Imported {
    /// What was not taken of this file, a line for each: the file itself, or files of a cabinet.
    pub fn left_out(&self) -> impl Iterator<Item = String> + '_ {
        let (own, refused, passed_over) = match &self.outcome {
            Outcome::Added(added) => (None, added.refused.as_slice(), added.passed_over.as_slice()),
            Outcome::PassedOver | Outcome::Refused(_) => (Some(self.to_string()), &[][..], &[][..]),
        };
        let refused = refused.iter().map(|error| format!("refused: {}", with_source(error)));
        let passed_over = passed_over.iter().map(|name| passed_over_line(&format!("{}:{name}", self.label)));
        own.into_iter().chain(refused).chain(passed_over)
    }
}

impl fmt::Display for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Outcome::Added(Added { anchors, intermediates, known, refused, passed_over }) => write!(
                f,
                "{}: {anchors} roots and {intermediates} intermediates are new, {known} were known, {} refused, \
                 {} passed over",
                self.label,
                refused.len(),
                passed_over.len(),
            ),
            Outcome::PassedOver => f.write_str(&passed_over_line(&self.label)),
            Outcome::Refused(error) => write!(f, "refused: {}", with_source(error)),
        }
    }
}

fn passed_over_line(label: &str) -> String {
    format!("passed over: {label} holds no certificate")
}

fn with_source(error: &RootError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// An import in progress.
#[derive(Debug, Default)]
pub struct Import {
    store: RootStore,
    files: Vec<Imported>,
}

impl Import {
    /// An import of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a file that an administrator named.
    pub fn named(&mut self, label: &str, bytes: &[u8]) -> Result<(), RootError> {
        let added = self.store.add(label, bytes)?;
        self.files.push(Imported { label: label.to_owned(), outcome: Outcome::Added(added) });
        Ok(())
    }

    /// Takes a file that lies at `path` below a folder that an administrator named; see [`RootStore::add_at`].
    pub fn found(&mut self, label: &str, path: &str, bytes: &[u8]) {
        let outcome = match self.store.add_at(label, path, bytes) {
            Ok(added) => Outcome::Added(added),
            Err(RootError::NoCertificates(_)) => Outcome::PassedOver,
            Err(error) => Outcome::Refused(error),
        };
        self.files.push(Imported { label: label.to_owned(), outcome });
    }

    /// The store, and what became of each file in the order they came.
    #[must_use]
    pub fn finish(self) -> (RootStore, Vec<Imported>) {
        (self.store, self.files)
    }
}
