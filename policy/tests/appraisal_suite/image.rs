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
use policy::reference::manifest::Manifest;
use policy::reference::state::ReleaseState::Active;
use policy::tpm::alg::HashAlg;
use policy::tpm::pcr::{PcrIndex, PcrValues};

use crate::boot::{Boot, NOW, hash, manifest, pcr, policy_of, reference, rule};

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
        "file /tmp/evil has digest {evil}, which edge-box@1.4.0 does not list; install an approved one, or sign a release that lists it"
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
