//! PCR 7: checklist rows 18 to 23, and what an honest log tells.

use policy::evidence::secure_boot::{SecureBootState, Voucher};
use policy::evidence::verify::{EvidenceError, GrammarError};
use policy::tpm::alg::HashAlg;

use crate::rig::{
    AUTHORITY, DRIVER_CONFIG, OWNER, SEPARATOR, SHA256_HASH, Scene, Written, X509, authority, boot, event,
    measured, pcrs_after, signature_list, variable, write_log,
};

fn state(events: &[Written]) -> SecureBootState {
    Scene::of(events).verify().unwrap().secure_boot().clone()
}

fn refusal(events: &[Written]) -> GrammarError {
    refusal_of(events, events)
}

/// What a device is told that booted `real` and sends the log of `told`.
fn refusal_of(real: &[Written], told: &[Written]) -> GrammarError {
    match Scene::with(pcrs_after(real, HashAlg::Sha256, 0), write_log(told)).verify().unwrap_err() {
        EvidenceError::Grammar(error) => error,
        other => panic!("refused for another reason: {other:?}"),
    }
}

/// Place of the measurement of this variable among the events; one less than its place in the log.
fn place(events: &[Written], kind: u32, name: &str) -> usize {
    let data = variable(name, b"");
    let same = |event: &Written| event.data[..16] == data[..16] && event.data[32..].starts_with(&data[32..]);
    events.iter().position(|event| event.kind == kind && same(event)).unwrap()
}

/// An honest boot with this value in one of the variables.
fn with(name: &str, value: &[u8]) -> Vec<Written> {
    let mut events = boot();
    let at = place(&events, DRIVER_CONFIG, name);
    events[at] = event(7, DRIVER_CONFIG, &variable(name, value));
    events
}

fn and(more: Written) -> Vec<Written> {
    [boot(), vec![more]].concat()
}

#[test]
fn an_honest_log_tells_keys_and_authorities() {
    let state = state(&boot());
    assert!(state.is_enabled() && !state.is_in_setup_mode());
    assert_eq!((state.audit_mode(), state.deployed_mode()), (None, None));
    let sha256 = |bytes: &[u8]| policy::digest::Digest::of(bytes);
    assert_eq!(state.pk().digest(), sha256(&signature_list(X509, &[b"platform key"])));
    assert_eq!(state.kek().certificates()[0].name.fingerprint, sha256(b"exchange key"));
    assert_eq!(state.db().certificates()[0].owner.0, OWNER);
    assert_eq!((state.dbx().hashes(), state.dbx().certificates().len()), (1, 0));
    let [authority] = state.authorities() else { panic!("{:?}", state.authorities()) };
    assert_eq!(authority.identity(), sha256(b"certificate"));
    assert!(authority.is_of_firmware() && matches!(authority.voucher, Voucher::Certificate(_)));
    assert!(state.others().is_empty());
}

#[test]
fn row_18_events_without_action_tell_nothing() {
    let spoofed = event(7, 3, &variable("SecureBoot", &[0]));
    assert!(state(&[vec![spoofed], boot()].concat()).is_enabled());
    let mut events = boot();
    let at = place(&events, DRIVER_CONFIG, "SecureBoot");
    events[at].kind = 3;
    let honest = boot();
    let error =
        Scene::with(pcrs_after(&honest, HashAlg::Sha256, 0), write_log(&events)).verify().unwrap_err();
    assert!(matches!(error, EvidenceError::LogMismatch { .. }), "{error:?}");
}

#[test]
fn row_19_a_variable_renamed_away_is_missed() {
    for name in ["SecureBoot", "PK", "KEK", "db", "dbx"] {
        let mut events = boot();
        events.remove(place(&events, DRIVER_CONFIG, name));
        assert_eq!(refusal(&events), GrammarError::MissingVariable { name });
        // The same name under another vendor is another variable.
        let mut events = boot();
        let at = place(&events, DRIVER_CONFIG, name);
        let mut data = events[at].data.clone();
        data[0] ^= 1;
        events[at] = event(7, DRIVER_CONFIG, &data);
        assert_eq!(refusal(&events), GrammarError::MissingVariable { name });
    }
}

/// An authority that is told under another type is no way to hide it.
#[test]
fn row_19_an_authority_renamed_away_is_refused() {
    let at = place(&boot(), AUTHORITY, "db");
    let renamed = |kind: u32, at: usize, mut events: Vec<Written>| {
        let real = events.clone();
        events[at].kind = kind;
        refusal_of(&real, &events)
    };
    let position = at + 1;
    for kind in [0x8000_00e4, 0x8000_0007, DRIVER_CONFIG] {
        let error = renamed(kind, at, boot());
        match kind {
            0x8000_00e4 => {
                assert_eq!(error, GrammarError::UnexpectedVariable { position, name: "db".to_owned() });
            }
            _ => assert!(matches!(error, GrammarError::AfterSeparator { .. }), "{error}"),
        }
    }
    // Before the separator, as of an option ROM.
    let mut early = boot();
    let rom = early.remove(at);
    let first = place(&early, DRIVER_CONFIG, "SecureBoot");
    early.insert(first, rom);
    let position = first + 1;
    assert_eq!(renamed(0x8000_0007, first, early.clone()), GrammarError::UnboundAction { position });
    assert_eq!(
        renamed(0x8000_00e3, first, early.clone()),
        GrammarError::UnexpectedVariable { position, name: "db".to_owned() }
    );
    let second = place(&early, DRIVER_CONFIG, "db") + 1;
    let error = renamed(DRIVER_CONFIG, first, early);
    assert!(matches!(error, GrammarError::SecondVariable { position, .. } if position == second), "{error}");
}

#[test]
fn row_20_every_variable_and_authority_must_be_what_was_hashed() {
    let honest = boot();
    for name in ["SecureBoot", "PK", "KEK", "db", "dbx"] {
        let mut told = boot();
        let at = place(&told, DRIVER_CONFIG, name);
        *told[at].data.last_mut().unwrap() ^= 1;
        assert_eq!(refusal_of(&honest, &told), GrammarError::UnboundVariable { position: at + 1 }, "{name}");
    }
    let mut told = boot();
    let at = place(&told, AUTHORITY, "db");
    *told[at].data.last_mut().unwrap() ^= 1;
    assert_eq!(refusal_of(&honest, &told), GrammarError::UnboundAuthority { position: at + 1 });
    told[at].data.truncate(20);
    assert_eq!(refusal_of(&honest, &told), GrammarError::UnboundAuthority { position: at + 1 });
}

#[test]
fn row_20_only_shims_surplus_byte_is_allowed_beside_the_digest() {
    let shim = variable("Shim", b"certificate");
    let padded = [&shim[..], &[0; 5]].concat();
    for (covered, logged) in [
        (shim.clone(), shim.clone()),
        (padded.clone(), padded.clone()),
        (padded.clone(), [&padded[..], &[0xaf]].concat()),
        (shim.clone(), [&shim[..], &[0xaf]].concat()),
    ] {
        let events = and(measured(7, AUTHORITY, &logged, &covered));
        let state = state(&events);
        assert_eq!(state.authorities()[1].variable, "Shim");
        // What the digest does not cover makes no difference.
        assert_eq!(state.authorities(), self::state(&and(event(7, AUTHORITY, &shim))).authorities());
    }
    let position = boot().len() + 1;
    for surplus in [&[0xaf, 0xaf][..], &[0; 7]] {
        let logged = [&shim[..], surplus].concat();
        let error = refusal(&and(measured(7, AUTHORITY, &logged, &shim)));
        assert_eq!(error, GrammarError::UnboundAuthority { position });
    }
    // Covered, but not the zeros that shim writes.
    for surplus in [&[0; 4][..], &[0, 0, 0, 0, 1], &[0; 6]] {
        let logged = [&shim[..], surplus].concat();
        let error = refusal(&and(event(7, AUTHORITY, &logged)));
        assert!(matches!(error, GrammarError::Unreadable { .. }), "{error}");
    }
    // Nor for any other type.
    let mut events = boot();
    let at = place(&events, DRIVER_CONFIG, "db");
    let data = events[at].data.clone();
    events[at] = measured(7, DRIVER_CONFIG, &[&data[..], &[0xaf]].concat(), &data);
    assert_eq!(refusal(&events), GrammarError::UnboundVariable { position: at + 1 });
}

#[test]
fn row_21_nothing_but_authorities_follows_the_separator() {
    for name in ["SecureBoot", "db", "AuditMode"] {
        let error = refusal(&and(event(7, DRIVER_CONFIG, &variable(name, &[0]))));
        assert!(matches!(error, GrammarError::AfterSeparator { .. }), "{error}");
    }
    let mut events = boot();
    let at = events.iter().position(|event| event.pcr == 7 && event.kind == SEPARATOR).unwrap();
    let separator = events.remove(at);
    events.insert(place(&events, DRIVER_CONFIG, "dbx"), separator);
    let error = refusal(&events);
    assert!(matches!(error, GrammarError::AfterSeparator { .. }), "{error}");
}

#[test]
fn row_22_each_variable_is_told_once() {
    for name in ["SecureBoot", "PK", "KEK", "db", "dbx"] {
        let mut events = boot();
        let at = place(&events, DRIVER_CONFIG, name);
        events.insert(at, events[at].clone());
        assert_eq!(
            refusal(&events),
            GrammarError::SecondVariable { position: at + 2, name: name.to_owned() }
        );
    }
}

#[test]
fn row_22_flags_are_one_byte_of_0_or_1() {
    for name in ["SecureBoot", "SetupMode", "AuditMode", "DeployedMode"] {
        for value in [&[2][..], &[1, 0], &[0, 0]] {
            let events = if name == "SecureBoot" {
                with(name, value)
            } else {
                [vec![event(7, DRIVER_CONFIG, &variable(name, value))], boot()].concat()
            };
            let error = refusal(&events);
            assert!(matches!(&error, GrammarError::Flag { name: found, .. } if found == name), "{error}");
        }
    }
}

#[test]
fn row_22_modes_decide_whether_secure_boot_counts() {
    let mode = |name: &str, value| {
        state(&[vec![event(7, DRIVER_CONFIG, &variable(name, &[value]))], boot()].concat())
    };
    assert!(mode("SetupMode", 0).is_enabled() && !mode("SetupMode", 1).is_enabled());
    assert!(mode("AuditMode", 0).is_enabled() && !mode("AuditMode", 1).is_enabled());
    assert!(mode("DeployedMode", 0).is_enabled() && mode("DeployedMode", 1).is_enabled());
    assert_eq!(mode("DeployedMode", 1).deployed_mode(), Some(true));
    let keyless = state(&with("PK", b""));
    assert!(keyless.is_in_setup_mode() && !keyless.is_enabled(), "without a platform key anybody is owner");
}

#[test]
fn row_22_an_enabled_secure_boot_has_an_authority_of_db() {
    let mut events = boot();
    let at = place(&events, AUTHORITY, "db");
    events.remove(at);
    assert_eq!(refusal(&events), GrammarError::NoAuthority);
    for of_shim in ["SbatLevel", "Shim", "MokList"] {
        let more = event(7, AUTHORITY, &variable(of_shim, b"sbat,1,2021030218\n"));
        assert_eq!(refusal(&[events.clone(), vec![more]].concat()), GrammarError::NoAuthority, "{of_shim}");
    }
    let at = place(&events, DRIVER_CONFIG, "SecureBoot");
    events[at] = event(7, DRIVER_CONFIG, &variable("SecureBoot", &[0]));
    assert!(!state(&events).is_enabled());
}

#[test]
fn row_22_what_firmware_found_in_db_is_in_db() {
    let position = boot().len() + 1;
    assert_eq!(refusal(&and(authority(b"intruder"))), GrammarError::AuthorityNotInDb { position });
    // An owner is no part of the entry's own data.
    let other_owner = event(7, AUTHORITY, &variable("db", &[&[0x78; 16][..], b"certificate"].concat()));
    assert_eq!(refusal(&and(other_owner)), GrammarError::AuthorityNotInDb { position });
    let ownerless = state(&and(event(7, AUTHORITY, &variable("db", b"certificate"))));
    assert_eq!(ownerless.authorities()[0].voucher, ownerless.authorities()[1].voucher);
    let hash = [0x42; 32];
    let db =
        [signature_list(X509, &[b"certificate"]), signature_list(SHA256_HASH, &[&[1; 32], &hash])].concat();
    let events = [with("db", &db), vec![authority(&hash)]].concat();
    assert!(matches!(state(&events).authorities()[1].voucher, Voucher::Hash(found) if found.0 == hash));
}

#[test]
fn row_22_key_variables_are_signature_lists() {
    let good = signature_list(X509, &[b"certificate"]);
    let mut endless = good.clone();
    endless[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut ownerless = good.clone();
    ownerless[24..28].copy_from_slice(&16_u32.to_le_bytes());
    let short_hash = signature_list(SHA256_HASH, &[&[0; 31]]);
    for bad in [&good[..good.len() - 1], &endless, &ownerless, &short_hash, b"x"] {
        for name in ["PK", "KEK", "db", "dbx"] {
            let error = refusal(&with(name, bad));
            assert!(
                matches!(&error, GrammarError::Database { name: found, .. } if *found == name),
                "{error}"
            );
        }
    }
    let many: Vec<u8> = (0..1025).flat_map(|_| signature_list(X509, &[b"x"])).collect();
    let error = refusal(&with("KEK", &many));
    assert!(matches!(error, GrammarError::TooManyCertificates { name: "KEK", .. }), "{error}");
}

#[test]
fn row_23_debug_mode_is_told() {
    let action = |text: &[u8]| [vec![event(7, 0x8000_0007, text)], boot()].concat();
    let debugged = state(&action(b"UEFI Debug Mode"));
    assert_eq!(debugged.others()[0].text, "UEFI Debug Mode");
    let hidden = [vec![measured(7, 0x8000_0007, b"harmless", b"UEFI Debug Mode")], boot()].concat();
    assert_eq!(refusal(&hidden), GrammarError::UnboundAction { position: 1 });
    assert_eq!(refusal(&action(b"\x01\x02")), GrammarError::UnboundAction { position: 1 });
}

#[test]
fn what_is_not_understood_is_told_and_not_passed_over() {
    let dbt = event(7, DRIVER_CONFIG, &variable("dbt", b"anything"));
    let vendors = event(7, DRIVER_CONFIG, &variable("VendorPolicy", b"\x01"));
    let state = state(&[vec![dbt, vendors], boot()].concat());
    let names: Vec<&str> = state.others().iter().map(|other| other.text.as_str()).collect();
    assert_eq!(names, ["dbt", "VendorPolicy"]);
}

#[test]
fn shims_own_state_vouches_for_nothing_and_is_told() {
    let sbat = event(7, AUTHORITY, &variable("SbatLevel", b"sbat,1,2021030218\n"));
    let trusted = event(7, AUTHORITY, &variable("MokListTrusted", &[1]));
    let state = state(&[boot(), vec![sbat.clone(), trusted.clone()]].concat());
    let [_, level, list] = state.authorities() else { panic!() };
    let Voucher::Sbat { digest, text } = &level.voucher else { panic!("{level:?}") };
    assert_eq!((digest.0.as_slice(), text.as_deref()), (&*sbat.digests[1].1, Some("sbat,1,2021030218")));
    assert_eq!(list.identity().0.as_slice(), &*trusted.digests[1].1);
}

#[test]
fn events_of_pcr_7_are_counted() {
    let more = vec![event(7, AUTHORITY, &variable("MokListTrusted", &[1])); 512];
    let error = refusal(&[boot(), more].concat());
    assert!(matches!(error, GrammarError::TooManyEvents { .. }), "{error}");
}
