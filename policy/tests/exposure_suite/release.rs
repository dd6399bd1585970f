//! Manifests state SBOMs, and tell apart what a TPM can tell apart.

use policy::digest::Digest;
use policy::reference::manifest::{Manifest, ManifestProblem};
use policy::sbom::SbomFormat;
use proptest::prelude::*;

const HEAD: &str = "schema = 1\nproduct = \"edge-box\"\nversion = \"1.4.0\"\ncounter = 7\n";

fn hex(byte: u8) -> String {
    format!("{byte:02x}").repeat(32)
}

fn manifest(rest: &str) -> Manifest {
    Manifest::parse(&format!("{HEAD}{rest}")).unwrap()
}

fn value(pcr: u8, byte: u8) -> String {
    format!("[pcrs.sha256]\n{pcr} = [\"{}\"]\n", hex(byte))
}

fn event(byte: u8, more: &str) -> String {
    let kind = "EV_EFI_BOOT_SERVICES_APPLICATION";
    format!("[[event]]\npcr = 4\ntype = \"{kind}\"\ndigest = [\"{}\"]\n{more}", hex(byte))
}

#[test]
fn sboms_are_read_and_rendered() {
    let sboms = format!(
        "\n[[sbom]]\ndigest = \"sha256:{}\"\nformat = \"cyclonedx\"\nname = \"root \\\"fs\\\"\"\n\
         \n[[sbom]]\ndigest = \"sha256:{}\"\nformat = \"spdx\"\n",
        hex(1),
        hex(2)
    );
    let text = format!("{HEAD}\n{}{sboms}", value(4, 1));
    let read = Manifest::parse(&text).unwrap();
    assert_eq!(read.render(), text);
    assert_eq!(read.sboms()[0].name.as_deref(), Some("root \"fs\""));
    assert_eq!(read.sboms()[1].format, SbomFormat::Spdx);
    assert_eq!(serde_json::to_value(&read).unwrap()["sbom"][1]["format"], "spdx");
    let without = manifest(&value(4, 1));
    assert_ne!(without.digest(), read.digest(), "it is signed");
    assert!(serde_json::to_value(&without).unwrap().get("sbom").is_none());
}

#[test]
fn faults_have_their_places() {
    let text = format!(
        "{HEAD}{}[[sbom]]\ndigest = \"{}\"\nformat = \"swid\"\ncolour = 1\n[[sbom]]\n\
         [[sbom]]\ndigest = \"sha256:{1}\"\nformat = \"spdx\"\n[[sbom]]\ndigest = \"sha256:{1}\"\nformat = \"cyclonedx\"\n",
        value(4, 1),
        hex(9)
    );
    let faults = Manifest::parse(&text).unwrap_err();
    let found: Vec<(usize, usize)> = faults.faults().iter().map(|fault| (fault.line, fault.column)).collect();
    assert_eq!(found, [(8, 10), (9, 10), (10, 1), (11, 1), (11, 1), (15, 1)]);
    let problem = |place: usize| &faults.faults()[place].problem;
    assert!(matches!(problem(0), ManifestProblem::Digest { wanted, .. } if wanted == "sha256:"), "{faults}");
    assert!(
        matches!(problem(1), ManifestProblem::WrongType { wanted: "\"cyclonedx\" or \"spdx\"", .. }),
        "{faults}"
    );
    assert!(matches!(problem(2), ManifestProblem::UnknownField { .. }), "{faults}");
    assert!(
        matches!(problem(5), ManifestProblem::Duplicate(what) if what.contains("the SBOM sha256:")),
        "{faults}"
    );
    let only = format!("{HEAD}[[sbom]]\ndigest = \"sha256:{}\"\nformat = \"spdx\"\n", hex(1));
    let faults = Manifest::parse(&only).unwrap_err();
    assert_eq!(faults.faults()[0].problem, ManifestProblem::AcceptsEverything, "an SBOM constrains nothing");
}

#[test]
fn releases_exclude_each_other_only_where_no_boot_satisfies_both() {
    let excludes = |a: &str, b: &str| {
        let (a, b) = (manifest(a), manifest(b));
        assert_eq!(a.excludes(&b), b.excludes(&a), "either way");
        a.excludes(&b)
    };
    assert!(excludes(&value(4, 1), &value(4, 2)));
    assert!(!excludes(&value(4, 1), &value(4, 1)));
    assert!(!excludes(&value(4, 1), &value(0, 2)), "a boot may have both");
    assert!(excludes(&event(1, ""), &event(2, "")));
    assert!(
        excludes(&event(1, ""), &(event(1, "") + &event(2, ""))),
        "the first one has no room for the second event"
    );
    assert!(!excludes(&event(1, ""), &event(1, "")));
    assert!(!excludes(&event(1, ""), &(event(2, "optional = true\n") + &event(1, ""))));
    assert!(!excludes(
        &(value(0, 1) + &event(1, "optional = true\n")),
        &(value(0, 1) + &event(2, "optional = true\n"))
    ));
    assert!(!excludes(&event(1, ""), &value(4, 7)), "a value does not say which events");
}

proptest! {
    #[test]
    fn manifests_with_sboms_round_trip(bytes in prop::collection::btree_set(any::<u8>(), 0..8), name in "[ -~]{0,20}") {
        let name = name.replace(['\\', '"'], "");
        let table = |byte: &u8| {
            let format = if byte.is_multiple_of(2) { "spdx" } else { "cyclonedx" };
            format!("[[sbom]]\nname = \"{name}\"\nformat = \"{format}\"\ndigest = \"{}\"\n", Digest::of(&[*byte]))
        };
        let text: String = bytes.iter().map(table).collect();
        let read = manifest(&(value(4, 1) + &text));
        prop_assert_eq!(read.sboms().len(), bytes.len());
        prop_assert_eq!(&Manifest::parse(&read.render()).unwrap(), &read);
    }
}
