//! Ways to keep a vulnerable component off the list, or the list from coming: each is told as affected, as a doubt, or
//! refused.

use std::time::Instant;

use policy::advisory::{Advisory, AdvisoryError};
use policy::component::version::Scheme;
use policy::component::{Affected, Component, Doubt, Event, Inquiry, Range};
use policy::sbom::Sbom;

use crate::advisory;

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

const VERSION: Option<Option<Doubt>> = Some(Some(Doubt::Version));
const DISTRIBUTION: Option<Option<Doubt>> = Some(Some(Doubt::Distribution));

#[test]
fn an_epoch_that_one_side_leaves_out_hides_nothing() {
    let bind = below("pkg:deb/debian/bind9", "9.18.24");
    assert_eq!(doubt(&bind, "pkg:deb/debian/bind9@1%3A9.18.19-1"), VERSION);
    assert_eq!(doubt(&bind, "pkg:deb/debian/bind9@1%3A9.18.24-1"), None);
    let with_epoch = below("pkg:rpm/redhat/openssl", "1:3.0.7-28.el9");
    assert_eq!(doubt(&with_epoch, "pkg:rpm/redhat/openssl@3.0.7-27.el9"), Some(None));
    assert_eq!(doubt(&with_epoch, "pkg:rpm/redhat/openssl@3.0.7-28.el9"), VERSION, "which epoch is it of?");
    assert_eq!(doubt(&with_epoch, "pkg:rpm/redhat/openssl@3.0.7-28.el9?epoch=1"), None);
    assert_eq!(doubt(&below("pkg:deb/debian/a", "1:2-1"), "pkg:deb/debian/a@0%3A3-1"), Some(None), "stated");
}

#[test]
fn an_rpm_without_its_release_is_no_fixed_build() {
    let fixed = below("pkg:rpm/redhat/openssl", "3.0.7-28.el9");
    assert_eq!(doubt(&fixed, "pkg:rpm/redhat/openssl@3.0.7"), VERSION);
    assert_eq!(doubt(&fixed, "pkg:rpm/redhat/openssl@3.0.8"), None);
    assert_eq!(doubt(&below("pkg:rpm/redhat/openssl", "3.0.7"), "pkg:rpm/redhat/openssl@3.0.7-1.el9"), None);
}

#[test]
fn names_of_distributions_are_compared_by_what_they_mean() {
    let of = |wanted: &str, found: &str| doubt(&below(wanted, "4"), found);
    let rhel = "pkg:rpm/redhat/openssl?distro=redhat-9";
    assert_eq!(of(rhel, "pkg:rpm/rhel/openssl@3.0.7-1?distro=rhel-9.2"), Some(None));
    assert_eq!(of(rhel, "pkg:rpm/fedora/openssl@3.0.7-1?distro=fedora-39"), None);
    assert_eq!(of(rhel, "pkg:rpm/centos/openssl@3.0.7-1?distro=centos-9"), DISTRIBUTION, "rebuilt from it");
    let debian = "pkg:deb/debian/openssl?distro=debian-12";
    assert_eq!(of(debian, "pkg:deb/raspbian/openssl@3.0.14-1?distro=raspbian-12"), DISTRIBUTION);
    assert_eq!(of(debian, "pkg:deb/Debian/OpenSSL@3.0.14-1?distro=Bookworm"), Some(None), "case");
    assert_eq!(of(debian, "pkg:deb/debian/openssl@3.0.14-1?distro=debian-12.7"), Some(None));
    let alpine = "pkg:apk/alpine/openssl?distro=alpine-3.18";
    assert_eq!(of(alpine, "pkg:apk/alpine/openssl@3.1.0-r1?distro=alpine-3"), DISTRIBUTION);
    assert_eq!(of("pkg:pypi/foo--bar", "pkg:pypi/Foo.Bar@1"), Some(None), "runs of separators");
    let percent = "pkg:deb/%64ebian/%6Fpenssl@3.0.14%2Bdfsg-1?distro=bookworm";
    assert_eq!(of(debian, percent), Some(None));
    assert_eq!(
        of(debian, "pkg:deb/debian/openssl@3.0.14+dfsg-1?distro=bookworm"),
        Some(None),
        "a plus is one"
    );
}

#[test]
fn an_empty_version_is_none() {
    let affected = Affected { versions: vec!["3.0.14".to_owned()], ..below("pkg:generic/openssl", "1") };
    let listed = Affected { ranges: Vec::new(), ..affected };
    let with =
        |version: &str| Component { version: Some(version.to_owned()), ..component("pkg:generic/openssl") };
    for version in ["", " "] {
        let found = listed.applies_to(&with(version)).unwrap();
        assert_eq!(found.doubt, Some(Doubt::Version), "{version:?}");
    }
    assert_eq!(listed.applies_to(&with("v3.0.14")).unwrap().doubt, None);
    assert_eq!(listed.applies_to(&with("3.0.15")), None);
    for scheme in [Scheme::Deb, Scheme::Rpm, Scheme::Apk, Scheme::Semver, Scheme::Pep440, Scheme::Dotted] {
        assert_eq!(scheme.compare("", "1"), None, "{scheme:?}");
    }
}

#[test]
fn a_range_that_only_ends_begins_before_all() {
    let range = |events: Vec<Event>| Range { events };
    let fixed = range(vec![Event::Fixed("3.0.15".to_owned())]);
    assert_eq!(fixed.contains(Scheme::Semver, "3.0.14"), Some(true));
    assert_eq!(fixed.contains(Scheme::Semver, "3.0.15"), Some(false));
    assert_eq!(range(Vec::new()).contains(Scheme::Semver, "1.0.0"), Some(true));
    let odd = range(vec![Event::Introduced("main".to_owned()), Event::Fixed("2.0.0".to_owned())]);
    assert_eq!(odd.contains(Scheme::Semver, "1.0.0"), None, "where it begins cannot be compared");
    let text = r#"{"id":"X","affected":[{"package":{"ecosystem":"npm","name":"hmi"},
        "ranges":[{"type":"SEMVER","events":[{"fixed":"2.0.0"}]}]}]}"#;
    let advisory = advisory::read(text);
    assert_eq!(doubt(&advisory.affected[0], "pkg:npm/hmi@1.9.9"), Some(None));
}

#[test]
fn a_withdrawn_advisory_is_asked_all_the_same_and_says_so() {
    let withdrawn = advisory::OSV.replacen("{", "{\"withdrawn\":\"2026-01-01T00:00:00Z\",", 1);
    let advisory = advisory::read(&withdrawn);
    assert!(!advisory.affected.is_empty());
    assert!(advisory.notes[0].contains("was withdrawn on 2026-01-01"), "{:?}", advisory.notes);
}

/// A CSAF document about these products.
fn csaf(status: &str, products: &str) -> String {
    format!(
        r#"{{"document":{{"csaf_version":"2.0","tracking":{{"id":"EX-1"}}}},
        "product_tree":{{"full_product_names":[{products}]}},
        "vulnerabilities":[{{"product_status":{status}}}]}}"#
    )
}

fn product(id: &str, purl: &str) -> String {
    format!(r#"{{"product_id":"{id}","product_identification_helper":{{"purl":"{purl}"}}}}"#)
}

#[test]
fn what_lies_between_the_first_and_the_last_affected_version_is_in_doubt() {
    let products = [product("a", "pkg:generic/x@1.0"), product("b", "pkg:generic/x@2.0")].join(",");
    let text = csaf(r#"{"first_affected":["a"],"last_affected":["b"]}"#, &products);
    let inquiry = Inquiry::new(advisory::read(&text).affected);
    let doubt = |purl: &str| inquiry.applies_to(&component(purl)).map(|found| found.doubt);
    assert_eq!(doubt("pkg:generic/x@1.0"), Some(None));
    assert_eq!(doubt("pkg:generic/x@1.5"), VERSION);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "how long it takes is what is tested")]
fn documents_that_take_long_are_refused_or_end_soon() {
    let begin = Instant::now();
    let ids: Vec<String> = (0..60_000).map(|n| format!("p{n}")).collect();
    let products: Vec<String> = ids.iter().map(|id| product(id, &format!("pkg:generic/{id}@1"))).collect();
    let status = format!(r#"{{"known_affected":{}}}"#, serde_json::to_string(&ids).unwrap());
    let refused = Advisory::parse(csaf(&status, &products.join(",")).as_bytes()).unwrap_err();
    assert!(matches!(refused, AdvisoryError::TooMany { what: "packages", .. }), "{refused}");
    let mut events = Vec::new();
    for n in 0..1_000 {
        events.extend([Event::Introduced(format!("{n}.0.0")), Event::Fixed(format!("{n}.5.0"))]);
    }
    let range = Range { events };
    for n in 0..100 {
        assert_eq!(range.contains(Scheme::Semver, &format!("{n}.4.0")), Some(true));
        assert_eq!(range.contains(Scheme::Semver, &format!("{n}.6.0")), Some(false));
    }
    assert!(begin.elapsed().as_secs() < 20, "{:?}", begin.elapsed());
}

#[test]
fn a_document_that_names_no_sources_cannot_answer_about_them() {
    let sbom = |packages: &str| {
        let text = format!(r#"{{"bomFormat":"CycloneDX","specVersion":"1.5","components":[{packages}]}}"#);
        Sbom::parse(text.as_bytes()).unwrap().components
    };
    let one = |name: &str, rest: &str| {
        format!(r#"{{"name":"{name}","purl":"pkg:deb/debian/{name}@3.0.14?distro=bookworm{rest}"}}"#)
    };
    let inquiry = Inquiry::new(vec![below("pkg:deb/debian/openssl", "3.0.15")]);
    assert!(inquiry.needs_sources(&sbom(&one("libssl3", ""))));
    assert!(!inquiry.needs_sources(&sbom(&one("libssl3", "&upstream=openssl"))));
    assert!(!inquiry.needs_sources(&sbom(&one("openssl", ""))), "it is named");
    assert!(!inquiry.needs_sources(&sbom("")));
    let other = Inquiry::new(vec![below("pkg:npm/hmi", "2")]);
    assert!(!other.needs_sources(&sbom(&one("libssl3", ""))));
}
