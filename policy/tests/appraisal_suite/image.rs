//! Images that the attestor measured, held against the image rules of a release.

use std::collections::BTreeMap;

use policy::appraisal::Verdict;
use policy::appraisal::claims::{Claim, ClaimValue};
use policy::appraisal::finding::{Finding, FindingKind};
use policy::appraisal::measurements::Measurements;
use policy::appraisal::policy::Mode;
use policy::appraisal::{AppraisalRecord, forecast};
use policy::digest::Digest;
use policy::eventlog::event::EventType;
use policy::eventlog::image::{ImageKind, ImageMeasurement};
use policy::eventlog::userspace::OS_SEPARATOR;
use policy::evidence::HardwareProof;
use policy::evidence::linux::EventOrigin;
use policy::evidence::verify::VerifiedEvent;
use policy::reference::learn::{ImageNote, LearnNote, Learned, ReferenceDevice, learn};
use policy::reference::learn_words::describe;
use policy::reference::manifest::Manifest;
use policy::reference::state::ReleaseState::Active;
use policy::tpm::alg::{HashAlg, HashValue};
use policy::tpm::pcr::{PcrIndex, PcrValues};

use crate::boot::{Boot, NOW, hash, manifest, pcr, policy_of, reference, rule};
use crate::learn::lesson;

fn image(path: &str, content: &str) -> EventOrigin {
    let digest = Digest::of(content.as_bytes());
    let (kind, path) = (ImageKind::File, path.to_owned());
    EventOrigin::Image(Box::new(ImageMeasurement { kind, path, digest, size: 7 }))
}

fn userspace(text: &str) -> EventOrigin {
    EventOrigin::Userspace { text: Some(text.to_owned()) }
}

/// An event of PCR 13 with the digest that its origin binds.
fn event(position: usize, origin: EventOrigin) -> VerifiedEvent {
    let (event_type, digest) = match &origin {
        EventOrigin::Image(image) => (EventType::IMAGE, hash(&image.measured_text())),
        EventOrigin::Userspace { text } => (EventType::SYSTEMD, hash(text.as_deref().unwrap_or("secret"))),
        EventOrigin::Firmware => (EventType::IPL, hash("sysext")),
    };
    VerifiedEvent { position, pcr: pcr(13), event_type: event_type.0, digest, description: None, origin }
}

/// What the release with these rules says of a device with these events in PCR 13; `None` if no log
/// explains the PCR.
fn appraised(rules: &str, origins: Option<Vec<EventOrigin>>) -> AppraisalRecord {
    let boot = Boot::of("kernel");
    let replayed = boot.replayed();
    let unexplained: &[PcrIndex] = if origins.is_some() { &[] } else { &[pcr(13)] };
    let mut events: BTreeMap<PcrIndex, Vec<VerifiedEvent>> = replayed.events.clone();
    let origins = origins.unwrap_or_default();
    events.insert(pcr(13), origins.into_iter().enumerate().map(|(at, origin)| event(at, origin)).collect());
    let borrowed = events.iter().map(|(pcr, events)| (*pcr, events.as_slice()));
    let seen = Measurements::new(&replayed.pcrs, borrowed, unexplained, boot.hardware);
    let release = manifest("1.4.0", 7, &(boot.values(&[0, 2, 4, 7]) + rules));
    let reference = reference(&[(release, Active)]);
    forecast(&seen, &reference, &policy_of(&["edge-box"], Mode::Enforce), NOW).record().clone()
}

fn image_rule(path: &str, content: &str, more: &str) -> String {
    let digest = Digest::of(content.as_bytes());
    format!("[[image]]\npath = \"{path}\"\ndigest = [\"{digest}\"]\n{more}\n")
}

fn rules() -> String {
    image_rule("/opt/press", "press", "name = \"press program\"")
        + &image_rule("/opt/model", "model", "optional = true")
}

fn told(record: &AppraisalRecord) -> Vec<(FindingKind, &str)> {
    assert!(record.findings.iter().all(|finding: &Finding| finding.pcr == Some(13)), "{:?}", record.findings);
    record.findings.iter().map(|finding| (finding.kind, finding.sentence.as_str())).collect()
}

#[test]
fn listed_images_are_approved_and_optional_ones_may_be_missing() {
    for origins in [
        vec![image("/opt/press", "press")],
        vec![image("/opt/model", "model"), image("/opt/press", "press"), image("/opt/press", "press")],
        vec![userspace(OS_SEPARATOR), image("/opt/press", "press")],
    ] {
        let record = appraised(&rules(), Some(origins));
        assert_eq!((record.verdict, told(&record)), (Verdict::Affirming, vec![]));
    }
}

/// Optional images too: a folder without the PCR must not pass for a device that measured none.
#[test]
fn images_whose_pcr_was_not_quoted_are_not_passed_over() {
    let replayed = Boot::of("kernel").replayed();
    let mut few = PcrValues::new(HashAlg::Sha256);
    for (index, value) in replayed.pcrs.iter().filter(|(index, _)| *index != pcr(13)) {
        few.set(index, *value);
    }
    let events = replayed.events.iter().map(|(pcr, events)| (*pcr, events.as_slice()));
    let seen = Measurements::new(&few, events, &[], HardwareProof::Endorsed);
    let rules =
        Boot::of("kernel").values(&[0, 2, 4, 7]) + &image_rule("/opt/model", "model", "optional = true");
    let reference = reference(&[(manifest("1.4.0", 7, &rules), Active)]);
    let record = forecast(&seen, &reference, &policy_of(&["edge-box"], Mode::Enforce), NOW).record().clone();
    assert_eq!(record.verdict, Verdict::Contraindicated);
    assert_eq!(told(&record).iter().map(|told| told.0).collect::<Vec<_>>(), [FindingKind::PcrNotQuoted]);
}

#[test]
fn a_rule_without_a_path_accepts_its_digest_anywhere() {
    let anywhere = image_rule("", "press", "").replace("path = \"\"\n", "");
    let record = appraised(&anywhere, Some(vec![image("/home/press", "press")]));
    assert_eq!(record.verdict, Verdict::Affirming);
}

#[test]
fn an_unknown_image_is_told_with_path_and_digest() {
    let record = appraised(&rules(), Some(vec![image("/opt/press", "press"), image("/tmp/evil", "evil")]));
    assert_eq!(record.verdict, Verdict::Contraindicated);
    assert_eq!(record.claims.value(Claim::Executables), ClaimValue::UNRECOGNISED);
    let evil = Digest::of(b"evil");
    let sentence = format!(
        "file /tmp/evil has digest {evil}, which edge-box@1.4.0 does not list; install an approved one and restart the device, or sign a release that lists it"
    );
    assert_eq!(told(&record), [(FindingKind::UnknownImage, sentence.as_str())]);
}

#[test]
fn a_changed_image_is_told_by_name() {
    let record = appraised(&rules(), Some(vec![image("/opt/press", "patched")]));
    let [(unknown, sentence), (missing, other)] = told(&record)[..] else { panic!("{record:?}") };
    assert_eq!((unknown, missing), (FindingKind::UnknownImage, FindingKind::MissingImage));
    assert!(sentence.contains("is not the one of press program in edge-box@1.4.0"), "{sentence}");
    assert!(other.starts_with("press program, which edge-box@1.4.0 asks for, was not measured"), "{other}");
    let finding = &record.findings[0];
    let digest = |content: &str| Some(hash(content)).map(|value| value.to_string());
    assert_eq!(finding.name.as_deref(), Some("press program"));
    assert_eq!(finding.expected.first().map(|text| text.0.to_string()), digest("press"));
    assert_eq!(finding.seen.as_ref().map(|text| text.0.to_string()), digest("patched"));
}

fn of_kind(kind: ImageKind, path: &str, content: &str) -> EventOrigin {
    let digest = Digest::of(content.as_bytes());
    EventOrigin::Image(Box::new(ImageMeasurement { kind, path: path.to_owned(), digest, size: 7 }))
}

/// What was there may have been used: PCR 13 keeps it until the device restarts, and so does the refusal.
#[test]
fn an_image_that_was_put_back_is_refused_until_the_device_restarts() {
    let history = ["press", "patched", "press"].map(|content| image("/opt/press", content)).to_vec();
    let record = appraised(&rules(), Some(history));
    let [(kind, sentence)] = told(&record)[..] else { panic!("{record:?}") };
    assert_eq!((record.verdict, kind), (Verdict::Contraindicated, FindingKind::UnknownImage));
    assert!(sentence.contains("it is an approved one again: restart the device"), "{sentence}");
}

#[test]
fn what_is_optional_may_go_and_nothing_else() {
    let both = || vec![image("/opt/press", "press"), image("/opt/model", "model")];
    let gone = |path, content| [both(), vec![of_kind(ImageKind::Removed, path, content)]].concat();
    assert_eq!(appraised(&rules(), Some(gone("/opt/model", "model"))).verdict, Verdict::Affirming);
    let record = appraised(&rules(), Some(gone("/opt/press", "press")));
    let [(kind, sentence)] = told(&record)[..] else { panic!("{record:?}") };
    assert_eq!((record.verdict, kind), (Verdict::Contraindicated, FindingKind::UnknownImage));
    assert!(sentence.starts_with("/opt/press was removed while the device ran"), "{sentence}");
}

/// The digest of an approved image helps nothing where it was not measured whole, or not at all.
#[test]
fn what_could_not_be_measured_is_accepted_by_no_release() {
    for (kind, word) in [
        (ImageKind::Unreadable, "could not be measured"),
        (ImageKind::Unstable, "went on changing"),
        (ImageKind::Overflow, "is more than the attestor measures"),
    ] {
        let origins = vec![image("/opt/press", "press"), of_kind(kind, "/opt/model", "model")];
        let record = appraised(&rules(), Some(origins));
        let [(found, sentence)] = told(&record)[..] else { panic!("{record:?}") };
        assert_eq!((record.verdict, found), (Verdict::Contraindicated, FindingKind::UnknownImage));
        assert!(sentence.starts_with("/opt/model ") && sentence.contains(word), "{sentence}");
    }
}

/// Learns from devices that measured these images.
fn learned(devices: &[Vec<EventOrigin>], one_of: bool) -> Learned {
    let replayed = Boot::of("kernel").replayed();
    let with = |origins: &Vec<EventOrigin>| {
        let mut events = replayed.events.clone();
        let mut pcrs = replayed.pcrs.clone();
        let of_13: Vec<VerifiedEvent> =
            origins.iter().cloned().enumerate().map(|(at, origin)| event(at, origin)).collect();
        let start = HashValue::repeated(HashAlg::Sha256, 0);
        pcrs.set(pcr(13), of_13.iter().fold(start, |value, event| value.extend(event.digest.as_bytes())));
        events.insert(pcr(13), of_13);
        (pcrs, events)
    };
    let seen: Vec<_> = devices.iter().map(with).collect();
    let measured = seen.iter().map(|(pcrs, events)| {
        let events = events.iter().map(|(pcr, events)| (*pcr, events.as_slice()));
        ReferenceDevice::from(Measurements::new(pcrs, events, &[], HardwareProof::Endorsed))
    });
    learn(&measured.collect::<Vec<_>>(), lesson(one_of)).unwrap()
}

#[test]
fn images_that_all_devices_have_are_learned_and_nothing_else_is_accepted() {
    let device = || vec![image("/opt/press", "press"), of_kind(ImageKind::Link, "/opt/plc/current", "press")];
    let release = learned(&[device(), device()], false);
    assert_eq!(release.manifest.images().len(), 2);
    let about_13 =
        |note: &&LearnNote| matches!(note, LearnNote::Unstable { pcr: 13 } | LearnNote::Image { .. });
    assert_eq!(release.notes.iter().find(about_13), None);
    assert!(release.manifest.images().iter().all(|rule| !rule.optional));
}

#[test]
fn images_that_differ_are_left_out_or_each_accepted() {
    let devices = [vec![image("/opt/press", "a")], vec![image("/opt/press", "b"), image("/opt/model", "m")]];
    let strict = learned(&devices, false);
    assert!(strict.manifest.images().is_empty());
    let path =
        |path: &str| LearnNote::Image { pcr: 13, path: path.into(), device: 2, why: ImageNote::Differs };
    assert!(strict.notes.contains(&path("/opt/press")) && strict.notes.contains(&path("/opt/model")));
    let words = describe(&strict, &["d-1".into(), "d-2".into()]).join("\n");
    assert!(
        words.contains("image /opt/press is left out") && words.contains("--one-of accepts each"),
        "{words}"
    );
    let each = learned(&devices, true);
    let rules: Vec<_> =
        each.manifest.images().iter().map(|rule| (rule.digests.len(), rule.optional)).collect();
    assert_eq!(rules, [(1, true), (2, false)], "the model may be missing, the program may be one of two");
}

#[test]
fn what_changed_went_or_was_not_measured_is_told_when_learning() {
    let device = vec![
        image("/opt/press", "old"),
        image("/opt/press", "new"),
        image("/opt/model", "m"),
        of_kind(ImageKind::Removed, "/opt/model", "m"),
        of_kind(ImageKind::Unreadable, "/opt/pipe", ""),
    ];
    let release = learned(&[device], false);
    let [rule] = release.manifest.images() else { panic!("{:?}", release.manifest.images()) };
    assert_eq!((rule.path.as_deref(), rule.digests.first()), (Some("/opt/press"), Some(&Digest::of(b"new"))));
    let told = |path: &str, why| {
        release.notes.contains(&LearnNote::Image { pcr: 13, path: path.into(), device: 1, why })
    };
    assert!(told("/opt/press", ImageNote::Changed), "{:?}", release.notes);
    assert!(told("/opt/model", ImageNote::Removed) && told("/opt/pipe", ImageNote::Unmeasured));
}

/// The right digest at another place is another image.
#[test]
fn an_image_at_another_path_is_unknown() {
    let record = appraised(&rules(), Some(vec![image("/opt/press", "press"), image("/opt/model", "press")]));
    assert_eq!(told(&record).iter().map(|told| told.0).collect::<Vec<_>>(), [FindingKind::UnknownImage]);
}

/// Leaving the log out, or telling an image as somebody else's event, must gain nothing.
#[test]
fn an_image_cannot_be_hidden() {
    let optional = image_rule("/opt/model", "model", "optional = true");
    let kinds = |origins| told(&appraised(&optional, origins)).iter().map(|told| told.0).collect::<Vec<_>>();
    assert_eq!(kinds(Some(vec![])), []);
    assert_eq!(kinds(None), [FindingKind::Unexplained]);
    let EventOrigin::Image(evil) = image("/tmp/evil", "evil") else { panic!() };
    assert_eq!(kinds(Some(vec![userspace(&evil.measured_text())])), [FindingKind::UnexpectedEvent]);
    assert_eq!(kinds(Some(vec![EventOrigin::Userspace { text: None }])), [FindingKind::UnexpectedEvent]);
    assert_eq!(kinds(Some(vec![EventOrigin::Firmware])), [FindingKind::UnexpectedEvent]);
}

#[test]
fn event_rules_allow_what_else_is_in_the_pcr() {
    let sysext = optional_rules() + &rule(13, "EV_IPL", &["sysext"], "");
    let record = appraised(&sysext, Some(vec![EventOrigin::Firmware, image("/opt/model", "model")]));
    assert_eq!(record.verdict, Verdict::Affirming);
}

fn optional_rules() -> String {
    image_rule("/opt/model", "model", "optional = true")
}

/// Without image rules, images are events like any others.
#[test]
fn a_closed_pcr_without_image_rules_refuses_images() {
    let closed = rule(13, "EV_IPL", &["sysext"], "");
    let record = appraised(&closed, Some(vec![EventOrigin::Firmware, image("/opt/model", "model")]));
    assert_eq!(told(&record).iter().map(|told| told.0).collect::<Vec<_>>(), [FindingKind::UnexpectedEvent]);
}

#[test]
fn image_rules_render_and_read_back() {
    let text =
        Boot::of("k").values(&[0]) + &rules() + &image_rule("", "any", "").replace("path = \"\"\n", "");
    let manifest = manifest("1.4.0", 7, &text);
    assert_eq!(manifest.images().len(), 3);
    assert_eq!(Manifest::parse(&manifest.render()).unwrap(), manifest);
}

#[test]
fn wrong_image_rules_are_reported() {
    let head = "schema = 1\nproduct = \"edge-box\"\nversion = \"1\"\ncounter = 1\n".to_owned();
    let base = head + &Boot::of("k").values(&[0]);
    for (rules, fault) in [
        ("[[image]]\npath = \"/a\"\n".to_owned(), "`digest` is missing"),
        ("[[image]]\ndigest = []\n".to_owned(), "`digest` is empty"),
        ("[[image]]\ndigest = [\"sha256:00\"]\n".to_owned(), "is no sha256 digest"),
        ("[[image]]\nsize = 1\n".to_owned(), "`size` is no field here"),
        (image_rule("/a", "a", "") + &image_rule("/a", "a", ""), "an image rule is stated twice"),
        ("image = 1\n".to_owned(), "`image` must be a list of tables"),
    ] {
        let base = if rules.starts_with("image") {
            base.replacen("[pcrs", &format!("{rules}[pcrs"), 1)
        } else {
            base.clone() + &rules
        };
        let faults = Manifest::parse(&base).unwrap_err().to_string();
        assert!(faults.contains(fault), "{faults}");
    }
}
