//! Advisories are read as questions; what cannot be asked is told.

use policy::advisory::{Advisory, AdvisoryError};
use policy::component::{Event, Range};
use proptest::prelude::*;

pub(crate) const OSV: &str = include_str!("data/debian.osv.json");
pub(crate) const CSAF: &str = include_str!("data/plc.csaf.json");

pub(crate) fn read(text: &str) -> Advisory {
    Advisory::parse(text.as_bytes()).unwrap()
}

#[test]
fn osv_names_packages_of_each_distribution() {
    let advisory = read(OSV);
    assert_eq!(
        (advisory.id.as_str(), advisory.summary.as_str()),
        ("DSA-5764-1", "openssl - security update")
    );
    let packages: Vec<String> = advisory.affected.iter().map(|one| one.package.to_string()).collect();
    assert_eq!(
        packages,
        [
            "pkg:deb/debian/openssl?distro=debian-12",
            "pkg:deb/debian/openssl?distro=debian-11",
            "pkg:npm/%40acme/hmi",
            "pkg:cargo/openssl-src",
        ]
    );
    assert_eq!(advisory.affected[0].ranges, [Range::below("3.0.15-1~deb12u1")]);
    assert!(advisory.affected[2].ranges[0].events.contains(&Event::LastAffected("2.1.0".to_owned())));
    assert_eq!(advisory.notes.len(), 2, "{:?}", advisory.notes);
    assert!(
        advisory.notes[0].contains("thing of Unheard: the ecosystem is not known"),
        "{:?}",
        advisory.notes
    );
}

#[test]
fn csaf_names_products_by_purl_and_by_their_parts() {
    let advisory = read(CSAF);
    assert_eq!(advisory.id, "EX-2026-001");
    let found: Vec<(String, usize, Vec<String>)> = advisory
        .affected
        .iter()
        .map(|one| (one.package.to_string(), one.ranges.len(), one.versions.clone()))
        .collect();
    let expected = [
        ("pkg:deb/debian/openssl".to_owned(), 1, Vec::new()),
        ("pkg:generic/zlib".to_owned(), 0, vec!["1.2.13".to_owned()]),
    ];
    assert_eq!(found, expected);
    let notes = ["the product PLC is affected and has no purl", "1 products are still under investigation"];
    assert_eq!(advisory.notes, notes);
}

#[test]
fn what_is_not_read_is_refused_with_its_reason() {
    let refused = |text: &str| Advisory::parse(text.as_bytes()).unwrap_err();
    assert!(matches!(refused("id: CVE-1"), AdvisoryError::Json(_)));
    assert_eq!(refused("{}"), AdvisoryError::Unknown);
    assert_eq!(refused(&CSAF.replace("\"2.0\"", "\"3.0\"")), AdvisoryError::Version("3.0".to_owned()));
    let nothing = r#"{"id":"X","affected":[{"ranges":[]}]}"#;
    let text = refused(nothing).to_string();
    assert!(text.contains("names no package") && text.contains("a repository and no package"), "{text}");
}

proptest! {
    #[test]
    fn cut_and_changed_documents_are_read_or_refused(at in 0usize..3000, byte: u8, osv: bool) {
        // Without the line break at its end, of which nothing is missed.
        let mut bytes = if osv { OSV } else { CSAF }.trim_end().as_bytes().to_vec();
        let place = at % bytes.len();
        bytes[place] = byte;
        let _ = Advisory::parse(&bytes);
        bytes.truncate(place);
        prop_assert!(Advisory::parse(&bytes).is_err());
    }
}
