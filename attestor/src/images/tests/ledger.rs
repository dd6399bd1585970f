//! Log and PCR stay in step, whatever fails between them.

use std::fs;
use std::io::Write;
use std::path::Path;

use policy::budget::{MAX_RECORDS, MAX_SEQUENCE_BYTES};
use policy::eventlog::image::{ImageKind, ImageLog};
use policy::tpm::alg::HashAlg;
use proptest::prelude::*;

use super::{Fault, Pcr, image};
use crate::images::{Ledger, Refusal};

const BANKS: [HashAlg; 2] = [HashAlg::Sha256, HashAlg::Sha384];

async fn open(pcr: &Pcr, log: &Path) -> Ledger {
    Ledger::open(pcr.start(), log).await.unwrap().unwrap()
}

fn add(log: &Path, bytes: &[u8]) {
    fs::OpenOptions::new().append(true).open(log).unwrap().write_all(bytes).unwrap();
}

#[tokio::test]
async fn g5_what_was_written_and_not_extended_is_extended_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let (pcr, log) = (Pcr::new(), dir.path().join("images.log"));
    let mut ledger = open(&pcr, &log).await;
    ledger.append(image("/a", "a")).await.unwrap();
    drop(ledger);
    // Killed after the log, then after the first bank, then while it wrote.
    add(&log, &image("/b", "b").to_record(&BANKS));
    assert_eq!(pcr.assert_explained(&open(&pcr, &log).await.proven().await.unwrap()).len(), 2);
    let (record, text) = (image("/c", "c").to_record(&BANKS), image("/c", "c").measured_text());
    add(&log, &record);
    let extended = pcr.values.lock().unwrap()[0].extend(HashAlg::Sha256.hash(&[text.as_bytes()]).as_bytes());
    pcr.values.lock().unwrap()[0] = extended;
    assert_eq!(pcr.assert_explained(&open(&pcr, &log).await.proven().await.unwrap()).len(), 3);
    add(&log, &record[..record.len() / 2]);
    let mut ledger = open(&pcr, &log).await;
    ledger.append(image("/d", "d")).await.unwrap();
    let paths: Vec<String> =
        pcr.assert_explained(&fs::read(&log).unwrap()).into_iter().map(|image| image.path).collect();
    assert_eq!(paths, ["/a", "/b", "/c", "/d"]);
}

#[tokio::test]
async fn a_log_of_the_boot_before_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("images.log");
    let mut ledger = open(&Pcr::new(), &log).await;
    ledger.append(image("/a", "a")).await.unwrap();
    ledger.append(image("/a", "b")).await.unwrap();
    let rebooted = Pcr::new();
    let ledger = open(&rebooted, &log).await;
    assert!(ledger.last().is_empty() && fs::read(&log).unwrap().is_empty());
}

#[tokio::test]
async fn a_log_that_lost_entries_or_a_pcr_that_others_extended_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let (pcr, log) = (Pcr::new(), dir.path().join("images.log"));
    let mut ledger = open(&pcr, &log).await;
    for content in ["a", "b"] {
        ledger.append(image("/a", content)).await.unwrap();
    }
    let refused = async || Ledger::open(pcr.start(), &log).await.unwrap().unwrap_err();
    let whole = fs::read(&log).unwrap();
    fs::write(&log, &whole[..whole.len() / 2]).unwrap();
    let lost = refused().await;
    assert!(matches!(lost, Refusal::Unexplained { .. }), "{lost:?}");
    let words = lost.to_string();
    assert!(
        words.contains("PCR 13") && words.contains("images.log") && words.contains("restarts"),
        "{words}"
    );
    fs::remove_file(&log).unwrap();
    assert!(matches!(refused().await, Refusal::Unexplained { .. }), "a log that is gone lost all entries");
    fs::write(&log, b"what is this\n").unwrap();
    assert!(matches!(refused().await, Refusal::Malformed { .. }));
}

/// Another boot's entries would be lost on whoever reads the log of a device with extensions.
#[test]
fn g5_system_extensions_shut_images_out() {
    let record = |text: &str| {
        let digest = HashAlg::Sha256.hash(&[text.as_bytes()]);
        format!(
            "\x1e{{\"pcr\":13,\"digests\":[{{\"hashAlg\":\"sha256\",\"digest\":\"{digest}\"}}],\
             \"content_type\":\"systemd\",\"content\":{{\"string\":\"{text}\"}}}}\n"
        )
    };
    let refusal = |log: &str| Refusal::by_logs(b"", log.as_bytes());
    assert_eq!(refusal(&record("os-separator")), None);
    assert_eq!(refusal(&record("sysext:debug")), Some(Refusal::OtherWriter { writer: "systemd" }));
}

#[tokio::test]
async fn a_full_log_ends_with_an_entry_that_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (pcr, log) = (Pcr::new(), dir.path().join("images.log"));
    let mut ledger = open(&pcr, &log).await;
    let long = format!("/{}", "x".repeat(3000));
    let mut appended = 0_u64;
    while !ledger.is_full() {
        appended += 1;
        ledger.append(image(&long, &appended.to_string())).await.unwrap();
    }
    let entries = pcr.assert_explained(&ledger.proven().await.unwrap());
    let (last, before) = entries.split_last().unwrap();
    assert!(last.kind == ImageKind::Overflow && before.iter().all(|image| image.kind == ImageKind::File));
    assert!(fs::metadata(&log).unwrap().len() <= u64::try_from(MAX_SEQUENCE_BYTES).unwrap());
    ledger.append(image("/more", "more")).await.unwrap();
    assert_eq!(ledger.entries(), entries.len());
    assert!(open(&pcr, &log).await.is_full(), "after a restart of the attestor too");
}

/// The bytes bound the number as well.
#[test]
fn a_full_log_is_one_that_a_verifier_reads() {
    let shortest = image("/a", "").to_record(&BANKS[..1]).len();
    assert!(shortest * MAX_RECORDS > MAX_SEQUENCE_BYTES, "{shortest}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Entries, failures of the TPM before and after it obeyed, and restarts in any order: what is proven is always
    /// what the PCR holds, and nothing that was logged is ever lost.
    #[test]
    fn property_log_and_pcr_agree_whatever_fails(
        steps in proptest::collection::vec((0..3_u8, 0..3_u8, any::<bool>()), 1..10),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let (pcr, log) = (Pcr::new(), dir.path().join("images.log"));
            let mut ledger = open(&pcr, &log).await;
            for (number, (first, second, restart)) in steps.into_iter().enumerate() {
                let fault = |n| [None, Some(Fault::Before), Some(Fault::After)][usize::from(n)];
                pcr.fail([fault(first), fault(second)]);
                let wanted = image("/a", &number.to_string());
                let appended = ledger.append(wanted.clone()).await;
                prop_assert_eq!(appended.is_ok(), first == 0 && second == 0);
                pcr.faults.lock().unwrap().clear();
                if restart {
                    ledger = open(&pcr, &log).await;
                }
                let proven = pcr.assert_explained(&ledger.proven().await.unwrap());
                // While nothing at all was extended a log begins anew, and the next round measures again.
                if proven.last() != Some(&wanted) {
                    prop_assert!(proven.is_empty());
                    ledger.append(wanted.clone()).await.unwrap();
                }
                prop_assert_eq!(ledger.last().get("/a"), Some(&wanted));
            }
            prop_assert!(ImageLog::parse(&std::fs::read(&log).unwrap()).is_ok());
            Ok(())
        })?;
    }
}
