//! OSV records (OSV schema 1).

use serde::Deserialize;

use super::{Advisory, AdvisoryError, json};
use crate::component::affected::{Affected, Event, Range};
use crate::component::purl::{Purl, PurlError};

/// Ecosystems without a distribution, with the type of their purls.
const TYPES: [(&str, &str); 11] = [
    ("npm", "npm"),
    ("PyPI", "pypi"),
    ("crates.io", "cargo"),
    ("Go", "golang"),
    ("Maven", "maven"),
    ("NuGet", "nuget"),
    ("RubyGems", "gem"),
    ("Packagist", "composer"),
    ("Hex", "hex"),
    ("Pub", "pub"),
    ("Hackage", "hackage"),
];
/// Distributions, with type and namespace of their purls and what begins their `distro`.
const DISTRIBUTIONS: [(&str, &str, &str, &str); 9] = [
    ("Debian", "deb", "debian", "debian-"),
    ("Ubuntu", "deb", "ubuntu", "ubuntu-"),
    ("Alpine", "apk", "alpine", "alpine-"),
    ("Wolfi", "apk", "wolfi", "wolfi-"),
    ("Chainguard", "apk", "chainguard", "chainguard-"),
    ("AlmaLinux", "rpm", "almalinux", "almalinux-"),
    ("Rocky Linux", "rpm", "rocky", "rocky-"),
    ("Red Hat", "rpm", "redhat", "redhat-"),
    ("openSUSE", "rpm", "opensuse", "opensuse-"),
];

#[derive(Deserialize)]
struct Record {
    id: String,
    summary: Option<String>,
    withdrawn: Option<String>,
    affected: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    package: Option<Package>,
    ranges: Option<Vec<RawRange>>,
    versions: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Package {
    ecosystem: String,
    name: String,
    purl: Option<String>,
}

#[derive(Deserialize)]
struct RawRange {
    #[serde(rename = "type")]
    kind: String,
    events: Vec<RawEvent>,
}

#[derive(Deserialize)]
struct RawEvent {
    introduced: Option<String>,
    fixed: Option<String>,
    last_affected: Option<String>,
}

pub(super) fn parse(bytes: &[u8]) -> Result<Advisory, AdvisoryError> {
    let record: Record = serde_json::from_slice(bytes).map_err(json)?;
    let mut notes = Vec::new();
    if let Some(when) = record.withdrawn {
        notes.push(format!("the advisory was withdrawn on {when}"));
    }
    let mut affected = Vec::new();
    for entry in record.affected {
        match package(entry.package.as_ref()) {
            Ok(package) => affected.push(entry_of(package, entry)),
            Err(note) => notes.push(note),
        }
    }
    Ok(Advisory { id: record.id, summary: record.summary.unwrap_or_default(), affected, notes })
}

fn entry_of(package: Purl, entry: Entry) -> Affected {
    let (mut ranges, mut incomplete) = (Vec::new(), false);
    for raw in entry.ranges.unwrap_or_default() {
        // Commits of a repository are in no SBOM.
        let known = raw.kind != "GIT";
        let range = Range { events: raw.events.into_iter().flat_map(events).collect() };
        if known { ranges.push(range) } else { incomplete = true }
    }
    let versions = entry.versions.unwrap_or_default();
    // Whoever lists versions or ranges beside commits means the same ones.
    let incomplete = incomplete && ranges.is_empty() && versions.is_empty();
    Affected { package, ranges, versions, incomplete }
}

/// A `limit` is left out: it only narrows what is affected.
fn events(raw: RawEvent) -> impl Iterator<Item = Event> {
    let events = [
        raw.introduced.map(Event::Introduced),
        raw.fixed.map(Event::Fixed),
        raw.last_affected.map(Event::LastAffected),
    ];
    events.into_iter().flatten()
}

fn package(package: Option<&Package>) -> Result<Purl, String> {
    let Some(package) = package else {
        return Err("an entry names a repository and no package".to_owned());
    };
    let place = format!("{} of {}", package.name, package.ecosystem);
    let unreadable = |error: PurlError| format!("{place}: {error}");
    let (ecosystem, release) = package.ecosystem.split_once(':').unwrap_or((&package.ecosystem, ""));
    let distribution = DISTRIBUTIONS.iter().find(|(name, ..)| *name == ecosystem);
    let stated = package.purl.as_deref().map(str::parse::<Purl>).transpose().map_err(unreadable)?;
    if let Some((_, kind, namespace, prefix)) = distribution {
        let purl = stated.map_or_else(|| Purl::of(kind, Some(namespace), &package.name), Ok);
        let purl = purl.map_err(unreadable)?.package();
        // Ubuntu writes 22.04:LTS, and Pro:18.04:LTS for another archive.
        let number =
            release.split(':').find(|part| part.trim_start_matches('v').starts_with(char::is_numeric));
        return Ok(match number {
            Some(number) => purl.within(&format!("{prefix}{number}")),
            None => purl,
        });
    }
    if let Some(purl) = stated {
        return Ok(purl.package());
    }
    let kind = TYPES.iter().find(|(name, _)| *name == ecosystem);
    let (_, kind) =
        kind.ok_or_else(|| format!("{place}: the ecosystem is not known and the entry has no purl"))?;
    let separator = if *kind == "maven" { ':' } else { '/' };
    let scoped = matches!(*kind, "npm" | "golang" | "maven" | "composer");
    let (namespace, name) = match package.name.rsplit_once(separator) {
        Some((namespace, name)) if scoped => (Some(namespace), name),
        _ => (None, package.name.as_str()),
    };
    Purl::of(kind, namespace, name).map_err(unreadable)
}
