//! Each finding says what is wrong and what to do.

use std::path::{Path, PathBuf};

use policy::eventlog::replay::replay_all;
use policy::eventlog::tcg::EventLog;
use policy::time::UnixTime;
use policy::tpm::alg::{HashAlg, HashValue};
use policy::tpm::pcr::{PcrIndex, PcrValues};

use super::images::of_images;
use super::local::{of_clock, unusable};
use super::measured::{of_banks, of_firmware, of_ima};
use super::{Finding, Report, Verdict};

fn recorded() -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/measured-boot/boot-a");
    std::fs::read(folder.join("eventlog.bin")).unwrap()
}

/// The PCRs of one bank after the boot that `log` is of.
fn booted(log: &[u8]) -> PcrValues {
    let log = EventLog::parse(log).unwrap();
    replay_all(&log).into_iter().find(|bank| bank.bank() == HashAlg::Sha256).unwrap()
}

fn value(byte: u8) -> HashValue {
    HashValue::new(HashAlg::Sha256, &[byte; 32]).unwrap()
}

#[track_caller]
fn assert_says(finding: &Finding, verdict: Verdict, words: &[&str]) {
    assert_eq!(finding.verdict, verdict, "{finding:?}");
    for word in words {
        assert!(finding.found.contains(word), "`{word}` is missing in: {}", finding.found);
    }
}

#[test]
fn firmware_that_measures_nothing_is_named() {
    let bank = |alg, byte| {
        let mut bank = PcrValues::new(alg);
        let length = if alg == HashAlg::Sha256 { 32 } else { 48 };
        bank.set(PcrIndex::new(0).unwrap(), HashValue::new(alg, &vec![byte; length]).unwrap());
        bank
    };
    let (sha256, sha384) = (bank(HashAlg::Sha256, 1), bank(HashAlg::Sha384, 0));
    assert_says(&of_banks(std::slice::from_ref(&sha256)), Verdict::Good, &["sha256"]);
    assert_says(&of_banks(&[sha256, sha384]), Verdict::Warning, &["sha384", "tpm2_pcrallocate"]);
    assert_says(&of_banks(&[bank(HashAlg::Sha256, 0)]), Verdict::Fault, &["PCR 0", "firmware set-up"]);
}

#[test]
fn a_log_counts_if_it_explains_the_pcrs() {
    let (file, log) = (Path::new("eventlog.bin"), recorded());
    let mut pcrs = booted(&log);
    assert_says(&of_firmware(file, &Ok(log.clone()), &pcrs), Verdict::Good, &["events explain PCRs 0 to 7"]);
    pcrs.set(PcrIndex::new(4).unwrap(), value(7));
    assert_says(&of_firmware(file, &Ok(log.clone()), &pcrs), Verdict::Fault, &["explain PCR 4:", "reboot"]);
    let mut cut = log;
    cut.truncate(cut.len() - 3);
    assert_says(&of_firmware(file, &Ok(cut), &pcrs), Verdict::Fault, &["eventlog.bin"]);
    let none = Err("No such file".to_owned());
    assert_says(&of_firmware(file, &none, &pcrs), Verdict::Fault, &["No such file", "securityfs"]);
}

#[tokio::test]
async fn what_is_to_be_measured_is_named_where_it_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display();
    let text = format!(
        "broker = \"127.0.0.1:1\"\nplant = \"plant.example\"\nplant_root = \"root.pem\"\n\
         [images]\nfiles = [\"{at}/plc.bin\"]\nfolders = [\"{at}/models\"]\n"
    );
    let config = crate::config::Config::parse(folder.path(), &text).unwrap();
    let found = async || of_images(config.images.as_ref().unwrap()).await;
    assert_says(&found().await, Verdict::Warning, &["plc.bin", "models", "take it out of [images]"]);
    std::fs::write(folder.path().join("plc.bin"), "1").unwrap();
    std::fs::create_dir(folder.path().join("models")).unwrap();
    assert_says(&found().await, Verdict::Good, &["1 files, 1 folders, 0 containers can be read"]);
    std::fs::remove_dir(folder.path().join("models")).unwrap();
    std::fs::write(folder.path().join("models"), "1").unwrap();
    assert_says(&found().await, Verdict::Fault, &["models cannot be read"]);
}

#[test]
fn an_ima_list_is_wanted_only_where_it_is_configured() {
    let (log, nowhere) = (recorded(), Path::new("/nonexistent/ima"));
    let pcrs = booted(&log);
    assert_says(&of_ima(None, nowhere, Some(&log), &pcrs), Verdict::Good, &["not used"]);
    assert_says(&of_ima(None, Path::new("/"), Some(&log), &pcrs), Verdict::Good, &["ima_log is not set"]);
    assert_says(&of_ima(Some(nowhere), nowhere, Some(&log), &pcrs), Verdict::Warning, &["ima_policy=tcb"]);
    assert_says(
        &of_ima(Some(Path::new("/")), nowhere, Some(&log), &pcrs),
        Verdict::Fault,
        &["SupplementaryGroups"],
    );
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("ima");
    std::fs::write(&list, b"no list").unwrap();
    assert_says(&of_ima(Some(&list), nowhere, Some(&log), &pcrs), Verdict::Fault, &["cannot be read"]);
    assert_says(&of_ima(Some(&list), nowhere, None, &pcrs), Verdict::Unknown, &["firmware log"]);
}

#[test]
fn a_clock_is_held_against_the_brokers_last_time() {
    let now = UnixTime(1_800_000_000);
    assert_says(&of_clock(now, UnixTime(0)), Verdict::Good, &[]);
    assert_says(&of_clock(now, now.plus(3600)), Verdict::Good, &[]);
    assert_says(&of_clock(now, now.plus(3601)), Verdict::Warning, &["3601 s", "time source"]);
    assert_says(&of_clock(UnixTime(7), now), Verdict::Warning, &["never set"]);
}

#[test]
fn a_program_that_cannot_be_run_is_named() {
    assert_eq!(unusable(Path::new("/bin/sh")), None);
    assert!(unusable(Path::new("/etc/passwd")).unwrap().contains("mode"));
    assert!(unusable(Path::new("/nonexistent/hook")).unwrap().contains("install it"));
}

#[tokio::test]
async fn everything_else_is_looked_at_where_something_fails() {
    let folder = tempfile::tempdir().unwrap();
    let file: PathBuf = folder.path().join("attestor.toml");
    let report = Report::of(&file).await;
    assert!(!report.is_good());
    assert!(report.describe().starts_with("fault    configuration"), "{}", report.describe());
    std::fs::write(&file, "broker = \"127.0.0.1:1\"\ncolour = 1\ntpm = \"swtpm:host=127.0.0.1,port=1\"\n")
        .unwrap();
    let report = Report::of(&file).await;
    let found: Vec<_> = report.findings.iter().map(|finding| (finding.check, finding.verdict)).collect();
    let looked_at =
        [("configuration", Verdict::Fault), ("tpm", Verdict::Fault), ("broker's name", Verdict::Good)];
    assert_eq!(found[..3], looked_at, "in spite of a fault in the configuration");
    let text = "broker = \"127.0.0.1:1\"\nplant = \"plant.example\"\nplant_root = \"root.pem\"\n\
                tpm = \"swtpm:host=127.0.0.1,port=1\"\nstate = \"state\"\ndeliver = \"deliver\"\n";
    std::fs::write(&file, text).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let root = rcgen::CertificateParams::default().self_signed(&key).unwrap();
    std::fs::write(folder.path().join("root.pem"), root.pem()).unwrap();
    let report = Report::of(&file).await;
    let as_root = report.findings.iter().find(|finding| finding.check == "user");
    assert_eq!(as_root.is_some(), rustix::process::geteuid().is_root());
    if let Some(finding) = as_root {
        assert_says(finding, Verdict::Warning, &["read as root", "runuser -u touchstone-attestor"]);
    }
    let found = report.findings.iter().filter(|finding| finding.check != "user");
    let found: Vec<_> = found.map(|finding| (finding.check, finding.verdict)).collect();
    let expected = [
        ("configuration", Verdict::Good),
        ("plant root", Verdict::Good),
        ("tpm", Verdict::Fault),
        ("endorsement key", Verdict::Unknown),
        ("pcr banks", Verdict::Unknown),
        ("firmware log", Verdict::Unknown),
        ("ima", Verdict::Unknown),
        ("state", Verdict::Good),
        ("clock", Verdict::Good),
        ("programs", Verdict::Good),
        ("attestor", Verdict::Warning),
        ("broker's name", Verdict::Good),
        ("broker", Verdict::Fault),
    ];
    assert_eq!(found, expected, "{}", report.describe());
    assert!(!folder.path().join("state").exists(), "a look changes nothing");
}

#[tokio::test]
async fn nothing_of_a_tpm_is_looked_at_where_none_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("attestor.toml");
    let text = "broker = \"127.0.0.1:1\"\nplant = \"plant.example\"\nplant_root = \"root.pem\"\n\
                device = \"press-7\"\ntpm = \"none\"\nstate = \"state\"\ndeliver = \"deliver\"\n";
    std::fs::write(&file, text).unwrap();
    let report = Report::of(&file).await;
    assert_eq!(report.findings[0].verdict, Verdict::Good, "{}", report.describe());
    let of = |check: &str| report.findings.iter().find(|finding| finding.check == check);
    assert_says(of("tpm").unwrap(), Verdict::Warning, &["no TPM is used"]);
    for check in ["endorsement key", "pcr banks", "firmware log", "ima"] {
        assert!(of(check).is_none(), "{}", report.describe());
    }
}
