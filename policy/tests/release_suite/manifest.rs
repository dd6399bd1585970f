//! A manifest is read back as it was written, or refused with every fault and its place.

use policy::reference::manifest::{
    MAX_FAULTS, MAX_MANIFEST_BYTES, MAX_RULE_DIGESTS, Manifest, ManifestProblem,
};
use proptest::prelude::*;

pub(crate) const HEAD: &str = "schema = 1\nproduct = \"edge-box\"\nversion = \"1.4.0\"\ncounter = 7\n";

pub(crate) fn digest(byte: u8) -> String {
    format!("{byte:02x}").repeat(32)
}

pub(crate) fn minimal() -> String {
    format!("{HEAD}\n[pcrs.sha256]\n0 = [\"{}\"]\n", digest(1))
}

/// Line, column and what is wrong, of every fault.
pub(crate) fn faults(text: &str) -> Vec<(usize, usize, ManifestProblem)> {
    let faults = Manifest::parse(text).unwrap_err();
    faults.faults().iter().map(|fault| (fault.line, fault.column, fault.problem.clone())).collect()
}

#[test]
fn a_manifest_says_what_was_written() {
    let text = format!(
        "{HEAD}description = \"first \\\"light\\\"\"\n[pcrs.sha256]\n7 = [\"{}\", \"{}\"]\n\
         [[event]]\npcr = 4\ntype = \"EV_EFI_BOOT_SERVICES_APPLICATION\"\ndigest = [\"{}\"]\nname = \"kernel\"\n\
         [[event]]\npcr = 4\ntype = \"0x0000040e\"\nabsent = true\n",
        digest(2),
        digest(1),
        digest(3).to_uppercase(),
    );
    let manifest = Manifest::parse(&text).unwrap();
    assert_eq!(manifest.id().to_string(), "edge-box@1.4.0");
    assert_eq!(manifest.counter(), 7);
    let canonical = format!(
        "{HEAD}description = \"first \\\"light\\\"\"\n\n[pcrs.sha256]\n7 = [\n  \"{}\",\n  \"{}\",\n]\n\
         \n[[event]]\npcr = 4\ntype = \"EV_EFI_BOOT_SERVICES_APPLICATION\"\ndigest = [\"{}\"]\nname = \"kernel\"\n\
         \n[[event]]\npcr = 4\ntype = \"0x0000040e\"\nabsent = true\n",
        digest(1),
        digest(2),
        digest(3),
    );
    assert_eq!(manifest.render(), canonical);
    let json = serde_json::to_value(&manifest).unwrap();
    assert_eq!(json["event"][0]["digest"][0], format!("sha256:{}", digest(3)));
    assert_eq!(json["pcrs"]["sha256"]["7"][0], digest(1));
}

#[test]
fn all_faults_are_told_at_once_with_their_places() {
    let text = "schema = 2\nproduct = \"Edge Box\"\ncounter = -1\ncolour = \"red\"\n\n[pcrs.sha1]\n0 = []\n\n\
                [pcrs.sha256]\n16 = [\"00\"]\n\n[[event]]\npcr = 4\ntype = \"EV_KERNEL\"\n";
    let found = faults(text);
    let places: Vec<(usize, usize)> = found.iter().map(|(line, column, _)| (*line, *column)).collect();
    assert_eq!(
        places,
        [(1, 1), (1, 10), (2, 11), (3, 11), (4, 1), (6, 7), (10, 1), (10, 7), (12, 1), (14, 8)]
    );
    let problems: Vec<&ManifestProblem> = found.iter().map(|(_, _, problem)| problem).collect();
    assert!(matches!(problems[0], ManifestProblem::Missing { field: "version", .. }));
    assert_eq!(*problems[1], ManifestProblem::Schema("2".to_owned()));
    assert!(matches!(problems[2], ManifestProblem::Product(_)));
    assert!(matches!(problems[3], ManifestProblem::WrongType { wanted: "a whole number from 0", .. }));
    assert!(matches!(problems[4], ManifestProblem::UnknownField { found, .. } if found == "colour"));
    assert_eq!(*problems[5], ManifestProblem::Bank("sha1".to_owned()));
    assert_eq!(*problems[6], ManifestProblem::Pcr("16".to_owned()));
    assert!(matches!(problems[7], ManifestProblem::Digest { found, .. } if found == "00"));
    assert!(matches!(problems[8], ManifestProblem::Missing { field: "digest", .. }));
    assert!(matches!(problems[9], ManifestProblem::EventType(_)));
    let report = Manifest::parse(text).unwrap_err().to_string();
    assert!(report.contains("line 10, column 7: `00` is no sha256 digest"), "{report}");
}

#[test]
fn a_fault_of_syntax_does_not_hide_the_others_nor_invent_any() {
    let found = faults("schema = 1\nproduct = \nversion = \"1 2\"\ncounter = 7\n");
    assert!(matches!(found[0], (2, _, ManifestProblem::Syntax(_))), "{found:?}");
    assert!(matches!(found[1], (3, 11, ManifestProblem::Version(_))), "{found:?}");
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn a_manifest_that_every_device_would_pass_is_refused() {
    assert_eq!(faults(HEAD), [(1, 1, ManifestProblem::AcceptsEverything)]);
    // What was booted extends these itself.
    let later = format!("{HEAD}\n[pcrs.sha256]\n11 = [\"{}\"]\n", digest(1));
    assert_eq!(faults(&later), [(1, 1, ManifestProblem::AcceptsEverything)]);
    let only_absent = format!("{HEAD}[[event]]\npcr = 4\ntype = \"EV_IPL\"\nabsent = true\n");
    assert_eq!(faults(&only_absent), [(1, 1, ManifestProblem::AcceptsEverything)]);
}

#[test]
fn rules_that_repeat_or_contradict_are_refused() {
    let rule = format!("[[event]]\npcr = 4\ntype = \"EV_IPL\"\ndigest = [\"{}\"]\n", digest(1));
    let twice = faults(&format!("{HEAD}{rule}{rule}"));
    assert!(matches!(&twice[..], [(9, 1, ManifestProblem::Duplicate(_))]), "{twice:?}");
    let both = faults(&format!("{HEAD}{rule}[[event]]\npcr = 4\ntype = \"EV_IPL\"\nabsent = true\n"));
    assert!(matches!(&both[..], [(5, 1, ManifestProblem::Contradiction { pcr: 4, .. })]), "{both:?}");
    let absent_with = faults(&format!("{HEAD}{rule}absent = true\n"));
    assert!(matches!(&absent_with[..], [(8, 10, ManifestProblem::AbsentWith("digest"))]), "{absent_with:?}");
    let no_action =
        faults(&format!("{HEAD}[[event]]\npcr = 0\ntype = \"EV_NO_ACTION\"\ndigest = [\"{}\"]\n", digest(1)));
    assert!(matches!(&no_action[..], [(7, 8, ManifestProblem::NoAction)]), "{no_action:?}");
}

#[test]
fn early_is_about_applications_of_pcr_4() {
    let rule = |pcr: u8, event_type: &str, more: &str| {
        format!(
            "{HEAD}\n[[event]]\npcr = {pcr}\ntype = \"{event_type}\"\ndigest = [\"{}\"]\n{more}",
            digest(1)
        )
    };
    let application = "EV_EFI_BOOT_SERVICES_APPLICATION";
    let text = rule(4, application, "early = true\n");
    let manifest = Manifest::parse(&text).unwrap();
    assert_eq!(manifest.render(), text);
    assert_eq!(serde_json::to_value(&manifest).unwrap()["event"][0]["early"], true);
    let plain = Manifest::parse(&rule(4, application, "early = false\n")).unwrap();
    assert_eq!(plain.render(), rule(4, application, ""));
    for (pcr, event_type) in [(2, application), (4, "EV_SEPARATOR")] {
        assert_eq!(faults(&rule(pcr, event_type, "early = true\n")), [(10, 9, ManifestProblem::Early)]);
    }
    let absent = format!("{HEAD}[[event]]\npcr = 4\ntype = \"{application}\"\nabsent = true\nearly = true\n");
    assert_eq!(faults(&absent)[0].2, ManifestProblem::AbsentWith("early"));
}

#[test]
fn a_secure_boot_section_closes_pcr_7_with_all_its_lists() {
    let all = ["pk", "kek", "db", "dbx", "authorities"];
    let section = |fields: &[&str]| {
        let lists: Vec<String> =
            fields.iter().map(|field| format!("{field} = [\"{}\"]\n", digest(9))).collect();
        format!("{HEAD}\n[secure_boot]\nenabled = true\n{}", lists.concat())
    };
    let closed = Manifest::parse(&section(&all)).unwrap();
    assert_eq!(closed.render(), section(&all));
    let numbers = |pcrs: std::collections::BTreeSet<policy::tpm::pcr::PcrIndex>| -> Vec<u8> {
        pcrs.into_iter().map(|pcr| pcr.number()).collect()
    };
    assert_eq!((numbers(closed.mentioned()), numbers(closed.constrained())), (vec![7], vec![7]));
    let json = serde_json::to_value(&closed).unwrap();
    assert_eq!(json["secure_boot"]["enabled"], true);
    assert_eq!(json["secure_boot"]["dbx"][0], format!("sha256:{}", digest(9)));
    for left_out in all {
        let fields: Vec<&str> = all.into_iter().filter(|field| *field != left_out).collect();
        assert_eq!(faults(&section(&fields)), [(1, 1, ManifestProblem::AcceptsEverything)], "{left_out}");
        let beside = format!("{}\n[pcrs.sha256]\n0 = [\"{}\"]\n", section(&fields), digest(1));
        let open = Manifest::parse(&beside).unwrap();
        assert_eq!((numbers(open.mentioned()), numbers(open.constrained())), (vec![0, 7], vec![0]));
    }
}

#[test]
fn a_secure_boot_section_is_refused_with_every_fault() {
    let text = format!(
        "{}[secure_boot]\nenabled = false\npk = []\nkek = \"x\"\ndb = [\"00\"]\ncolour = 1\nauthorities = [\"{}\"]\n",
        minimal(),
        "00".repeat(48)
    );
    let found = faults(&text);
    let problems: Vec<&ManifestProblem> = found.iter().map(|(_, _, problem)| problem).collect();
    let [off, empty, list, short, unknown, other_bank] = problems[..] else { panic!("{found:?}") };
    assert_eq!((off, empty), (&ManifestProblem::SecureBootOff, &ManifestProblem::Empty("pk".to_owned())));
    assert!(matches!(list, ManifestProblem::WrongType { field, .. } if field == "kek"));
    assert!(matches!(short, ManifestProblem::Digest { found, .. } if found == "00"));
    assert!(matches!(unknown, ManifestProblem::UnknownField { found, .. } if found == "colour"));
    assert!(matches!(other_bank, ManifestProblem::Digest { wanted, .. } if wanted == "sha256"));
    let without = faults(&format!("{}[secure_boot]\n", minimal()));
    assert!(
        matches!(without[..], [(_, _, ManifestProblem::Missing { field: "enabled", .. })]),
        "{without:?}"
    );
    let no_table = faults(&format!("secure_boot = true\n{}", minimal()));
    assert!(matches!(no_table[..], [(1, _, ManifestProblem::WrongType { .. })]), "{no_table:?}");
}

#[test]
fn sizes_are_bounded_before_they_are_read() {
    let large = format!("{}# {}", minimal(), "x".repeat(MAX_MANIFEST_BYTES));
    assert!(matches!(faults(&large)[..], [(1, 1, ManifestProblem::TooLarge(_))]));
    let many: Vec<String> = (0..=MAX_RULE_DIGESTS).map(|n| format!("\"{:064x}\"", n)).collect();
    let text = format!("{HEAD}[[event]]\npcr = 4\ntype = \"EV_IPL\"\ndigest = [{}]\n", many.join(","));
    assert!(matches!(
        &faults(&text)[..],
        [(8, 10, ManifestProblem::TooLong { limit: MAX_RULE_DIGESTS, .. })]
    ));
    let nested = format!("{HEAD}x = {}", "[".repeat(100_000));
    assert!(matches!(faults(&nested)[0], (5, _, ManifestProblem::Syntax(_))));
}

#[test]
fn text_that_would_deceive_a_reviewer_is_refused() {
    let text =
        format!("{}\n", minimal().replace("counter = 7\n", "counter = 7\ndescription = \"a\u{202e}b\"\n"));
    assert_eq!(faults(&text), [(5, 15, ManifestProblem::NotPlain("description"))]);
}

fn hex_digest() -> impl Strategy<Value = String> {
    prop_oneof![Just(32_usize), Just(48), Just(64)]
        .prop_flat_map(|len| prop::collection::vec(any::<u8>(), len))
        .prop_map(|bytes| bytes.iter().map(|b| format!("{b:02x}")).collect())
}

fn event() -> impl Strategy<Value = String> {
    let digests = prop::collection::btree_set(hex_digest(), 1..4);
    let name = prop::option::of("[ -~äß€]{0,20}");
    (0_u8..16, prop_oneof![Just(4_u32), Just(0x8000_0003), 5_u32..2000], digests, any::<bool>(), name).prop_map(
        |(pcr, event_type, digests, optional, name)| {
            let digests: Vec<String> = digests.iter().map(|d| format!("\"{d}\"")).collect();
            let name = name.map(|n| format!("name = {}\n", serde_json::to_string(&n).unwrap())).unwrap_or_default();
            let event_type = policy::reference::event_type::EventType(event_type);
            format!(
                "[[event]]\n{name}digest = [{}]\noptional = {optional}\ntype = \"{event_type}\"\npcr = {pcr}\n",
                digests.join(", ")
            )
        },
    )
}

fn secure_boot() -> impl Strategy<Value = String> {
    let lists = prop::collection::btree_map(
        prop::sample::select(vec!["pk", "kek", "db", "dbx", "authorities"]),
        prop::collection::btree_set("[0-9a-f]{64}", 1..4),
        0..6,
    );
    prop::option::of(lists).prop_map(|lists| {
        let list = |(field, digests): (&str, std::collections::BTreeSet<String>)| {
            let digests: Vec<String> = digests.iter().map(|digest| format!("\"{digest}\"")).collect();
            format!("{field} = [{}]\n", digests.join(","))
        };
        let section = |lists: std::collections::BTreeMap<_, _>| {
            format!("[secure_boot]\n{}enabled = true\n", lists.into_iter().map(list).collect::<String>())
        };
        lists.map(section).unwrap_or_default()
    })
}

fn manifest_text() -> impl Strategy<Value = String> {
    let values =
        prop::collection::btree_map(0_u8..16, prop::collection::btree_set("[0-9a-f]{64}", 1..4), 0..6);
    let events = prop::collection::vec(event(), 0..6);
    (any::<u32>(), "[ -~]{0,40}", values, events, secure_boot()).prop_map(|(counter, description, values, events, section)| {
        let rules: Vec<String> = values
            .iter()
            .map(|(pcr, values)| {
                let values: Vec<String> = values.iter().map(|v| format!("'{v}'")).collect();
                format!("{pcr} = [{}]\n", values.join(","))
            })
            .collect();
        format!(
            "counter = {counter}\nschema = 1\nversion = \"1\"\nproduct = \"edge-box\"\ndescription = {}\n[pcrs.sha256]\n{}{}{section}",
            serde_json::to_string(&description).unwrap(),
            rules.concat(),
            events.concat()
        )
    })
}

proptest! {
    #[test]
    fn rendering_and_parsing_are_inverse(text in manifest_text()) {
        // Some generated manifests say nothing or say it twice; those are refused for that alone.
        match Manifest::parse(&text) {
            Ok(manifest) => {
                let rendered = manifest.render();
                let again = Manifest::parse(&rendered).unwrap();
                prop_assert_eq!(again.render(), rendered);
                prop_assert_eq!(again.digest(), manifest.digest());
                prop_assert_eq!(again, manifest);
            }
            Err(faults) => {
                let known = faults.faults().iter().all(|fault| matches!(
                    fault.problem,
                    ManifestProblem::AcceptsEverything
                        | ManifestProblem::OnlyOptional
                        | ManifestProblem::OnlyCommon
                        | ManifestProblem::Hollow { .. }
                        | ManifestProblem::Duplicate(_)
                        | ManifestProblem::NoAction
                ));
                prop_assert!(known, "{}\n{}", faults, text);
            }
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,300}") {
        let _ = Manifest::parse(&text);
    }

    #[test]
    fn any_damage_is_read_or_refused(at in 0_usize..250, text in "[\\[\\]{}\"'=.,#\\n\\\\a0-]{0,6}") {
        let mut damaged = minimal();
        let at = at.min(damaged.len());
        damaged.insert_str(at, &text);
        if let Ok(manifest) = Manifest::parse(&damaged) {
            prop_assert_eq!(Manifest::parse(&manifest.render()), Ok(manifest));
        }
    }
}

#[test]
fn a_flood_of_faults_is_counted_and_not_listed() {
    // Nearly as many as a manifest has room for.
    let unknown: String = (0..60_000).map(|n| format!("x{n:x}=1\n")).collect();
    let faults = Manifest::parse(&(unknown + &minimal())).unwrap_err();
    assert_eq!(faults.left_out(), 60_000 - MAX_FAULTS);
    assert_eq!(faults.faults().len(), MAX_FAULTS);
    assert!(faults.to_string().ends_with("\nand 59900 more; mend these first"));
    let first = faults.faults().first().unwrap();
    assert!(matches!(&first.problem, ManifestProblem::UnknownField { found, .. } if found.starts_with('x')));
}
