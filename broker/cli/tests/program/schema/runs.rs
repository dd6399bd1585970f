//! A run of every command, with answers that are full, bare and empty.

use std::fs;
use std::path::Path;

use policy::audit::{AuditRecord, Event, Seal};
use policy::digest::Digest;
use policy::reference::dsse::Unsigned;
use policy::reference::manifest::Manifest;
use policy::time::UnixTime;
use prost::Message;
use proto::v1::*;
use rcgen::{KeyPair, SigningKey};

use super::Shapes;
use super::filler::{Filler, Fullness};
use super::shape::Shape;
use crate::evidence::Evidence;
use crate::fake_broker::FakeBroker;
use crate::tool::{Ran, recorded, run, run_at};

const EK: &str = "sha256:abababababababababababababababababababababababababababababababab";

/// What is run, and under which name its answer is known. `@file` is a file of the run, SBOM the digest of its SBOM.
const ONLINE: &[(&str, &str)] = &[
    ("status", "status"),
    ("device list", "device list"),
    ("device show", "device show press-7"),
    ("device why", "device why press-7"),
    ("device admit", "device admit press-7 --zone cell-3"),
    ("device admit --dry-run", "device admit press-7 --dry-run"),
    ("device quarantine", "device quarantine press-7 --reason x"),
    ("device quarantine --dry-run", "device quarantine press-7 --reason x --dry-run"),
    ("device readmit", "device readmit press-7 --reason x"),
    ("device readmit --dry-run", "device readmit press-7 --reason x --dry-run"),
    ("device address add", "device address add press-7 10.1.3.7"),
    ("device address remove", "device address remove press-7 10.1.3.7 --zone cell-3"),
    ("device vouch list", "device vouch list"),
    ("device vouch accept", "device vouch accept plc-1 --by gateway-3 --kind PLC"),
    ("device vouch drop", "device vouch drop plc-1 --by gateway-3"),
    ("device move", "device move press-7 --to cell-4 --at HOURS --reason x"),
    ("device move", "device move press-7 --cancel"),
    ("device replace", "device replace press-7 --ek EK --reason x"),
    ("device retire", "device retire press-7 --reason x"),
    ("device expect-clear", "device expect-clear press-7 --reason x"),
    ("device expect-clear --dry-run", "device expect-clear press-7 --reason x --dry-run"),
    ("device attest", "device attest press-7"),
    ("device attest --dry-run", "device attest press-7 --dry-run"),
    ("device result", "device result press-7 --ear"),
    ("device import", "device import @list.csv"),
    ("token create", "token create --zone cell-3"),
    ("token create", "token create --zone cell-3 --device press-7 --ek EK"),
    ("token create --dry-run", "token create --zone cell-3 --dry-run"),
    ("token list", "token list"),
    ("token revoke", "token revoke abababababababababababababababab"),
    ("override", "override"),
    ("override DEVICE", "override press-7 --reason x --yes"),
    ("override --end", "override press-7 --end"),
    ("override --end --dry-run", "override press-7 --end --dry-run"),
    ("golden learn", "golden learn --from press-7 --product edge --version 1"),
    ("golden learn", "golden learn --from press-7 --product edge --version 1 --out @learned.toml"),
    ("golden predict", "golden predict --uki @uki.efi --product edge --version 1"),
    ("golden predict", "golden predict --uki @uki.efi --product edge --version 1 --out @predicted.toml"),
    ("golden show", "golden show edge@1.4"),
    ("golden show", "golden show @edge.toml"),
    ("golden sign", "golden sign @edge.toml --key @admin.key"),
    ("golden payload", "golden payload @edge.toml --out @edge.payload"),
    ("golden attach", "golden attach @edge.toml --signature @edge.sig --public @release.pub"),
    ("golden key list", "golden key list"),
    ("golden key add", "golden key add build --public @release.pub --product edge"),
    ("golden key add --dry-run", "golden key add build --public @release.pub --product edge --dry-run"),
    ("golden key rotate", "golden key rotate build --public @release.pub"),
    ("golden key remove", "golden key remove build"),
    ("golden key remove", "golden key remove build --compromised --yes"),
    ("golden key threshold", "golden key threshold edge 2"),
    ("golden plan", "golden plan edge@1.4"),
    ("golden plan", "golden plan @signed.json --at 2030-01-01T00:00:00Z"),
    ("golden apply", "golden apply @signed.json --yes"),
    ("golden apply --wait", "golden apply @signed.json --yes --wait --for 60s"),
    ("golden activate", "golden activate edge@1.4 --yes"),
    ("golden deprecate", "golden deprecate edge@1.4 --until 2030-01-01T00:00:00Z --yes"),
    ("golden retire", "golden retire edge@1.4 --yes"),
    ("golden withdraw", "golden withdraw edge@1.4 --reason x --yes"),
    ("golden want", "golden want edge@1.5"),
    ("golden rollout", "golden rollout edge@1.5 --wave 100% --yes"),
    ("golden rollout status", "golden rollout status"),
    ("golden rollout halt", "golden rollout halt edge --reason x"),
    ("golden rollout resume", "golden rollout resume edge"),
    ("golden rollback", "golden rollback edge"),
    ("golden list", "golden list"),
    ("sbom add", "sbom add @sbom.json"),
    ("sbom list", "sbom list"),
    ("sbom show", "sbom show SBOM"),
    ("sbom remove", "sbom remove SBOM"),
    ("exposure", "exposure --purl pkg:deb/debian/openssl --below 3"),
    ("exposure", "exposure --advisory @osv.json"),
    ("drill link-loss", "drill link-loss staging --for 1s --reason x --yes"),
    ("drill delay --dry-run", "drill delay staging --reason x --dry-run"),
    (
        "drill compromised-credential",
        "drill compromised-credential staging --device press-7 --reason x --yes",
    ),
    (
        "drill corrupted-update --dry-run",
        "drill corrupted-update staging --device press-7 --reason x --dry-run",
    ),
    ("drill reboot --dry-run", "drill reboot staging --device press-7 --reason x --dry-run"),
    ("drill end", "drill end staging"),
    ("zone create", "zone create cell-3"),
    ("zone set", "zone set cell-3 --two-person on"),
    ("zone enforce", "zone enforce cell-3 --yes"),
    ("zone enforce --plan", "zone enforce cell-3 --plan"),
    ("zone observe", "zone observe cell-3 --reason x"),
    ("zone list", "zone list"),
    ("zone show", "zone show cell-3"),
    ("zone show --picture", "zone show --picture dot"),
    ("zone check", "zone check"),
    ("zone export", "zone export"),
    ("zone plan", "zone plan @zones.toml"),
    ("zone apply", "zone apply @zones.toml --yes"),
    ("authority rotate", "authority rotate cell-3"),
    ("authority activate", "authority activate cell-3 --role caller"),
    ("authority distrust", "authority distrust cell-3 --role caller --generation 1 --reason x"),
    (
        "conduit allow",
        "conduit allow --from a --to b --service c --until 2030-01-01T00:00:00Z --schedule HOURS",
    ),
    ("conduit allow", "conduit allow --from a --to b --service c"),
    ("conduit close", "conduit close --from a --to b --service c"),
    ("conduit list", "conduit list"),
    ("conduit why", "conduit why press-7 --to historian --service opcua"),
    ("authority list", "authority list"),
    ("admin list", "admin list"),
    ("admin invite", "admin invite bob --role viewer"),
    ("admin invite --dry-run", "admin invite bob --role viewer --dry-run"),
    ("admin role", "admin role bob viewer"),
    ("admin remove", "admin remove bob"),
    ("admin renew", "admin renew"),
    ("admin renew --dry-run", "admin renew --dry-run"),
    ("change list", "change list"),
    ("change show", "change show 00"),
    ("change approve", "change approve 00"),
    ("change reject", "change reject 00"),
    ("calendar", "calendar"),
    ("audit list", "audit list"),
    ("audit export", "audit export --out @audit.jsonl"),
    ("audit seal", "audit seal --out @seal.json"),
    ("backup", "backup --out @new.backup"),
    ("restore", "restore @plant.backup --yes"),
    ("restore --dry-run", "restore @plant.backup --dry-run"),
    ("man", "man --out @man1"),
];

/// Shapes of the answers of all runs.
pub(super) fn answers() -> Shapes {
    let mut shapes = Shapes::new();
    for (label, line) in ONLINE {
        online(&mut shapes, label, line);
    }
    offline(&mut shapes);
    contexts(&mut shapes);
    let broker = FakeBroker::start();
    broker.answers("get_device", &proto::v1::GetDeviceResponse::default());
    broker.lets_wait("readmit_device", "00112233aabbccdd");
    let ran = broker.run(&["device", "readmit", "press-7", "--reason", "x", "-o", "json"]);
    add(&mut shapes, "any command that waits for a second person", &ran);
    shapes
}

fn add(shapes: &mut Shapes, label: &str, ran: &Ran) {
    let json = ran.json();
    assert_eq!(json["schema"], 1, "{label}: {ran:?}");
    let mut shape = Shape::of("", &json);
    if let Some(known) = shapes.remove(label) {
        shape = known.or(shape);
    }
    shapes.insert(label.to_owned(), shape);
}

fn online(shapes: &mut Shapes, label: &str, line: &str) {
    let broker = FakeBroker::start();
    let sbom = files(&broker);
    let word = |word: &str| match word {
        "EK" => EK.to_owned(),
        "HOURS" => "daily 01:00-02:00".to_owned(),
        "SBOM" => Digest::of(&sbom).to_string(),
        word => word.strip_prefix('@').map_or_else(|| word.to_owned(), |file| path(&broker, file)),
    };
    let words: Vec<String> = line.split(' ').map(word).chain(["-o".to_owned(), "json".to_owned()]).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    say(&broker, label, sbom);
    let ran = broker.makes_up(Fullness::Full).run(&words);
    assert!(matches!(ran.code, 0 | 1), "{line}: {ran:?}");
    add(shapes, label, &ran);
    for fullness in [Fullness::Bare, Fullness::Empty] {
        let ran = broker.makes_up(fullness).run(&words);
        // What the tool takes for no answer has no shape.
        if matches!(ran.code, 0 | 1) {
            add(shapes, label, &ran);
        }
    }
}

fn path(broker: &FakeBroker, name: &str) -> String {
    broker.path(name).to_str().unwrap().to_owned()
}

fn seed(name: &str) -> String {
    format!("{}/../../policy/fuzz/seeds/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Writes the files that runs name; returns the SBOM.
fn files(broker: &FakeBroker) -> Vec<u8> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policy/tests/exposure_suite/data");
    let manifest = "schema = 1\nproduct = \"edge\"\nversion = \"1.4\"\ncounter = 1\n[[event]]\npcr = 4\n\
                    type = \"EV_EFI_BOOT_SERVICES_APPLICATION\"\nname = \"kernel\"\n\
                    digest = [\"9a53b62e6012dea31e9da599eeb7802c60bd2775c6355b49de06c812fbecc41d\"]\n";
    fs::write(broker.path("edge.toml"), manifest).unwrap();
    let key = KeyPair::generate().unwrap();
    let signature = key.sign(&Unsigned::new(&Manifest::parse(manifest).unwrap()).to_be_signed()).unwrap();
    fs::write(broker.path("edge.sig"), signature).unwrap();
    fs::write(broker.path("release.pub"), key.public_key_pem()).unwrap();
    fs::write(broker.path("list.csv"), format!("name,ek,zones\npress-7,{EK},cell-3\n")).unwrap();
    fs::write(broker.path("zones.toml"), "schema = 1\n").unwrap();
    for name in ["signed.json", "plant.backup"] {
        fs::write(broker.path(name), "{}").unwrap();
    }
    fs::copy(seed("pe/uki.efi"), broker.path("uki.efi")).unwrap();
    fs::copy(data.join("plc.csaf.json"), broker.path("osv.json")).unwrap();
    fs::copy(data.join("edge.cdx.json"), broker.path("sbom.json")).unwrap();
    fs::read(data.join("edge.cdx.json")).unwrap()
}

/// Answers whose contents the tool looks into.
fn say(broker: &FakeBroker, label: &str, sbom: Vec<u8>) {
    let filled = |name: &str| Filler::new().encode(name, Fullness::Full);
    match label {
        "sbom show" => {
            let part = SbomPart { data: sbom, ..SbomPart::decode(filled("SbomPart").as_slice()).unwrap() };
            broker.answers("get_sbom", &part)
        }
        "exposure" => {
            let part = ExposedPart::decode(filled("ExposedPart").as_slice()).unwrap();
            let one = part.devices[0].clone();
            let name = part.releases[0].release.clone();
            let device = |exposure: &str| ExposedDevice {
                exposure: exposure.to_owned(),
                exposed_releases: vec![name.clone()],
                zones: vec![part.zones[0].zone.clone()],
                ..one.clone()
            };
            broker.answers(
                "list_exposed",
                &ExposedPart { devices: ["proven", "may", "unknown"].map(device).into(), ..part.clone() },
            )
        }
        "change approve" => {
            let made = CreateTokenResponse { token: "ts1.a.b".to_owned(), expires_at: 1 };
            let change = Change {
                act: "token.create".to_owned(),
                ..Change::decode(filled("Change").as_slice()).unwrap()
            };
            broker.answers(
                "approve_change",
                &ApproveChangeResponse { change: Some(change), answer: made.encode_to_vec() },
            )
        }
        "golden activate" | "golden deprecate" | "golden retire" | "golden withdraw" => {
            let line = |before: &str, after: &str| Forecast {
                device: "press-7".to_owned(),
                before: before.to_owned(),
                after: after.to_owned(),
                ..Forecast::default()
            };
            let forecast =
                vec![line("trusted", "refused"), line("refused", "trusted"), line("trusted", "unknown")];
            let filled =
                SetReleaseStateResponse::decode(filled("SetReleaseStateResponse").as_slice()).unwrap();
            let answer = SetReleaseStateResponse { forecast, groups: Vec::new(), ..filled };
            broker.answers("set_release_state", &answer).answers("set_release_state", &answer)
        }
        "golden apply --wait" => {
            let device = |name: &str| ForecastDevice { device: name.to_owned(), ..ForecastDevice::default() };
            let group = |after: &str, name: &str| ForecastGroup {
                before: "trusted".to_owned(),
                after: after.to_owned(),
                count: 1,
                devices: vec![device(name)],
                ..ForecastGroup::default()
            };
            let filled = ApplyReleaseResponse::decode(filled("ApplyReleaseResponse").as_slice()).unwrap();
            let groups =
                vec![filled.groups[0].clone(), group("trusted", "press-7"), group("unknown", "press-8")];
            let filled = ApplyReleaseResponse { release: "edge@1.4".to_owned(), groups, ..filled };
            let result = |name: &str| LiveResult {
                device: name.to_owned(),
                outcome: "refused".to_owned(),
                ..LiveResult::default()
            };
            let own = &filled.groups[0].devices[0].device;
            let results = vec![result("press-8"), result("press-7"), result(own)];
            broker.answers("apply_release", &filled).answers("apply_release", &filled);
            broker.answers("follow_results", &LiveResults { results })
        }
        label if label.starts_with("drill ") => {
            let filled = StartDrillResponse::decode(filled("StartDrillResponse").as_slice()).unwrap();
            let mut before = filled.before.clone().unwrap();
            let healthy = DrillDevice {
                device: "press-7".to_owned(),
                decision: "trusted".to_owned(),
                elsewhere: false,
                ..before.devices[0].clone()
            };
            let unfit = DrillDevice {
                device: "press-9".to_owned(),
                decision: "refused".to_owned(),
                ..healthy.clone()
            };
            let other = DrillDevice { device: "press-8".to_owned(), ..healthy.clone() };
            let elsewhere = DrillDevice {
                device: "press-10".to_owned(),
                watching: false,
                elsewhere: true,
                ..healthy.clone()
            };
            before.devices = vec![healthy.clone(), other, unfit, elsewhere];
            let answer = StartDrillResponse { before: Some(before.clone()), ..filled };
            // The first look sees them cut off; the filler's later ones see other devices.
            let cut =
                |device: &DrillDevice| DrillDevice { watching: false, serials: Vec::new(), ..device.clone() };
            let now = ZoneInDrill { devices: before.devices.iter().map(cut).collect(), ..before };
            let seen = ObserveDrillResponse { now: Some(now), ends_at: 1 };
            broker
                .answers("start_drill", &answer)
                .answers("start_drill", &answer)
                .answers("observe_drill", &seen)
        }
        "audit export" => {
            let event = Event::new(UnixTime(60), "ada", "zone.create", "cell-3", "made");
            let record = AuditRecord::after(None, "b1.1", &event.entry()).encode();
            broker.answers("export_audit", &AuditChunk { seals: Vec::new(), records: vec![record] })
        }
        "audit seal" => {
            let seal = Seal {
                plant: "plant.example".parse().unwrap(),
                epoch: 1,
                number: 1,
                at: UnixTime(60),
                heads: Vec::new(),
                archived: Vec::new(),
            };
            let seal = AuditSeal { payload: seal.payload(), ..AuditSeal::default() };
            broker.answers("get_audit_seal", &GetAuditSealResponse { seal: Some(seal) })
        }
        _ => broker,
    };
}

/// What reads files alone.
fn offline(shapes: &mut Shapes) {
    let (good, bad) = (Evidence::of("boot-a"), Evidence::of("boot-b"));
    good.quote();
    let golden = good.learned();
    add(shapes, "appraise", &good.appraise(&golden, &[]));
    add(shapes, "appraise", &bad.appraise(&golden, &[]));
    let log = recorded("boot-a").join("eventlog.bin");
    let (log, list) = (log.to_str().unwrap(), seed("ima_log/boot-a"));
    good.write("refused.pem", b"-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n");
    let refused = good.path("refused.pem").to_str().unwrap().to_owned();
    let (roots, ek) = (seed("root_store"), seed("ek_certificate/ek-rsa2048.crt"));
    let lines: [(&str, &[&str]); 9] = [
        ("inspect eventlog", &["inspect", "eventlog", log]),
        ("inspect eventlog --events", &["inspect", "eventlog", log, "--events"]),
        ("inspect ima", &["inspect", "ima", &list]),
        ("inspect roots", &["inspect", "roots", &roots, &ek]),
        ("inspect roots", &["inspect", "roots", &roots, &refused]),
        ("inspect roots", &["inspect", "roots", &roots, &seed("ima_log/version1")]),
        ("inspect ek", &["inspect", "ek", &ek, "--roots", &roots, "--at", "2027-01-01T00:00:00Z"]),
        ("inspect ek", &["inspect", "ek", &ek, "--roots", &roots, "--at", "1999-01-01T00:00:00Z"]),
        ("inspect secureboot", &["inspect", "secureboot", log]),
    ];
    for (label, line) in lines {
        add(shapes, label, &run(&[line, &["-o", "json"]].concat()));
    }
}

fn contexts(shapes: &mut Shapes) {
    let (broker, home) = (FakeBroker::start(), tempfile::tempdir().unwrap());
    let folder = path(&broker, "");
    let lines: [(&str, &[&str]); 5] = [
        ("context add", &["context", "add", "north", &folder]),
        ("context list", &["context", "list"]),
        ("context show", &["context", "show", "north"]),
        ("context use", &["context", "use", "north", "--dry-run"]),
        ("context remove", &["context", "remove", "north", "--yes"]),
    ];
    for (label, line) in lines {
        add(shapes, label, &run_at(home.path(), &[line, &["-o", "json"]].concat()));
    }
}
