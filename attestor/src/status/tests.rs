//! The status never says more than is true.

use super::*;

const NOW: UnixTime = UnixTime(1_790_000_000);

fn up() -> Uptime {
    Uptime { boot: "this".into(), seconds: 5_000 }
}

fn seat() -> SoftwareSeat {
    SoftwareSeat {
        zone: "press".parse().unwrap(),
        holder: crate::software_key::Holder::Service("hmi".parse().unwrap()),
    }
}

/// Of a device that has a certificate for six hours and whose broker does not answer.
pub(crate) fn status(state: Word) -> Status {
    Status {
        schema: SCHEMA,
        device: Some("press-1".parse().unwrap()),
        zones: vec!["press".parse().unwrap()],
        state,
        since: NOW,
        certificates: vec![CertificateStatus {
            zone: "press".parse().unwrap(),
            role: Role::Caller,
            serial: "0a".into(),
            not_after: NOW.plus(6 * 3600),
            hours_left: 0,
        }],
        software_keys: vec![SoftwareKeyStatus {
            seat: seat(),
            serial: "0b".into(),
            not_after: NOW.plus(6 * 3600),
            hours_left: 0,
        }],
        refused_keys: Vec::new(),
        last_attestation: Some(NOW),
        broker: BrokerStatus {
            address: "broker:8443".into(),
            reachable: false,
            asked: true,
            watching: false,
            heard: None,
        },
        denial: None,
        wanted: None,
        failing_hooks: Vec::new(),
        unbound: Vec::new(),
        images: None,
        problem: None,
        trust_sequence: 7,
        written_at: NOW,
        written_up: Some(up()),
        stopped: false,
    }
}

#[test]
fn it_is_read_back_with_the_hours_of_now() {
    let dir = tempfile::tempdir().unwrap();
    status(Word::Holding).write(dir.path()).unwrap();
    let read = Status::read(dir.path(), NOW.plus(3600)).unwrap();
    assert_eq!((read.state, read.certificates[0].hours_left), (Word::Holding, 5));
    assert!(read.describe(NOW.plus(3600), true).contains("press-1: trusted (broker away, 5 h left)"));
}

#[test]
fn a_device_that_holds_says_whether_the_broker_is_away_or_refused_it() {
    let mut status = status(Word::Holding);
    let refused = v1::Denial { reason: v1::DenialReason::NotPermitted.into(), ..v1::Denial::default() };
    status.denial = Some(Refusal::new(&refused, NOW));
    assert!(status.describe(NOW, true).contains("press-1: trusted (broker away, 6 h left)"));
    status.broker.reachable = true;
    assert!(status.describe(NOW, true).contains("press-1: trusted (refused: NOT_PERMITTED, 6 h left)"));
    status.denial = None;
    assert!(status.describe(NOW, true).contains("press-1: trusted (no new proof, 6 h left)"));
    let broker = BrokerStatus { asked: false, reachable: false, ..status.broker.clone() };
    let status = Status { broker, problem: Some("the TPM is locked".into()), ..status };
    assert_eq!(status.sentence(NOW), "trusted (no new proof, 6 h left): the TPM is locked");
    let text = status.describe(NOW, true);
    assert!(text.contains("broker:8443 was not asked yet") && text.contains("the TPM is locked"), "{text}");
}

#[test]
fn software_keys_are_shown_with_their_end_and_refused_ones_with_the_reason() {
    let reason = v1::DenialReason::NotPermitted.into();
    let denial = v1::Denial {
        reason,
        message: "zone press certifies no\nsoftware keys".into(),
        ..v1::Denial::default()
    };
    let refused_keys = vec![RefusedKey::new(seat(), &denial)];
    let shown = Status { refused_keys, ..status(Word::Trusted) }.at(NOW);
    let text = shown.describe(NOW, true);
    assert!(
        text.contains("software key  hmi in zone press, until 2026-09-21") && text.contains("(6 h left)"),
        "{text}"
    );
    assert!(text.contains("hmi in zone press: NOT_PERMITTED zone press certifies nosoftware keys"), "{text}");
    let json = serde_json::to_value(&shown).unwrap();
    assert_eq!(
        (&json["software_keys"][0]["service"], &json["software_keys"][0]["zone"]),
        (&"hmi".into(), &"press".into())
    );
}

#[test]
fn an_ended_certificate_is_trusted_by_nobody() {
    for word in [Word::Trusted, Word::Holding] {
        let later = status(word).at(NOW.plus(7 * 3600));
        assert_eq!(later.state, Word::Refused);
        let problem = later.problem.unwrap();
        let clock = format!("the clock here shows {}", NOW.plus(7 * 3600));
        assert!(problem.contains("certificates ended") && problem.contains(&clock), "{problem}");
        assert!(problem.contains("bring the network to the broker back"), "{problem}");
        let mut answered = status(word);
        answered.broker.reachable = true;
        let problem = answered.at(NOW.plus(7 * 3600)).problem.unwrap();
        assert!(problem.contains("the broker answers") && !problem.contains("network"), "{problem}");
    }
    assert_eq!(status(Word::Pending).at(NOW.plus(7 * 3600)).state, Word::Pending);
}

#[test]
fn a_status_of_an_older_attestor_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut older = serde_json::to_value(status(Word::Refused)).unwrap();
    let fields = older.as_object_mut().unwrap();
    for later in ["software_keys", "refused_keys", "wanted", "failing_hooks"] {
        fields.remove(later);
    }
    for (word, read) in [("starting", Word::Starting), ("refused", Word::Refused)] {
        older["state"] = word.into();
        std::fs::write(dir.path().join(FILE), older.to_string()).unwrap();
        assert_eq!(Status::read(dir.path(), NOW).unwrap().state, read);
    }
}

#[test]
fn every_word_is_written_as_it_is_said() {
    use Word::{Enrolling, Holding, Pending, Quarantined, Refused, Starting, Trusted};
    for word in [Starting, Enrolling, Trusted, Holding, Pending, Refused, Quarantined] {
        assert_eq!(serde_json::to_value(word).unwrap(), word.as_str());
    }
    let text = status(Word::Enrolling).describe(NOW, true);
    assert!(text.starts_with("press-1: enrolling (the plant does not know it yet) since"), "{text}");
}

#[test]
fn a_reason_is_read_back() {
    let reason = v1::DenialReason::Quarantined;
    let denial = v1::Denial { reason: reason.into(), ..v1::Denial::default() };
    let mut refusal = Refusal::new(&denial, NOW);
    assert_eq!(refusal.reason(), reason);
    "A_LATER_ONE".clone_into(&mut refusal.reason);
    assert_eq!(refusal.reason(), v1::DenialReason::Unspecified);
}

#[test]
fn a_silent_or_stopped_attestor_is_seen() {
    let live = |status: &Status, now: &Uptime| {
        let live = status.is_live(now);
        assert_eq!(status.describe(NOW, live).contains("does not run"), !live);
        live
    };
    let trusted = status(Word::Trusted);
    assert!(live(&trusted, &up()) && live(&trusted, &up().plus(STALE_AFTER)));
    assert!(!live(&trusted, &up().plus(STALE_AFTER + 1)));
    assert!(!live(&Status { stopped: true, ..trusted.clone() }, &up()));
    // The wall clock says nothing: it stands at 1970, or it jumped.
    for written_at in [UnixTime(0), NOW.plus(1_000_000)] {
        let dead = Status {
            written_at,
            written_up: Some(Uptime { boot: "before".into(), ..up() }),
            ..trusted.clone()
        };
        assert!(!live(&dead, &up()), "written before the machine restarted");
        assert!(live(&Status { written_at, ..trusted.clone() }, &up()));
    }
    assert!(!live(&Status { written_up: None, ..trusted }, &up()), "by an attestor of before");
}

#[test]
fn what_was_heard_grows_old_by_the_uptime_and_not_by_the_wall_clock() {
    let heard = |at: UnixTime| {
        let status = status(Word::Trusted);
        Status { broker: BrokerStatus { heard: Some(at), ..status.broker.clone() }, ..status }
    };
    let after = |status: &Status, seconds| status.heard_within(90, &up().plus(seconds));
    let before = heard(NOW.minus(30));
    assert!(after(&before, 60) && !after(&before, 61), "whatever the wall clock shows meanwhile");
    assert!(!after(&heard(NOW.minus(91)), 0));
    assert!(after(&heard(NOW.plus(2)), 90), "the clock was corrected a little");
    assert!(!after(&heard(NOW.plus(3_600)), 0), "it was set back");
    assert!(!after(&Status { written_up: None, ..before }, 0), "by an attestor of before");
    assert!(!after(&status(Word::Trusted), 0), "never");
}

#[test]
fn a_refusal_names_pcr_event_expected_and_seen_and_what_to_do() {
    let finding = v1::Finding {
        claim: "executables".into(),
        pcr: Some(4),
        event: Some(30),
        event_type: "EV_EFI_BOOT_SERVICES_APPLICATION".into(),
        subject: "kernel".into(),
        expected: vec!["aa".into()],
        seen: "bb\x1b[31m".into(),
        release: "x@1".into(),
        message: "another kernel was booted".into(),
    };
    let denial = v1::Denial {
        reason: v1::DenialReason::ReferenceMismatch.into(),
        message: "the kernel is not an approved one".into(),
        findings: vec![finding; 100],
        ..v1::Denial::default()
    };
    let refusal = Refusal::new(&denial, NOW);
    assert_eq!((refusal.reason.as_str(), refusal.findings.len()), ("REFERENCE_MISMATCH", MAX_FINDINGS));
    let text = Status { denial: Some(refusal), ..status(Word::Refused) }.describe(NOW, true);
    let line = "PCR 4 event 30 EV_EFI_BOOT_SERVICES_APPLICATION kernel: another kernel was booted (expected aa) \
                (seen bb[31m)";
    assert!(text.contains(line), "{text}");
    assert!(text.contains("touchstone golden learn"));
}

#[test]
fn a_skewed_clock_is_shown_beside_the_brokers() {
    let reason = v1::DenialReason::ClockSkew.into();
    let denial = v1::Denial { reason, broker_time: NOW.0 + 86_400, ..v1::Denial::default() };
    let message = Refusal::new(&denial, NOW).message;
    assert!(
        message.contains("broker's clock shows 2026-09-22") && message.contains("this one 2026-09-21"),
        "{message}"
    );
}

#[test]
fn no_status_says_how_to_start() {
    let dir = tempfile::tempdir().unwrap();
    let error = Status::read(dir.path(), NOW).unwrap_err();
    assert!(
        matches!(error, ReadStatusError::Missing { .. }) && error.to_string().contains("systemctl start")
    );
    std::fs::write(dir.path().join(FILE), "{").unwrap();
    assert!(matches!(Status::read(dir.path(), NOW), Err(ReadStatusError::Malformed { .. })));
}
