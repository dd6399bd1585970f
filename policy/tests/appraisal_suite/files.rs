//! Files that Linux measured: what a release approves, what it does not, and what is said about it.

use policy::appraisal::Verdict;
use policy::appraisal::claims::{Claim, ClaimValue};
use policy::appraisal::finding::{Finding, FindingKind, MAX_FINDINGS};
use policy::appraisal::policy::Mode;
use policy::appraisal::{Forecast, forecast};
use policy::eventlog::ima::verify::VerifiedIma;
use policy::reference::hash_text::HashText;
use policy::reference::manifest::Manifest;
use policy::reference::state::ReleaseState::Active;
use policy::tpm::alg::HashAlg;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SigningKey};

use crate::boot::{Boot, NOW, boot_rules, manifest, policy_of, reference};
use crate::ima::{Device, Written, aggregate, file, sha256, signed_file, violation};

fn rule(path: &str, content: &str) -> String {
    format!("[[ima.file]]\npath = \"{path}\"\ndigest = [\"sha256:{}\"]\n", sha256(content.as_bytes()))
}

/// The release of a whole boot of kernel k, with this section about files.
fn release(version: &str, counter: u64, section: &str) -> Manifest {
    let boot = Boot::of("k").values(&[0, 2, 7]) + &boot_rules("k");
    manifest(version, counter, &(boot + section))
}

/// The release that approves two files.
fn approving() -> Manifest {
    release("1.4.0", 7, &format!("[ima]\n{}{}", rule("/bin/a", "1"), rule("/bin/b c", "2")))
}

fn appraised(list: Option<&VerifiedIma>, releases: &[Manifest]) -> Forecast {
    let replayed = Boot::of("k").replayed();
    let releases: Vec<_> = releases.iter().map(|release| (release.clone(), Active)).collect();
    let policy = policy_of(&["edge-box"], Mode::Enforce);
    forecast(&replayed.measurements().with_ima(list), &reference(&releases), &policy, NOW)
}

fn of(measured: &[Written], releases: &[Manifest]) -> Forecast {
    appraised(Some(&Device::of(measured).verified()), releases)
}

fn kinds(findings: &[Finding]) -> Vec<FindingKind> {
    findings.iter().map(|finding| finding.kind).collect()
}

fn claims(forecast: &Forecast) -> (i8, i8) {
    let claims = &forecast.record().claims;
    (claims.value(Claim::Executables).0, claims.value(Claim::FileSystem).0)
}

#[test]
fn a_clean_list_approves_what_runs() {
    let forecast = of(&[file("/bin/a", "1"), file("/bin/b_c", "2")], &[approving()]);
    let record = forecast.record();
    assert_eq!((record.verdict, record.findings.len()), (Verdict::Affirming, 0), "{record:?}");
    assert_eq!(record.claims.value(Claim::Executables), ClaimValue::APPROVED);
    assert!(!record.not_appraised.contains(&10), "{:?}", record.not_appraised);
}

#[test]
fn an_unknown_file_is_told_by_path_and_digest() {
    let forecast = of(&[file("/bin/a", "1"), file("/bin/a", "evil"), file("/x", "3")], &[approving()]);
    let record = forecast.record();
    assert_eq!((record.verdict, claims(&forecast)), (Verdict::Contraindicated, (33, 32)));
    let [changed, unknown] = record.findings.as_slice() else { panic!("{:?}", record.findings) };
    assert_eq!((changed.kind, changed.pcr), (FindingKind::UnknownFile, Some(10)));
    assert_eq!(changed.name.as_deref(), Some("/bin/a"));
    assert_eq!(changed.seen, Some(HashText(sha256(b"evil"))));
    assert_eq!(changed.expected, [HashText(sha256(b"1"))]);
    assert_eq!(
        unknown.sentence,
        format!(
            "IMA record 3, /x (sha256:{}): edge-box@1.4.0 does not list this file and it is not signed; \
             remove the file, or sign a release that accepts it",
            sha256(b"3")
        )
    );
    assert_eq!(forecast.judgement().refused.len(), 2);
}

#[test]
fn a_flood_of_unknown_files_is_counted_and_not_listed() {
    let measured: Vec<_> = (0..200).map(|n| file(&format!("/x{n}"), "x")).collect();
    let forecast = of(&measured, &[approving()]);
    assert_eq!(forecast.record().findings.len(), MAX_FINDINGS);
    assert_eq!(forecast.record().findings_left_out, 200 - MAX_FINDINGS);
}

#[test]
fn excluded_paths_are_passed_over_and_their_neighbours_are_not() {
    let section = "[ima]\nexclude = [\"/tmp/**\", \"/etc/motd\", \"/my logs/**\", \"/my log\"]\n";
    let release = release("1.4.0", 7, section);
    let fine = [file("/tmp/a", "1"), file("/tmp/b/c", "2"), file("/etc/motd", "3")];
    assert_eq!(of(&fine, std::slice::from_ref(&release)).record().verdict, Verdict::Affirming);
    // Linux writes spaces as `_`.
    let fine = [file("/my_logs/a", "1"), file("/my_log", "2")];
    assert_eq!(of(&fine, std::slice::from_ref(&release)).record().verdict, Verdict::Affirming);
    for path in ["/tmpx", "/tmp", "/etc/motd2", "/x/tmp/a", "/my logs/a", "/my_log2"] {
        let forecast = of(&[file(path, "1")], std::slice::from_ref(&release));
        assert_eq!(kinds(&forecast.record().findings), [FindingKind::UnknownFile], "{path}");
    }
}

#[test]
fn violations_are_refused_unless_the_release_allows_them() {
    let measured = [file("/bin/a", "1"), violation("/bin/a")];
    let forecast = of(&measured, &[approving()]);
    assert_eq!(kinds(&forecast.record().findings), [FindingKind::FileViolation]);
    assert_eq!(claims(&forecast), (33, 32));
    // The path of a violation is bound by nothing, so it cannot be excluded.
    let excluding = release("1.4.0", 7, "[ima]\nexclude = [\"/bin/a\"]\n");
    assert_eq!(kinds(&of(&measured, &[excluding]).record().findings), [FindingKind::FileViolation]);
    let allowing = format!("[ima]\nviolations = \"allow\"\n{}", rule("/bin/a", "1"));
    let forecast = of(&measured, &[release("1.4.0", 7, &allowing)]);
    assert_eq!(forecast.record().verdict, Verdict::Affirming);
}

#[test]
fn a_file_signed_by_a_key_of_the_release_is_approved() {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let id = *HashAlg::Sha1.hash(&[key.der_bytes()]).as_bytes().last_chunk::<4>().unwrap();
    let sign = |content: &str| {
        let signature = key.sign(content.as_bytes()).unwrap();
        let len = u16::try_from(signature.len()).unwrap().to_be_bytes();
        [&[3, 2, 4], &id[..], &len, &signature].concat()
    };
    let pem = pem_of(&key.subject_public_key_info());
    let release = release("1.4.0", 7, &format!("[ima]\nkeys = [\"\"\"\n{pem}\"\"\"]\n"));
    let signed = signed_file("/bin/x", "1", sign("1"));
    assert_eq!(of(&[signed], std::slice::from_ref(&release)).record().verdict, Verdict::Affirming);
    let forecast = of(&[signed_file("/bin/x", "2", sign("1"))], std::slice::from_ref(&release));
    let [finding] = forecast.record().findings.as_slice() else { panic!() };
    assert!(finding.sentence.contains("is wrong: the file was changed after it was signed"), "{finding:?}");
}

fn pem_of(der: &[u8]) -> String {
    use base64::Engine;
    let digits = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = digits.as_bytes().chunks(64).map(|l| std::str::from_utf8(l).unwrap()).collect();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
}

#[test]
fn a_release_about_files_demands_a_list() {
    let forecast = appraised(None, &[approving()]);
    assert_eq!(kinds(&forecast.record().findings), [FindingKind::NoFileList]);
    assert_eq!((forecast.record().verdict, claims(&forecast).0), (Verdict::Contraindicated, 33));
}

#[test]
fn a_release_without_a_section_says_that_files_were_not_appraised() {
    let forecast = of(&[file("/x", "1")], &[release("1.4.0", 7, "")]);
    let record = forecast.record();
    assert_eq!(kinds(&record.findings), [FindingKind::FilesNotAppraised]);
    assert_eq!((record.verdict, claims(&forecast)), (Verdict::Affirming, (3, 0)));
    assert!(record.not_appraised.contains(&10));
    assert_eq!(forecast.judgement().refused.len(), 0);
}

#[test]
fn the_release_whose_files_run_is_found_among_those_of_the_same_boot() {
    let old = release("1.3.0", 6, &format!("[ima]\n{}", rule("/bin/app", "old")));
    let new = release("1.4.0", 7, &format!("[ima]\n{}", rule("/bin/app", "new")));
    for (content, version) in [("old", "1.3.0"), ("new", "1.4.0")] {
        let forecast = of(&[file("/bin/app", content)], &[old.clone(), new.clone()]);
        let expected = format!("edge-box@{version}").parse().unwrap();
        assert_eq!(forecast.record().release, Some(expected));
    }
}

#[test]
fn a_second_boot_aggregate_is_told_as_kexec() {
    let mut pcrs = crate::ima::booted(HashAlg::Sha256);
    pcrs.set(crate::ima::pcr(9), sha256(b"initrd"));
    let forecast = of(&[aggregate(&pcrs)], &[approving()]);
    let [finding] = forecast.record().findings.as_slice() else { panic!() };
    assert!(finding.sentence.contains("the kernel was replaced by kexec"), "{finding:?}");
}

#[test]
fn a_part_alone_approves_nothing() {
    let mut device = Device::of(&[file("/evil", "1")]);
    let state = device.verified().state();
    device.measure(&[file("/bin/a", "1")]);
    let part = device.judge(&device.from(2), Some(&state)).unwrap();
    let forecast = appraised(Some(&part), &[approving()]);
    assert_eq!(kinds(&forecast.record().findings), [FindingKind::FileListIncomplete]);
    assert_eq!(claims(&forecast).0, 33);
}

#[test]
fn hostile_paths_are_shown_harmlessly() {
    let forecast = of(&[file("/x\u{202e}\u{1b}[31m\n", "1")], &[approving()]);
    assert_eq!(forecast.record().findings[0].name.as_deref(), Some("/x??[31m?"));
}
