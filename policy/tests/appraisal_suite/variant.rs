//! Variants of a release: a boot is of one of them, whole.

use std::collections::BTreeMap;
use std::path::Path;

use policy::appraisal::measurements::Measurements;
use policy::appraisal::policy::Mode;
use policy::appraisal::{AppraisalRecord, Verdict, forecast};
use policy::evidence::HardwareProof;
use policy::evidence::linux::EventOrigin;
use policy::evidence::verify::VerifiedEvent;
use policy::predict::release::{Artefact, Artefacts, PredictError, predict};
use policy::reference::manifest::variant::MAX_VARIANTS;
use policy::reference::manifest::{EventRule, Manifest};
use policy::reference::state::ReleaseState::Active;
use policy::tpm::alg::{HashAlg, HashValue};
use policy::tpm::pcr::{PcrIndex, PcrValues};
use proptest::prelude::*;

use crate::boot::{NOW, pcr, policy_of, reference, rule};

#[expect(clippy::disallowed_methods, reason = "tests read images")]
fn image(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/pe").join(name)).unwrap()
}

fn predicted(base: Option<&Manifest>) -> Result<Manifest, PredictError> {
    let (first, second) = (image("uki.efi"), image("profiles.efi"));
    let artefact = |name: &str, bytes| Artefact { name: name.to_owned(), bytes };
    let artefacts = Artefacts {
        ukis: vec![artefact("uki.efi", first.as_slice()), artefact("profiles.efi", second.as_slice())],
        ..Artefacts::default()
    };
    predict(&artefacts, &[HashAlg::Sha256], "edge-box@1.5".parse().unwrap(), None, base)
        .map(|predicted| predicted.manifest)
}

/// A boot that measures exactly what these rules ask for.
fn appraised<'a>(rules: impl IntoIterator<Item = &'a EventRule>, release: &Manifest) -> AppraisalRecord {
    let mut pcrs = PcrValues::new(HashAlg::Sha256);
    for number in 0..16 {
        pcrs.set(pcr(number), HashValue::repeated(HashAlg::Sha256, 0));
    }
    let mut events: BTreeMap<PcrIndex, Vec<VerifiedEvent>> = BTreeMap::new();
    for (position, rule) in rules.into_iter().enumerate() {
        let digest = *rule.digests(HashAlg::Sha256).next().unwrap();
        pcrs.set(rule.pcr, pcrs.value(rule.pcr).unwrap().extend(digest.as_bytes()));
        events.entry(rule.pcr).or_default().push(VerifiedEvent {
            position,
            pcr: rule.pcr,
            event_type: rule.event_type.0,
            digest,
            description: None,
            origin: EventOrigin::Firmware,
        });
    }
    let seen = events.iter().map(|(pcr, events)| (*pcr, events.as_slice()));
    let seen = Measurements::new(&pcrs, seen, &[], HardwareProof::Endorsed);
    let policy = policy_of(&["edge-box"], Mode::Enforce);
    forecast(&seen, &reference(&[(release.clone(), Active)]), &policy, NOW).record().clone()
}

/// What a boot of `variant` measures, optional events too.
fn of<'a>(release: &'a Manifest, variant: &'a str) -> impl Iterator<Item = &'a EventRule> {
    release.events().iter().filter(move |rule| rule.is_of(Some(variant)))
}

fn is_section(rule: &EventRule, name: &str) -> bool {
    rule.name.as_deref() == Some(&format!("section {name}"))
}

#[test]
fn each_of_two_images_is_accepted_and_no_mix_of_their_sections() {
    let release = predicted(None).unwrap();
    assert_eq!(release.variants(), [Some("image 1"), Some("image 2")]);
    for variant in ["image 1", "image 2"] {
        let record = appraised(of(&release, variant), &release);
        assert_eq!(record.release.as_ref(), Some(release.id()), "{:#?}", record.findings);
    }
    for section in [".linux", ".cmdline", ".osrel"] {
        let other = of(&release, "image 2").find(|rule| is_section(rule, section)).unwrap();
        let ours = of(&release, "image 1").find(|rule| is_section(rule, section)).unwrap();
        if ours.expectation == other.expectation {
            continue;
        }
        let mixed = of(&release, "image 1").map(|rule| if is_section(rule, section) { other } else { rule });
        let record = appraised(mixed, &release);
        assert_eq!((record.verdict, &record.release), (Verdict::Contraindicated, &None), "{section}");
        assert_eq!(record.findings[0].name.as_deref(), Some(format!("section {section}").as_str()));
        assert!(record.findings[0].sentence.contains("(image 1)"), "{}", record.findings[0].sentence);
    }
}

#[test]
fn an_image_with_the_sections_or_the_kernel_of_another_beside_its_own_is_refused() {
    let release = predicted(None).unwrap();
    for number in [4, 9, 11] {
        let more = release.rules(pcr(number)).filter(|rule| rule.variant.as_deref() == Some("image 2"));
        let more: Vec<&EventRule> = more
            .filter(|rule| !of(&release, "image 1").any(|own| own.expectation == rule.expectation))
            .collect();
        assert!(!more.is_empty(), "PCR {number} does not tell the images apart");
        let record = appraised(of(&release, "image 1").chain(more), &release);
        assert_eq!((record.verdict, &record.release), (Verdict::Contraindicated, &None), "PCR {number}");
    }
}

#[test]
fn a_pcr_that_one_variant_leaves_open_is_not_constrained() {
    let both = predicted(None).unwrap();
    assert!(both.constrained().contains(&pcr(9)));
    let text = both.render();
    let open: String = text
        .split("\n\n")
        .filter(|part| !(part.contains("pcr = 9\n") && part.contains("variant = \"image 2\"")))
        .collect::<Vec<_>>()
        .join("\n\n");
    let open = Manifest::parse(&format!("{}\n", open.trim_end())).unwrap();
    assert!(open.mentioned().contains(&pcr(9)) && !open.constrained().contains(&pcr(9)));
}

#[test]
fn releases_exclude_one_another_only_if_every_variant_does() {
    let both = predicted(None).unwrap();
    let only = |variant: &str| {
        let text = both.render();
        let other = format!("variant = \"{variant}\"");
        let kept = text.split("\n\n").filter(|part| !part.contains("variant") || part.contains(&other));
        Manifest::parse(&format!("{}\n", kept.collect::<Vec<_>>().join("\n\n").trim_end())).unwrap()
    };
    let (first, second) = (only("image 1"), only("image 2"));
    assert!(first.excludes(&second) && second.excludes(&first));
    for one in [&first, &second] {
        assert!(!both.excludes(one) && !one.excludes(&both));
    }
}

#[test]
fn variants_are_bounded_and_do_not_hide_contradictions() {
    let ipl = |number: usize, more: &str| {
        format!("[[event]]\npcr = 4\ntype = \"EV_IPL\"\n{more}\nvariant = \"{number}\"\n",)
    };
    let digest = |number: usize| format!("digest = [\"{number:064x}\"]");
    let parse = |rules: String| {
        let values = format!("[pcrs.sha256]\n0 = [\"{:064x}\"]\n", 7);
        Manifest::parse(&format!(
            "schema = 1\nproduct = \"p\"\nversion = \"1\"\ncounter = 1\n{values}{rules}"
        ))
    };
    let many = (0..=MAX_VARIANTS).map(|n| ipl(n, &digest(n))).collect::<String>();
    let faults = parse(many).unwrap_err().to_string();
    assert!(faults.contains("the list of variants has 17 entries"), "{faults}");
    let absent = "absent = true";
    assert!(parse(ipl(1, &digest(1)) + &ipl(2, absent)).is_ok());
    let faults = parse(ipl(1, &digest(1)) + &ipl(1, absent)).unwrap_err().to_string();
    assert!(faults.contains("both lists and forbids EV_IPL"), "{faults}");
    let everywhere = ipl(1, absent).replace("variant = \"1\"\n", "");
    assert!(parse(ipl(1, &digest(1)) + &everywhere).is_err());
    let twice = parse(ipl(1, &digest(1)) + &ipl(1, &digest(1))).unwrap_err().to_string();
    assert!(twice.contains("stated twice"), "{twice}");
}

#[test]
fn a_variant_that_asks_for_nothing_makes_the_release_one_that_everybody_passes() {
    let app = |kernel: &str| rule(4, "EV_EFI_BOOT_SERVICES_APPLICATION", &[kernel], "");
    let of = |rule: String, variant: &str| {
        format!("{}variant = \"{variant}\"\n", rule.trim_end().to_owned() + "\n")
    };
    let parse = |rules: &str| {
        Manifest::parse(&format!("schema = 1\nproduct = \"p\"\nversion = \"1\"\ncounter = 1\n{rules}"))
    };
    let (first, second) = (of(app("kernel A"), "a"), of(app("kernel B"), "b"));
    assert!(parse(&(first.clone() + &second)).is_ok());
    let other = rule(11, "EV_IPL", &["anything"], "");
    let faults = parse(&(first.clone() + &of(other, "b"))).unwrap_err().to_string();
    assert!(faults.contains("every device could pass"), "{faults}");
    let optional = second.replace("variant", "optional = true\nvariant");
    assert!(parse(&(first + &optional)).is_err());
}

#[test]
fn a_base_with_variants_elsewhere_is_refused() {
    let rule = "[[event]]\npcr = 8\ntype = \"EV_IPL\"\ndigest = [\"00\"]\nvariant = \"x\"\n"
        .replace("00", &"0a".repeat(32));
    let base = format!(
        "schema = 1\nproduct = \"edge-box\"\nversion = \"1\"\ncounter = 1\n[pcrs.sha256]\n0 = [\"{}\"]\n{rule}",
        "ab".repeat(32)
    );
    let refused = predicted(Some(&Manifest::parse(&base).unwrap())).unwrap_err();
    assert!(matches!(refused, PredictError::BaseVariants { pcr, .. } if pcr.number() == 8), "{refused}");
}

proptest! {
    /// Whatever is taken from each image: unless one of them has all of it, it is refused.
    #[test]
    fn no_choice_of_rules_from_both_images_passes(choice in prop::collection::vec(any::<bool>(), 64)) {
        let release = predicted(None).unwrap();
        let (first, second): (Vec<_>, Vec<_>) =
            (of(&release, "image 1").collect(), of(&release, "image 2").collect());
        let taken: Vec<&EventRule> = first.iter().zip(&second).zip(&choice)
            .map(|((one, other), second)| if *second { *other } else { *one }).collect();
        let has = |all: &[&EventRule]| {
            let listed = |rule: &&&EventRule| all.iter().any(|known| known.expectation == rule.expectation);
            taken.iter().all(|rule| listed(&rule))
                && all.iter().filter(|rule| !rule.is_optional())
                    .all(|rule| taken.iter().any(|known| known.expectation == rule.expectation))
        };
        let record = appraised(taken.iter().copied(), &release);
        prop_assert_eq!(record.release.is_some(), has(&first) || has(&second));
    }
}
