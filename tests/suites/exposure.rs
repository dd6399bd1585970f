//! Who runs a vulnerable component, on devices that prove what they boot: proven, may, unknown, and nobody when the
//! fixed release runs.

use std::fs;

use e2e::{Device, World, until};
use serde_json::{Value, json};

/// Two intervals of the zone in which proofs become old while the test waits.
const SHORT: &str = "10s";

/// A CycloneDX document with openssl of Debian 12 in this version.
fn cyclonedx(version: &str) -> String {
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "operating-system", "name": "edge"}},
        "components": [{
            "type": "library",
            "name": "libssl3",
            "version": version,
            "purl": format!("pkg:deb/debian/libssl3@{version}?arch=amd64&distro=debian-12&upstream=openssl"),
        }],
    })
    .to_string()
}

const OSV: &str = r#"{"schema_version":"1.6.7","id":"DSA-5764-1","summary":"openssl - security update","affected":[
    {"package":{"ecosystem":"Debian:12","name":"openssl","purl":"pkg:deb/debian/openssl?arch=source"},
     "ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"3.0.15-1~deb12u1"}]}]}]}"#;

const CSAF: &str = r#"{"document":{"category":"csaf_security_advisory","csaf_version":"2.0","title":"OpenSSL in edge boxes",
    "publisher":{"category":"vendor","name":"Example","namespace":"https://example.com"},
    "tracking":{"id":"EX-2026-001","status":"final","version":"1","initial_release_date":"2026-10-01T00:00:00Z",
     "current_release_date":"2026-10-01T00:00:00Z","revision_history":[{"date":"2026-10-01T00:00:00Z","number":"1","summary":"first"}]}},
    "product_tree":{"branches":[{"category":"product_version_range","name":"vers:deb/>=3.0.0|<3.0.15-1~deb12u1",
     "product":{"product_id":"DEB","name":"openssl","product_identification_helper":{"purl":"pkg:deb/debian/openssl"}}}]},
    "vulnerabilities":[{"cve":"CVE-2024-6119","product_status":{"known_affected":["DEB"]}}]}"#;

fn write(world: &World, name: &str, text: &str) -> String {
    let file = world.plant.run_path(name);
    fs::write(&file, text).expect("a file of the run");
    file.display().to_string()
}

/// Gives the broker an SBOM, and returns the section by which a release states it.
fn stated(world: &World, version: &str) -> String {
    let file = write(world, &format!("edge-{version}.cdx.json"), &cyclonedx(version));
    let added = world.admin(&format!("sbom add {file}"));
    let digest = added["sbom"]["digest"].as_str().unwrap_or_else(|| panic!("no digest in {added:#}"));
    format!("[[sbom]]\ndigest = \"{digest}\"\nformat = \"cyclonedx\"\n")
}

/// Registers devices from a supplier's list, with owner and criticality.
fn import(world: &World, devices: [(&Device, &str, &str, &str); 3]) {
    let mut list = "name,ek,zones,owner,criticality\n".to_owned();
    for (device, zone, owner, criticality) in devices {
        let identity = device.identify();
        let ek = identity["ek_digest"].as_str().unwrap_or_else(|| panic!("no EK in {identity:#}"));
        list += &format!("{},{ek},{zone},{owner},{criticality}\n", device.name());
    }
    world.admin(&format!("device import {}", write(world, "supplier.csv", &list)));
}

/// The answer to a question, with the exit code that `expected` says, once `wanted` holds of it.
fn asked(world: &World, question: &str, expected: i32, wanted: impl Fn(&Value) -> bool) -> Value {
    until(&format!("`exposure {question}` ends with {expected}"), || {
        let words: Vec<&str> = std::iter::once("exposure").chain(question.split(' ')).collect();
        let answer = world.tool(&words);
        match answer.code == expected && wanted(&answer.json) {
            true => Ok(answer.json),
            false => Err(format!("{answer:#?}")),
        }
    })
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().filter_map(|one| one["name"].as_str()).collect()
}

#[test]
fn each_device_is_on_the_list_that_its_proof_allows_until_the_fixed_release_runs() {
    let Some((world, [mut press, mut lathe, mut mill])) =
        World::with_devices(["press-1", "lathe-1", "mill-1"])
    else {
        return;
    };
    world.admin("zone create press --product edge --reattest-every 1h");
    world.admin(&format!("zone create hall --product edge --reattest-every {SHORT}"));
    world.admin("zone create scada --product edge");
    press.offer("opcua");
    import(
        &world,
        [
            (&press, "press", "line 3", "high"),
            (&lathe, "hall", "line 4", "safety"),
            (&mill, "press", "line 5", "low"),
        ],
    );
    for device in [&mut press, &mut lathe] {
        device.measure("boot-a");
        device.start();
        device.until_state("refused");
    }
    world.make_golden_with("press-1", "edge", "1.0", &stated(&world, "3.0.14-1~deb12u2"));
    press.until_state("trusted");
    lathe.until_state("trusted");
    world.admin("conduit allow --from scada --to press --service opcua");

    // One stopped proving itself, one never came.
    lathe.stop();
    let debian = "--purl pkg:deb/debian/openssl --below 3.0.15";
    let found = asked(&world, debian, 1, |found| names(&found["may"]) == ["lathe-1"]);
    assert_exposed(&found);
    let (osv, csaf) = (write(&world, "osv.json", OSV), write(&world, "csaf.json", CSAF));
    let advisories = [(osv, "DSA-5764-1"), (csaf, "EX-2026-001")];
    for (file, id) in &advisories {
        let found = asked(&world, &format!("--advisory {file}"), 1, |_| true);
        assert_eq!((&found["question"]["id"], &found["question"]["left_out"]), (&json!(id), &json!([])));
        assert_exposed(&found);
    }
    // Only one zone, and what is unknown left out: the others count on.
    let found = asked(&world, &format!("{debian} --zone hall --ignore-unknown"), 1, |_| true);
    assert_eq!((names(&found["proven"]), names(&found["unknown"])), (vec![], vec![]), "{found:#}");

    // The fixed release.
    press.reboot("boot-b");
    press.until_state("refused");
    world.make_golden_with("press-1", "edge", "2.0", &stated(&world, "3.0.15-1~deb12u1"));
    press.until_state("trusted");
    lathe.reboot("boot-b");
    lathe.until_state("trusted");
    let only_unknown = |found: &Value| names(&found["unknown"]) == ["mill-1"] && found["clear"] == 2;
    asked(&world, debian, 1, only_unknown);
    asked(&world, &format!("{debian} --ignore-unknown"), 0, only_unknown);
    mill.measure("boot-b");
    mill.start();
    mill.until_state("trusted");
    for question in
        [debian.to_owned()].into_iter().chain(advisories.map(|(file, _)| format!("--advisory {file}")))
    {
        let found = asked(&world, &question, 0, |found| found["clear"] == 3);
        assert_eq!(
            json!([found["proven"], found["may"], found["unknown"]]),
            json!([[], [], []]),
            "{found:#}"
        );
    }

    // Told to go back to what has it, a device may have done so.
    world.admin("golden want edge@1.0");
    let found = asked(&world, debian, 1, |found| names(&found["may"]).len() == 3);
    let why = found["may"][0]["reason"].as_str().unwrap_or_default();
    assert!(why.contains("told to install edge@1.0"), "{found:#}");
}

/// press-1 proved to run it a moment ago, lathe-1 did once, and nobody knows of mill-1.
fn assert_exposed(found: &Value) {
    let lists = [&found["proven"], &found["may"], &found["unknown"]].map(names);
    assert_eq!(lists, [["press-1"], ["lathe-1"], ["mill-1"]], "{found:#}");
    let proven = &found["proven"][0];
    assert_eq!(
        json!([proven["owner"], proven["criticality"], proven["zones"], proven["release"], proven["reason"]]),
        json!(["line 3", "high", ["press"], "edge@1.0", null]),
        "{proven:#}"
    );
    assert!(proven["evidence_age_seconds"].as_u64().is_some_and(|age| age < 3600), "{proven:#}");
    let component = &proven["components"][0];
    assert_eq!(
        json!([component["name"], component["version"], component["matched"]]),
        json!(["libssl3", "3.0.14-1~deb12u2", "source package openssl"]),
        "{component:#}"
    );
    assert_eq!(proven["reached_from"], json!([{"zone": "scada", "service": "opcua"}]), "{proven:#}");
    let may = &found["may"][0];
    assert_eq!(json!([may["owner"], may["criticality"]]), json!(["line 4", "safety"]), "{may:#}");
    let why = may["reason"].as_str().unwrap_or_default();
    assert!(why.contains("older than two intervals"), "{may:#}");
    assert!(may["evidence_age_seconds"].as_u64().is_some_and(|age| age > 10), "{may:#}");
    let unknown = &found["unknown"][0];
    assert_eq!(
        json!([unknown["release"], unknown["attested_at"], unknown["owner"]]),
        json!([null, null, "line 5"])
    );
    assert!(unknown["reason"].as_str().is_some_and(|why| why.contains("never proved")), "{unknown:#}");
}
