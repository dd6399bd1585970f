//! IMA lists on the wire: what a release says about files counts, and nothing else passes for the list.

use policy::appraisal::Finding;
use policy::appraisal::claims::Claim;
use policy::id::DeviceName;
use policy::reference::state::ReleaseState;
use policy::tpm::alg::HashAlg;
use proto::v1;

use super::plant_with;
use super::tpm::TestTpm;
use crate::admin::Act;
use crate::admin::device::DeviceRef;
use crate::admin::device::view::one;
use crate::admin::device::why::why;
use crate::admin::golden::apply::{Applied, apply};
use crate::admin::golden::forecast::Outlook;
use crate::admin::golden::learn::draft;
use crate::admin::golden::want::want;
use crate::admin::reach::Scope;
use crate::admin::tests::golden::{sign, terms};
use crate::admin::tests::{Bench, NOW, enforcing, refused};
use crate::record::device::{Attested, attested_key};
use crate::session::Refusal;
use crate::session::recorded::results;

pub(super) const PRESS: &str = "/usr/bin/press";
pub(super) const INTRUDER: &str = "/tmp/intruder";

fn number(n: usize) -> [u8; 4] {
    u32::try_from(n).unwrap().to_le_bytes()
}

fn digest_of(content: &str) -> String {
    HashAlg::Sha256.hash(&[content.as_bytes()]).as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Measures as the kernel does with template `ima-ng`: extends PCR 10 and adds a record to the list.
fn measure(device: &mut v1::CompleteRequest, name: &str, digest: &[u8]) {
    let fields = [[b"sha256:\0", digest].concat(), [name.as_bytes(), b"\0"].concat()];
    let data: Vec<u8> = fields.iter().flat_map(|field| [&number(field.len())[..], field].concat()).collect();
    let stated = HashAlg::Sha1.hash(&[&data]);
    let extended = HashAlg::Sha256.hash(&[&data]);
    device.pcr_values[10] =
        HashAlg::Sha256.hash(&[&device.pcr_values[10], extended.as_bytes()]).as_bytes().to_vec();
    let list = &mut device.ima_log;
    list.extend(10_u32.to_le_bytes());
    list.extend(stated.as_bytes());
    list.extend([&number(6)[..], b"ima-ng", &number(data.len()), &data].concat());
}

pub(super) fn run(device: &mut v1::CompleteRequest, path: &str, content: &str) {
    measure(device, path, HashAlg::Sha256.hash(&[content.as_bytes()]).as_bytes());
}

/// A TPM whose kernel started IMA after a recorded boot.
pub(super) fn with_ima() -> TestTpm {
    let mut tpm = TestTpm::new();
    let device = &mut tpm.booted;
    device.pcr_values[10] = vec![0; 32];
    let values: Vec<&[u8]> = device.pcr_values.iter().take(10).map(Vec::as_slice).collect();
    let aggregate = HashAlg::Sha256.hash(&values);
    measure(device, "boot_aggregate", aggregate.as_bytes());
    tpm
}

/// Signs what press-7 booted as a release that accepts these files, and applies it or forecasts it.
pub(super) async fn release(bench: &Bench, version: &str, files: &[(&str, &str)], dry: bool) -> Applied {
    let (product, version) = ("edge-box".parse().unwrap(), version.parse().unwrap());
    let learned = draft(&bench.plant, &Scope::Plant, &["press-7".parse().unwrap()], product, version, false)
        .await
        .unwrap();
    let file = |(path, content): &(&str, &str)| {
        format!("[[ima.file]]\npath = \"{path}\"\ndigest = [\"sha256:{}\"]\n", digest_of(content))
    };
    let manifest = format!("{}\n[ima]\n{}", learned.manifest, files.iter().map(file).collect::<String>());
    let envelope = sign(&manifest, &bench.release_key);
    let actor = bench.actor(Act::ApplyRelease).await;
    apply(&bench.plant, &actor, &envelope, &terms(ReleaseState::Active, dry)).await.unwrap()
}

pub(super) fn findings(outcome: Result<v1::CompleteResponse, Refusal>) -> Vec<Finding> {
    match outcome {
        Err(Refusal::ReferenceMismatch { findings, .. }) => findings,
        other => panic!("not refused by a release: {other:?}"),
    }
}

/// A device that ran one listed file, under a release that lists it.
pub(super) async fn trusted() -> (Bench, DeviceName, TestTpm) {
    let mut tpm = with_ima();
    run(&mut tpm.booted, PRESS, "press 1");
    let (bench, name) = plant_with(&enforcing("cell-3"), &tpm, true).await;
    findings(tpm.enroll(&bench.plant, "press-7").await);
    let applied = release(&bench, "1.0", &[(PRESS, "press 1")], true).await;
    release(&bench, "1.0", &[(PRESS, "press 1")], false).await;
    let outlook = applied.forecast.iter().map(|line| (line.before, line.after)).collect::<Vec<_>>();
    assert_eq!(outlook, [(Outlook::Refused, Outlook::Trusted)], "the stored list is appraised");
    tpm.enroll(&bench.plant, "press-7").await.unwrap();
    (bench, name, tpm)
}

#[tokio::test]
async fn a_device_that_ran_listed_files_is_affirmed_for_them() {
    let (bench, name, _) = trusted().await;
    let attested: Attested = bench.read(attested_key(&name)).await;
    assert_eq!(attested.verdict, "affirming");
    let [record] = &results(&bench.plant, &attested).await[..] else { panic!("one zone") };
    assert_eq!(record.claims.value(Claim::Executables).0, 2);
    assert!(!record.not_appraised.contains(&10), "{:?}", record.not_appraised);
}

#[tokio::test]
async fn a_file_that_no_release_lists_is_named_with_its_digest() {
    let (bench, name, mut tpm) = trusted().await;
    let before: Attested = bench.read(attested_key(&name)).await;
    tpm.enroll(&bench.plant, "press-7").await.unwrap();
    let again: Attested = bench.read(attested_key(&name)).await;
    assert!(before.basis.is_some() && before.nonce != again.nonce);
    assert_eq!((before.basis, before.logs), (again.basis, again.logs), "the same boot, appraised once");
    run(&mut tpm.booted, INTRUDER, "intruder 1");
    let named = |text: &str| text.contains(INTRUDER) && text.contains(&digest_of("intruder 1"));
    let found = findings(tpm.enroll(&bench.plant, "press-7").await);
    assert!(found.iter().any(|finding| named(&finding.sentence)), "{found:?}");
    let seen = one(&bench.plant, &Scope::Plant, &DeviceRef::Name(name.clone())).await.unwrap();
    let attested: Attested = bench.read(attested_key(&name)).await;
    assert_ne!(attested.basis, before.basis, "another file ran");
    let told = why(&seen, &results(&bench.plant, &attested).await, NOW).sentences;
    assert!(told.iter().any(|sentence| named(sentence)), "{told:?}");

    let both = [(PRESS, "press 1"), (INTRUDER, "intruder 1")];
    let forecast = release(&bench, "1.1", &both, true).await.forecast;
    assert_eq!((forecast[0].before, forecast[0].after), (Outlook::Refused, Outlook::Trusted));
    let forecast = release(&bench, "1.1", &[(PRESS, "press 2")], true).await.forecast;
    assert_eq!(forecast[0].after, Outlook::Refused);
}

#[tokio::test]
async fn what_was_measured_cannot_be_left_out_of_the_list() {
    let (bench, _, mut tpm) = trusted().await;
    let before = tpm.booted.ima_log.clone();
    run(&mut tpm.booted, INTRUDER, "intruder 1");
    let whole = std::mem::replace(&mut tpm.booted.ima_log, before);
    let revision = bench.revision();
    let text = refused!(tpm.enroll(&bench.plant, "press-7").await, EvidenceInvalid);
    assert!(text.contains("the IMA list is not confirmed by the quote"), "{text}");
    assert!(text.contains("PCR 10") && text.contains("2 records"), "{text}");

    tpm.booted.ima_log.clear();
    tpm.booted.ima_first = 2;
    let text = refused!(tpm.enroll(&bench.plant, "press-7").await, EvidenceInvalid);
    assert!(text.contains("begins with record 2") && text.contains("send the whole list"), "{text}");
    assert_eq!(bench.revision(), revision, "invalid evidence changes nothing");

    tpm.booted.ima_first = 0;
    let found = findings(tpm.enroll(&bench.plant, "press-7").await);
    assert!(
        found.iter().any(|finding| finding.sentence.contains("the device sent no IMA list")),
        "{found:?}"
    );

    // The kernel went on while the TPM quoted: what the quote does not cover is not held against it.
    tpm.booted.ima_log = whole;
    let quoted = with_ima().booted.pcr_values;
    tpm.booted.pcr_values = quoted;
    tpm.enroll(&bench.plant, "press-7").await.unwrap();
}

#[tokio::test]
async fn a_refused_device_is_told_which_release_is_wanted_of_it() {
    let (bench, _, mut tpm) = trusted().await;
    let (actor, version) = (bench.actor(Act::WantRelease).await, "1.0".parse().unwrap());
    let product = "edge-box".parse().unwrap();
    want(&bench.plant, &actor, &product, Some(&version), None, false).await.unwrap();
    run(&mut tpm.booted, INTRUDER, "intruder 1");
    let refusal = tpm.enroll(&bench.plant, "press-7").await.unwrap_err();
    let wanted = crate::grpc::status::denial(&bench.plant, &refusal).wanted.unwrap();
    assert_eq!((wanted.product.as_str(), wanted.version.as_str()), ("edge-box", "1.0"));
    assert_eq!(wanted.manifest_digest.len(), 32);
}
