//! Release keys: registered, rotated, removed, compromised; and what they signed.

use policy::digest::Digest;
use policy::reference::dsse::{Envelope, Unsigned};
use policy::reference::manifest::Manifest;
use policy::reference::release::ReleaseId;
use policy::reference::state::ReleaseState;
use rcgen::{KeyPair, PublicKeyData, SigningKey};

use super::golden::{release, terms};
use super::{Bench, NOW, enforcing, refused};
use crate::admin::golden::apply::{Applied, apply};
use crate::admin::golden::forecast::Outlook;
use crate::admin::golden::keys::{
    self, Added, Changed, KeyRef, New, Removal, Removed, Rotated, Rotation, Threshold, add, remove, rotate,
    set,
};
use crate::admin::golden::state::{Request, set as set_state};
use crate::admin::golden::want::want;
use crate::admin::golden::{counting, one};
use crate::admin::{Act, Seen};
use crate::golden::{current, wanted};
use crate::record::device::{Attested, Decision, attested_key};
use crate::record::golden::{ReleaseRecord, release_key};
use crate::record::list;
use crate::record::release_key::{COMPROMISE, Compromise};
use crate::record::zone::{REVOKED, RevokedCertificate};
use crate::release_keys::KeyRing;
use crate::session::Refusal;
use crate::store::Txn;
use crate::withdrawal::finish;

/// A new public key, PEM.
pub(super) fn public_key() -> String {
    KeyPair::generate().unwrap().public_key_pem()
}

/// A new key, registered as `name` for `products`.
pub(super) async fn register(bench: &Bench, name: &str, products: &[&str]) -> KeyPair {
    let pair = KeyPair::generate().unwrap();
    offer(bench, name, &pair.public_key_pem(), products, None).await.unwrap();
    pair
}

async fn offer(
    bench: &Bench,
    name: &str,
    pem: &str,
    products: &[&str],
    seen: Option<Seen>,
) -> Result<Added, Refusal> {
    let new = New {
        name: name.parse().unwrap(),
        public_key: pem.to_owned(),
        products: products.iter().map(|product| product.parse().unwrap()).collect(),
        seen,
        dry_run: false,
    };
    add(&bench.plant, &bench.actor(Act::AddReleaseKey).await, &new).await
}

fn by_name(name: &str) -> KeyRef {
    KeyRef::Name(name.parse().unwrap())
}

fn id_of(pair: &KeyPair) -> Digest {
    Digest::of(&pair.subject_public_key_info())
}

async fn take_out(bench: &Bench, key: KeyRef, compromised: bool, dry_run: bool) -> Result<Removed, Refusal> {
    let removal = Removal { key, compromised, reason: "a laptop was stolen".to_owned(), seen: None, dry_run };
    remove(&bench.plant, &bench.actor(Act::RemoveReleaseKey).await, &removal).await
}

async fn turn(bench: &Bench, name: &str, pem: &str, seen: Option<Seen>) -> Result<Rotated, Refusal> {
    let (key, public_key, reason) = (by_name(name), pem.to_owned(), String::new());
    let rotation = Rotation { key, public_key, compromised: false, reason, seen, dry_run: false };
    rotate(&bench.plant, &bench.actor(Act::RotateReleaseKey).await, &rotation).await
}

async fn need(bench: &Bench, needed: u8, seen: Option<Seen>) -> Result<Changed, Refusal> {
    let (product, needed) = (product(), needed.try_into().unwrap());
    let threshold = Threshold { product, needed, seen, dry_run: false };
    set(&bench.plant, &bench.actor(Act::SetReleaseThreshold).await, &threshold).await
}

fn product() -> policy::id::ProductName {
    "edge-box".parse().unwrap()
}

fn id() -> ReleaseId {
    "edge-box@1.0".parse().unwrap()
}

/// A plant with press-7, which booted what edge-box@1.0 will accept.
async fn bench() -> Bench {
    let bench = Bench::new().await;
    bench.zone(&enforcing("cell-3")).await;
    let device = bench.device("press-7", &["cell-3"]).await;
    bench.attest(&device, "boot-a", Decision::Trusted).await;
    bench.certificate(&device, "cell-3", 1).await;
    bench
}

/// edge-box@1.0 signed by these.
async fn signed(bench: &Bench, signers: &[&KeyPair]) -> Vec<u8> {
    let envelope = Envelope::parse(&release(bench, "press-7", "1.0").await).unwrap();
    // Learned again it would have the next counter.
    let text = envelope.stated().unwrap().render().replace("counter = 2", "counter = 1");
    let manifest = Manifest::parse(&text).unwrap();
    let unsigned = Unsigned::new(&manifest);
    let signature = |pair: &&KeyPair| (id_of(pair), pair.sign(&unsigned.to_be_signed()).unwrap());
    Envelope::new(&unsigned, &signers.iter().map(signature).collect::<Vec<_>>()).to_json().into_bytes()
}

async fn take(bench: &Bench, envelope: &[u8]) -> Result<Applied, Refusal> {
    let actor = bench.actor(Act::ApplyRelease).await;
    apply(&bench.plant, &actor, envelope, &terms(ReleaseState::Active, false)).await
}

/// As if press-7 had proven to run edge-box@1.0.
async fn runs(bench: &Bench) {
    let key = attested_key(&"press-7".parse().unwrap());
    let attested = Attested { running: Some(vec![id()]), ..bench.read(key.clone()).await };
    let txn = Txn::new().put(key, crate::record::stored(&attested).unwrap());
    bench.plant.store.transact(txn).await.unwrap();
}

async fn accepted(bench: &Bench) -> bool {
    current(&bench.plant).await.unwrap().accepts(&id(), bench.plant.now())
}

async fn ring(bench: &Bench) -> KeyRing {
    KeyRing::read(bench.plant.store.as_ref()).await.unwrap()
}

#[tokio::test]
async fn a_registered_key_signs_its_own_products_and_the_audit_names_it() {
    let bench = bench().await;
    let (edge, gate) =
        (register(&bench, "edge", &["edge-box"]).await, register(&bench, "gate", &["gate-box"]).await);
    let text = refused!(take(&bench, &signed(&bench, &[&gate]).await).await, EvidenceInvalid);
    assert!(text.contains("may not sign releases of edge-box"), "{text}");
    assert!(!accepted(&bench).await);
    take(&bench, &signed(&bench, &[&edge]).await).await.unwrap();
    let record: ReleaseRecord = bench.read(release_key(&product(), "1.0")).await;
    assert_eq!((record.signers, record.needed.get()), (vec![id_of(&edge).to_string()], 1));
    let events = bench.events(None, 20).await;
    let told = |event: &policy::audit::Event| event.action == "release-key.add" && event.subject == "edge";
    let event = events.iter().find(|event| told(event)).unwrap();
    assert!(
        event.text.contains(&id_of(&edge).to_string()) && event.text.ends_with("for edge-box"),
        "{}",
        event.text
    );
}

#[tokio::test]
async fn what_is_no_new_public_key_is_refused_and_nothing_changes() {
    let bench = bench().await;
    let pair = register(&bench, "build", &["edge-box"]).await;
    let before = bench.revision();
    let text = refused!(offer(&bench, "mine", &pair.serialize_pem(), &["edge-box"], None).await, Malformed);
    assert!(text.contains("this is a private key"), "{text}");
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap().public_key_pem();
    let text = refused!(offer(&bench, "mine", &p384, &["edge-box"], None).await, Malformed);
    assert!(text.contains("release keys are P-256 or Ed25519"), "{text}");
    let twice = offer(&bench, "other", &pair.public_key_pem(), &["gate-box"], None).await;
    let text = refused!(twice, Conflict);
    assert!(
        text.contains("this is the release key build already, for edge-box, registered by ada"),
        "{text}"
    );
    let text = refused!(offer(&bench, "build", &public_key(), &["edge-box"], None).await, Conflict);
    assert!(text.contains("touchstone golden key rotate build"), "{text}");
    let text = refused!(offer(&bench, "mine", &public_key(), &[], None).await, Malformed);
    assert!(text.contains("1 to 32 products"), "{text}");
    assert_eq!(bench.revision(), before);
}

#[tokio::test]
async fn a_product_can_need_several_signers_and_what_was_applied_before_counts_on() {
    let bench = bench().await;
    let (one, two) =
        (register(&bench, "one", &["edge-box"]).await, register(&bench, "two", &["edge-box"]).await);
    take(&bench, &signed(&bench, &[&one]).await).await.unwrap();
    let text = refused!(need(&bench, 4, None).await, Conflict);
    assert!(
        text.contains("edge-box has 3 release keys in force, so no release of it could have 4"),
        "{text}"
    );
    need(&bench, 2, None).await.unwrap();
    assert!(accepted(&bench).await, "it needed one when it was applied");
    let manifest = super::super::golden::one(&bench.plant, &id()).await.unwrap().1;
    let next = Manifest::parse(&manifest.replace("counter = 1", "counter = 2").replace("\"1.0\"", "\"2.0\""))
        .unwrap();
    let unsigned = Unsigned::new(&next);
    let sign = |pair: &KeyPair| (id_of(pair), pair.sign(&unsigned.to_be_signed()).unwrap());
    let by = |signatures: &[(Digest, Vec<u8>)]| Envelope::new(&unsigned, signatures).to_json().into_bytes();
    let text = refused!(take(&bench, &by(&[sign(&one), sign(&one)])).await, EvidenceInvalid);
    assert!(text.contains("edge-box@2.0 is signed by 1 of 2 needed keys"), "{text}");
    take(&bench, &by(&[sign(&one), sign(&two)])).await.unwrap();
    let record: ReleaseRecord = bench.read(release_key(&product(), "2.0")).await;
    assert_eq!((record.signers.len(), record.needed.get()), (2, 2));
}

#[tokio::test]
async fn a_removed_key_is_refused_by_name_and_what_it_signed_counts_on() {
    let bench = bench().await;
    let pair = register(&bench, "build", &["edge-box"]).await;
    let envelope = signed(&bench, &[&pair]).await;
    take(&bench, &envelope).await.unwrap();
    take_out(&bench, by_name("build"), false, false).await.unwrap();
    assert!(accepted(&bench).await);
    let next = String::from_utf8(envelope).unwrap();
    let text = refused!(take(&bench, next.as_bytes()).await, EvidenceInvalid);
    assert!(
        text.contains(&format!(
            "signed by the release key build ({}), which was removed on {NOW}",
            id_of(&pair)
        )),
        "{text}"
    );
    let again = offer(&bench, "build", &pair.public_key_pem(), &["edge-box"], None).await;
    let text = refused!(again, Conflict);
    assert!(text.contains("a removed key does not come back"), "{text}");
    let text = refused!(take_out(&bench, by_name("build"), false, false).await, Conflict);
    assert!(text.contains("was removed on") && text.contains("--compromised"), "{text}");
    register(&bench, "build", &["edge-box"]).await;
}

#[tokio::test]
async fn a_removal_leaves_enough_keys_and_says_what_to_do() {
    let bench = bench().await;
    let text = refused!(take_out(&bench, by_name("init"), false, false).await, Conflict);
    assert!(
        text.contains("edge-box would have 0 of the 1 keys") && text.contains("golden key add NAME"),
        "{text}"
    );
    register(&bench, "one", &["edge-box"]).await;
    need(&bench, 2, None).await.unwrap();
    let text = refused!(take_out(&bench, by_name("init"), false, false).await, Conflict);
    assert!(text.contains("touchstone golden key threshold edge-box 1"), "{text}");
    register(&bench, "two", &["edge-box"]).await;
    take_out(&bench, by_name("init"), false, false).await.unwrap();
    refused!(take_out(&bench, by_name("nobody"), false, false).await, NotFound);
    // A key that others may have does not wait for another one: nothing new can be applied until then.
    let removed = take_out(&bench, by_name("two"), true, false).await.unwrap();
    assert_eq!((removed.short[0].available, removed.short[0].needed), (1, 2));
    let status =
        crate::admin::status::status(&bench.plant, &bench.actor(Act::ReadStatus).await).await.unwrap();
    assert!(status.attention.iter().any(|one| one.message.contains("edge-box has 1 of the 2 release keys")));
}

#[tokio::test]
async fn a_rotated_key_signs_the_same_products_and_the_former_one_nothing_new() {
    let bench = bench().await;
    let (old, new) = (register(&bench, "build", &["edge-box"]).await, KeyPair::generate().unwrap());
    let turned = turn(&bench, "build", &new.public_key_pem(), None).await.unwrap();
    assert_eq!((turned.key.id, turned.before.id), (id_of(&new), id_of(&old)));
    let text = refused!(take(&bench, &signed(&bench, &[&old]).await).await, EvidenceInvalid);
    assert!(text.contains("the release key build"), "{text}");
    take(&bench, &signed(&bench, &[&new]).await).await.unwrap();
    let keys = ring(&bench).await;
    assert_eq!(keys.named(&"build".parse().unwrap()).unwrap().id, id_of(&new));
    let reason = keys.key(&id_of(&old)).unwrap().held.record.removed.clone().unwrap().reason;
    assert_eq!(reason, format!("rotated to {}", id_of(&new)));
    // The key of the plant, too: it keeps every product.
    let first = KeyPair::generate().unwrap();
    turn(&bench, "init", &first.public_key_pem(), None).await.unwrap();
    assert!(ring(&bench).await.key(&id_of(&first)).unwrap().held.record.products.is_empty());
    let text = refused!(turn(&bench, "init", &old.public_key_pem(), None).await, Conflict);
    assert!(text.contains("does not come back"), "{text}");
}

#[tokio::test]
async fn a_compromised_key_takes_along_what_it_alone_vouched_for_and_says_so_before() {
    let bench = bench().await;
    let pair = register(&bench, "build", &["edge-box"]).await;
    take(&bench, &signed(&bench, &[&pair]).await).await.unwrap();
    runs(&bench).await;
    let actor = bench.actor(Act::WantRelease).await;
    want(&bench.plant, &actor, &product(), Some(&id().version), None, false).await.unwrap();
    let before = bench.revision();
    let told = take_out(&bench, by_name("build"), true, true).await.unwrap();
    assert_eq!(told.lost.void, [id()]);
    let line = &told.lost.forecast[0];
    assert_eq!(
        (line.device.as_str(), line.before, line.after),
        ("press-7", Outlook::Trusted, Outlook::Refused)
    );
    assert_eq!(told.lost.running, ["press-7".parse().unwrap()]);
    assert_eq!(bench.revision(), before, "a dry run writes nothing");
    assert!(accepted(&bench).await);

    take_out(&bench, by_name("build"), true, false).await.unwrap();
    assert!(!accepted(&bench).await);
    assert_eq!(wanted(&bench.plant, &product()).await.unwrap(), None, "nobody is told to install it");
    assert!(counting(&bench.plant).await.unwrap().is_empty());
    one(&bench.plant, &id()).await.unwrap();
    finish(&bench.plant).await.unwrap();
    let lost: Attested = bench.read(attested_key(&"press-7".parse().unwrap())).await;
    assert_eq!(lost.decision, Decision::Refused);
    let why = "edge-box@1.0 counts for nothing: 0 of 1 needed keys vouch for it, since build is compromised";
    assert_eq!(lost.lost.as_deref(), Some(why));
    let store = bench.plant.store.as_ref();
    assert_eq!(list::<RevokedCertificate>(store, REVOKED).await.unwrap().len(), 1);
    assert!(list::<Compromise>(store, COMPROMISE).await.unwrap().is_empty());

    let to = ReleaseState::Deprecated { until: NOW.plus(60) };
    let request = Request { release: id(), to, reason: String::new(), seen: None, dry_run: false };
    let actor = bench.actor(Act::SetReleaseState).await;
    let text = refused!(set_state(&bench.plant, &actor, &request).await, Conflict);
    assert!(text.contains("have it signed again with keys in force"), "{text}");
    let status =
        crate::admin::status::status(&bench.plant, &bench.actor(Act::ReadStatus).await).await.unwrap();
    assert!(status.attention.iter().any(|one| one.message.starts_with("edge-box@1.0 counts for nothing")));
    assert_eq!(status.active_releases, 0);
    // Signed by somebody else it is what it was.
    let other = register(&bench, "other", &["edge-box"]).await;
    take(&bench, &signed(&bench, &[&other]).await).await.unwrap();
    assert!(accepted(&bench).await);
}

#[tokio::test]
async fn a_compromised_key_is_rotated_in_one_step() {
    let bench = bench().await;
    let old = register(&bench, "build", &["edge-box"]).await;
    take(&bench, &signed(&bench, &[&old]).await).await.unwrap();
    runs(&bench).await;
    let new = KeyPair::generate().unwrap();
    let turn = async |dry_run| {
        let (key, public_key) = (by_name("build"), new.public_key_pem());
        let reason = "a laptop was stolen".to_owned();
        let rotation = Rotation { key, public_key, compromised: true, reason, seen: None, dry_run };
        rotate(&bench.plant, &bench.actor(Act::RotateReleaseKey).await, &rotation).await
    };
    let before = bench.revision();
    let told = turn(true).await.unwrap();
    assert_eq!((told.lost.void.as_slice(), told.lost.forecast.len()), (&[id()][..], 1));
    assert_eq!(bench.revision(), before, "a dry run writes nothing");
    let done = turn(false).await.unwrap();
    assert_eq!((done.lost.void.as_slice(), done.lost.forecast.len()), (&[id()][..], 0));
    assert!(!accepted(&bench).await);
    let keys = ring(&bench).await;
    assert_eq!(keys.named(&"build".parse().unwrap()).unwrap().id, id_of(&new));
    let former = keys.key(&id_of(&old)).unwrap().held.record.clone();
    assert_eq!(former.compromised.unwrap().reason, "a laptop was stolen");
    finish(&bench.plant).await.unwrap();
    let lost: Attested = bench.read(attested_key(&"press-7".parse().unwrap())).await;
    assert!(lost.lost.unwrap().contains("since build is compromised"));
    take(&bench, &signed(&bench, &[&new]).await).await.unwrap();
    assert!(accepted(&bench).await, "signed by the new key it counts again");
    let text = refused!(turn(false).await, Conflict);
    assert!(text.contains("this is the release key build already"), "{text}");
}

#[tokio::test]
async fn a_release_with_signers_to_spare_outlives_a_compromise() {
    let bench = bench().await;
    let (one, two) =
        (register(&bench, "one", &["edge-box"]).await, register(&bench, "two", &["edge-box"]).await);
    take(&bench, &signed(&bench, &[&one]).await).await.unwrap();
    // Signed by more before it is needed: that is written although its state stays.
    take(&bench, &signed(&bench, &[&one, &two]).await).await.unwrap();
    let removed = take_out(&bench, by_name("one"), true, false).await.unwrap();
    assert!(removed.lost.void.is_empty() && removed.lost.forecast.is_empty());
    assert!(accepted(&bench).await);
    // A key that was only removed can turn out to be compromised later.
    take_out(&bench, by_name("two"), false, false).await.unwrap();
    assert!(accepted(&bench).await);
    assert_eq!(take_out(&bench, KeyRef::Id(id_of(&two)), true, false).await.unwrap().lost.void, [id()]);
    assert!(!accepted(&bench).await);
    let text = refused!(take_out(&bench, by_name("two"), true, false).await, Conflict);
    assert!(text.contains("was removed as compromised on"), "{text}");
}

#[tokio::test]
async fn a_withdrawn_release_condemns_whoever_signed_it() {
    let bench = bench().await;
    let pair = register(&bench, "build", &["edge-box"]).await;
    take(&bench, &signed(&bench, &[&pair]).await).await.unwrap();
    let reason = "a debug shell".to_owned();
    let request = Request { release: id(), to: ReleaseState::Withdrawn, reason, seen: None, dry_run: false };
    set_state(&bench.plant, &bench.actor(Act::SetReleaseState).await, &request).await.unwrap();
    take_out(&bench, by_name("build"), true, false).await.unwrap();
    let golden = current(&bench.plant).await.unwrap();
    assert_eq!(golden.values.release(&id()).unwrap().state(), ReleaseState::Withdrawn);
}

#[tokio::test]
async fn the_second_of_two_administrators_is_told_the_difference() {
    let bench = bench().await;
    let (old, new) = (register(&bench, "build", &["edge-box"]).await, KeyPair::generate().unwrap());
    let looked = keys::seen(ring(&bench).await.key(&id_of(&old)).unwrap());
    turn(&bench, "build", &new.public_key_pem(), Some(looked.clone())).await.unwrap();
    let text = refused!(turn(&bench, "build", &public_key(), Some(looked.clone())).await, Conflict);
    let short = |pair: &KeyPair| id_of(pair).hex().chars().take(12).collect::<String>();
    let words = format!(
        "the release key build was changed since you looked: you saw the key {}, in force, it is now the key {}, in force, by ada at {NOW}",
        short(&old),
        short(&new)
    );
    assert!(text.starts_with(&words), "{text}");
    let removal = Removal {
        key: KeyRef::Id(id_of(&old)),
        compromised: true,
        reason: String::new(),
        seen: Some(looked),
        dry_run: false,
    };
    let actor = bench.actor(Act::RemoveReleaseKey).await;
    let text = refused!(remove(&bench.plant, &actor, &removal).await, Conflict);
    assert!(text.contains(&format!("it is now the key {}, removed on {NOW}", short(&old))), "{text}");
    let nobody = offer(&bench, "mine", &public_key(), &["edge-box"], None).await.unwrap().seen;
    let text = refused!(offer(&bench, "mine", &public_key(), &["edge-box"], Some(nobody)).await, Conflict);
    assert!(text.contains("you saw no key, it is now the key"), "{text}");
    let one = need(&bench, 2, None).await.unwrap().seen;
    let text = refused!(need(&bench, 3, Some(one)).await, Conflict);
    assert!(text.contains("you saw 1 signature, it is now 2 signatures, by ada at"), "{text}");
}

#[tokio::test]
async fn a_removal_and_an_apply_at_the_same_moment_cannot_both_win() {
    let bench = bench().await;
    let pair = register(&bench, "build", &["edge-box"]).await;
    let envelope = signed(&bench, &[&pair]).await;
    // What apply compares: the head of the keys, as it was when the signature was verified.
    let verified = ring(&bench).await;
    take_out(&bench, by_name("build"), false, false).await.unwrap();
    let late = verified.unchanged(Txn::new().put("late", "x"));
    let outcome = bench.plant.store.transact(late).await;
    assert!(matches!(outcome, Err(crate::store::TxnError::Conflict { .. })), "{outcome:?}");
    refused!(take(&bench, &envelope).await, EvidenceInvalid);
    let late = verified.raised(Txn::new()).unwrap();
    assert!(bench.plant.store.transact(late).await.is_err(), "nor can two changes of keys");
}
