//! Which versions of which package an advisory is about, and whether a component is one of them.
//!
//! Everything that cannot be compared is a doubt, and a doubt is never "not affected".

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use super::version::Scheme;
use super::{Component, Purl, distribution, purl};

/// Most packages of one question: an advisory about a kernel names some thousand products.
pub const MAX_AFFECTED: usize = 10_000;
/// Most single versions of one package: OSV lists every one that was ever published.
pub const MAX_VERSIONS: usize = 20_000;
/// Most ranges of one package, and most events of one range: one for each branch that is maintained.
pub const MAX_RANGES: usize = 1_000;

/// Where a range of versions begins or ends (OSV schema, `affected[].ranges[].events`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// From this version on; `0` is before every version.
    Introduced(String),
    /// After this version.
    After(String),
    /// No longer in this version.
    Fixed(String),
    /// This is the last one.
    LastAffected(String),
}

/// Versions by where they begin and end, in any order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// The events.
    pub events: Vec<Event>,
}

impl Range {
    /// Everything below `version`.
    #[must_use]
    pub fn below(version: &str) -> Self {
        Self { events: vec![Event::Introduced("0".to_owned()), Event::Fixed(version.to_owned())] }
    }

    /// Whether `version` is in the range: an event begins it at or before `version`, and none ended that since. A
    /// range that only ends begins before every version. Nothing if it cannot be said.
    ///
    /// The last beginning decides: what ended it ended all before it. So one pass over the events is enough.
    #[must_use]
    pub fn contains(&self, scheme: Scheme, version: &str) -> Option<bool> {
        let (begun, unknown) = self.last_beginning(scheme, version)?;
        let certain = match begun {
            Some(begin) => self.is_open(scheme, begin, version),
            None => Some(false),
        };
        // A beginning that cannot be compared may be the last one.
        if unknown && certain != Some(true) { None } else { certain }
    }

    /// The last beginning at or before `version`, and whether there are some that cannot be compared with it.
    fn last_beginning(&self, scheme: Scheme, version: &str) -> Option<(Option<&str>, bool)> {
        let begins = self.events.iter().filter_map(|event| match event {
            Event::Introduced(begin) => Some((begin.as_str(), false)),
            Event::After(begin) => Some((begin.as_str(), true)),
            Event::Fixed(_) | Event::LastAffected(_) => None,
        });
        let (mut last, mut unknown, mut stated) = (None, false, false);
        for (begin, after) in begins {
            stated = true;
            match at_least(scheme, version, begin) {
                Some(order) if order.is_gt() || (!after && order.is_eq()) => {
                    last = match last {
                        Some(known) if at_least(scheme, begin, known)?.is_lt() => Some(known),
                        _ => Some(begin),
                    };
                }
                Some(_) => {}
                None => unknown = true,
            }
        }
        Some((if stated { last } else { Some(BEFORE_ALL) }, unknown))
    }

    /// Whether nothing ended what began at `begin` before `version`.
    fn is_open(&self, scheme: Scheme, begin: &str, version: &str) -> Option<bool> {
        let open = |event: &Event| {
            let (end, last) = match event {
                Event::Fixed(end) => (end, false),
                Event::LastAffected(end) => (end, true),
                Event::Introduced(_) | Event::After(_) => return Some(true),
            };
            let ended = ended(scheme, version, end, last);
            // An end before the beginning is that of another branch.
            let ours = at_least(scheme, end, begin).map(Ordering::is_ge);
            all([ended, ours]).map(|ends| !ends)
        };
        all(self.events.iter().map(open))
    }
}

/// Where a range begins that begins before every version (OSV schema).
const BEFORE_ALL: &str = "0";

/// The order of `version` to where a range begins.
fn at_least(scheme: Scheme, version: &str, begin: &str) -> Option<Ordering> {
    match (version, begin) {
        (BEFORE_ALL, BEFORE_ALL) => Some(Ordering::Equal),
        (_, BEFORE_ALL) => Some(Ordering::Greater),
        (BEFORE_ALL, _) => Some(Ordering::Less),
        _ => order(scheme, version, begin),
    }
}

/// The order, unless it comes from an epoch that one of them leaves out: people and tools do, and `1:9.18.19` is not
/// past a fix that is written as `9.18.24`.
fn order(scheme: Scheme, one: &str, other: &str) -> Option<Ordering> {
    let order = scheme.compare(one, other)?;
    if !matches!(scheme, Scheme::Deb | Scheme::Rpm) {
        return Some(order);
    }
    match (one.split_once(':'), other.split_once(':')) {
        (Some((_, bare)), None) => scheme.compare(bare, other).filter(|bare| *bare == order),
        (None, Some((_, bare))) => scheme.compare(one, bare).filter(|bare| *bare == order),
        _ => Some(order),
    }
}

/// Whether `version` is past `end`, which is the last one or the first one that is not.
fn ended(scheme: Scheme, version: &str, end: &str, last: bool) -> Option<bool> {
    // An RPM without its release may be any build of its version, also one before the fix.
    let unbuilt = scheme == Scheme::Rpm && !version.contains('-');
    let order = order(scheme, version, end)?;
    if unbuilt && order.is_eq() && end.contains('-') {
        return None;
    }
    Some(order.is_gt() || (!last && order.is_eq()))
}

/// Whether one is so; nothing if none is for sure and one may be.
fn any(answers: impl IntoIterator<Item = Option<bool>>) -> Option<bool> {
    let mut so_far = Some(false);
    for one in answers {
        match one {
            Some(true) => return one,
            None => so_far = None,
            Some(false) => {}
        }
    }
    so_far
}

/// Whether all are so; nothing if none fails for sure and one may.
fn all(answers: impl IntoIterator<Item = Option<bool>>) -> Option<bool> {
    any(answers.into_iter().map(|one| one.map(|so| !so))).map(|fails| !fails)
}

/// A package and its affected versions; every version if neither ranges nor versions are stated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affected {
    /// The package; a version in it is not looked at.
    pub package: Purl,
    /// Ranges of versions.
    pub ranges: Vec<Range>,
    /// Single versions.
    pub versions: Vec<String>,
    /// The advisory says more than this, in a way that cannot be compared: what is not in the ranges may still be
    /// affected.
    pub incomplete: bool,
}

/// How a component was recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Via {
    /// By its own name.
    Name,
    /// By the name of the source package that it was built from.
    Source(String),
}

/// Why a match is not certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The SBOM says only a name.
    NoPurl,
    /// The SBOM does not say which distribution, or which release of it.
    Distribution,
    /// Versions cannot be compared.
    Version,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoPurl => "the SBOM gives no purl, only the name",
            Self::Distribution => "the SBOM does not say which release of the distribution it is of",
            Self::Version => "its version cannot be compared",
        })
    }
}

/// A component that is affected, or may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// By which name.
    pub via: Via,
    /// The version that was compared.
    pub version: Option<String>,
    /// Nothing if it is certain.
    pub doubt: Option<Doubt>,
}

impl Affected {
    /// Whether `component` is affected; nothing only if it certainly is not.
    #[must_use]
    pub fn applies_to(&self, component: &Component) -> Option<Match> {
        let place = self.place_doubt(component)?;
        let own = (Via::Name, component.name.as_str(), component.version());
        let name = component.purl.as_ref().map_or(component.name.as_str(), Purl::name);
        let own = (own.0, name, own.2);
        let sources = component.sources.iter().map(|source| {
            let version = source.version.clone().or_else(|| component.version());
            (Via::Source(source.name.clone()), source.name.as_str(), version)
        });
        let wanted = self.package.comparable(self.package.name());
        let called = std::iter::once(own)
            .chain(sources)
            .filter(|(_, name, _)| self.package.comparable(name) == wanted);
        let matches = called.filter_map(|(via, _, version)| {
            let doubt = match self.contains(version.as_deref()) {
                Some(false) => return None,
                Some(true) => place,
                None => Some(Doubt::Version),
            };
            Some(Match { via, version, doubt })
        });
        matches.min_by_key(|found| found.doubt.is_some())
    }

    /// Whether a version is affected; nothing if it cannot be said.
    fn contains(&self, version: Option<&str>) -> Option<bool> {
        if self.ranges.is_empty() && self.versions.is_empty() {
            return if self.incomplete { None } else { Some(true) };
        }
        let version = version.map(str::trim).filter(|version| !version.is_empty())?;
        let scheme = Scheme::of(self.package.package_type());
        // An explicit list is complete: a version that is not spelled like one of it is not in it unless equal.
        let plain = |text: &str| text.trim().trim_start_matches(['v', 'V', '=']).to_ascii_lowercase();
        let spelled = plain(version);
        let listed = self
            .versions
            .iter()
            .any(|one| plain(one) == spelled || scheme.compare(one, version) == Some(Ordering::Equal));
        let ranges = self.ranges.iter().map(|range| range.contains(scheme, version));
        match any(ranges.chain([Some(listed)])) {
            Some(false) if self.incomplete => None,
            answer => answer,
        }
    }

    /// Whether type, namespace and distribution fit; inside, what is in doubt about them.
    fn place_doubt(&self, component: &Component) -> Option<Option<Doubt>> {
        let Some(purl) = &component.purl else { return Some(Some(Doubt::NoPurl)) };
        if purl.package_type() != self.package.package_type() {
            return None;
        }
        let comparable = |of: &Purl| of.namespace().map(|text| self.package.comparable_namespace(text));
        match (comparable(&self.package), comparable(purl)) {
            (wanted, found) if wanted == found => {}
            // Whoever asks without a distribution asks about all of them.
            (None, Some(_)) if purl.is_distributed() => {}
            (Some(_), None) if purl.is_distributed() => return Some(Some(Doubt::Distribution)),
            // What is rebuilt from another distribution may carry its packages.
            (Some(wanted), Some(found))
                if purl.is_distributed() && !distribution::are_two(&wanted, &found) =>
            {
                return Some(Some(Doubt::Distribution));
            }
            _ => return None,
        }
        match (self.package.distribution(), purl.distribution()) {
            (None, _) => Some(None),
            (Some(_), None) => Some(Some(Doubt::Distribution)),
            (Some(wanted), Some(found)) => match wanted.is_same(&found) {
                Some(true) => Some(None),
                Some(false) => None,
                None => Some(Some(Doubt::Distribution)),
            },
        }
    }
}

/// A question about many packages, by name: each component is compared with those of its names only.
#[derive(Clone, Debug, Default)]
pub struct Inquiry(BTreeMap<String, Vec<Affected>>);

impl Inquiry {
    /// A question about all of `affected`.
    #[must_use]
    pub fn new(affected: Vec<Affected>) -> Self {
        let mut by_name: BTreeMap<String, Vec<Affected>> = BTreeMap::new();
        for one in affected {
            by_name.entry(rough(one.package.name())).or_default().push(one);
        }
        Self(by_name)
    }

    /// Whether something is asked of a distribution's packages that a document with these components cannot answer:
    /// none of them has the name, and none says which source package it was built from. Advisories of distributions
    /// name source packages.
    #[must_use]
    pub fn needs_sources(&self, components: &[Component]) -> bool {
        let asked = |of: &Purl| {
            let packages = self.0.values().flatten().map(|one| &one.package);
            packages.into_iter().any(|package| package.package_type() == of.package_type())
        };
        let named = |component: &Component| {
            let purl = component.purl.as_ref().map(Purl::name);
            purl.is_some_and(|name| self.0.contains_key(&rough(name)))
                || self.0.contains_key(&rough(&component.name))
        };
        let distributed = |component: &&Component| {
            component.purl.as_ref().is_some_and(|purl| purl.is_distributed() && asked(purl))
        };
        components.iter().any(|component| distributed(&component))
            && components.iter().all(|component| component.sources.is_empty() && !named(component))
    }

    /// How `component` is affected, for certain if by any; nothing only if it certainly is not.
    #[must_use]
    pub fn applies_to(&self, component: &Component) -> Option<Match> {
        let own = component.purl.as_ref().map_or(component.name.as_str(), Purl::name);
        let names = std::iter::once(own).chain(component.sources.iter().map(|source| source.name.as_str()));
        let affected = names.filter_map(|name| self.0.get(&rough(name))).flatten();
        affected.filter_map(|one| one.applies_to(component)).min_by_key(|found| found.doubt.is_some())
    }
}

/// The same for all spellings of a name in any type of package.
fn rough(name: &str) -> String {
    purl::folded(name)
}
