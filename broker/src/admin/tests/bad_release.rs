//! Releases that must not be applied, each refused for its own reason; and keys that two people register.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use policy::reference::dsse::{Envelope, PAYLOAD_TYPE, pae};
use policy::reference::release::ReleaseId;
use policy::reference::state::ReleaseState;
use proto::v1;
use proto::v1::DenialReason;
use proto::v1::admin_server::Admin;
use rcgen::SigningKey;

use super::golden::{release, sign, terms};
use super::keys::public_key;
use super::office::{Office, by, refusal, waits};
use super::{Bench, enforcing, refused};
use crate::admin::Act;
use crate::admin::golden::apply::{Applied, apply};
use crate::admin::golden::one;
use crate::ca::AuthorityKey;
use crate::golden::current;
use crate::record::device::Decision;
use crate::record::golden::{GOLDEN, GoldenHead, ReleaseRecord, release_key};
use crate::record::plant::AdminRole;
use crate::record::stored;
use crate::release_keys::KeyRing;
use crate::session::Refusal;
use crate::store::Txn;

const HEAD: &str = "schema = 1\nproduct = \"edge-box\"\nversion = \"2.0\"\ncounter = 2\n";

/// An envelope over any text, signed by `key`.
fn over(text: &str, key: &AuthorityKey) -> Vec<u8> {
    let signature = key.sign(&pae(PAYLOAD_TYPE, text.as_bytes())).unwrap();
    let json = serde_json::json!({
        "payload": BASE64_STANDARD.encode(text),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{ "sig": BASE64_STANDARD.encode(signature) }],
    });
    json.to_string().into_bytes()
}

/// A rule that a device may satisfy, or not.
fn optional() -> String {
    format!(
        "{HEAD}\n[[event]]\npcr = 4\ntype = \"EV_IPL\"\ndigest = [\"{}\"]\noptional = true\n",
        "01".repeat(32)
    )
}

async fn bench() -> (Bench, Vec<u8>) {
    let bench = Bench::new().await;
    bench.zone(&enforcing("cell-3")).await;
    let device = bench.device("press-7", &["cell-3"]).await;
    bench.attest(&device, "boot-a", Decision::Refused).await;
    let envelope = release(&bench, "press-7", "1.0").await;
    take(&bench, &envelope).await.unwrap();
    (bench, envelope)
}

async fn take(bench: &Bench, envelope: &[u8]) -> Result<Applied, Refusal> {
    let actor = bench.actor(Act::ApplyRelease).await;
    apply(&bench.plant, &actor, envelope, &terms(ReleaseState::Active, false)).await
}

#[tokio::test]
async fn what_is_no_good_release_is_refused_for_its_reason_and_nothing_changes() {
    let (bench, good) = bench().await;
    let good = Envelope::parse(&good).unwrap().stated().unwrap().render();
    let key = &bench.release_key;
    let before = bench.revision();
    let without = |field: &str| {
        let mut json: serde_json::Value = serde_json::from_slice(&over(&good, key)).unwrap();
        json[field] = serde_json::json!([]);
        json.to_string().into_bytes()
    };
    let zeros = format!("{HEAD}\n[pcrs.sha256]\n0 = [\"{}\"]\n", "00".repeat(32));
    let refusals = [
        (Vec::new(), "this is no DSSE envelope"),
        (good.clone().into_bytes(), "sign the manifest with `touchstone golden sign`"),
        (over("", key), "line 1, column 1: `schema` is missing"),
        (over(&format!("{HEAD}colour = 1\n"), key), "line 5, column 1: `colour` is no field here"),
        (over(HEAD, key), "so every device could pass; state values or events"),
        (over(&optional(), key), "line 6, column 1: every rule about PCRs 0, 2, 4 and 7 is optional"),
        (over(&zeros, key), "line 7, column 6: this value of PCR 0 is all zeros"),
        (over(&good.replace("counter = 1", "counter  = 1"), key), "not in canonical form from line 4 on"),
    ];
    for (envelope, words) in refusals {
        let text = refused!(take(&bench, &envelope).await, Malformed);
        assert!(text.contains(words), "{words}: {text}");
    }
    let text = refused!(take(&bench, &without("signatures")).await, EvidenceInvalid);
    assert!(text.contains("the envelope is not signed; sign it with a registered release key"), "{text}");
    let stranger = AuthorityKey::generate().unwrap();
    let text = refused!(take(&bench, &over(&good, &stranger)).await, EvidenceInvalid);
    assert!(text.contains("none of the 1 signature(s) is by a registered release key"), "{text}");
    let older = sign(&good.replace("\"1.0\"", "\"0.9\""), key);
    let text = refused!(take(&bench, &older).await, Conflict);
    assert!(text.contains("it would be a rollback; sign it with counter 2"), "{text}");
    assert_eq!(bench.revision(), before);
}

#[tokio::test]
async fn a_stored_release_that_rules_of_today_refuse_takes_no_other_with_it() {
    let (bench, _) = bench().await;
    let id: ReleaseId = "edge-box@2.0".parse().unwrap();
    let former: ReleaseRecord = bench.read(release_key(&id.product, "1.0")).await;
    let envelope = bench.plant.blobs.put(over(&optional(), &bench.release_key)).await.unwrap();
    let record = ReleaseRecord { version: "2.0".to_owned(), counter: 2, envelope, ..former };
    let txn = Txn::new()
        .put(release_key(&id.product, "2.0"), stored(&record).unwrap())
        .put(GOLDEN, stored(&GoldenHead { n: 9 }).unwrap());
    bench.plant.store.transact(txn).await.unwrap();
    let golden = current(&bench.plant).await.unwrap();
    assert!(golden.accepts(&"edge-box@1.0".parse().unwrap(), bench.plant.now()));
    assert!(!golden.accepts(&id, bench.plant.now()));
    let why = golden.void.get(&id).unwrap();
    assert!(why.starts_with("it would not be accepted today") && why.contains("is optional"), "{why}");
    refused!(one(&bench.plant, &id).await, Malformed);
    // A file that was changed is no matter of rules: nothing is believed then.
    let other = bench.plant.blobs.put(over(&optional(), &AuthorityKey::generate().unwrap())).await.unwrap();
    let txn = Txn::new()
        .put(release_key(&id.product, "2.0"), stored(&ReleaseRecord { envelope: other, ..record }).unwrap())
        .put(GOLDEN, stored(&GoldenHead { n: 10 }).unwrap());
    bench.plant.store.transact(txn).await.unwrap();
    assert!(current(&bench.plant).await.is_err());
}

#[tokio::test]
async fn a_key_of_a_zone_with_two_people_is_registered_by_two() {
    let (bench, _) = bench().await;
    let office = Office::of(bench).await;
    office.two_person(&office.ada, "cell-3", true).await.unwrap();
    let sal = office.administrator("sal", AdminRole::Security, Some(&["cell-3"])).await;
    let add = |products: &[&str], public_key: String| v1::AddReleaseKeyRequest {
        name: "build".to_owned(),
        public_key,
        products: products.iter().map(|product| (*product).to_owned()).collect(),
        ..v1::AddReleaseKeyRequest::default()
    };
    let keys = async || KeyRing::read(office.plant.store.as_ref()).await.unwrap().in_force().count();
    let change = waits(office.service.add_release_key(by(&sal, add(&["edge-box"], public_key()))).await);
    assert_eq!(keys().await, 1, "nothing is registered yet");
    let (reason, text) = refusal(office.approve(&sal, &change).await);
    assert!(reason == DenialReason::NotPermitted && text.contains("nobody approves their own"), "{text}");
    office.approve(&office.ada, &change).await.unwrap();
    assert_eq!(keys().await, 2);
    // A product that no zone has, and a key of every product, are the plant's.
    for products in [&["ghost"][..], &["edge-box", "ghost"]] {
        let request = add(products, public_key());
        let (reason, text) = refusal(
            office
                .service
                .add_release_key(by(&sal, v1::AddReleaseKeyRequest { name: "other".to_owned(), ..request }))
                .await,
        );
        assert!(reason == DenialReason::NotPermitted && text.contains("touches the whole plant"), "{text}");
    }
    let request =
        v1::RemoveReleaseKeyRequest { key: "init".to_owned(), ..v1::RemoveReleaseKeyRequest::default() };
    let (reason, text) = refusal(office.service.remove_release_key(by(&sal, request.clone())).await);
    assert!(reason == DenialReason::NotPermitted && text.contains("touches the whole plant"), "{text}");
    // Others changed keys in between: what was asked for under the former is asked for again.
    let removal = waits(office.service.remove_release_key(by(&office.ada, request)).await);
    let threshold =
        v1::SetReleaseThresholdRequest { product: "edge-box".to_owned(), needed: 2, ..Default::default() };
    let change = waits(office.service.set_release_threshold(by(&sal, threshold)).await);
    office.approve(&office.ada, &change).await.unwrap();
    let (reason, text) = refusal(office.approve(&office.bob, &removal).await);
    assert!(
        reason == DenialReason::Conflict && text.contains("edge-box would have 1 of the 2 keys"),
        "{text}"
    );
}
