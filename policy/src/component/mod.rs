//! Components of software: what they are called, how their versions are ordered, and whether an advisory is about one.
//!
//! What this module does not promise: a component is what a document says it is. Whether a device runs what the
//! document describes is the appraisal's answer.

pub mod affected;
pub mod distribution;
pub mod purl;
pub mod version;

pub use affected::{Affected, Doubt, Event, Inquiry, Match, Range, Via};
pub use purl::Purl;

/// A piece of software that an SBOM lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// Its name, for people and where there is no purl.
    pub name: String,
    /// Its version, if the document says it beside the purl.
    pub version: Option<String>,
    /// What it is exactly; documents leave it out for files, or write what is no purl.
    pub purl: Option<Purl>,
    /// Source packages that it was built from.
    pub sources: Vec<Source>,
}

/// A source package, as distributions build several binary packages from one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// Its version; that of the binary package if not said.
    pub version: Option<String>,
}

impl Component {
    /// The version, by the purl if that has one.
    #[must_use]
    pub fn version(&self) -> Option<String> {
        self.purl.as_ref().and_then(Purl::version).or_else(|| self.version.clone())
    }

    /// Adds the source package that the purl's `upstream` names.
    #[must_use]
    pub(crate) fn with_upstream(mut self) -> Self {
        let upstream =
            self.purl.as_ref().and_then(|purl| purl.qualifier("upstream")).map(Source::of_upstream);
        self.sources.extend(upstream);
        self
    }
}

impl Source {
    /// `openssl`, `openssl@3.0.11-1` or `openssl-3.0.7-27.el9.src.rpm`.
    fn of_upstream(text: &str) -> Self {
        if let Some((name, version)) = text.split_once('@') {
            return Self { name: name.to_owned(), version: Some(version.to_owned()) };
        }
        // A file's name has no epoch, so the version stays that of the binary package.
        let stem = text.strip_suffix(".src.rpm").and_then(|stem| stem.rsplitn(3, '-').nth(2));
        Self { name: stem.unwrap_or(text).to_owned(), version: None }
    }
}
