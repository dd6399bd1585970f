//! Zones and conduits as a whole: planned and applied from one file, open by the clock, flat spots found.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use policy::time::UnixTime;
use serde_json::Value;

use e2e::{World, until};

use crate::story::openssl;

#[test]
fn a_reviewed_file_opens_a_conduit_that_closes_without_the_broker() {
    let Some((mut world, [mut press, mut camera])) = World::with_devices(["press-1", "camera-1"]) else {
        return;
    };
    for zone in ["press", "vision"] {
        world.admin(&format!("zone create {zone} --mode observe --least instance-identity=affirming"));
    }
    world.register(&press, "press");
    world.register(&camera, "vision");
    press.offer("opcua");
    for device in [&mut press, &mut camera] {
        device.measure("boot-a");
        device.start();
        device.until_state("trusted");
    }
    let inbound = press.delivered("press", "services/opcua/inbound.pem");
    let nobody = fs::read(&inbound).expect("a trust file");

    // The time is the runner's: the conduit lives long enough to be seen open.
    let end = UnixTime(now() + 30);
    let graph = world.admin("zone export")["document"].as_str().expect("a document").to_owned();
    let file = world.plant.run_path("zones.toml");
    let conduit = format!(
        "\n[[conduit]]\nfrom = \"vision\"\nto = \"press\"\nservice = \"opcua\"\nschedule = \"daily 00:00-24:00\"\nexpires = \"{end}\"\n"
    );
    fs::write(&file, format!("{graph}{conduit}")).expect("a file in the run folder");
    let file = file.display();
    let plan = world.admin(&format!("zone plan {file}"));
    assert_eq!(plan["gained"][0]["device"], "press-1");
    assert_eq!((&plan["gained"][0]["from"], &plan["applied"]), (&"vision".into(), &false.into()));
    assert_eq!(
        plan["callers"],
        serde_json::json!([{ "zone": "vision", "devices": ["camera-1"], "left_out": 0 }])
    );
    // Somebody else opens another in between, and takes it back.
    let apply = format!("zone apply {file} --yes --plan {}", plan["plan"].as_str().expect("a plan"));
    let other = "--from press --to vision --service video";
    world.admin(&format!("conduit allow {other}"));
    let moved = world.tool(&apply.split(' ').collect::<Vec<_>>()).refused(3);
    assert!(moved.contains("are not those of plan") && moved.contains("zone plan"), "{moved}");
    world.admin(&format!("conduit close {other}"));
    let applied = world.admin(&apply);
    assert_eq!(applied["conduits_made"][0]["service"], "opcua");
    assert_eq!(applied["plan"], plan["plan"]);
    until("the conduit is open", || match fs::read(&inbound) {
        Ok(now) if now != nobody => Ok(()),
        other => Err(format!("{} bytes", other.map_or(0, |bytes| bytes.len()))),
    });
    let subject = openssl(&["x509", "-noout", "-subject", "-in", inbound.to_str().expect("a path")]);
    assert_eq!(subject.trim(), "subject=CN = vision.plant.example caller 1");
    world.stop_broker();
    until("the conduit is closed again", || match fs::read(&inbound) {
        Ok(now) if now == nobody => Ok(()),
        _ => Err("still open".to_owned()),
    });
    assert!(now() >= end.0, "it closed before its time");
}

#[test]
fn flat_spots_are_found_and_the_picture_shows_what_is() {
    let Some((world, _off)) = World::with_devices(["press-1"]) else { return };
    world.admin("zone create sis --mode observe --function safety");
    world.admin("zone create cell --mode observe --function control");
    world.admin("conduit allow --from cell --to sis --service modbus");
    let nightly = ["conduit", "allow", "--from", "sis", "--to", "cell", "--service", "alarms", "--schedule"];
    world.tool(&[&nightly[..], &["daily 22:00-04:00"]].concat()).done();
    let answer = world.tool(&["zone", "check"]);
    assert_eq!(answer.code, 1, "{}", answer.said);
    let kinds: Vec<&str> = answer.json["spots"]
        .as_array()
        .expect("spots")
        .iter()
        .map(|spot| spot["kind"].as_str().expect("a kind"))
        .collect();
    assert_eq!(kinds, ["any-to-any", "into-safety", "nobody-offers", "nobody-offers"]);
    let dot = world.admin("zone show --picture dot")["picture"].to_string();
    assert!(dot.contains(r#"label=\"alarms\\ndaily 22:00-04:00\", style=dashed"#), "{dot}");
    let told = world.tool(&[&nightly[..], &["night"]].concat()).refused(64);
    assert!(told.contains("`night` is no window"), "{told}");
}

#[expect(clippy::disallowed_methods, reason = "a conduit that ends in a moment needs the real time")]
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// The last word of a field of one certificate: the generation of an authority.
fn generation(field: &str, pem: &str) -> String {
    let one = tempfile::NamedTempFile::new().expect("a file");
    fs::write(one.path(), pem).expect("a certificate");
    let said = openssl(&["x509", "-noout", field, "-in", one.path().to_str().expect("a path")]);
    said.trim().rsplit(' ').next().expect("a generation").to_owned()
}

/// Generations of the authorities in a trust file; a zone that reaches nobody has no file yet.
fn subjects(file: &Path) -> Vec<String> {
    let pem = fs::read_to_string(file).unwrap_or_default();
    let blocks = pem.split_inclusive("-----END CERTIFICATE-----\n").filter(|block| block.contains("BEGIN"));
    let mut names: Vec<String> = blocks.map(|block| generation("-subject", block)).collect();
    names.sort();
    names
}

/// The generation that signed a leaf; between one that is worth nothing and the next there is none.
pub(crate) fn issuer(certificate: &Path) -> String {
    fs::read_to_string(certificate)
        .map_or_else(|_| "no certificate".to_owned(), |pem| generation("-issuer", &pem))
}

#[test]
fn a_rotation_breaks_no_connection_and_a_distrusted_authority_is_believed_nowhere() {
    let Some((world, [mut press, mut camera])) = World::with_devices(["press-1", "camera-1"]) else { return };
    for zone in ["press", "vision"] {
        world.admin(&format!(
            "zone create {zone} --mode observe --least instance-identity=affirming --reattest-every 5s"
        ));
    }
    world.register(&press, "press");
    world.register(&camera, "vision");
    press.offer("opcua");
    for device in [&mut press, &mut camera] {
        device.measure("boot-a");
        device.start();
        device.until_state("trusted");
    }
    world.admin("conduit allow --from vision --to press --service opcua");
    let (listener, outbound) =
        (press.delivered("press", "listener.pem"), camera.delivered("vision", "services/opcua/outbound.pem"));
    let believes = |what: &str, generations: &[&str]| {
        until(what, || match subjects(&outbound) {
            found if found == generations => Ok(()),
            found => Err(format!("{found:?}")),
        });
    };
    // What the press shows is believed by the camera, before, while and after.
    let connects = || {
        let (authorities, leaf) = (outbound.to_str().expect("a path"), listener.to_str().expect("a path"));
        openssl(&["verify", "-purpose", "sslserver", "-CAfile", authorities, leaf]);
    };
    believes("the conduit is open", &["1"]);
    world.admin("authority rotate press --role listener");
    until("the next generation signs", || {
        connects();
        let all = world.admin("authority list")["authorities"].clone();
        let of_press = |one: &&Value| one["zone"] == "press" && one["role"] == "listener";
        let states: Vec<&Value> =
            all.as_array().expect("a list").iter().filter(of_press).map(|one| &one["state"]).collect();
        if states == ["old", "active"] { Ok(()) } else { Err(format!("{states:?}")) }
    });
    connects();
    believes("both are believed", &["1", "2"]);
    let line =
        ["authority", "distrust", "press", "--role", "listener", "--generation", "1", "--reason", "a test"];
    world.tool(&line).done();
    until("it has a certificate of the next", || match issuer(&listener).as_str() {
        "2" => Ok(()),
        other => Err(other.to_owned()),
    });
    believes("only the next is believed", &["2"]);
    connects();
    let line =
        ["authority", "distrust", "press", "--role", "listener", "--generation", "2", "--reason", "a test"];
    world.tool(&line).done();
    until("another signs at once", || match issuer(&listener).as_str() {
        "3" => Ok(()),
        other => Err(other.to_owned()),
    });
    believes("only the third is believed", &["3"]);
    connects();
}
