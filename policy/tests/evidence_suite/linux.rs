//! Logs that Linux writes after the firmware's: checklist rows 20, 24 and 36.

use std::fmt::Write;

use policy::appraisal::measurements::Measurements;
use policy::appraisal::measurements::Origin;
use policy::digest::Digest;
use policy::eventlog::image::{ImageKind, ImageLogError, ImageMeasurement};
use policy::eventlog::sequence::{Register, SequenceError};
use policy::eventlog::userspace::{OS_SEPARATOR, UserspaceLog};
use policy::evidence::HardwareProof;
use policy::evidence::linux::{EventOrigin, LinuxLogError, LinuxLogs};
use policy::evidence::recorded::{RecordedEvidence, StoredLogs};
use policy::evidence::verify::{EvidenceError, VerifiedEvidence};
use policy::tpm::alg::{HashAlg, HashValue};
use policy::tpm::pcr::{PcrIndex, PcrValues};

use crate::rig::{BANKS, Scene, boot, pcr, pcrs_after, write_log};

/// What systemd measures: register, text, and what is extended instead of the text's hash.
type Measured<'a> = (&'a str, &'a str, Option<&'a str>);

/// A log as systemd writes it.
pub(crate) fn systemd(measured: &[Measured<'_>]) -> Vec<u8> {
    let mut log = String::new();
    for (register, text, other) in measured {
        let digests: Vec<String> = BANKS
            .iter()
            .map(|bank| {
                let digest = bank.hash(&[other.unwrap_or(text).as_bytes()]);
                format!(r#"{{"hashAlg":"{bank}","digest":"{digest}"}}"#)
            })
            .collect();
        let digests = digests.join(",");
        writeln!(
            log,
            "\x1e{{{register},\"digests\":[{digests}],\"content_type\":\"systemd\",\"content\":{{\"string\":\"{text}\",\
             \"bootId\":\"28b7c5a5b8a74e4c8d1f3ad0e2c86b6c\",\"timestamp\":4711,\"eventType\":\"phase\"}}}}"
        )
        .unwrap();
    }
    log.into_bytes()
}

const PCR_11: &str = r#""pcr":11"#;
const PHASES: [Measured<'_>; 3] =
    [(PCR_11, "enter-initrd", None), (PCR_11, "leave-initrd", None), (PCR_11, "sysinit", None)];

pub(crate) fn extended(values: &mut PcrValues, index: u32, text: &str) {
    let digest = HashAlg::Sha256.hash(&[text.as_bytes()]);
    let value = values.value(pcr(index)).unwrap().extend(digest.as_bytes());
    values.set(pcr(index), value);
}

fn booted() -> PcrValues {
    pcrs_after(&boot(), HashAlg::Sha256, 0)
}

/// An honest boot after which these texts were extended.
pub(crate) fn scene(extended_texts: &[(u32, &str)], userspace: Option<Vec<u8>>) -> Scene {
    let mut values = booted();
    for (index, text) in extended_texts {
        extended(&mut values, *index, text);
    }
    let mut scene = Scene::with(values, write_log(&boot()));
    scene.userspace = userspace;
    scene
}

fn texts(verified: &VerifiedEvidence, index: u32) -> Vec<Option<String>> {
    let text = |origin: &EventOrigin| match origin {
        EventOrigin::Userspace { text } => text.clone(),
        EventOrigin::Firmware => Some("firmware".to_owned()),
        EventOrigin::Image(image) => Some(image.path.clone()),
    };
    verified.events(pcr(index)).iter().map(|event| text(&event.origin)).collect()
}

fn some(texts: &[&str]) -> Vec<Option<String>> {
    texts.iter().map(|text| Some((*text).to_owned())).collect()
}

fn linux(scene: &Scene) -> LinuxLogError {
    match scene.verify().unwrap_err() {
        EvidenceError::Linux(error) => error,
        other => panic!("refused for another reason: {other:?}"),
    }
}

#[test]
fn userspace_events_continue_the_firmware_log() {
    let scene = scene(&[(11, "enter-initrd"), (11, "leave-initrd"), (11, "sysinit")], Some(systemd(&PHASES)));
    let verified = scene.verify().unwrap();
    assert!(verified.unexplained().is_empty());
    assert_eq!(texts(&verified, 11), some(&["firmware", "enter-initrd", "leave-initrd", "sysinit"]));
    let logs = LinuxLogs { userspace: scene.userspace.as_deref(), images: None };
    let recorded = RecordedEvidence::replay_all(
        scene.pcrs.clone(),
        &scene.log,
        &StoredLogs { linux: logs, ima: None },
        Origin::Device(HardwareProof::Endorsed),
    )
    .unwrap();
    assert_eq!(recorded.measurements().events(pcr(11)).count(), 4);
}

#[test]
fn row_24_a_longer_log_counts_up_to_the_quote_and_no_further() {
    let scene = scene(&[(11, "enter-initrd")], Some(systemd(&PHASES)));
    assert_eq!(texts(&scene.verify().unwrap(), 11), some(&["firmware", "enter-initrd"]));
}

#[test]
fn row_24_a_cut_swapped_or_missing_log_leaves_the_pcr_unexplained() {
    let all = [(11, "enter-initrd"), (11, "leave-initrd"), (11, "sysinit")];
    let swapped = [PHASES[1], PHASES[0], PHASES[2]];
    for log in [None, Some(systemd(&PHASES[..2])), Some(systemd(&PHASES[1..])), Some(systemd(&swapped))] {
        let verified = scene(&all, log).verify().unwrap();
        assert_eq!(verified.unexplained(), [pcr(11)]);
        assert!(verified.events(pcr(11)).is_empty());
    }
}

#[test]
fn row_20_text_counts_only_where_the_digest_is_its_hash() {
    let pcr_15 = r#""pcr":15"#;
    let log = systemd(&[(pcr_15, "cryptsetup:root:uuid", Some("hmac")), (pcr_15, "machine-id:1", None)]);
    let verified = scene(&[(15, "hmac"), (15, "machine-id:1")], Some(log)).verify().unwrap();
    assert_eq!(texts(&verified, 15), [None, Some("machine-id:1".to_owned())]);
    assert_eq!(verified.events(pcr(15))[0].description.as_deref(), Some("cryptsetup:root:uuid"));
}

#[test]
fn row_36_records_of_nv_indices_are_no_pcr_events() {
    let nv = r#""nv_index":30474752"#;
    let log = systemd(&[(nv, "product-id:1", None), PHASES[0]]);
    let verified = scene(&[(11, "enter-initrd")], Some(log.clone())).verify().unwrap();
    assert_eq!(texts(&verified, 11), some(&["firmware", "enter-initrd"]));
    let registers: Vec<Register> =
        UserspaceLog::parse(&log).unwrap().events().iter().map(|event| event.register).collect();
    assert_eq!(registers, [Register::Nv(0x01d1_0200), Register::Pcr(pcr(11))]);
}

/// systemd 261 separates the firmware's PCRs from everything later.
#[test]
fn one_separator_may_follow_the_firmware() {
    let registers: Vec<String> = (0..8).map(|index| format!(r#""pcr":{index}"#)).collect();
    let measured: Vec<Measured<'_>> = registers.iter().map(|r| (r.as_str(), OS_SEPARATOR, None)).collect();
    let separators: Vec<(u32, &str)> = (0..8).map(|index| (index, OS_SEPARATOR)).collect();
    let verified = scene(&separators, Some(systemd(&measured))).verify().unwrap();
    assert_eq!(texts(&verified, 7).last(), Some(&Some(OS_SEPARATOR.to_owned())));
    let error = scene(&separators, None).verify().unwrap_err();
    assert!(matches!(error, EvidenceError::LogMismatch { pcr: found, .. } if found == pcr(0)), "{error:?}");
}

#[test]
fn nothing_else_may_follow_the_firmware() {
    let pcr_4 = r#""pcr":4"#;
    let separator = (pcr_4, OS_SEPARATOR, None);
    for (events, position) in [
        (vec![(pcr_4, "boot loader", None)], 0),
        (vec![(pcr_4, OS_SEPARATOR, Some("boot loader"))], 0),
        (vec![separator, separator], 1),
        (vec![separator, (pcr_4, "boot loader", None)], 1),
    ] {
        let real: Vec<(u32, &str)> =
            events.iter().map(|(_, text, other)| (4, other.unwrap_or(text))).collect();
        let error = linux(&scene(&real, Some(systemd(&events))));
        assert_eq!(error, LinuxLogError::Foreign { position, pcr: pcr(4) });
    }
}

#[test]
fn row_17_a_record_without_the_quoted_bank_is_refused() {
    let log = String::from_utf8(systemd(&PHASES[..1])).unwrap().replace("sha256", "sm3_256");
    let missing =
        LinuxLogError::NoDigest { log: "userspace", position: 0, pcr: pcr(11), bank: HashAlg::Sha256 };
    assert_eq!(linux(&scene(&[(11, "enter-initrd")], Some(log.into_bytes()))), missing);
}

fn malformed(log: impl Into<Vec<u8>>) -> SequenceError {
    let log = log.into();
    let refused = scene(&[], Some(log.clone()));
    let error = UserspaceLog::parse(&log).unwrap_err();
    assert_eq!(linux(&refused), LinuxLogError::Userspace(error.clone()));
    error
}

#[test]
fn row_24_malformed_logs_are_refused_by_name() {
    let good = String::from_utf8(systemd(&PHASES)).unwrap();
    assert_eq!(malformed(good.trim_start_matches('\x1e')), SequenceError::NotASequence);
    assert_eq!(
        malformed(format!("{good}garbage\x1e\n")),
        SequenceError::Record { position: 2, line: 2, column: 1 }
    );
    let twice = good.replacen("\"pcr\":11", "\"pcr\":11,\"pcr\":12", 1);
    assert!(matches!(malformed(twice), SequenceError::Record { position: 0, .. }));
    for register in ["\"pcr\":24", "\"pcr\":11,\"nv_index\":1", "\"other\":1"] {
        let error = malformed(good.replacen("\"pcr\":11", register, 1));
        assert_eq!(error, SequenceError::Register { position: 0 }, "{register}");
    }
    let other = malformed(good.replacen("\"systemd\"", "\"touchstone-image\"", 1));
    assert_eq!(other, SequenceError::ContentType { position: 0, wanted: "systemd" });
    let short = malformed(good.replacen("\"digest\":\"", "\"digest\":\"00", 1));
    assert_eq!(short, SequenceError::Digest { position: 0, alg: HashAlg::Sha1 });
    let double = malformed(good.replacen("\"sha1\"", "\"sha256\"", 1));
    assert!(matches!(double, SequenceError::Digest { position: 0, .. }), "{double:?}");
}

/// The number is the place; one that is written must agree with it.
#[test]
fn row_24_numbers_never_order_and_must_have_no_gap() {
    let numbered = |numbers: [Option<u64>; 3]| {
        let mut log = Vec::new();
        for (phase, number) in PHASES.iter().zip(numbers) {
            let number = number.map_or(String::new(), |number| format!("\"recnum\":{number},"));
            log.extend(systemd(&[(format!("{number}{PCR_11}").as_str(), phase.1, None)]));
        }
        log
    };
    for good in [[Some(0), Some(1), Some(2)], [Some(7), Some(8), Some(9)], [None; 3]] {
        assert_eq!(UserspaceLog::parse(&numbered(good)).unwrap().events().len(), 3);
    }
    for (bad, position) in [
        ([Some(0), Some(2), Some(3)], 1),
        ([Some(0), Some(1), Some(1)], 2),
        ([Some(2), Some(1), Some(0)], 1),
        ([Some(0), None, Some(2)], 1),
        ([None, Some(1), Some(2)], 1),
    ] {
        assert_eq!(malformed(numbered(bad)), SequenceError::Number { position }, "{bad:?}");
    }
}

#[test]
fn a_record_that_was_being_written_is_left_out() {
    let log = systemd(&PHASES);
    let cut = &log[..log.len() - 1];
    assert_eq!(UserspaceLog::parse(cut).unwrap().events().len(), 2);
    assert_eq!(UserspaceLog::parse(b"").unwrap().events().len(), 0);
    assert_eq!(UserspaceLog::parse(b"\x1e").unwrap().events().len(), 0);
}

#[test]
fn row_25_bounds_are_compared_before_anything_is_read() {
    use policy::budget::{MAX_RECORD_BYTES, MAX_RECORDS, MAX_SEQUENCE_BYTES};
    assert_eq!(
        malformed(vec![0x1e; MAX_SEQUENCE_BYTES + 1]),
        SequenceError::TooLarge(MAX_SEQUENCE_BYTES + 1)
    );
    let long = [vec![0x1e], vec![b' '; MAX_RECORD_BYTES], vec![b'\n']].concat();
    let found = MAX_RECORD_BYTES + 1;
    assert_eq!(malformed(long), SequenceError::RecordTooLarge { position: 0, found });
    let deep = format!("\x1e{{\"x\":{}{}}}\n", "[".repeat(5000), "]".repeat(5000));
    assert!(matches!(malformed(deep), SequenceError::Record { .. } | SequenceError::Register { .. }));
    let one = br#"{"pcr":1,"digests":[],"content_type":"systemd","content":{}}"#;
    let many = [&[0x1e][..], one, b"\n"].concat().repeat(MAX_RECORDS + 1);
    assert_eq!(malformed(many), SequenceError::TooManyRecords);
    let banks = format!("\"digests\":[{}]", [r#"{"hashAlg":"x","digest":""}"#; 17].join(","));
    let banks = String::from_utf8(one.to_vec()).unwrap().replace("\"digests\":[]", &banks);
    assert_eq!(malformed(format!("\x1e{banks}\n")), SequenceError::SurplusDigest { position: 0 });
}

pub(crate) fn image(name: &str) -> ImageMeasurement {
    let digest = Digest::of(name.as_bytes());
    ImageMeasurement { kind: ImageKind::File, path: format!("/opt/plc/{name}"), digest, size: 4711 }
}

fn image_log(names: &[&str]) -> Vec<u8> {
    names.iter().flat_map(|name| image(name).to_record(&BANKS)).collect()
}

/// A boot that measured `real` images and sends a log of `told`.
fn measured(real: &[&str], told: &[&str]) -> Scene {
    let texts: Vec<String> = real.iter().map(|name| image(name).measured_text()).collect();
    let texts: Vec<(u32, &str)> = texts.iter().map(|text| (13, text.as_str())).collect();
    let mut scene = scene(&texts, None);
    scene.images = Some(image_log(told));
    scene
}

fn paths(scene: &Scene) -> Vec<String> {
    let verified = scene.verify().unwrap();
    Measurements::from(&verified).images().map(|image| image.path.clone()).collect()
}

#[test]
fn images_that_were_extended_are_confirmed() {
    assert_eq!(paths(&measured(&["a", "b"], &["a", "b"])), ["/opt/plc/a", "/opt/plc/b"]);
}

#[test]
fn g5_only_the_last_entry_may_be_missing_from_the_pcr() {
    assert_eq!(paths(&measured(&["a", "b"], &["a", "b", "c"])), ["/opt/plc/a", "/opt/plc/b"]);
    assert_eq!(paths(&measured(&[], &["a"])), [""; 0]);
    for (real, told) in [
        (&["a"][..], &["a", "b", "c"][..]),
        (&["a", "b"], &["a"]),
        (&["b", "a"], &["a", "b"]),
        (&["a", "evil"], &["a", "b"]),
    ] {
        let verified = measured(real, told).verify().unwrap();
        assert_eq!(verified.unexplained(), [pcr(13)], "{real:?} told as {told:?}");
        assert_eq!(Measurements::from(&verified).images().count(), 0);
    }
}

/// A log of images of a boot that measured none is of another boot.
#[test]
fn g5_an_image_log_of_another_boot_is_refused() {
    let error = measured(&[], &["a", "b"]).verify().unwrap_err();
    assert!(matches!(error, EvidenceError::LogMismatch { pcr: found, .. } if found == pcr(13)), "{error:?}");
}

#[test]
fn images_follow_what_systemd_measured_into_their_pcr() {
    let text = image("a").measured_text();
    let mut scene =
        scene(&[(13, OS_SEPARATOR), (13, &text)], Some(systemd(&[(r#""pcr":13"#, OS_SEPARATOR, None)])));
    scene.images = Some(image_log(&["a"]));
    assert_eq!(texts(&scene.verify().unwrap(), 13), some(&[OS_SEPARATOR, "/opt/plc/a"]));
}

#[test]
fn an_image_log_that_says_what_was_not_measured_is_refused() {
    let refused = |change: &dyn Fn(String) -> String| {
        let log = change(String::from_utf8(image_log(&["a", "b"])).unwrap());
        let mut scene = measured(&["a", "b"], &[]);
        scene.images = Some(log.into_bytes());
        match linux(&scene) {
            LinuxLogError::Images(error) => error,
            other => panic!("refused for another reason: {other:?}"),
        }
    };
    let unbound = ImageLogError::Unbound { position: 1, bank: HashAlg::Sha1 };
    assert_eq!(refused(&|log| log.replace("/opt/plc/b", "/opt/plc/c")), unbound);
    let first = ImageLogError::Unbound { position: 0, bank: HashAlg::Sha1 };
    assert_eq!(refused(&|log| log.replace("4711", "4712")), first);
    assert_eq!(refused(&|log| log.replace("\"file\"", "\"link\"")), first);
    let other = ImageLogError::Register { position: 0, register: Register::Pcr(pcr(11)) };
    assert_eq!(refused(&|log| log.replace("\"pcr\":13", "\"pcr\":11")), other);
    let shown = |path: &str| refused(&|log| log.replace("/opt/plc/a", path));
    assert_eq!(shown(""), ImageLogError::Path { position: 0 });
    assert_eq!(shown("/opt/\\u001b[2J"), ImageLogError::Path { position: 0 });
    assert_eq!(shown(&"x".repeat(4097)), ImageLogError::Path { position: 0 });
    let kind = refused(&|log| log.replace("\"file\"", "\"program\""));
    assert!(matches!(kind, ImageLogError::Sequence(SequenceError::Record { position: 0, .. })), "{kind:?}");
}

/// Whatever is sent as a log, no PCR is explained by events that do not hash to it.
#[test]
fn property_confirmed_events_hash_to_the_quoted_value() {
    use proptest::prelude::{ProptestConfig, any, prop_assert_eq};
    proptest::proptest!(ProptestConfig::with_cases(64), |(
        real in proptest::collection::vec(0..3_usize, 0..6),
        told in proptest::collection::vec(0..3_usize, 0..8),
        images in any::<bool>(),
    )| {
        let names = ["a", "b", "c"];
        let (real, told): (Vec<&str>, Vec<&str>) =
            (real.iter().map(|i| names[*i]).collect(), told.iter().map(|i| names[*i]).collect());
        let scene = if images {
            measured(&real, &told)
        } else {
            let texts: Vec<(u32, &str)> = real.iter().map(|text| (11, *text)).collect();
            let log: Vec<Measured<'_>> = told.iter().map(|text| (PCR_11, *text, None)).collect();
            scene(&texts, Some(systemd(&log)))
        };
        if let Ok(verified) = scene.verify() {
            for (index, quoted) in verified.pcrs().iter().filter(|(index, _)| !verified.unexplained().contains(index)) {
                let start = HashValue::repeated(HashAlg::Sha256, 0);
                let replayed = verified.events(index).iter().fold(start, |v, e| v.extend(e.digest.as_bytes()));
                prop_assert_eq!(&replayed, quoted);
            }
            let index = PcrIndex::new(if images { 13 } else { 11 }).unwrap();
            let is_prefix = told.starts_with(&real);
            let explained = !verified.unexplained().contains(&index);
            prop_assert_eq!(explained, is_prefix && (!images || told.len() <= real.len() + 1));
        }
    });
}

/// An image log as the attestor writes it reads back as what was measured, whatever the path.
#[test]
fn property_image_logs_round_trip() {
    use policy::eventlog::image::ImageLog;
    use proptest::prelude::{any, prop_assert_eq};
    proptest::proptest!(|(path in "[^\\pC]{1,60}", digest in any::<[u8; 32]>(), size in any::<u64>())| {
        let image = ImageMeasurement { kind: ImageKind::Container, path, digest: Digest(digest), size };
        let log = ImageLog::parse(&[image.to_record(&BANKS), image.to_record(&BANKS)].concat()).unwrap();
        let read: Vec<&ImageMeasurement> = log.entries().iter().map(|entry| &entry.image).collect();
        prop_assert_eq!(read, [&image, &image]);
    });
}

/// A changed log is refused, or the PCR's events are a beginning of the honest ones, or none.
#[test]
fn property_changed_logs_confirm_nothing_new() {
    use proptest::prelude::{any, prop_assert};
    let honest =
        scene(&[(11, "enter-initrd"), (11, "leave-initrd"), (11, "sysinit")], Some(systemd(&PHASES)));
    let expected = texts(&honest.verify().unwrap(), 11);
    proptest::proptest!(|(changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4))| {
        let mut log = systemd(&PHASES);
        for (index, byte) in changes {
            let at = index.index(log.len());
            log[at] = byte;
        }
        let changed = scene(&[(11, "enter-initrd"), (11, "leave-initrd"), (11, "sysinit")], Some(log));
        if let Ok(verified) = changed.verify() {
            let found = texts(&verified, 11);
            let unchanged = found.iter().zip(&expected).all(|(text, honest)| text.is_none() || text == honest);
            prop_assert!(unchanged && (found.is_empty() || found.len() == expected.len()));
        }
    });
}

/// An attestor that dies at any point between log and PCR goes on where it was; the Verifier then explains the PCR.
#[test]
fn property_an_image_log_is_taken_up_after_any_crash() {
    use policy::eventlog::image::ImageLog;
    use policy::eventlog::image::recovery::Recovery;
    use proptest::prelude::{any, prop_assert, prop_assert_eq};
    // Each step appends an entry and dies after extending 0, 1 or both of two banks; the recovery comes before the next.
    proptest::proptest!(|(steps in proptest::collection::vec(0..3_usize, 0..6), separated in any::<bool>())| {
        let banks = [HashAlg::Sha256, HashAlg::Sha384];
        let start = |bank: HashAlg| {
            let zero = HashValue::repeated(bank, 0);
            if separated { zero.extend(bank.hash(&[OS_SEPARATOR.as_bytes()]).as_bytes()) } else { zero }
        };
        let (mut values, mut log) = (banks.map(start), Vec::new());
        let recover = |values: &mut [HashValue; 2], log: &mut Vec<u8>| {
            match ImageLog::parse(log).unwrap().recovery(values).unwrap() {
                Recovery::BeginAnew => log.clear(),
                Recovery::Extend(lacking) => for digest in lacking {
                    let value = values.iter_mut().find(|value| value.alg() == digest.alg()).unwrap();
                    *value = value.extend(digest.as_bytes());
                },
            }
        };
        for (number, extended) in steps.into_iter().enumerate() {
            recover(&mut values, &mut log);
            let entry = image(&format!("f{number}"));
            log.extend(entry.to_record(&banks));
            for value in values.iter_mut().take(extended) {
                *value = value.extend(value.alg().hash(&[entry.measured_text().as_bytes()]).as_bytes());
            }
        }
        recover(&mut values, &mut log);
        let parsed = ImageLog::parse(&log).unwrap();
        for value in values {
            let digests = parsed.entries().iter().map(|entry| entry.digests.of(value.alg()).unwrap());
            let replayed = digests.fold(start(value.alg()), |at, digest| at.extend(digest.as_bytes()));
            prop_assert_eq!(replayed, value);
        }
        prop_assert_eq!(parsed.recovery(&values), Ok(Recovery::Extend(Vec::new())));
        // Whoever drops, repeats or moves an entry is told so.
        if parsed.entries().len() > 1 {
            let first = log.iter().skip(1).position(|byte| *byte == 0x1e).unwrap() + 1;
            let lost = ImageLog::parse(&log[first..]).unwrap();
            prop_assert!(lost.recovery(&values).is_err());
        }
    });
}

#[test]
fn g5_a_pcr_that_others_extended_or_whose_log_is_gone_is_named() {
    use policy::eventlog::image::ImageLog;
    use policy::eventlog::image::recovery::{Recovery, Unexplained};
    let zero = HashValue::repeated(HashAlg::Sha256, 0);
    let after = |value: HashValue, name: &str| {
        value.extend(HashAlg::Sha256.hash(&[image(name).measured_text().as_bytes()]).as_bytes())
    };
    let log = |names: &[&str]| ImageLog::parse(&image_log(names)).unwrap();
    let unexplained = Err(Unexplained { bank: HashAlg::Sha256 });
    let whole = after(after(zero, "a"), "b");
    assert_eq!(log(&[]).recovery(&[whole]), unexplained, "the log is gone");
    assert_eq!(log(&["a", "b"]).recovery(&[after(whole, "sysext")]), unexplained);
    assert_eq!(log(&["a", "b", "c"]).recovery(&[after(zero, "a")]), unexplained, "two entries are lacking");
    assert_eq!(log(&["a", "b"]).recovery(&[zero]), Ok(Recovery::BeginAnew), "a log of the boot before");
    assert_eq!(log(&[]).recovery(&[zero]), Ok(Recovery::Extend(Vec::new())));
    // A bank that the log has no digests of.
    let other = HashValue::repeated(HashAlg::Sha512, 0);
    assert_eq!(log(&["a"]).recovery(&[other]), Err(Unexplained { bank: HashAlg::Sha512 }));
}
