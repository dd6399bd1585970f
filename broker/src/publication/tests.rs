//! What is published, asked for as clients do.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use policy::time::UnixTime;
use policy::zone::Role;
use serde_json::Value;

use super::*;
use crate::access::GrantKey;
use crate::admin::tests::{Bench, enforcing};
use crate::config::ServerFiles;
use crate::ear::EarKey;
use crate::record::zone::{AuthorityRecord, AuthorityState, authority_key};
use crate::record::{Held, fetch, stored};
use crate::store::Txn;

async fn publication(margo: bool) -> (Publication, tempfile::TempDir) {
    let bench = Bench::new().await;
    bench.zone(&enforcing("cell-3")).await;
    let (plant, dir) = bench.into_plant();
    let config = Publish {
        listen: "127.0.0.1:0".parse().unwrap(),
        url: margo.then(|| "https://trust.plant.example".to_owned()),
        margo: margo.then(|| "cell-3".parse().unwrap()),
        server: None,
    };
    (Publication { plant, config }, dir)
}

async fn json(site: &Publication, path: &str) -> Value {
    serde_json::from_str(&site.page(path).await.unwrap().unwrap()).unwrap()
}

#[tokio::test]
async fn a_bundle_has_both_authorities_as_the_standard_writes_them() {
    let (site, _dir) = publication(false).await;
    let bundle = json(&site, "/zones/cell-3/bundle.json").await;
    assert_eq!(bundle["spiffe_refresh_hint"], REFRESH);
    let keys = bundle["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 2, "{bundle}");
    let view = trust::view(&site.plant).await.unwrap();
    for (known, key) in view.known().iter().zip(keys) {
        let members = [("kty", "EC"), ("crv", "P-256"), ("use", "x509-svid")];
        assert!(members.iter().all(|(name, value)| key[name] == *value), "{key}");
        assert_eq!(STANDARD.decode(key["x5c"][0].as_str().unwrap()).unwrap(), known.certificate);
        let [x, y] = ["x", "y"].map(|name| URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap());
        let point = [x, y].concat();
        assert!(known.certificate.windows(64).any(|window| window == point), "{key}");
    }
    assert!(keys.iter().all(|key| key["d"].is_null()), "a private key is published");
    for gone in
        ["/zones/cell-4/bundle.json", "/zones/../bundle.json", "/zones/cell-3", "/", "/.well-known/margo"]
    {
        assert!(site.page(gone).await.unwrap().is_none(), "{gone}");
    }
}

#[tokio::test]
async fn the_sequence_rises_with_every_change_and_an_empty_bundle_is_never_served() {
    let (site, _dir) = publication(false).await;
    let plant = &site.plant;
    let zone: ZoneName = "cell-3".parse().unwrap();
    let sequence =
        async || json(&site, "/zones/cell-3/bundle.json").await["spiffe_sequence"].as_u64().unwrap();
    let before = sequence().await;
    plant.store.transact(trust::raise(plant, Txn::new(), UnixTime(1)).await.unwrap()).await.unwrap();
    assert!(sequence().await > before);
    for role in [Role::Caller, Role::Listener] {
        assert!(trust::view(plant).await.unwrap().believes(&zone, role, 1));
        assert_eq!(json(&site, "/zones/cell-3/bundle.json").await["keys"][0]["crv"], "P-256");
        let key = authority_key(&zone, role, 1);
        let held: Held<AuthorityRecord> = fetch(plant.store.as_ref(), key.clone()).await.unwrap().unwrap();
        let distrusted = AuthorityRecord { state: AuthorityState::Distrusted, ..held.record };
        let txn = Txn::new().put(key, stored(&distrusted).unwrap());
        plant.store.transact(trust::raise(plant, txn, UnixTime(2)).await.unwrap()).await.unwrap();
    }
    let view = trust::view(plant).await.unwrap();
    let refused = bundle::of(&view, &zone, 1).unwrap_err();
    assert!(matches!(&refused, bundle::BundleError::Empty(named) if *named == zone), "{refused}");
    assert!(site.page("/zones/cell-3/bundle.json").await.is_err(), "no keys at all would distrust for good");
}

#[tokio::test]
async fn margo_clients_are_told_where_the_bundle_is() {
    let (site, _dir) = publication(true).await;
    let found = json(&site, "/.well-known/margo").await;
    assert_eq!(found["trustDomain"], "cell-3.plant.example");
    assert_eq!(found["trustBundleUri"], "https://trust.plant.example/zones/cell-3/bundle.json");
    assert_eq!(json(&site, "/zones/cell-3/margo.json").await, found, "the same as for every other zone");
    for gone in ["/zones/cell-4/margo.json", "/zones/cell-3/margo", "/zones/cell-3/x/margo.json"] {
        assert!(site.page(gone).await.unwrap().is_none(), "{gone}");
    }
    let (without, _dir) = publication(false).await;
    assert!(without.page("/zones/cell-3/margo.json").await.unwrap().is_none(), "nobody said under which URL");
}

#[tokio::test]
async fn both_kinds_of_tokens_can_be_verified() {
    let (site, _dir) = publication(false).await;
    let none = json(&site, "/.well-known/jwks.json").await;
    assert_eq!(none["keys"], Value::Array(Vec::new()), "whoever asks makes no key");
    make_all(&site.plant).await.unwrap();
    let keys = json(&site, "/.well-known/jwks.json").await;
    let kids: Vec<&str> =
        keys["keys"].as_array().unwrap().iter().filter_map(|key| key["kid"].as_str()).collect();
    let plant = &site.plant;
    let (ear, grant) = (EarKey::open(plant).await.unwrap(), GrantKey::open(plant).await.unwrap());
    assert_eq!(kids, [ear.kid, grant.kid]);
}

#[test]
fn who_has_the_document_is_told_so() {
    let page = || "{}".to_owned();
    let first = document(&HeaderMap::new(), page());
    let tag = first.headers()[ETAG].clone();
    assert_eq!((first.status(), first.headers()[CONTENT_TYPE].clone()), (StatusCode::OK, JSON));
    let again = |value: &str| {
        let asked = HeaderMap::from_iter([(IF_NONE_MATCH, HeaderValue::from_str(value).unwrap())]);
        document(&asked, page())
    };
    let tag = tag.to_str().unwrap();
    for known in [tag.to_owned(), format!("\"x\", W/{tag}"), "*".to_owned()] {
        let response = again(&known);
        assert_eq!((response.status(), response.body().as_str()), (StatusCode::NOT_MODIFIED, ""), "{known}");
        assert_eq!(response.headers()[ETAG], tag);
    }
    assert_eq!(again("\"x\"").status(), StatusCode::OK);
}

#[tokio::test]
async fn the_end_of_what_the_operator_shows_is_in_the_calendar() {
    let bench = Bench::new().await;
    let actor = bench.actor(crate::admin::Act::ReadStatus).await;
    let (plant, dir) = bench.into_plant();
    let [certificate, key] = ["publish.pem", "publish.key"].map(|name| dir.path().join(name));
    let pair = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["trust.plant.example".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2090, 1, 1);
    std::fs::write(&certificate, params.self_signed(&pair).unwrap().pem()).unwrap();
    std::fs::write(&key, pair.serialize_pem()).unwrap();
    let ends = async || {
        let all = crate::admin::calendar::all(&plant, &actor).await.unwrap();
        let shown =
            all.into_iter().find(|entry| (entry.kind, entry.subject.as_str()) == ("broker", "publish"));
        shown.map(|entry| entry.at.to_string())
    };
    assert_eq!(ends().await, None, "nothing is published");
    let files = ServerFiles { certificate, key };
    let tls = crate::tls::Tls::new(&plant).unwrap();
    let _shown = server::config(Some(&files), tls, &plant).unwrap();
    assert_eq!(ends().await.as_deref(), Some("2090-01-01T00:00:00Z"));
}
