//! `touchstone exposure` and `touchstone sbom`, against a broker that says what the test told it.

use std::path::{Path, PathBuf};

use policy::digest::Digest;
use proto::v1::*;

use crate::fake_broker::FakeBroker;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policy/tests/exposure_suite/data").join(name)
}

fn device(name: &str, exposure: &str, criticality: &str) -> ExposedDevice {
    ExposedDevice {
        name: name.to_owned(),
        exposure: exposure.to_owned(),
        release: "edge@1.4".to_owned(),
        exposed_releases: vec!["edge@1.4".to_owned()],
        attested_at: 1_800_000_000,
        zones: vec!["cell-3".to_owned()],
        owner: "line-2".to_owned(),
        criticality: criticality.to_owned(),
        ..ExposedDevice::default()
    }
}

fn answer(devices: Vec<ExposedDevice>) -> ExposedPart {
    let component = ExposedComponent {
        name: "libssl3".to_owned(),
        version: "3.0.14-1~deb12u2".to_owned(),
        source: "openssl".to_owned(),
        sbom: vec![7; 32],
        ..ExposedComponent::default()
    };
    ExposedPart {
        releases: vec![ExposedRelease {
            release: "edge@1.4".to_owned(),
            components: vec![component],
            ..ExposedRelease::default()
        }],
        zones: vec![ZonePeers {
            zone: "cell-3".to_owned(),
            peers: vec![ZonePeer { zone: "historian".to_owned(), service: "opcua".to_owned() }],
        }],
        devices,
        clear: 5,
        last: true,
    }
}

const BELOW: [&str; 5] = ["exposure", "--purl", "pkg:deb/debian/openssl", "--below", "3.0.15"];

#[test]
fn three_lists_sorted_by_criticality_end_with_1() {
    let broker = FakeBroker::start();
    let mut unknown = device("press-1", "unknown", "");
    unknown.reason = "it never proved what it runs".to_owned();
    let devices = vec![
        device("press-2", "proven", "low"),
        device("press-3", "proven", "high"),
        device("press-4", "proven", ""),
        device("press-5", "may", "medium"),
        unknown,
    ];
    broker.answers("list_exposed", &answer(devices.clone())).answers("list_exposed", &answer(devices));
    let ran = broker.run(&BELOW);
    assert_eq!(ran.code, 1, "{ran:?}");
    let place = |text: &str| ran.stdout.find(text).unwrap_or_else(|| panic!("no {text}: {ran:?}"));
    let order =
        ["PROVEN", "press-3", "press-2", "press-4", "MAY", "press-5", "UNKNOWN", "press-1"].map(place);
    assert!(order.is_sorted(), "{ran:?}");
    assert!(ran.stdout.contains("libssl3 3.0.14-1~deb12u2 (from openssl)"), "{ran:?}");
    assert!(ran.stdout.contains("historian (opcua)"), "{ran:?}");
    assert!(
        ran.stdout.ends_with("3 proven, 1 may, 1 unknown; 5 devices proved a release without it\n"),
        "{ran:?}"
    );
    let asked = &broker.asked::<ListExposedRequest>("list_exposed")[0].affected[0];
    assert_eq!(asked.purl, "pkg:deb/debian/openssl");
    let events: Vec<_> =
        asked.ranges[0].events.iter().map(|e| (e.kind.as_str(), e.version.as_str())).collect();
    assert_eq!(events, [("introduced", "0"), ("fixed", "3.0.15")]);
    let json = broker.run(&[&BELOW[..], &["-o", "json"]].concat()).json();
    assert_eq!(json["schema"], 1);
    assert_eq!(json["proven"][0]["components"][0]["matched"], "source package openssl");
    assert_eq!(json["proven"][0]["reached_from"][0]["zone"], "historian");
    assert_eq!(json["unknown"][0]["reason"], "it never proved what it runs");
    assert_eq!(json["clear"], 5);
}

#[test]
fn unknown_counts_unless_it_is_ignored_and_nobody_is_0() {
    let broker = FakeBroker::start();
    let unknown = answer(vec![device("press-1", "unknown", "")]);
    broker.answers("list_exposed", &unknown).answers("list_exposed", &unknown);
    assert_eq!(broker.run(&BELOW).code, 1);
    assert_eq!(broker.run(&[&BELOW[..], &["--ignore-unknown"]].concat()).code, 0);
    broker.answers("list_exposed", &answer(vec![device("press-1", "may", "")]));
    assert_eq!(broker.run(&[&BELOW[..], &["--ignore-unknown"]].concat()).code, 1);
    broker.answers("list_exposed", &answer(Vec::new()));
    let ran = broker.run(&BELOW);
    assert_eq!((ran.code, ran.stdout.contains("0 proven, 0 may, 0 unknown")), (0, true), "{ran:?}");
}

#[test]
fn an_answer_without_its_end_is_no_answer() {
    let broker = FakeBroker::start();
    broker.answers("list_exposed", &ExposedPart { last: false, ..answer(Vec::new()) });
    let ran = broker.run(&BELOW);
    assert_eq!(ran.code, 70, "{ran:?}");
    assert!(ran.stderr.contains("the broker's answer broke off"), "{ran:?}");
}

#[test]
fn an_advisory_is_asked_as_packages_and_says_what_it_left_out() {
    let broker = FakeBroker::start();
    broker.answers("list_exposed", &answer(Vec::new())).answers("list_exposed", &answer(Vec::new()));
    let osv = data("debian.osv.json");
    let ran = broker.run(&["exposure", "--advisory", osv.to_str().unwrap(), "--zone", "cell-3"]);
    assert_eq!(ran.code, 1, "what nobody can look for counts as unknown: {ran:?}");
    assert!(ran.stdout.starts_with("DSA-5764-1 openssl - security update\n"), "{ran:?}");
    assert!(ran.stdout.contains("Not looked for: thing of Unheard"), "{ran:?}");
    let asked = &broker.asked::<ListExposedRequest>("list_exposed")[0];
    assert_eq!((asked.affected.len(), asked.zone.as_str()), (4, "cell-3"));
    assert_eq!(asked.affected[0].purl, "pkg:deb/debian/openssl?distro=debian-12");
    let csaf = data("plc.csaf.json");
    let ran = broker.run(&["exposure", "--advisory", csaf.to_str().unwrap(), "--ignore-unknown"]);
    assert_eq!((ran.code, ran.stdout.contains("EX-2026-001")), (0, true), "{ran:?}");
}

#[test]
fn a_question_is_one_purl_or_one_advisory() {
    let broker = FakeBroker::start();
    for (line, code) in [
        (&["exposure"][..], 64),
        (&["exposure", "--purl", "openssl"], 64),
        (&["exposure", "--advisory", "x", "--below", "1"], 64),
        (&["exposure", "--purl", "pkg:deb/debian/openssl@1", "--below", "2"], 2),
        (&["exposure", "--advisory", "/nowhere"], 2),
    ] {
        let ran = broker.run(line);
        assert_eq!(ran.code, code, "{line:?}: {ran:?}");
    }
    let ran = broker.run(&["exposure", "--advisory", data("edge.cdx.json").to_str().unwrap()]);
    assert!(ran.code == 2 && ran.stderr.contains("neither an OSV record"), "{ran:?}");
}

#[test]
fn an_sbom_is_sent_whole_and_shown_only_as_what_was_asked_for() {
    let broker = FakeBroker::start();
    let path = data("edge.cdx.json");
    let bytes = std::fs::read(&path).unwrap();
    let digest = Digest::of(&bytes);
    let sbom = Sbom {
        digest: digest.0.to_vec(),
        format: "cyclonedx".to_owned(),
        components: 6,
        releases: vec!["edge@1.4".to_owned()],
        ..Sbom::default()
    };
    broker.answers("add_sbom", &AddSbomResponse { sbom: Some(sbom.clone()), unchanged: false });
    let ran = broker.run(&["sbom", "add", path.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.stdout, format!("{digest} (6 components) was added; it counts for edge@1.4\n"));
    assert_eq!(broker.asked::<AddSbomRequest>("add_sbom")[0].data, bytes);

    broker.answers("get_sbom", &SbomPart { sbom: Some(sbom.clone()), data: bytes.clone() });
    let ran = broker.run(&["sbom", "show", &digest.to_string()]);
    assert!(ran.code == 0 && ran.stdout.contains("openssh-server"), "{ran:?}");
    broker.answers("get_sbom", &SbomPart { sbom: Some(sbom.clone()), data: b"{}".to_vec() });
    let ran = broker.run(&["sbom", "show", &digest.to_string()]);
    assert!(ran.code == 70 && ran.stderr.contains("sent another document"), "{ran:?}");

    broker.answers("list_sboms", &ListSbomsResponse { sboms: vec![sbom.clone()], next: String::new() });
    assert!(broker.run(&["sbom", "list"]).stdout.contains("edge@1.4"));
    broker.answers("remove_sbom", &RemoveSbomResponse { sbom: Some(sbom) });
    let ran = broker.run(&["sbom", "remove", &digest.to_string(), "--dry-run"]);
    assert_eq!(ran.stdout, format!("{digest} would be removed\n"), "{ran:?}");
    assert!(broker.asked::<RemoveSbomRequest>("remove_sbom")[0].dry_run);

    let ran = broker.run(&["sbom", "add", data("debian.osv.json").to_str().unwrap()]);
    assert!(ran.code == 2 && ran.stderr.contains("no CycloneDX and no SPDX document"), "{ran:?}");
    assert_eq!(broker.asked::<AddSbomRequest>("add_sbom").len(), 1, "refused before it is sent");
}
