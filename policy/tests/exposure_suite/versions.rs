//! Versions are ordered as the tools of their ecosystems order them.

use std::cmp::Ordering;

use policy::component::version::Scheme;
use proptest::prelude::*;

/// Each is less than the next.
fn ascends(scheme: Scheme, versions: &[&str]) {
    for (place, one) in versions.iter().enumerate() {
        for (other_place, other) in versions.iter().enumerate() {
            let expected = Some(place.cmp(&other_place));
            assert_eq!(scheme.compare(one, other), expected, "{scheme:?}: {one} and {other}");
        }
    }
}

fn equal(scheme: Scheme, a: &str, b: &str) {
    assert_eq!(scheme.compare(a, b), Some(Ordering::Equal), "{scheme:?}: {a} and {b}");
}

/// Debian Policy, section 5.6.12, and deb-version(7).
const DEB: [&str; 14] = [
    "0~~",
    "0~~a",
    "0~",
    "0",
    "0a",
    "0.0",
    "1.0~beta1~svn1245",
    "1.0~beta1",
    "1.0",
    "1.0-1",
    "1.0-1+b1",
    "1.0.1",
    "2:0.1",
    "10:0",
];

#[test]
fn debian() {
    ascends(Scheme::Deb, &DEB);
    ascends(Scheme::Deb, &["3.0.14-1~deb12u2", "3.0.14-1", "3.0.15-1~deb12u1", "3.0.15-1"]);
    equal(Scheme::Deb, "0:1.0-0", "1.0");
    equal(Scheme::Deb, "1.007", "1.7");
    for bad in ["", "a1", "x:1", "1 2", "1_2"] {
        assert_eq!(Scheme::Deb.compare(bad, "1"), None, "{bad}");
    }
}

/// Tables of rpm's documentation and of its test `rpmvercmp.at`.
#[test]
fn rpm() {
    ascends(Scheme::Rpm, &["1.0~rc1", "1.0", "1.0^20260101", "1.0.1", "2.0.1a", "10xyz", "10.0001", "1:0.5"]);
    ascends(Scheme::Rpm, &["1.0~rc1~git123", "1.0~rc1", "1.0^git1~pre", "1.0^git1"]);
    ascends(Scheme::Rpm, &["xyz.4", "8", "8a.4", "8.4"]);
    ascends(Scheme::Rpm, &["3.0.7-9.el9", "3.0.7-27.el9", "3.0.7-27.el9_2.1"]);
    equal(Scheme::Rpm, "2_0", "2.0");
    equal(Scheme::Rpm, "1.0", "1.0-5");
    equal(Scheme::Rpm, "10.0001", "10.1");
    assert_eq!(Scheme::Rpm.compare("1 0", "1"), None);
}

#[test]
fn the_others() {
    ascends(
        Scheme::Semver,
        &["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0", "1.2", "v2.0.0"],
    );
    equal(Scheme::Semver, "1.0.0+a", "1.0.0+b");
    ascends(Scheme::Pep440, &["1.0.dev1", "1.0a1", "1.0rc1", "1.0", "1.0.post1", "1!0.1"]);
    ascends(
        Scheme::Apk,
        &["1.2.3_alpha1", "1.2.3_rc2", "1.2.3", "1.2.3-r1", "1.2.3_p1", "1.2.3a", "1.2.4-r0", "1.10"],
    );
    ascends(Scheme::Dotted, &["1.2", "1.10", "2"]);
    equal(Scheme::Dotted, "1.0", "1");
    for (scheme, version) in [
        (Scheme::Semver, "latest"),
        (Scheme::Pep440, "2004d-x!"),
        (Scheme::Apk, "1.2_weird"),
        (Scheme::Dotted, "1.1.1w"),
        (Scheme::Dotted, "1.0-SNAPSHOT"),
    ] {
        assert_eq!(scheme.compare(version, "1.0"), None, "{version}");
        equal(scheme, version, version);
    }
}

/// What `dpkg --compare-versions` says, where there is a dpkg.
#[expect(clippy::disallowed_methods, reason = "a test asks the tool whose order is claimed")]
fn dpkg(a: &str, relation: &str, b: &str) -> Option<bool> {
    let status = std::process::Command::new("dpkg").args(["--compare-versions", a, relation, b]).status();
    status.ok().map(|status| status.success())
}

#[test]
fn dpkg_agrees() {
    let more = [
        "1.0-1~deb12u1",
        "1.0-1+deb12u1",
        "1:1.0",
        "1.0a-1",
        "1.0+a-1",
        "09",
        "9",
        "1.2.3-0ubuntu1.1",
        "3.0.2-0ubuntu1.18",
    ];
    let all: Vec<&str> = DEB.iter().copied().chain(more).collect();
    for a in &all {
        for b in &all {
            let Some(less) = dpkg(a, "lt", b) else { return println!("skipped: there is no dpkg here") };
            let ours = Scheme::Deb.compare(a, b).unwrap();
            assert_eq!(ours == Ordering::Less, less, "{a} and {b}");
        }
    }
}

fn scheme() -> impl Strategy<Value = Scheme> {
    let all = [Scheme::Deb, Scheme::Rpm, Scheme::Apk, Scheme::Semver, Scheme::Pep440, Scheme::Dotted];
    prop::sample::select(all.to_vec())
}

proptest! {
    #[test]
    fn orders_are_orders(scheme in scheme(), versions in prop::collection::vec("[0-9a-b.~^+:-]{0,8}", 3)) {
        let [a, b, c] = [&versions[0], &versions[1], &versions[2]];
        prop_assert_eq!(scheme.compare(a, b), scheme.compare(b, a).map(Ordering::reverse));
        if let (Some(ab), Some(bc), Some(ac)) = (scheme.compare(a, b), scheme.compare(b, c), scheme.compare(a, c))
            && ab == bc
        {
            prop_assert_eq!(ac, ab, "{} {} {}", a, b, c);
        }
    }
}
