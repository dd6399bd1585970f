//! The firmware log: checklist rows 16 to 25.

use policy::eventlog::replay::{LocalityFault, ReplayError};
use policy::eventlog::tcg::{EventLog, EventLogError};
use policy::evidence::verify::{EvidenceError, GrammarError};
use policy::reader::ReadError;
use policy::tpm::alg::{HashAlg, HashValue};

use crate::rig::{
    APPLICATION, AUTHORITY, DRIVER_CONFIG, SEPARATOR, Scene, Written, boot, encode, event, header, measured,
    pcr, pcrs_after, variable, write_log,
};

/// What a device is told that booted `real` and sends the log of `told`.
fn refusal(real: &[Written], told: &[Written]) -> EvidenceError {
    Scene::with(pcrs_after(real, HashAlg::Sha256, 0), write_log(told)).verify().unwrap_err()
}

/// What a device is told whose TPM and log agree on `events`.
fn grammar(events: &[Written]) -> GrammarError {
    match Scene::of(events).verify().unwrap_err() {
        EvidenceError::Grammar(error) => error,
        other => panic!("refused for another reason: {other:?}"),
    }
}

fn position(events: &[Written], wanted: impl Fn(&Written) -> bool) -> usize {
    events.iter().position(wanted).unwrap()
}

fn without(wanted: impl Fn(&Written) -> bool) -> Vec<Written> {
    boot().into_iter().filter(|event| !wanted(event)).collect()
}

#[test]
fn row_16_a_pcr_without_events_is_refused() {
    let error = refusal(&boot(), &without(|event| event.pcr == 7));
    assert_eq!(error, EvidenceError::Grammar(GrammarError::NoSeparator { pcr: pcr(7) }));
}

#[test]
fn row_16_an_empty_log_is_refused() {
    for log in [vec![], vec![0; 64], vec![0xff; 64]] {
        let mut scene = Scene::of(&boot());
        scene.log = log;
        assert_eq!(scene.verify().unwrap_err(), EvidenceError::Log(EventLogError::Empty));
    }
}

#[test]
fn row_17_a_missing_digest_is_refused() {
    let mut told = boot();
    told[0].digests.remove(1);
    let (position, bank) = (1, HashAlg::Sha256);
    let missing = ReplayError::NoDigest { position, pcr: pcr(0), bank };
    assert_eq!(refusal(&boot(), &told), EvidenceError::Replay(missing));
}

#[test]
fn row_17_a_second_digest_is_refused() {
    let mut told = boot();
    told[0].digests[0] = told[0].digests[1].clone();
    let error = refusal(&boot(), &told);
    assert!(
        matches!(error, EvidenceError::Log(EventLogError::SecondDigest { bank: HashAlg::Sha256, .. })),
        "{error:?}"
    );
}

#[test]
fn row_17_a_bank_that_is_not_logged_is_refused() {
    let scene = Scene::with(pcrs_after(&boot(), HashAlg::Sha384, 0), write_log(&boot()));
    let error = scene.verify().unwrap_err();
    assert_eq!(error, EvidenceError::Replay(ReplayError::NoBank(HashAlg::Sha384)));
}

fn locality(pcr: u32, data: &[u8]) -> Written {
    event(pcr, 3, data)
}

#[test]
fn row_18_startup_locality_sets_pcr_0() {
    for value in [0, 3, 4] {
        let told = [vec![locality(0, &[b"StartupLocality\0", &[value][..]].concat())], boot()].concat();
        let scene = Scene::with(pcrs_after(&told, HashAlg::Sha256, value), write_log(&told));
        scene.verify().unwrap();
        let other = Scene::with(pcrs_after(&told, HashAlg::Sha256, value + 1), write_log(&told));
        let error = other.verify().unwrap_err();
        assert!(matches!(error, EvidenceError::LogMismatch { pcr: index, .. } if index == pcr(0)), "{error}");
    }
}

#[test]
fn row_18_a_spoofed_startup_locality_is_refused() {
    let good = locality(0, b"StartupLocality\0\x03");
    let fault = |told: &[Written]| match refusal(&boot(), told) {
        EvidenceError::Replay(ReplayError::StartupLocality { fault, .. }) => fault,
        other => panic!("refused for another reason: {other:?}"),
    };
    let first = |event: Written| [vec![event], boot()].concat();
    assert_eq!(fault(&first(locality(0, b"StartupLocality\0\x07"))), LocalityFault::Locality);
    assert_eq!(fault(&first(locality(0, b"StartupLocality\0\x03\0"))), LocalityFault::Length);
    assert_eq!(fault(&first(locality(1, b"StartupLocality\0\x03"))), LocalityFault::Pcr);
    assert_eq!(fault(&[vec![good.clone(), good.clone()], boot()].concat()), LocalityFault::Second);
    assert_eq!(fault(&[boot(), vec![good]].concat()), LocalityFault::Late);
}

#[test]
fn row_18_events_without_action_extend_nothing() {
    let told = [vec![event(4, 3, b"anything")], boot()].concat();
    let verified = Scene::of(&told).verify().unwrap();
    assert_eq!(verified.events(pcr(4)).len(), 3);
}

#[test]
fn row_19_a_renamed_event_is_refused() {
    let mut told = boot();
    let at = position(&told, |event| event.kind == DRIVER_CONFIG);
    told[at].kind = 2;
    let error = refusal(&boot(), &told);
    let GrammarError::UnexpectedType { position, pcr: found, .. } = (match error {
        EvidenceError::Grammar(error) => error,
        other => panic!("refused for another reason: {other:?}"),
    }) else {
        panic!("refused for another reason")
    };
    assert_eq!((position, found), (at + 1, pcr(7)));
}

#[test]
fn row_19_unknown_and_misplaced_types_are_refused_in_pcrs_0_to_7() {
    for (index, kind) in
        [(0, 0x40e), (6, 0x8401), (0, DRIVER_CONFIG), (4, 0x0d), (7, APPLICATION), (7, 6), (0, 0)]
    {
        let told = [vec![event(index, kind, b"x")], boot()].concat();
        let error = grammar(&told);
        assert!(
            matches!(error, GrammarError::UnexpectedType { position: 1, pcr: found, .. } if found == pcr(index)),
            "{error}"
        );
    }
}

#[test]
fn row_20_changed_variable_data_is_refused() {
    let mut told = boot();
    let at = position(&told, |event| event.kind == DRIVER_CONFIG);
    told[at].data = variable("SecureBoot", &[0]);
    let error = GrammarError::UnboundVariable { position: at + 1 };
    assert_eq!(refusal(&boot(), &told), EvidenceError::Grammar(error));
}

#[test]
fn row_21_separators_are_plain_and_single() {
    let at =
        |events: &[Written], index| position(events, |event| event.pcr == index && event.kind == SEPARATOR);

    let second = [boot(), vec![event(2, SEPARATOR, &[0; 4])]].concat();
    assert_eq!(grammar(&second), GrammarError::SecondSeparator { position: second.len(), pcr: pcr(2) });

    for data in [&[0xff; 4][..], &[1, 0, 0, 0], &[0; 5], &[]] {
        let mut events = boot();
        let place = at(&events, 3);
        events[place] = event(3, SEPARATOR, data);
        assert_eq!(grammar(&events), GrammarError::ErrorSeparator { position: place + 1, pcr: pcr(3) });
    }

    // Plain data over the digest of an error.
    let mut events = boot();
    let place = at(&events, 3);
    events[place] = measured(3, SEPARATOR, &[0; 4], &[1, 0, 0, 0]);
    assert_eq!(grammar(&events), GrammarError::ErrorSeparator { position: place + 1, pcr: pcr(3) });

    let none = without(|event| event.pcr == 6);
    assert_eq!(grammar(&none), GrammarError::NoSeparator { pcr: pcr(6) });
}

#[test]
fn row_21_nothing_is_configured_after_the_separator() {
    for late in [
        event(7, DRIVER_CONFIG, &variable("SecureBoot", &[0])),
        event(0, 0x8000_0008, b"blob"),
        event(1, 0x0a, b"flags"),
        event(3, DRIVER_CONFIG, &variable("Setup", b"x")),
        event(7, 0x8000_0007, b"UEFI Debug Mode"),
    ] {
        let events = [boot(), vec![late.clone()]].concat();
        let error = grammar(&events);
        assert!(
            matches!(error, GrammarError::AfterSeparator { position, .. } if position == events.len()),
            "{error}"
        );
    }
}

#[test]
fn row_22_a_variable_is_measured_once() {
    let mut events = boot();
    let at = position(&events, |event| event.kind == DRIVER_CONFIG);
    events.insert(at + 1, events[at].clone());
    let name = "SecureBoot".to_owned();
    assert_eq!(grammar(&events), GrammarError::SecondVariable { position: at + 2, name });
}

#[test]
fn row_22_secure_boot_is_one_byte_of_0_or_1() {
    let with = |value: &[u8]| {
        let mut events = boot();
        let at = position(&events, |event| event.kind == DRIVER_CONFIG);
        events[at] = event(7, DRIVER_CONFIG, &variable("SecureBoot", value));
        events
    };
    for bad in [&[2][..], &[1, 0], &[0, 0]] {
        assert!(matches!(grammar(&with(bad)), GrammarError::Flag { .. }), "{bad:?}");
    }
    for off in [&[][..], &[0]] {
        assert!(!Scene::of(&with(off)).verify().unwrap().secure_boot().is_enabled());
    }
}

#[test]
fn row_22_audit_and_setup_mode_are_no_secure_boot() {
    for mode in ["AuditMode", "SetupMode"] {
        let events = [vec![event(7, DRIVER_CONFIG, &variable(mode, &[1]))], boot()].concat();
        assert!(!Scene::of(&events).verify().unwrap().secure_boot().is_enabled(), "{mode}");
    }
}

#[test]
fn row_22_secure_boot_without_an_authority_is_refused() {
    assert_eq!(grammar(&without(|event| event.kind == AUTHORITY)), GrammarError::NoAuthority);
}

#[test]
fn row_24_a_cut_swapped_or_continued_log_is_refused() {
    let mismatch = |error: EvidenceError, index| {
        assert!(
            matches!(error, EvidenceError::LogMismatch { pcr: found, .. } if found == pcr(index)),
            "{error}"
        );
    };
    let cut = &boot()[..boot().len() - 1];
    mismatch(refusal(&boot(), cut), 5);
    let mut swapped = boot();
    swapped.swap(0, 1);
    mismatch(refusal(&boot(), &swapped), 0);
    mismatch(refusal(&boot(), &[boot(), vec![event(8, 0x0d, b"more")]].concat()), 8);
    mismatch(refusal(&boot(), &[boot(), vec![event(15, 0x0d, b"never extended")]].concat()), 15);

    let mut garbage = Scene::of(&boot());
    garbage.log.extend(b"garbage");
    let error = garbage.verify().unwrap_err();
    assert!(matches!(error, EvidenceError::Log(EventLogError::Structure(_))), "{error:?}");
}

#[test]
fn row_24_padding_to_the_end_is_no_garbage() {
    for fill in [0x00, 0xff] {
        let mut scene = Scene::of(&boot());
        scene.log.extend(vec![fill; 4096]);
        scene.verify().unwrap();
        scene.log.push(1);
        assert!(matches!(scene.verify().unwrap_err(), EvidenceError::Log(_)));
    }
}

#[test]
fn what_linux_measured_later_is_unexplained_and_has_no_events() {
    let mut later = boot();
    later.push(event(11, 0x0d, b"sysinit"));
    later.push(event(10, 0x0d, b"IMA"));
    let verified = Scene::with(pcrs_after(&later, HashAlg::Sha256, 0), write_log(&boot())).verify().unwrap();
    assert_eq!(verified.unexplained(), [pcr(10), pcr(11)]);
    assert!(verified.events(pcr(11)).is_empty());
    assert_eq!(verified.events(pcr(8)).len(), 1);
    assert_ne!(verified.pcrs().value(pcr(11)), Some(&HashValue::repeated(HashAlg::Sha256, 0)));
}

fn structure(log: &[u8]) -> ReadError {
    match EventLog::parse(log).unwrap_err() {
        EventLogError::Structure(error) => error,
        other => panic!("refused for another reason: {other:?}"),
    }
}

#[test]
fn row_25_counts_and_sizes_are_bounded_before_memory_is_taken() {
    let mut log = header(&[(0x000b, 32)]);
    // numberOfAlgorithms lies behind the event's 32 bytes, the signature and eight more.
    log[56..60].copy_from_slice(&u32::MAX.to_le_bytes());
    let found = u64::from(u32::MAX);
    let what = "number of banks";
    assert_eq!(structure(&log), ReadError::TooLarge { offset: 56, what, found, limit: 16 });

    let mut log = header(&[(0x000b, 32)]);
    let offset = log.len() + 8;
    log.extend([[0; 4], [1, 0, 0, 0], [0xff; 4]].concat());
    log.push(1);
    let what = "number of digests";
    assert_eq!(structure(&log), ReadError::TooLarge { offset, what, found, limit: 1 });

    assert!(matches!(structure(&vec![1; 1024 * 1024 + 1]), ReadError::TooLarge { offset: 0, .. }));
}

#[test]
fn row_25_events_are_counted() {
    let empty = Written { digests: vec![], ..event(1, 3, b"") };
    let mut log = write_log(&[]);
    let one = encode(&empty);
    for _ in 0..10_001 {
        log.extend(&one);
    }
    assert!(matches!(EventLog::parse(&log).unwrap_err(), EventLogError::TooManyEvents { .. }));
}

#[test]
fn row_25_pcrs_that_do_not_exist_are_refused() {
    for index in [24, 32, u32::MAX] {
        let error = EventLog::parse(&write_log(&[event(index, 0x0d, b"x")])).unwrap_err();
        assert!(matches!(error, EventLogError::Pcr { pcr, .. } if pcr == index), "{error}");
    }
    assert_eq!(EventLog::parse(&write_log(&[event(u32::MAX, 3, b"x")])).unwrap().events()[1].pcr, None);
}

#[test]
fn unknown_banks_are_passed_over_by_their_declared_size() {
    let mut log = header(&[(0x0012, 32), (0x000b, 32)]);
    let offset = log.len();
    log.extend([8_u32.to_le_bytes(), 0x0d_u32.to_le_bytes(), 2_u32.to_le_bytes()].concat());
    log.extend([vec![0x12, 0], vec![7; 32], vec![0x0b, 0], vec![9; 32], vec![1, 0, 0, 0, b'x']].concat());
    let parsed = EventLog::parse(&log).unwrap();
    assert_eq!(parsed.banks(), [HashAlg::Sha256]);
    assert_eq!(parsed.events()[1].digest(HashAlg::Sha256), HashValue::new(HashAlg::Sha256, &[9; 32]));

    log[offset + 12..offset + 14].copy_from_slice(&[0x27, 0]);
    let unlisted = EventLogError::UnlistedBank { offset: offset + 12, alg: 0x27 };
    assert_eq!(EventLog::parse(&log).unwrap_err(), unlisted);
}

#[test]
fn a_header_with_odd_banks_is_refused() {
    for (banks, offset) in
        [(&[(0x000b, 20)][..], 60), (&[(0x000b, 32), (0x000b, 32)], 64), (&[(0x99, 65)], 60)]
    {
        let error = EventLog::parse(&header(banks)).unwrap_err();
        assert!(matches!(error, EventLogError::Bank { offset: found, .. } if found == offset), "{error}");
    }
}
