//! Ranges of versions as text: `vers:deb/>=1.0|<1.2`, as CSAF states them (purl-spec, VERS).

use crate::component::affected::{Affected, Event, MAX_RANGES, Range};

/// Adds what `text` says to `affected`; what cannot be read leaves it incomplete.
pub(super) fn add(text: &str, affected: &mut Affected) {
    let constraints =
        text.strip_prefix("vers:").and_then(|rest| rest.split_once('/')).map_or(text, |(_, rest)| rest);
    if constraints.trim() == "*" {
        affected.ranges.push(Range { events: vec![Event::Introduced("0".to_owned())] });
        return;
    }
    let bare = constraints.len() == text.len();
    let (mut range, mut begun) = (Range::default(), false);
    for constraint in constraints.split('|').map(str::trim) {
        let (comparator, version) = split(constraint);
        let readable = !(version.is_empty() || version.contains(['%', ' ']) || bare && comparator.is_empty());
        if !readable || range.events.len() >= MAX_RANGES {
            affected.incomplete = true;
            continue;
        }
        let version = version.to_owned();
        match comparator {
            "" | "=" => affected.versions.push(version),
            // A single version that is not affected: left out, which says too much rather than too little.
            "!=" => {}
            ">=" | ">" => {
                begun = true;
                range.events.push(if comparator == ">" {
                    Event::After(version)
                } else {
                    Event::Introduced(version)
                });
            }
            _ => {
                if !begun {
                    range.events.push(Event::Introduced("0".to_owned()));
                }
                begun = false;
                range.events.push(if comparator == "<" {
                    Event::Fixed(version)
                } else {
                    Event::LastAffected(version)
                });
            }
        }
    }
    if !range.events.is_empty() {
        affected.ranges.push(range);
    }
}

fn split(constraint: &str) -> (&'static str, &str) {
    let found = [">=", "<=", "!=", "=", ">", "<"].into_iter().find_map(|comparator| {
        constraint.strip_prefix(comparator).map(|version| (comparator, version.trim()))
    });
    found.unwrap_or(("", constraint))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Affected {
        let package = "pkg:deb/debian/openssl".parse().unwrap();
        let mut affected = Affected { package, ranges: Vec::new(), versions: Vec::new(), incomplete: false };
        add(text, &mut affected);
        affected
    }

    #[test]
    fn branches_and_single_versions_are_read() {
        let affected = read("vers:deb/1.0|<1.2|>=2.0|<=2.3|>3|!=4");
        assert_eq!(affected.versions, ["1.0"]);
        let text = str::to_owned;
        let events = vec![
            Event::Introduced(text("0")),
            Event::Fixed(text("1.2")),
            Event::Introduced(text("2.0")),
            Event::LastAffected(text("2.3")),
            Event::After(text("3")),
        ];
        assert_eq!(affected.ranges, [Range { events }]);
        assert!(!affected.incomplete);
    }

    #[test]
    fn text_for_people_leaves_the_question_open() {
        for text in ["all versions before 3", "3.0.x", "< 3.0 with FIPS", "vers:deb/<1%2e0", ""] {
            assert!(read(text).incomplete, "{text}");
        }
        assert!(!read("<3.0.15").incomplete);
    }
}
