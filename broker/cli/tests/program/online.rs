//! Commands that ask a broker, run as a program against one that says what the test told it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use policy::audit::{AuditRecord, Event};
use policy::time::UnixTime;
use proto::v1::*;
use serde_json::Value;

use crate::fake_broker::FakeBroker;
use crate::pki::Authority;

#[test]
fn status_ends_with_1_when_something_needs_a_person() {
    let broker = FakeBroker::start();
    let attention = Attention { subject: "press-7".to_owned(), ..Attention::default() };
    let quiet = GetStatusResponse { plant: "plant.example".to_owned(), ..GetStatusResponse::default() };
    broker.answers("get_status", &quiet);
    broker.answers("get_status", &GetStatusResponse { attention: vec![attention], ..quiet.clone() });
    let ran = broker.run(&["status"]);
    assert_eq!((ran.code, ran.stdout.contains("Nothing needs you.")), (0, true), "{ran:?}");
    let ran = broker.run(&["status", "-o", "json"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert_eq!(ran.json()["needs_you"][0]["subject"], "press-7");
}

#[test]
fn a_reboot_takes_no_session_that_it_would_not_judge() {
    let broker = FakeBroker::start();
    let words =
        ["drill", "reboot", "staging", "--device", "press-7", "--reason", "x", "--session", "h:1", "--yes"];
    let ran = broker.run(&words);
    assert_eq!(ran.code, 64, "{ran:?}");
    assert!(ran.stderr.contains("a reboot ends the sessions of the device"), "{ran:?}");
}

#[test]
fn a_refusal_is_told_in_the_brokers_words() {
    let broker = FakeBroker::start();
    broker.denies("get_device", DenialReason::NotFound, "there is no device press-9");
    broker.denies("quarantine_device", DenialReason::NotPermitted, "viewers quarantine nobody");
    let ran = broker.run(&["device", "show", "press-9"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (3, "touchstone: there is no device press-9\n"), "{ran:?}");
    let ran = broker.run(&["device", "quarantine", "press-9", "--reason", "x"]);
    assert_eq!(ran.code, 5, "{ran:?}");
    assert!(ran.stderr.starts_with("touchstone: viewers quarantine nobody\nask an administrator"), "{ran:?}");
    // No answer in the script is an internal error of the broker.
    assert_eq!(broker.run(&["zone", "list"]).code, 70);
}

#[test]
fn a_certificate_that_the_broker_does_not_know_is_5() {
    let broker = FakeBroker::start();
    broker.become_admin_of(&Authority::new("another plant's root"));
    let ran = broker.run(&["status"]);
    assert_eq!(ran.code, 5, "{ran:?}");
    assert!(ran.stderr.contains("does not accept this administrator's certificate"), "{ran:?}");
}

#[test]
fn a_list_is_asked_page_by_page() {
    let broker = FakeBroker::start();
    let page = |name: &str, next: &str| ListDevicesResponse {
        devices: vec![Device { name: name.to_owned(), ..Device::default() }],
        next: next.to_owned(),
        ..Default::default()
    };
    broker.answers("list_devices", &page("press-1", "press-1"));
    broker.answers("list_devices", &page("press-2", ""));
    let ran = broker.run(&["device", "list", "--zone", "cell-3", "-o", "json"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.json()["devices"][1]["name"], "press-2");
    let asked: Vec<ListDevicesRequest> = broker.asked("list_devices");
    assert_eq!((asked[0].zone.as_str(), asked[1].after.as_str()), ("cell-3", "press-1"));
}

#[test]
fn machines_behind_gateways_stand_among_devices() {
    let broker = FakeBroker::start();
    let machine = VouchedMachine { name: "plc-1".to_owned(), kind: "PLC".to_owned(), ..Default::default() };
    let (gateway, state) = ("gateway-3".to_owned(), "vouched".to_owned());
    let machines = vec![Vouched { machine: Some(machine), gateway, state, ..Default::default() }];
    broker.answers("list_devices", &ListDevicesResponse { machines, ..Default::default() });
    let ran = broker.run(&["device", "list", "--state", "vouched"]);
    let row = ran.stdout.lines().find(|line| line.starts_with("plc-1")).unwrap_or_default();
    assert!(row.contains("vouched") && row.contains("PLC") && row.ends_with("behind gateway-3"), "{ran:?}");
}

#[test]
fn what_waits_for_a_second_person_is_6() {
    let broker = FakeBroker::start();
    let seen = Some(Seen { revision: 9, words: "observing".to_owned() });
    broker.answers("get_zone", &GetZoneResponse { seen: seen.clone(), ..Default::default() });
    broker.answers("get_device", &GetDeviceResponse { seen: seen.clone(), ..Default::default() });
    broker.lets_wait("set_zone", "00112233aabbccdd").lets_wait("readmit_device", "00112233aabbccdd");
    let ran = broker.run(&["zone", "set", "cell-3", "--two-person", "off"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (6, ""), "{ran:?}");
    assert!(ran.stderr.contains("touchstone change approve 00112233aabbccdd"), "{ran:?}");
    let ran = broker.run(&["device", "readmit", "press-7", "--reason", "repaired", "-o", "json"]);
    let waits = serde_json::json!({ "schema": 1, "waits": true, "change": "00112233aabbccdd" });
    assert_eq!((ran.code, ran.json()), (6, waits), "{ran:?}");
    let asked: Vec<SetZoneRequest> = broker.asked("set_zone");
    assert_eq!((asked[0].two_person, &asked[0].seen), (Some(false), &seen));
    let asked: Vec<ReadmitDeviceRequest> = broker.asked("readmit_device");
    assert_eq!(asked[0].seen, seen);
}

#[test]
fn what_gates_of_a_zone_do_is_set_alone_and_taken_back() {
    let broker = FakeBroker::start();
    broker.answers("get_zone", &GetZoneResponse::default());
    let zone = Zone { name: "cell-3".to_owned(), gate_fail: "closed".to_owned(), ..Zone::default() };
    broker.answers(
        "set_zone",
        &SetZoneResponse {
            zone: Some(Zone { gate_drain_seconds: 300, ..zone.clone() }),
            ..SetZoneResponse::default()
        },
    );
    let ran = broker.run(&["zone", "set", "cell-3", "--gate-drain", "5m", "--gate-fail", "closed"]);
    assert!(ran.code == 0 && ran.stdout.contains("its gates drain for 5 min and fail closed"), "{ran:?}");
    broker.answers("get_zone", &GetZoneResponse::default());
    broker.answers("set_zone", &SetZoneResponse { zone: Some(zone), ..SetZoneResponse::default() });
    let ran = broker.run(&["zone", "set", "cell-3", "--no-gate-drain", "--idevid-admits", "off"]);
    assert!(ran.code == 0 && ran.stdout.contains("its gates cut at once and fail closed"), "{ran:?}");
    assert!(ran.stdout.contains("an IDevID does not admit a box that nobody registered"), "{ran:?}");
    let asked: Vec<SetZoneRequest> = broker.asked("set_zone");
    let asked: Vec<_> =
        asked.iter().map(|one| (one.gate_drain_seconds, one.gate_fail.as_str(), one.idevid_admits)).collect();
    assert_eq!(asked, [(Some(300), "closed", None), (Some(0), "", Some(false))]);
}

#[test]
fn what_silence_means_in_a_zone_is_set_alone() {
    let broker = FakeBroker::start();
    broker.answers("get_zone", &GetZoneResponse::default());
    let zone = Zone { name: "cell-3".to_owned(), on_silence: "refuse".to_owned(), ..Zone::default() };
    broker.answers("set_zone", &SetZoneResponse { zone: Some(zone), ..SetZoneResponse::default() });
    let ran = broker.run(&["zone", "set", "cell-3", "--on-silence", "refuse"]);
    assert!(ran.code == 0 && ran.stdout.contains("; on silence: refuse"), "{ran:?}");
    let asked: Vec<SetZoneRequest> = broker.asked("set_zone");
    assert_eq!(asked[0], SetZoneRequest { on_silence: "refuse".to_owned(), ..asked[0].clone() });
    assert_eq!((asked[0].two_person, asked[0].gate_fail.as_str()), (None, ""));
}

#[test]
fn each_number_and_rule_of_a_zone_is_set_alone() {
    let broker = FakeBroker::start();
    let bare = SetZoneRequest { name: "cell-3".to_owned(), ..SetZoneRequest::default() };
    let products =
        |names: &[&str]| Products { products: names.iter().map(|&name| name.to_owned()).collect() };
    let cases: [(&[&str], SetZoneRequest); 11] = [
        (&["--reattest-every", "1m"], SetZoneRequest { reattest_every_seconds: 60, ..bare.clone() }),
        (&["--outlive-broker", "4h"], SetZoneRequest { outlive_broker_seconds: 14_400, ..bare.clone() }),
        (&["--silent-after", "10m"], SetZoneRequest { silent_after_seconds: 600, ..bare.clone() }),
        (&["--function", "safety"], SetZoneRequest { function: Some("safety".to_owned()), ..bare.clone() }),
        (&["--no-function"], SetZoneRequest { function: Some(String::new()), ..bare.clone() }),
        (&["--intra-zone", "allow"], SetZoneRequest { intra_zone: Some(true), ..bare.clone() }),
        (&["--intra-zone", "deny"], SetZoneRequest { intra_zone: Some(false), ..bare.clone() }),
        (
            &["--product", "edge", "--product", "plc"],
            SetZoneRequest { products: Some(products(&["edge", "plc"])), ..bare.clone() },
        ),
        (
            &["--least", "hardware=warning", "--least", "file-system=none"],
            SetZoneRequest {
                least: [("hardware", "warning"), ("file-system", "none")]
                    .map(|(claim, tier)| (claim.to_owned(), tier.to_owned()))
                    .into(),
                ..bare.clone()
            },
        ),
        (&["--token-admits", "off"], SetZoneRequest { token_admits: Some(false), ..bare.clone() }),
        (
            &["--name-constraint", "non-critical"],
            SetZoneRequest { name_constraint: "non-critical".to_owned(), ..bare.clone() },
        ),
    ];
    for (flags, request) in cases {
        broker.answers("get_zone", &GetZoneResponse::default());
        let zone = Zone { name: "cell-3".to_owned(), ..Zone::default() };
        let answer = SetZoneResponse { zone: Some(zone), ..SetZoneResponse::default() };
        broker.answers("set_zone", &answer);
        let ran = broker.run(&[&["zone", "set", "cell-3"], flags].concat());
        assert_eq!(ran.code, 0, "{ran:?}");
        let asked: Vec<SetZoneRequest> = broker.asked("set_zone");
        assert_eq!(asked.last(), Some(&request), "{flags:?}");
    }
    let ran = broker.run(&["zone", "set", "cell-3"]);
    assert!(ran.code == 64 && ran.stderr.contains("--outlive-broker"), "nothing to set: {ran:?}");
}

#[test]
fn what_other_numbers_of_a_zone_do_is_told() {
    let broker = FakeBroker::start();
    broker.answers("get_zone", &GetZoneResponse::default());
    let zone = Zone { name: "cell-3".to_owned(), ..Zone::default() };
    let longer =
        LongerCertificates { zone: "cell-3".to_owned(), certificates: 6, devices: 2, until: 4_000_000_000 };
    let loses = LosesCertificates {
        device: "press-7".to_owned(),
        zone: "cell-3".to_owned(),
        reason: "hardware: none".to_owned(),
        ..LosesCertificates::default()
    };
    broker.answers(
        "set_zone",
        &SetZoneResponse {
            zone: Some(zone),
            changed: vec!["outlive_broker: \"8h\" -> \"4h\"".to_owned()],
            longer: Some(longer),
            loses: vec![loses],
            ..SetZoneResponse::default()
        },
    );
    let ran = broker.run(&["zone", "set", "cell-3", "--outlive-broker", "4h", "--dry-run"]);
    let told = format!("{}{}", ran.stdout, ran.stderr);
    for part in [
        "outlive_broker: \"8h\" -> \"4h\"",
        "6 certificates of 2 devices in zone cell-3 live longer than its new numbers say, the last until 2096-10-02T07:06:40Z",
        "1 device would lose their certificates",
        "press-7",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn the_secret_of_an_approved_change_stands_alone() {
    let broker = FakeBroker::start();
    let made = CreateTokenResponse { token: "ts1.id.secret".to_owned(), expires_at: 4_000_000_000 };
    let change = Change { act: "token.create".to_owned(), subject: "id".to_owned(), ..Change::default() };
    let answer = prost::Message::encode_to_vec(&made);
    broker.answers("approve_change", &ApproveChangeResponse { change: Some(change), answer });
    let ran = broker.run(&["change", "approve", "00112233aabbccdd"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "ts1.id.secret\n"), "{ran:?}");
    assert!(ran.stderr.contains("token.create id is carried out"), "{ran:?}");
}

#[test]
fn a_token_stands_alone_on_standard_output() {
    let broker = FakeBroker::start();
    let answer = CreateTokenResponse { token: "tst1.id.secret".to_owned(), expires_at: 4_000_000_000 };
    broker.answers("create_token", &answer);
    let ran = broker.run(&["token", "create", "--zone", "cell-3", "--for", "2h"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "tst1.id.secret\n"), "{ran:?}");
    assert!(ran.stderr.contains("to join cell-3"), "{ran:?}");
    assert_eq!(broker.asked::<CreateTokenRequest>("create_token")[0].lifetime_seconds, 7_200);
}

#[test]
fn open_tokens_are_listed_to_the_last_page_and_revoked_without_their_secret() {
    let broker = FakeBroker::start();
    let token = |digit: &str| JoinToken {
        id: digit.repeat(32),
        zones: vec!["cell-3".to_owned()],
        by: "ada".to_owned(),
        approved_by: "bob".to_owned(),
        without_tpm: true,
        expires_at: 4_000_000_000,
        ..JoinToken::default()
    };
    broker.answers("list_tokens", &ListTokensResponse { tokens: vec![token("1")], next: "1".repeat(32) });
    broker.answers("list_tokens", &ListTokensResponse { tokens: vec![token("2")], next: String::new() });
    let ran = broker.run(&["token", "list"]);
    assert!(ran.stdout.contains(&"1".repeat(32)) && ran.stdout.contains(&"2".repeat(32)), "{ran:?}");
    assert!(ran.stdout.contains("ada, bob"), "{ran:?}");

    broker.answers("revoke_token", &RevokeTokenResponse { token: Some(token("1")) });
    let whole = format!("ts1.{}.{}", "1".repeat(32), "5".repeat(64));
    let ran = broker.run(&["token", "revoke", &whole, "--dry-run"]);
    assert!(ran.stdout.contains("of ada, bob for one device to join cell-3 would be revoked"), "{ran:?}");
    let asked = RevokeTokenRequest { id: "1".repeat(32), dry_run: true };
    assert_eq!(broker.asked::<RevokeTokenRequest>("revoke_token"), [asked]);
    let ran = broker.run(&["token", "revoke", "1234"]);
    assert!(ran.code == 64 && ran.stderr.contains("an id has 32 hex digits"), "{ran:?}");
}

#[test]
fn apply_shows_the_forecast_before_it_changes_anything() {
    let broker = FakeBroker::start();
    let file = broker.path("edge.dsse.json");
    fs::write(&file, "{}").unwrap();
    let forecast = Forecast {
        device: "press-7".to_owned(),
        before: "trusted".to_owned(),
        after: "refused".to_owned(),
        ..Forecast::default()
    };
    let answer = ApplyReleaseResponse {
        release: "edge@1.5".to_owned(),
        forecast: vec![forecast],
        ..Default::default()
    };
    broker.answers("apply_release", &answer).answers("apply_release", &answer);
    let ran = broker.run(&["golden", "apply", file.to_str().unwrap(), "--yes"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.stdout.contains("1 would lose trust") && ran.stdout.ends_with("edge@1.5 is active\n"),
        "{ran:?}"
    );
    let asked: Vec<ApplyReleaseRequest> = broker.asked("apply_release");
    assert_eq!(asked.iter().map(|request| request.dry_run).collect::<Vec<_>>(), [true, false]);
    assert_eq!(asked[1].envelope, b"{}");
}

#[test]
fn a_wish_is_changed_as_it_was_seen() {
    let broker = FakeBroker::start();
    let seen = Some(Seen { revision: 7, words: "edge@1.4".to_owned() });
    let answer = WantReleaseResponse { before: "1.4".to_owned(), wanted: "1.5".to_owned(), seen };
    broker.answers("want_release", &answer).answers("want_release", &answer);
    let ran = broker.run(&["golden", "want", "edge@1.5"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "edge@1.5 is wanted; before it was 1.4\n"), "{ran:?}");
    let asked: Vec<WantReleaseRequest> = broker.asked("want_release");
    let asked: Vec<_> = asked.into_iter().map(|one| (one.dry_run, one.seen)).collect();
    assert_eq!(asked, [(true, None), (false, answer.seen)]);
}

#[test]
fn a_withdrawal_says_why() {
    let broker = FakeBroker::start();
    for line in [
        &["golden", "withdraw", "edge@1.4", "--yes"][..],
        &["golden", "apply", "edge.dsse.json", "--state", "withdrawn", "--yes"],
    ] {
        let ran = broker.run(line);
        assert_eq!((ran.code, ran.stderr.contains("--reason")), (64, true), "{ran:?}");
    }
}

#[test]
fn apply_waits_for_what_devices_come_to_and_says_who_left_the_forecast() {
    let broker = FakeBroker::start();
    let file = broker.path("edge.dsse.json");
    fs::write(&file, "{}").unwrap();
    let device = |name: &str| ForecastDevice { device: name.to_owned(), ..ForecastDevice::default() };
    let group = ForecastGroup {
        before: "trusted".to_owned(),
        after: "trusted".to_owned(),
        count: 2,
        devices: vec![device("press-7"), device("press-8")],
        ..ForecastGroup::default()
    };
    let answer = ApplyReleaseResponse {
        release: "edge@1.5".to_owned(),
        plan: "42-9f86d081884c7d65".to_owned(),
        groups: vec![group],
        golden: 43,
        ..Default::default()
    };
    let result = |name: &str, outcome: &str| LiveResult {
        device: name.to_owned(),
        outcome: outcome.to_owned(),
        reason: "PCR 4 is another".to_owned(),
        ..LiveResult::default()
    };
    let line = ["golden", "apply", file.to_str().unwrap(), "--yes", "--wait", "--for", "60s"];
    broker.answers("apply_release", &answer).answers("apply_release", &answer);
    let results = LiveResults { results: vec![result("press-7", "trusted"), result("press-8", "refused")] };
    broker.answers("follow_results", &results);
    let ran = broker.run(&line);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stdout.contains("edge@1.5 is active\n"), "{ran:?}");
    assert!(ran.stdout.contains("press-8  trusted   refused  PCR 4 is another"), "{ran:?}");
    let asked: Vec<ApplyReleaseRequest> = broker.asked("apply_release");
    assert_eq!((asked[0].plan.as_str(), asked[1].plan.as_str()), ("", "42-9f86d081884c7d65"));
    assert_eq!(broker.asked::<FollowResultsRequest>("follow_results")[0].golden, 43);

    // A stream that breaks is opened again, and everything is told again.
    broker.answers("apply_release", &answer).answers("apply_release", &answer);
    broker.answers("follow_results", &LiveResults { results: vec![result("press-7", "trusted")] });
    let all = LiveResults { results: vec![result("press-7", "trusted"), result("press-8", "trusted")] };
    broker.answers("follow_results", &all);
    let ran = broker.run(&[&line[..], &["-o", "json"]].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.json()["live"]["as_foreseen"], 2, "{ran:?}");
}

#[test]
fn a_withdrawal_does_not_wait_for_the_forecasts_of_others() {
    let broker = FakeBroker::start();
    let busy = "another forecast of the fleet runs";
    let line = ["golden", "withdraw", "edge@1.4", "--reason", "debug shell"];
    broker.denies("set_release_state", DenialReason::TryLater, busy);
    let ran = broker.run(&[&line[..], &["--dry-run"]].concat());
    assert_eq!(ran.code, 4, "who only asks comes back: {ran:?}");
    broker.denies("set_release_state", DenialReason::TryLater, busy);
    broker.answers("set_release_state", &SetReleaseStateResponse::default());
    let ran = broker.run(&[&line[..], &["--yes"]].concat());
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "edge@1.4 is withdrawn\n"), "{ran:?}");
    assert!(ran.stderr.contains("withdrawing without one"), "{ran:?}");
}

#[test]
fn a_plan_is_not_taken_for_compared_by_a_broker_that_knows_none() {
    let broker = FakeBroker::start();
    let file = broker.path("edge.dsse.json");
    fs::write(&file, "{}").unwrap();
    broker.answers("apply_release", &ApplyReleaseResponse::default());
    let file = file.to_str().unwrap();
    let ran = broker.run(&["golden", "apply", file, "--plan", "42-9f86d081884c7d65", "--yes"]);
    assert!(ran.code == 70 && ran.stderr.contains("knows no plans"), "{ran:?}");
    assert_eq!(broker.asked::<ApplyReleaseRequest>("apply_release").len(), 1, "nothing was applied");
}

#[test]
fn an_unsigned_manifest_is_planned_as_such() {
    let broker = FakeBroker::start();
    let file = broker.path("edge.toml");
    fs::write(&file, "product = \"edge\"\n").unwrap();
    let answer = PlanReleaseResponse {
        release: "edge@1.5".to_owned(),
        state: "active".to_owned(),
        unsigned: true,
        plan: "42-9f86d081884c7d65".to_owned(),
        ..PlanReleaseResponse::default()
    };
    broker.answers("plan_release", &answer).answers("plan_release", &answer);
    let ran = broker.run(&["golden", "plan", file.to_str().unwrap()]);
    assert!(ran.code == 0 && ran.stdout.contains("Nobody has signed this manifest"), "{ran:?}");
    let asked = &broker.asked::<PlanReleaseRequest>("plan_release")[0];
    assert!(asked.envelope.is_empty() && asked.manifest.starts_with(b"product") && asked.grouped);
    let json = broker.run(&["golden", "plan", file.to_str().unwrap(), "-o", "json"]).json();
    assert_eq!((&json["signed"], &json["plan"]), (&false.into(), &"42-9f86d081884c7d65".into()));
}

#[test]
fn a_plan_says_which_of_its_conduits_open_nothing() {
    let broker = FakeBroker::start();
    let file = broker.path("zones.toml");
    fs::write(&file, "schema = 1\n").unwrap();
    let conduit = |service: &str| Conduit {
        from: "cell-3".to_owned(),
        to: "lab".to_owned(),
        service: service.to_owned(),
        ..Conduit::default()
    };
    let callers = |zone: &str, devices: &[&str], left_out: u32| Callers {
        zone: zone.to_owned(),
        devices: devices.iter().map(ToString::to_string).collect(),
        left_out,
    };
    let spot = |service: &str| FlatSpot {
        kind: "nobody-offers".to_owned(),
        about: format!("cell-3 -> lab {service}"),
        sentence: format!("conduit cell-3 -> lab {service} opens nothing"),
        ..FlatSpot::default()
    };
    let change = GraphChange {
        conduits_made: vec![conduit("ssh-2")],
        spots: vec![spot("ssh"), spot("ssh-2")],
        steps: 1,
        later_left_out: 3,
        callers: vec![callers("cell-3", &["press-7"], 4), callers("lab", &[], 0)],
        ..GraphChange::default()
    };
    broker.answers("plan_graph", &PlanGraphResponse { change: Some(change) });
    let ran = broker.run(&["zone", "plan", file.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let looks: Vec<&str> = ran.stdout.lines().filter(|line| line.starts_with("look: ")).collect();
    assert_eq!(looks, ["look: conduit cell-3 -> lab ssh-2 opens nothing"], "of what is new only: {ran:?}");
    assert!(ran.stdout.contains("conduits open or close otherwise at 3 times more"), "{ran:?}");
    assert!(ran.stdout.contains("opened from zone cell-3 by: press-7 and 4 more\n"), "{ran:?}");
    assert!(ran.stdout.contains("opened from zone lab by: no device yet\n"), "{ran:?}");
}

#[test]
fn a_dry_run_says_so_to_the_broker() {
    let broker = FakeBroker::start();
    let seen = Some(Seen { revision: 3, words: "closed".to_owned() });
    let nobody_offers = "conduit cell-3 -> historian opcua opens nothing".to_owned();
    let affected = vec!["press-7".to_owned(), "hist-1".to_owned()];
    let answer = AllowConduitResponse { affected, nobody_offers: nobody_offers.clone(), seen };
    broker.answers("allow_conduit", &answer).answers("allow_conduit", &answer);
    let line =
        ["conduit", "allow", "--from", "cell-3", "--to", "historian", "--service", "opcua", "--dry-run"];
    let ran = broker.run(&line);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(
        ran.stdout,
        "cell-3 would be allowed to open opcua of historian, which was closed; trust files change on 2 devices: press-7, hist-1\n"
    );
    assert_eq!(ran.stderr, "look: conduit cell-3 -> historian opcua opens nothing\n");
    let json = broker.run(&[&line[..], &["-o", "json"]].concat()).json();
    assert_eq!(json["opens_nothing"], nobody_offers);
    assert!(broker.asked::<AllowConduitRequest>("allow_conduit").iter().all(|asked| asked.dry_run));
}

#[test]
fn a_conduit_is_changed_as_it_was_seen() {
    let broker = FakeBroker::start();
    let seen = Some(Seen { revision: 3, words: "open".to_owned() });
    let answer = CloseConduitResponse { affected: Vec::new(), seen };
    broker.answers("close_conduit", &answer).answers("close_conduit", &answer);
    let ran =
        broker.run(&["conduit", "close", "--from", "cell-3", "--to", "historian", "--service", "opcua"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let asked: Vec<CloseConduitRequest> = broker.asked("close_conduit");
    let asked: Vec<_> = asked.into_iter().map(|one| (one.dry_run, one.seen)).collect();
    assert_eq!(asked, [(true, None), (false, answer.seen)]);
}

#[test]
fn devices_are_imported_with_the_zones_and_name_of_the_command_line() {
    let broker = FakeBroker::start();
    let file = broker.path("identity.json");
    fs::write(&file, format!(r#"{{"schema":1,"ek_digest":"sha256:{}"}}"#, "ab".repeat(32))).unwrap();
    broker.answers(
        "import_list",
        &ImportDevicesResponse {
            created: 1,
            unchanged: 0,
            warnings: vec!["EK ab is quarantined".to_owned()],
        },
    );
    let file = file.to_str().unwrap();
    let ran = broker.run(&["device", "import", file, "--zone", "cell-3", "--name", "press-7"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "1 registered, 0 already known\n"), "{ran:?}");
    assert!(ran.stderr.contains("EK ab is quarantined"), "{ran:?}");
    let asked = broker.asked::<ImportListRequest>("import_list").remove(0).devices.remove(0);
    assert_eq!(
        (asked.name.as_str(), asked.zones, asked.ek_digest),
        ("press-7", vec!["cell-3".to_owned()], vec![0xab; 32])
    );
}

#[test]
fn a_backup_goes_out_and_comes_back_whole() {
    let broker = FakeBroker::start();
    let (file, revoked) = (broker.path("plant.backup"), broker.path("revoked"));
    fs::write(&revoked, "0A:FF # press-7\n").unwrap();
    let chunk = BackupChunk { data: vec![7; 300_000] };
    broker.answers("backup", &chunk);
    broker.answers("restore", &RestoreResponse { plant_epoch: 2, records: 5, ..RestoreResponse::default() });
    let (path, revoked) = (file.to_str().unwrap(), revoked.to_str().unwrap());
    let ran = broker.run(&["backup", "--out", path]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let ran = broker.run(&["restore", path, "--revoked", revoked, "--yes"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains("plant epoch 2 begins and every device attests again"), "{ran:?}");
    let asked: Vec<RestoreChunk> = broker.asked("restore");
    assert_eq!(asked[0].data, vec![7; 600_000]);
    assert_eq!(asked[0].revoked_serials, ["0aff"]);
}

#[test]
fn a_signed_result_and_its_keys_are_printed_as_they_are() {
    let broker = FakeBroker::start();
    let result = GetResultResponse {
        device: "press-7".to_owned(),
        zone: "cell-3".to_owned(),
        at: 1_800_000_000,
        verdict: "affirming".to_owned(),
        claims: [("executables".to_owned(), 3)].into(),
        ..GetResultResponse::default()
    };
    let signed = GetResultResponse { ear: "a.b.c".to_owned(), expires_at: 1_800_000_900, ..result.clone() };
    broker.answers("get_result", &result).answers("get_result", &signed).answers("get_result", &signed);
    let ran = broker.run(&["device", "result", "press-7"]);
    assert_eq!((ran.code, ran.stdout.contains("verdict         affirming")), (0, true), "{ran:?}");
    let ran = broker.run(&["device", "result", "press-7", "--zone", "cell-3", "--ear"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "a.b.c\n"), "{ran:?}");
    let ran = broker.run(&["device", "result", "press-7", "--ear", "-o", "json"]);
    let json = ran.json();
    assert_eq!((&json["ear"], &json["appraised_at"]), (&"a.b.c".into(), &"2027-01-15T08:00:00Z".into()));
    assert_eq!(
        (&json["expires_at"], &json["claims"]["executables"]),
        (&"2027-01-15T08:15:00Z".into(), &3.into())
    );
    let asked: Vec<GetResultRequest> = broker.asked("get_result");
    let asked: Vec<_> = asked.iter().map(|one| (one.zone.as_str(), one.ear)).collect();
    assert_eq!(asked, [("", false), ("cell-3", true), ("", true)]);

    let jwks = r#"{"keys":[]}"#.to_owned();
    broker.answers("get_jwks", &GetJwksResponse { jwks });
    let ran = broker.run(&["authority", "jwks"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "{\"keys\":[]}\n"), "{ran:?}");
}

#[test]
fn who_follows_the_audit_goes_on_where_the_broker_stopped() {
    let broker = FakeBroker::start();
    let mut head = None;
    for number in 1..=2 {
        let event = Event::new(UnixTime(60), "ada", "zone.create", &format!("cell-{number}"), "made");
        let record = AuditRecord::after(head.as_ref(), "b1.1", &event.entry());
        head = Some(record.head(&record.encode()));
        broker.answers("export_audit", &AuditChunk { records: vec![record.encode()], seals: Vec::new() });
    }
    broker.denies("export_audit", DenialReason::NotPermitted, "ada is no longer an administrator");
    let ran = broker.run(&["audit", "export", "--follow"]);
    assert_eq!(ran.code, 5, "{ran:?}");
    let subjects: Vec<Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["subject"].clone())
        .collect();
    assert_eq!(subjects, ["cell-1", "cell-2"]);
    let asked: Vec<ExportAuditRequest> = broker.asked("export_audit");
    let after: Vec<Vec<u64>> =
        asked.iter().map(|request| request.after.iter().map(|place| place.number).collect()).collect();
    assert_eq!(after, [vec![], vec![1], vec![2]]);
    assert!(asked.iter().all(|request| request.follow), "{asked:?}");
    let ran = broker.run(&["audit", "export"]);
    assert_eq!(ran.code, 64, "without --out it must be --follow: {ran:?}");
}
