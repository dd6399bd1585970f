//! Whether a component is affected: certainly, perhaps, or certainly not.

use policy::component::version::Scheme;
use policy::component::{Affected, Component, Doubt, Event, Inquiry, Range, Via};
use proptest::prelude::*;

use crate::{advisory, sbom};

fn below(purl: &str, version: &str) -> Affected {
    let ranges = vec![Range::below(version)];
    Affected { package: purl.parse().unwrap(), ranges, versions: Vec::new(), incomplete: false }
}

fn component(purl: &str) -> Component {
    let purl: policy::component::Purl = purl.parse().unwrap();
    Component { name: purl.name().to_owned(), version: None, purl: Some(purl), sources: Vec::new() }
}

/// `None`: not affected; inside, the doubt.
fn doubt(affected: &Affected, purl: &str) -> Option<Option<Doubt>> {
    affected.applies_to(&component(purl)).map(|found| found.doubt)
}

#[test]
fn an_advisory_about_a_source_package_finds_the_binaries_built_from_it() {
    let inquiry = Inquiry::new(advisory::read(advisory::OSV).affected);
    for (document, expected) in [(sbom::CYCLONEDX, vec!["libssl3", "hmi"]), (sbom::SPDX, vec!["libssl3"])] {
        let found: Vec<_> = sbom::read(document)
            .components
            .iter()
            .filter_map(|one| inquiry.applies_to(one).map(|found| (one.name.clone(), found)))
            .collect();
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, expected);
        assert_eq!(found[0].1.via, Via::Source("openssl".to_owned()));
        assert!(found.iter().all(|(_, found)| found.doubt.is_none()), "{found:?}");
    }
}

#[test]
fn distribution_and_release_have_to_fit() {
    let debian_12 = below("pkg:deb/debian/openssl?distro=debian-12", "3.0.15");
    let of = |rest: &str| doubt(&debian_12, &format!("pkg:deb/{rest}"));
    assert_eq!(of("debian/openssl@3.0.14?distro=bookworm"), Some(None));
    assert_eq!(of("debian/openssl@3.0.15?distro=bookworm"), None);
    assert_eq!(of("debian/openssl@3.0.14?distro=trixie"), None);
    assert_eq!(of("ubuntu/openssl@3.0.14?distro=jammy"), None);
    assert_eq!(of("debian/openssl@3.0.14"), Some(Some(Doubt::Distribution)));
    assert_eq!(of("openssl@3.0.14"), Some(Some(Doubt::Distribution)));
    assert_eq!(of("debian/openssl?distro=bookworm"), Some(Some(Doubt::Version)), "no version");
    let any = below("pkg:deb/openssl", "3.0.15");
    assert_eq!(doubt(&any, "pkg:deb/ubuntu/openssl@3.0.2-0ubuntu1?distro=jammy"), Some(None));
    assert_eq!(doubt(&below("pkg:npm/hmi", "9"), "pkg:npm/%40acme/hmi@1.0.0"), None);
    assert_eq!(doubt(&below("pkg:pypi/Foo_Bar", "2"), "pkg:pypi/foo.bar@1.0"), Some(None));
}

#[test]
fn what_cannot_be_compared_is_never_safe() {
    let generic = below("pkg:generic/openssl", "1.1.1x");
    assert_eq!(doubt(&generic, "pkg:generic/openssl@1.1.1w"), Some(Some(Doubt::Version)));
    let nameless =
        Component { name: "openssl".to_owned(), version: Some("9".to_owned()), purl: None, sources: vec![] };
    assert_eq!(generic.applies_to(&nameless).unwrap().doubt, Some(Doubt::Version));
    let numeric = below("pkg:generic/openssl", "10");
    assert_eq!(numeric.applies_to(&nameless).unwrap().doubt, Some(Doubt::NoPurl));
    let open = Affected { incomplete: true, ranges: Vec::new(), ..numeric };
    assert_eq!(doubt(&open, "pkg:generic/openssl@99"), Some(Some(Doubt::Version)));
    let every = Affected { incomplete: false, ..open };
    assert_eq!(doubt(&every, "pkg:generic/openssl@99"), Some(None), "no range is every version");
}

#[test]
fn ranges_of_branches_are_told_apart_in_any_order() {
    let text = str::to_owned;
    let mut events = vec![
        Event::Introduced(text("0")),
        Event::Fixed(text("1.2.0")),
        Event::Introduced(text("2.0.0")),
        Event::LastAffected(text("2.3.0")),
        Event::After(text("4.0.0")),
    ];
    for _ in 0..events.len() {
        events.rotate_left(1);
        let range = Range { events: events.clone() };
        for (version, inside) in [
            ("0.1.0", true),
            ("1.1.9", true),
            ("1.2.0", false),
            ("1.9.0", false),
            ("2.0.0", true),
            ("2.3.0", true),
            ("2.3.1", false),
            ("4.0.0", false),
            ("4.0.1", true),
        ] {
            assert_eq!(range.contains(Scheme::Semver, version), Some(inside), "{version} in {events:?}");
        }
        assert_eq!(range.contains(Scheme::Semver, "main"), None);
    }
}

proptest! {
    #[test]
    fn below_is_below(a in 0u32..50, b in 0u32..50, scheme in 0usize..4) {
        let scheme = [Scheme::Deb, Scheme::Rpm, Scheme::Semver, Scheme::Dotted][scheme];
        let (version, limit) = (format!("1.{a}.0"), format!("1.{b}.0"));
        prop_assert_eq!(Range::below(&limit).contains(scheme, &version), Some(a < b));
    }

    /// A question and its parts come to the same.
    #[test]
    fn an_inquiry_answers_as_its_packages_do(names in prop::collection::vec("[ab]_?[ab]", 0..6), name in "[ab]-?[ab]") {
        let affected: Vec<Affected> = names.iter().map(|name| below(&format!("pkg:pypi/{name}"), "2")).collect();
        let component = component(&format!("pkg:pypi/{name}@1"));
        let single = affected.iter().any(|one| one.applies_to(&component).is_some());
        prop_assert_eq!(Inquiry::new(affected).applies_to(&component).is_some(), single);
    }
}
