//! Golden releases, on recorded boots.

use policy::digest::Digest;
use policy::reference::dsse::{Envelope, Unsigned};
use policy::reference::manifest::Manifest;
use policy::reference::state::ReleaseState;
use rcgen::SigningKey;

use super::{Bench, NOW, boot, enforcing, refused};
use crate::admin::Act;
use crate::admin::golden::apply::{Applied, Terms, apply};
use crate::admin::golden::forecast::Outlook;
use crate::admin::golden::learn::{Draft, draft};
use crate::admin::golden::{all, one};
use crate::admin::reach::Scope;
use crate::ca::AuthorityKey;
use crate::record::boot::{EarlierBoot, boot_key};
use crate::record::device::Decision;
use crate::record::golden::{GOLDEN, GoldenHead};
use crate::record::stored;
use crate::session::Refusal;
use crate::session::kept::keep;
use crate::store::Txn;

async fn bench() -> Bench {
    let bench = Bench::new().await;
    bench.zone(&enforcing("cell-3")).await;
    for (name, boot) in [("press-7", "boot-a"), ("press-8", "boot-a"), ("press-9", "boot-b")] {
        let device = bench.device(name, &["cell-3"]).await;
        bench.attest(&device, boot, Decision::Refused).await;
    }
    bench
}

async fn learn(bench: &Bench, devices: &[&str], version: &str) -> Result<Draft, Refusal> {
    taught(bench, devices, version, false).await
}

async fn taught(bench: &Bench, devices: &[&str], version: &str, one_of: bool) -> Result<Draft, Refusal> {
    let devices: Vec<_> = devices.iter().map(|name| name.parse().unwrap()).collect();
    let (product, version) = ("edge-box".parse().unwrap(), version.parse().unwrap());
    draft(&bench.plant, &Scope::Plant, &devices, product, version, one_of).await
}

pub(crate) fn sign(manifest: &str, key: &AuthorityKey) -> Vec<u8> {
    let unsigned = Unsigned::new(&Manifest::parse(manifest).unwrap());
    let signature = key.sign(&unsigned.to_be_signed()).unwrap();
    Envelope::new(&unsigned, &[(Digest::of(&key.spki()), signature)]).to_json().into_bytes()
}

pub(crate) async fn release(bench: &Bench, device: &str, version: &str) -> Vec<u8> {
    sign(&learn(bench, &[device], version).await.unwrap().manifest, &bench.release_key)
}

/// The same, already known and pending.
pub(super) async fn pending(bench: &Bench, device: &str, product: &str) {
    let envelope = released_as(bench, device, product, "0.9").await;
    run(bench, &envelope, ReleaseState::Pending, false).await.unwrap();
}

/// A signed release of `product` that accepts what `device` booted.
pub(super) async fn released(bench: &Bench, device: &str, product: &str) -> Vec<u8> {
    released_as(bench, device, product, "1.0").await
}

async fn released_as(bench: &Bench, device: &str, product: &str, version: &str) -> Vec<u8> {
    let devices = [device.parse().unwrap()];
    let (product, version) = (product.parse().unwrap(), version.parse().unwrap());
    let learned = draft(&bench.plant, &Scope::Plant, &devices, product, version, false).await.unwrap();
    sign(&learned.manifest, &bench.release_key)
}

async fn run(bench: &Bench, envelope: &[u8], to: ReleaseState, dry: bool) -> Result<Applied, Refusal> {
    apply(&bench.plant, &bench.actor(Act::ApplyRelease).await, envelope, &terms(to, dry)).await
}

/// Terms of somebody who saw nothing and allows no rollback.
pub(crate) fn terms(to: ReleaseState, dry_run: bool) -> Terms {
    Terms { to, allow_rollback: None, seen: None, base: None, plan: None, reason: "test".to_owned(), dry_run }
}

fn outlooks(applied: &Applied) -> Vec<(&str, Outlook, Outlook)> {
    applied.forecast.iter().map(|line| (line.device.as_str(), line.before, line.after)).collect()
}

#[tokio::test]
async fn what_was_learned_and_signed_makes_devices_trusted() {
    use Outlook::{Refused, Trusted};
    let bench = bench().await;
    let envelope = release(&bench, "press-7", "1.0").await;
    let before = bench.revision();
    let forecast = run(&bench, &envelope, ReleaseState::Active, true).await.unwrap();
    let expected =
        [("press-7", Refused, Trusted), ("press-8", Refused, Trusted), ("press-9", Refused, Refused)];
    assert_eq!(outlooks(&forecast), expected);
    assert!(forecast.forecast[2].findings.iter().any(|finding| finding.pcr == Some(4)), "another kernel");
    assert_eq!(bench.revision(), before, "a dry run writes nothing");

    let applied = run(&bench, &envelope, ReleaseState::Active, false).await.unwrap();
    assert_eq!(applied.release.to_string(), "edge-box@1.0");
    assert_eq!(bench.read::<GoldenHead>(GOLDEN.to_owned()).await.n, 1);
    let (held, manifest) = one(&bench.plant, &applied.release).await.unwrap();
    let record = held.record;
    assert_eq!((record.counter, record.applied_by.as_str()), (1, "ada"));
    assert_eq!(Manifest::parse(&manifest).unwrap().digest(), record.manifest);
    run(&bench, &envelope, ReleaseState::Active, false).await.unwrap();
    let again = run(&bench, &envelope, ReleaseState::Active, true).await.unwrap();
    assert_eq!(outlooks(&again)[0], ("press-7", Trusted, Trusted));
    assert_eq!(bench.read::<GoldenHead>(GOLDEN.to_owned()).await.n, 1, "nothing changed");
}

#[tokio::test]
async fn devices_that_differ_leave_a_note_by_name() {
    let bench = bench().await;
    let draft = learn(&bench, &["press-7", "press-9", "press-7"], "1.0").await.unwrap();
    let noted = |text: &str| draft.notes.iter().any(|note| note.contains(text));
    assert!(noted("PCR 4 is left out") && noted("only on press-7"), "{:?}", draft.notes);
    assert!(noted("does not constrain PCR 4"), "{:?}", draft.notes);
    assert!(draft.notes.iter().filter(|note| note.contains("never learned")).count() == 1);
    refused!(learn(&bench, &["press-1"], "1.0").await, NotFound);
    refused!(learn(&bench, &[], "1.0").await, Malformed);
    bench.device("press-1", &["cell-3"]).await;
    let text = refused!(learn(&bench, &["press-1"], "1.0").await, NotFound);
    assert!(text.contains("has sent no evidence yet"), "{text}");
}

#[tokio::test]
async fn devices_that_differ_are_each_accepted_if_that_is_asked_for() {
    let bench = bench().await;
    let draft = taught(&bench, &["press-7", "press-9"], "1.0", true).await.unwrap();
    let envelope = sign(&draft.manifest, &bench.release_key);
    let applied = run(&bench, &envelope, ReleaseState::Active, false).await.unwrap();
    assert!(
        outlooks(&applied).iter().all(|(_, _, after)| *after == Outlook::Trusted),
        "{:?}",
        outlooks(&applied)
    );
    let noted = |text: &str| draft.notes.iter().any(|note| note.contains(text));
    assert!(noted("boot 1 is that of press-7; boot 2 is that of press-9"), "{:?}", draft.notes);
    // The recorded machines have keys that say that they are for tests.
    assert!(draft.warnings[0].contains("press-7 trusts a key for tests in PK"), "{:?}", draft.warnings);
}

#[tokio::test]
async fn what_changed_since_the_boot_before_is_not_learned() {
    let bench = bench().await;
    let noted = |draft: &Draft, text: &str| draft.notes.iter().any(|note| note.contains(text));
    let draft = learn(&bench, &["press-7"], "1.0").await.unwrap();
    assert!(noted(&draft, "of press-7 one boot of this software is known"), "{:?}", draft.notes);
    let other = boot("boot-b");
    let (evidence, logs) = keep(&bench.plant, other, Vec::new()).await;
    let (evidence, firmware) = (Some(evidence), logs.firmware);
    let earlier = EarlierBoot { at: NOW, reset_count: 1, evidence, firmware, userspace: None };
    let key = boot_key(&"press-7".parse().unwrap());
    bench.plant.store.transact(Txn::new().put(key, stored(&earlier).unwrap())).await.unwrap();
    for one_of in [false, true] {
        let draft = taught(&bench, &["press-7"], "1.0", one_of).await.unwrap();
        assert!(
            noted(&draft, "PCR 4 is left out, it is not stable: two boots of press-7"),
            "{:?}",
            draft.notes
        );
        assert!(
            !draft.manifest.contains("pcr = 4") && draft.manifest.contains("pcr = 9"),
            "{}",
            draft.manifest
        );
        assert!(!noted(&draft, "one boot of this software"), "{:?}", draft.notes);
    }
}

#[tokio::test]
async fn a_lower_counter_is_a_rollback_and_a_known_release_is_none() {
    let bench = bench().await;
    let first = release(&bench, "press-7", "1.0").await;
    let rival = release(&bench, "press-9", "1.0-b").await;
    run(&bench, &first, ReleaseState::Active, false).await.unwrap();
    let text = refused!(run(&bench, &rival, ReleaseState::Active, false).await, Conflict);
    assert!(text.contains("has counter 1, and edge-box is at 1") && text.contains("counter 2"), "{text}");
    let second = release(&bench, "press-9", "1.1").await;
    run(&bench, &second, ReleaseState::Active, false).await.unwrap();
    let end = ReleaseState::Deprecated { until: NOW.plus(60) };
    run(&bench, &first, end, false).await.unwrap();
    run(&bench, &first, ReleaseState::Active, false).await.unwrap();
    assert_eq!(all(&bench.plant).await.unwrap().len(), 2);
}

#[tokio::test]
async fn states_change_by_the_life_of_a_release() {
    let bench = bench().await;
    let envelope = release(&bench, "press-7", "1.0").await;
    let past = ReleaseState::Deprecated { until: NOW };
    refused!(run(&bench, &envelope, past, false).await, Malformed);
    let text = refused!(run(&bench, &envelope, ReleaseState::Retired, false).await, Conflict);
    assert!(text.contains("activate it first"), "{text}");
    run(&bench, &envelope, ReleaseState::Pending, false).await.unwrap();
    run(&bench, &envelope, ReleaseState::Active, false).await.unwrap();
    let actor = bench.actor(Act::ApplyRelease).await;
    let mute = Terms { reason: " ".to_owned(), ..terms(ReleaseState::Withdrawn, false) };
    let text = refused!(apply(&bench.plant, &actor, &envelope, &mute).await, Malformed);
    assert!(text.contains("reason: write 1 to"), "{text}");
    let lost = run(&bench, &envelope, ReleaseState::Withdrawn, true).await.unwrap();
    run(&bench, &envelope, ReleaseState::Withdrawn, false).await.unwrap();
    let record = all(&bench.plant).await.unwrap().remove(0);
    assert_eq!(record.changed.map(|change| change.reason).as_deref(), Some("test"));
    assert_eq!(outlooks(&lost)[0], ("press-7", Outlook::Trusted, Outlook::Refused));
    let text = refused!(run(&bench, &envelope, ReleaseState::Active, false).await, Conflict);
    assert!(text.contains("stays withdrawn"), "{text}");
}

#[tokio::test]
async fn an_envelope_is_refused_for_its_signature_or_its_form() {
    let bench = bench().await;
    let manifest = learn(&bench, &["press-7"], "1.0").await.unwrap().manifest;
    let forged = sign(&manifest, &AuthorityKey::generate().unwrap());
    let text = refused!(run(&bench, &forged, ReleaseState::Active, false).await, EvidenceInvalid);
    assert!(text.contains("registered release key"), "{text}");
    refused!(run(&bench, b"{}", ReleaseState::Active, false).await, Malformed);
    let good = sign(&manifest, &bench.release_key);
    run(&bench, &good, ReleaseState::Active, false).await.unwrap();
    let other = sign(&manifest.replace("counter = 1", "counter = 2"), &bench.release_key);
    let text = refused!(run(&bench, &other, ReleaseState::Active, false).await, Conflict);
    assert!(text.contains("give it a new version"), "{text}");
}

#[tokio::test]
async fn evidence_that_is_too_old_says_nothing() {
    let bench = bench().await;
    let envelope = release(&bench, "press-7", "1.0").await;
    bench.clock.set(NOW.plus(1_801));
    let forecast = run(&bench, &envelope, ReleaseState::Active, true).await.unwrap();
    assert_eq!(outlooks(&forecast)[0], ("press-7", Outlook::Unknown, Outlook::Unknown));
    assert_eq!(forecast.forecast[0].age, 1_801);
}
