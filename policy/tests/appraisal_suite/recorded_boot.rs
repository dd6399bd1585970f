//! Releases that were predicted from images, held against real measured boots of these images.
//!
//! `predicted.toml` was written by `touchstone golden predict` before the image was booted (`tests/vectors/record`).

use std::path::{Path, PathBuf};

use policy::appraisal::{AppraisalRecord, Verdict, forecast};
use policy::evidence::HardwareProof;
use policy::evidence::recorded::RecordedEvidence;
use policy::reference::manifest::Manifest;
use policy::reference::state::ReleaseState::Active;
use policy::tpm::alg::{HashAlg, HashValue};
use policy::tpm::pcr::PcrValues;

use crate::boot::{NOW, pcr, policy_of, reference};

fn folder(boot: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/measured-boot").join(boot)
}

/// A recorded boot of the project, and what a quote of it showed.
#[expect(clippy::disallowed_methods, reason = "tests read recorded logs")]
pub(crate) fn recorded(boot: &str) -> (Vec<u8>, PcrValues) {
    let folder = folder(boot);
    let mut values = PcrValues::new(HashAlg::Sha256);
    for line in String::from_utf8(std::fs::read(folder.join("pcrs.txt")).unwrap()).unwrap().lines() {
        let mut fields = line.split(':');
        let (bank, index, digits) = (fields.next(), fields.next().unwrap(), fields.next().unwrap());
        let index: u8 = index.parse().unwrap();
        if bank == Some("sha256") && index < 16 {
            values.set(pcr(index), HashValue::from_hex(HashAlg::Sha256, &digits.to_lowercase()).unwrap());
        }
    }
    (std::fs::read(folder.join("eventlog.bin")).unwrap(), values)
}

/// What was predicted of the image of `image`, completed by what `boot` shows of firmware and Secure Boot.
#[expect(clippy::disallowed_methods, reason = "tests read recorded predictions")]
fn predicted(image: &str, boot: &str) -> Manifest {
    let text = String::from_utf8(std::fs::read(folder(image).join("predicted.toml")).unwrap()).unwrap();
    let (_, pcrs) = recorded(boot);
    let line = |number: u8| format!("{number} = [\"{}\"]\n", pcrs.value(pcr(number)).unwrap());
    let values: String = [0, 2, 7].map(line).concat();
    Manifest::parse(&text.replace("[pcrs.sha256]\n", &format!("[pcrs.sha256]\n{values}"))).unwrap()
}

fn appraised(boot: &str, release: Manifest) -> AppraisalRecord {
    let (log, pcrs) = recorded(boot);
    let evidence = RecordedEvidence::replay(pcrs, &log, HardwareProof::Endorsed).unwrap();
    let policy = policy_of(&["vector"], policy::appraisal::policy::Mode::Enforce);
    forecast(&evidence.measurements(), &reference(&[(release, Active)]), &policy, NOW).record().clone()
}

#[test]
fn a_prediction_affirms_the_real_boot_of_its_image() {
    for boot in ["boot-a", "boot-b", "boot-c"] {
        let release = predicted(boot, boot);
        let constrained: Vec<u8> = release.constrained().iter().map(|pcr| pcr.number()).collect();
        assert_eq!(constrained, [0, 2, 4, 7, 9, 11, 12]);
        let record = appraised(boot, release);
        assert_eq!(record.verdict, Verdict::Affirming, "{boot}: {:#?}", record.findings);
    }
}

/// boot-c is the image of boot-a with Secure Boot off: firmware measures its kernel too.
#[test]
fn a_prediction_holds_whether_or_not_secure_boot_is_on() {
    for (image, boot) in [("boot-a", "boot-c"), ("boot-c", "boot-a")] {
        assert_eq!(appraised(boot, predicted(image, boot)).verdict, Verdict::Affirming, "{boot}");
    }
}

#[test]
fn a_prediction_of_another_kernel_refuses_the_real_boot_by_name() {
    let record = appraised("boot-b", predicted("boot-a", "boot-b"));
    assert_eq!(record.verdict, Verdict::Contraindicated);
    let names: Vec<_> = record.findings.iter().filter_map(|f| Some((f.pcr?, f.name.as_deref()?))).collect();
    assert!(names.contains(&(4, "unified kernel image")), "{names:?}");
    assert!(names.contains(&(11, "section .linux")), "{names:?}");
    assert!(!names.iter().any(|(pcr, _)| *pcr == 9), "{names:?}");
}
