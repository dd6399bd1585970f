//! What is asked for: a purl with versions, or an advisory.

use std::cmp::Ordering;

use policy::advisory::Advisory;
use policy::component::version::Scheme;
use policy::component::{Affected, Event, Purl, Range};
use proto::v1;

use super::ExposureArgs;
use crate::failure::{Failure, Result};
use crate::file;

/// The question that the arguments ask.
pub(super) fn of(args: &ExposureArgs) -> Result<Advisory> {
    if let Some(path) = &args.advisory {
        let bytes = file::read(path)?;
        return Advisory::parse(&bytes)
            .map_err(|error| Failure::unusable(format!("{}: {error}", path.display())));
    }
    let purl = args.purl.as_ref().ok_or_else(|| Failure::unusable("name a package with --purl"))?;
    by_purl(purl, args.from.as_deref(), args.below.as_deref())
}

fn by_purl(purl: &Purl, from: Option<&str>, below: Option<&str>) -> Result<Advisory> {
    let version = purl.version();
    if version.is_some() && (from.is_some() || below.is_some()) {
        return Err(Failure::unusable(format!("{purl} names one version already"))
            .next("leave out the version, or --from and --below"));
    }
    if let (Some(from), Some(below)) = (from, below)
        && Scheme::of(purl.package_type()).compare(from, below).is_some_and(Ordering::is_ge)
    {
        return Err(Failure::unusable(format!("no version is from {from} on and below {below}"))
            .next("--from is the first version that is affected, --below the first that is not any more"));
    }
    let mut events = Vec::new();
    if from.is_some() || below.is_some() {
        events.push(Event::Introduced(from.unwrap_or("0").to_owned()));
        events.extend(below.map(|version| Event::Fixed(version.to_owned())));
    }
    let ranges = if events.is_empty() { Vec::new() } else { vec![Range { events }] };
    let summary = match (from, below) {
        (None, None) => String::new(),
        (Some(from), None) => format!("from {from}"),
        (None, Some(below)) => format!("below {below}"),
        (Some(from), Some(below)) => format!("from {from}, below {below}"),
    };
    let affected = Affected {
        package: purl.package(),
        ranges,
        versions: version.into_iter().collect(),
        incomplete: false,
    };
    Ok(Advisory { id: purl.to_string(), summary, affected: vec![affected], notes: Vec::new() })
}

/// The package as the broker is asked for it.
pub(super) fn to_wire(affected: &Affected) -> v1::AffectedPackage {
    let event = |event: &Event| {
        let (kind, version) = match event {
            Event::Introduced(version) => ("introduced", version),
            Event::After(version) => ("after", version),
            Event::Fixed(version) => ("fixed", version),
            Event::LastAffected(version) => ("last-affected", version),
        };
        v1::VersionEvent { kind: kind.to_owned(), version: version.clone() }
    };
    v1::AffectedPackage {
        purl: affected.package.to_string(),
        ranges: affected
            .ranges
            .iter()
            .map(|range| v1::VersionRange { events: range.events.iter().map(event).collect() })
            .collect(),
        versions: affected.versions.clone(),
        incomplete: affected.incomplete,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_without_a_version_in_it_is_no_question() {
        let ask = |from, below| by_purl(&"pkg:deb/debian/openssl".parse().unwrap(), Some(from), Some(below));
        let failure = ask("3.0.15", "3.0.15").unwrap_err().text();
        assert!(failure.contains("no version is from 3.0.15 on and below 3.0.15"), "{failure}");
        assert!(ask("1:1", "9").is_err(), "an epoch comes first");
        assert_eq!(ask("3.0.9", "3.0.15").unwrap().summary, "from 3.0.9, below 3.0.15");
    }
}
