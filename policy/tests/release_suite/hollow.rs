//! A release that every device would pass, or one that measured nothing, is refused with the place and the remedy.

use policy::reference::manifest::{HollowValue, Manifest, ManifestProblem};
use policy::tpm::alg::HashAlg;

use crate::manifest::{HEAD, digest, faults};

fn value(pcr: u8, hex: &str) -> String {
    format!("{HEAD}\n[pcrs.sha256]\n{pcr} = [\"{hex}\"]\n")
}

fn rule(pcr: u8, digests: &[String], more: &str) -> String {
    let digests: Vec<String> = digests.iter().map(|digest| format!("\"{digest}\"")).collect();
    format!("[[event]]\npcr = {pcr}\ntype = \"EV_SEPARATOR\"\ndigest = [{}]\n{more}", digests.join(", "))
}

fn sha256(data: &[u8]) -> String {
    HashAlg::Sha256.hash(&[data]).to_string()
}

/// A PCR in which there is only this separator.
fn only(bank: HashAlg, separator: &[u8]) -> String {
    let start = vec![0; bank.hash(&[]).as_bytes().len()];
    bank.hash(&[&start, bank.hash(&[separator]).as_bytes()]).to_string()
}

#[test]
fn values_that_say_nothing_are_refused_where_they_stand() {
    let hollow = |pcr, what| vec![(7, 6, ManifestProblem::Hollow { pcr, what })];
    let (zeros, ones) = ("00".repeat(32), "ff".repeat(32));
    for pcr in 0..=7 {
        assert_eq!(faults(&value(pcr, &zeros))[0], hollow(pcr, HollowValue::Zeros)[0]);
    }
    for pcr in 0..=9 {
        assert_eq!(faults(&value(pcr, &ones))[0], hollow(pcr, HollowValue::Ones)[0]);
    }
    for (pcr, separator) in [(0, [0; 4]), (4, [0; 4]), (7, [0xff; 4])] {
        let found = faults(&value(pcr, &only(HashAlg::Sha256, &separator)));
        assert_eq!(found, hollow(pcr, HollowValue::Separator));
    }
    let sha384 = format!("{HEAD}\n[pcrs.sha384]\n4 = [\"{}\"]\n", only(HashAlg::Sha384, &[0; 4]));
    assert_eq!(faults(&sha384), hollow(4, HollowValue::Separator));
    // Beside others it would be accepted all the same.
    let beside = value(0, &digest(1)).replace("\"]", &format!("\", \"{zeros}\"]"));
    assert_eq!(faults(&beside), [(7, 74, ManifestProblem::Hollow { pcr: 0, what: HollowValue::Zeros })]);
    let text = Manifest::parse(&value(0, &zeros)).unwrap_err().to_string();
    assert!(text.contains("line 7, column 6: this value of PCR 0 is all zeros"), "{text}");
    assert!(text.contains("touchstone golden learn"), "{text}");
}

#[test]
fn an_empty_pcr_that_says_something_is_accepted_beside_the_boot() {
    let kernel = format!("4 = [\"{}\"]\n", digest(4));
    // No option ROMs, and nothing that systemd's stub measured.
    let empty =
        value(2, &only(HashAlg::Sha256, &[0; 4])) + &kernel + &format!("12 = [\"{}\"]\n", "00".repeat(32));
    Manifest::parse(&empty).unwrap();
}

#[test]
fn a_release_needs_one_thing_that_not_every_machine_measures() {
    let separator = sha256(&[0; 4]);
    let call = sha256(b"Calling EFI Application from Boot Option");
    // Every machine without option ROMs has it.
    let no_roms = value(2, &only(HashAlg::Sha256, &[0; 4]));
    assert_eq!(faults(&no_roms), [(1, 1, ManifestProblem::OnlyCommon)]);
    let common = format!("{HEAD}\n{}{}", rule(4, std::slice::from_ref(&separator), ""), rule(7, &[call], ""));
    assert_eq!(faults(&common), [(6, 1, ManifestProblem::OnlyCommon)]);
    let either = format!("{HEAD}\n{}", rule(4, &[digest(1), separator.clone()], ""));
    assert_eq!(faults(&either), [(6, 1, ManifestProblem::OnlyCommon)], "the separator alone satisfies it");
    let with_kernel = format!("{HEAD}\n{}{}", rule(4, &[separator], ""), rule(4, &[digest(1)], ""));
    Manifest::parse(&with_kernel).unwrap();
}

#[test]
fn rules_that_are_all_optional_are_refused() {
    let optional = format!("{HEAD}\n{}", rule(4, &[digest(1)], "optional = true\n"));
    assert_eq!(faults(&optional), [(6, 1, ManifestProblem::OnlyOptional)]);
    let and_later = optional.clone() + &rule(9, &[digest(2)], "");
    assert_eq!(faults(&and_later), [(6, 1, ManifestProblem::OnlyOptional)]);
    let text = Manifest::parse(&optional).unwrap_err().to_string();
    assert!(text.contains("line 6, column 1: every rule") && text.contains("take `optional` from"), "{text}");
    Manifest::parse(&(optional + &rule(0, &[digest(3)], ""))).unwrap();
}

#[test]
fn an_empty_manifest_and_one_with_other_faults_are_told_all_at_once() {
    let problems = |text: &str| faults(text).into_iter().map(|(_, _, problem)| problem).collect::<Vec<_>>();
    let empty = problems("");
    assert!(
        matches!(
            empty[..4],
            [
                ManifestProblem::Missing { field: "schema", .. },
                ManifestProblem::Missing { field: "product", .. },
                ManifestProblem::Missing { field: "version", .. },
                ManifestProblem::Missing { field: "counter", .. },
            ]
        ),
        "{empty:?}"
    );
    assert_eq!(empty[4..], [ManifestProblem::AcceptsEverything]);
    let optional = format!("{HEAD}\n{}", rule(4, &[digest(1)], "optional = true\n"));
    let also = problems(&optional.replace("1.4.0", "1 4"));
    assert!(matches!(also[..], [ManifestProblem::Version(_), ManifestProblem::OnlyOptional]), "{also:?}");
}
