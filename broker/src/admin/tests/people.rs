//! Administrators: invited, accepted, steered, removed.

use aws_lc_rs::hmac;
use policy::digest::Digest;
use policy::time::UnixTime;
use proto::invitation::{Code, to_be_proven};
use proto::v1;
use proto::v1::DenialReason as Reason;
use proto::v1::admin_server::Admin;
use proto::v1::invitation_server::Invitation as _;
use rcgen::{CertificateParams, KeyPair, PublicKeyData};
use rustls::pki_types::CertificateDer;
use tonic::{Request, Status};

use super::office::{Office, by, refusal, waits};
use super::{Bench, NOW, observing, refused};
use crate::admin::people::accept::{Accepted, accept};
use crate::admin::people::{LIFETIME, Wanted, invite};
use crate::admin::{Act, authorize};
use crate::ca::AuthorityKey;
use crate::grpc::invitation::Invitations;
use crate::grpc::peer::{AdministratorPeer, Anchors, Peer};
use crate::plant::Plant;
use crate::record::invitation::INVITATION;
use crate::record::plant::{AdminRole, Administrator, admin_key};
use crate::record::{Held, fetch};
use crate::session::Refusal;
use crate::store::Txn;
use crate::store::record::decode;

fn wanted(role: AdminRole, zones: &[&str]) -> Wanted {
    let zones = zones.iter().map(|zone| zone.parse().unwrap()).collect();
    Wanted { name: "cy".to_owned(), role, zones, lifetime: 3600 }
}

async fn code(bench: &Bench, role: AdminRole, zones: &[&str]) -> Code {
    let actor = bench.actor(Act::InviteAdministrator).await;
    let invited = invite(&bench.plant, &actor, &wanted(role, zones), false).await.unwrap();
    assert_eq!(invited.expires, bench.plant.now().plus(3600));
    invited.code.parse().unwrap()
}

fn csr(key: &KeyPair) -> Vec<u8> {
    CertificateParams::default().serialize_request(key).unwrap().der().to_vec()
}

fn proof(secret: &[u8], csr: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), &to_be_proven(csr)).as_ref().to_vec()
}

/// Accepts with a request for `key`.
async fn answer(plant: &Plant, code: &Code, key: &KeyPair) -> Result<Accepted, Refusal> {
    let csr = csr(key);
    accept(plant, &hex::encode(code.id), &csr, &proof(&code.secret, &csr)).await
}

/// The peer that a connection with this certificate has.
fn peer(plant: &Plant, chain: &[Vec<u8>], now: UnixTime) -> AdministratorPeer {
    let keys = plant.keys.load();
    let issuing = keys.issuing.certificate().to_vec();
    let anchors = Anchors { plant: Some(keys.domain.clone()), issuing, callers: Vec::new() };
    let leaf = CertificateDer::from(chain[0].clone());
    match anchors.identify(&leaf, &[], now).unwrap() {
        Peer::Administrator(peer) => (*peer).clone(),
        other => panic!("{other:?}"),
    }
}

async fn invitations(plant: &Plant) -> usize {
    plant.store.scan(INVITATION, None, 100).await.unwrap().len()
}

#[tokio::test]
async fn whoever_has_the_code_becomes_who_was_invited_once() {
    let bench = Bench::new().await;
    bench.zone(&observing("cell-3")).await;
    let code = code(&bench, AdminRole::Operator, &["cell-3"]).await;
    let stored = bench.plant.store.scan(INVITATION, None, 10).await.unwrap();
    let text = String::from_utf8_lossy(&stored[0].1.value).into_owned();
    assert!(!text.contains(&hex::encode(code.secret)), "the secret is stored wrapped");

    let key = KeyPair::generate().unwrap();
    let accepted = answer(&bench.plant, &code, &key).await.unwrap();
    assert_eq!((accepted.name.as_str(), accepted.role), ("cy", AdminRole::Operator));
    assert_eq!(accepted.not_after, NOW.plus(LIFETIME));
    let peer = peer(&bench.plant, &accepted.chain, NOW);
    let actor = authorize(&bench.plant, &peer, Act::QuarantineDevice).await.unwrap();
    assert_eq!(actor.name(), "cy");
    actor.reach(&bench.plant, &["cell-3".parse().unwrap()]).await.unwrap();
    refused!(actor.reach(&bench.plant, &["cell-4".parse().unwrap()]).await, NotPermitted);

    let text = refused!(answer(&bench.plant, &code, &key).await, NotAdmitted);
    assert!(text.contains("unknown, used or over"), "{text}");
    assert_eq!(invitations(&bench.plant).await, 0);
}

#[tokio::test]
async fn wrong_proofs_and_codes_get_one_answer_and_leave_nothing() {
    let bench = Bench::new().await;
    let code = code(&bench, AdminRole::Viewer, &[]).await;
    let (key, revision) = (KeyPair::generate().unwrap(), bench.revision());
    let (mine, other) = (csr(&key), csr(&KeyPair::generate().unwrap()));
    let id = hex::encode(code.id);
    let mut answers = Vec::new();
    for n in 0..200_u8 {
        let secret = [n; 32];
        answers.push(refused!(accept(&bench.plant, &id, &mine, &proof(&secret, &mine)).await, NotAdmitted));
        let nobody = hex::encode([n; 8]);
        answers
            .push(refused!(accept(&bench.plant, &nobody, &mine, &proof(&secret, &mine)).await, NotAdmitted));
    }
    // A proof for another request, as whoever relays one would have it.
    answers.push(refused!(accept(&bench.plant, &id, &mine, &proof(&code.secret, &other)).await, NotAdmitted));
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(bench.revision(), revision, "a flood leaves nothing");
    answer(&bench.plant, &code, &key).await.unwrap();
}

#[tokio::test]
async fn what_is_too_long_or_no_request_is_malformed() {
    let bench = Bench::new().await;
    let code = code(&bench, AdminRole::Viewer, &[]).await;
    let (id, key) = (hex::encode(code.id), KeyPair::generate().unwrap());
    let good = csr(&key);
    let long = vec![0; 2049];
    let cases: [(&str, &[u8], Vec<u8>); 5] = [
        ("", &good, proof(&code.secret, &good)),
        ("../../admin/ada", &good, proof(&code.secret, &good)),
        (&id.to_uppercase().replace(char::is_numeric, "A"), &good, proof(&code.secret, &good)),
        (&id, &long, proof(&code.secret, &long)),
        (&id, &good, Vec::new()),
    ];
    for (id, csr, proof) in cases {
        refused!(accept(&bench.plant, id, csr, &proof).await, Malformed);
    }
    // Proven, and no request that is signed by a P-256 key.
    let p384 = csr(&KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap());
    let mut unsigned = good.clone();
    *unsigned.last_mut().unwrap() ^= 1;
    for csr in [p384, unsigned, b"no request".to_vec()] {
        let text = refused!(accept(&bench.plant, &id, &csr, &proof(&code.secret, &csr)).await, Malformed);
        assert!(text.contains("no PKCS#10 of a P-256 key"), "{text}");
    }
    answer(&bench.plant, &code, &key).await.unwrap();
}

#[tokio::test]
async fn an_invitation_ends_with_its_time_and_with_whoever_made_it() {
    let bench = Bench::new().await;
    let key = KeyPair::generate().unwrap();
    let late = code(&bench, AdminRole::Owner, &[]).await;
    bench.clock.set(NOW.plus(3600));
    refused!(answer(&bench.plant, &late, &key).await, NotAdmitted);

    let orphan = code(&bench, AdminRole::Viewer, &[]).await;
    assert_eq!(invitations(&bench.plant).await, 1, "the one that ended is swept");
    bench.administrator("eve", AdminRole::Owner, None).await;
    let record: Administrator = bench.read(admin_key("ada")).await;
    bench.plant.store.transact(Txn::new().delete(admin_key("ada"))).await.unwrap();
    refused!(answer(&bench.plant, &orphan, &key).await, NotAdmitted);
    // Back as no owner, or as another person of that name.
    for changed in [
        Administrator { role: AdminRole::Security, ..record.clone() },
        Administrator { created: NOW.plus(7), ..record.clone() },
    ] {
        let txn = Txn::new().put(admin_key("ada"), crate::record::stored(&changed).unwrap());
        bench.plant.store.transact(txn).await.unwrap();
        refused!(answer(&bench.plant, &orphan, &key).await, NotAdmitted);
    }
    let txn = Txn::new().put(admin_key("ada"), crate::record::stored(&record).unwrap());
    bench.plant.store.transact(txn).await.unwrap();
    answer(&bench.plant, &orphan, &key).await.unwrap();
}

#[tokio::test]
async fn an_owner_whom_one_made_alone_does_not_come_once_there_are_two() {
    let bench = Bench::new().await;
    let (alone, key) = (code(&bench, AdminRole::Owner, &[]).await, KeyPair::generate().unwrap());
    bench.administrator("bob", AdminRole::Owner, None).await;
    let text = refused!(answer(&bench.plant, &alone, &key).await, NotAdmitted);
    assert!(text.contains("unknown, used or over"), "{text}");
    bench.plant.store.transact(Txn::new().delete(admin_key("bob"))).await.unwrap();
    answer(&bench.plant, &alone, &key).await.unwrap();
    assert_eq!(bench.read::<Administrator>(admin_key("cy")).await.let_in_by.as_deref(), Some("ada"));
}

#[tokio::test]
async fn the_second_code_for_a_person_ends_the_first() {
    let bench = Bench::new().await;
    let (first, key) = (code(&bench, AdminRole::Owner, &[]).await, KeyPair::generate().unwrap());
    let second = code(&bench, AdminRole::Viewer, &[]).await;
    refused!(answer(&bench.plant, &first, &key).await, NotAdmitted);
    assert_eq!(answer(&bench.plant, &second, &key).await.unwrap().role, AdminRole::Viewer);
    let actor = bench.actor(Act::InviteAdministrator).await;
    let again = invite(&bench.plant, &actor, &wanted(AdminRole::Viewer, &[]), false).await;
    assert!(refused!(again, Conflict).starts_with("there is an administrator cy already"));
}

#[tokio::test]
async fn who_cannot_be_invited_is_told_why() {
    let bench = Bench::new().await;
    bench.zone(&observing("cell-3")).await;
    let actor = bench.actor(Act::InviteAdministrator).await;
    for name in ["", "broker", "Bob", "a b", "-x", &"a".repeat(41), "b/c"] {
        let wanted = Wanted { name: name.to_owned(), ..wanted(AdminRole::Viewer, &[]) };
        refused!(invite(&bench.plant, &actor, &wanted, false).await, Malformed);
    }
    let text = refused!(
        invite(&bench.plant, &actor, &wanted(AdminRole::Owner, &["cell-3"]), false).await,
        Malformed
    );
    assert!(text.contains("an owner is not limited"), "{text}");
    refused!(invite(&bench.plant, &actor, &wanted(AdminRole::Viewer, &["cell-9"]), false).await, NotFound);
    let month = Wanted { lifetime: 31 * 86_400, ..wanted(AdminRole::Viewer, &[]) };
    refused!(invite(&bench.plant, &actor, &month, false).await, Malformed);
    let revision = bench.revision();
    let tried = invite(&bench.plant, &actor, &wanted(AdminRole::Viewer, &["cell-3"]), true).await.unwrap();
    assert_eq!((tried.code.as_str(), bench.revision()), ("", revision), "a dry run");
}

async fn role(office: &Office, who: &AdministratorPeer, name: &str, role: &str) -> Result<(), Status> {
    let request =
        v1::SetAdministratorRequest { name: name.to_owned(), role: role.to_owned(), ..Default::default() };
    office.service.set_administrator(by(who, request)).await.map(drop)
}

async fn remove(office: &Office, who: &AdministratorPeer, name: &str) -> Result<(), Status> {
    let request = v1::RemoveAdministratorRequest { name: name.to_owned(), dry_run: false };
    office.service.remove_administrator(by(who, request)).await.map(drop)
}

#[tokio::test]
async fn nobody_raises_their_own_role_and_an_owner_is_left() {
    let office = Office::of(Bench::new().await).await;
    let (reason, text) = refusal(role(&office, &office.ada, "ada", "viewer").await);
    assert!(reason == Reason::NotPermitted && text.starts_with("nobody changes their own role"), "{text}");
    let eve = office.administrator("eve", AdminRole::Security, None).await;
    assert_eq!(refusal(role(&office, &eve, "eve", "owner").await).0, Reason::NotPermitted);

    let raised = waits(role(&office, &office.ada, "eve", "owner").await);
    office.approve(&office.bob, &raised).await.unwrap();
    let lowered = waits(role(&office, &eve, "bob", "viewer").await);
    office.approve(&office.ada, &lowered).await.unwrap();
    let (reason, text) = refusal(remove(&office, &eve, "ada").await);
    assert!(reason == Reason::NotPermitted && text.starts_with("eve and ada are the only owners"), "{text}");
    assert!(text.contains("touchstone-broker recover --owner ada"), "{text}");
    assert_eq!(refusal(role(&office, &eve, "ada", "viewer").await), (reason, text), "nor by another role");
    remove(&office, &office.ada, "ada").await.unwrap();
    // On the same connection, from the next call on.
    let (reason, text) = refusal(remove(&office, &office.ada, "eve").await);
    assert!(reason == Reason::NotPermitted && text.contains("no longer, registered"), "{text}");
    let (reason, text) = refusal(remove(&office, &eve, "eve").await);
    assert!(reason == Reason::Conflict && text.starts_with("eve is the last owner"), "{text}");
    assert_eq!(refusal(remove(&office, &eve, "ada").await).0, Reason::NotFound);
    let answer =
        office.service.list_administrators(by(&eve, v1::ListAdministratorsRequest {})).await.unwrap();
    let all: Vec<_> =
        answer.into_inner().administrators.into_iter().map(|admin| (admin.name, admin.role)).collect();
    let expected =
        [("bob", "viewer"), ("eve", "owner")].map(|(name, role)| (name.to_owned(), role.to_owned()));
    assert_eq!(all, expected);
}

#[tokio::test]
async fn an_owner_whose_certificate_ended_is_no_owner_to_leave_behind() {
    let office = Office::of(Bench::new().await).await;
    let key = admin_key("bob");
    let found = office.plant.store.get(&key).await.unwrap().unwrap();
    let bob: Administrator = decode(&key, &found.value).unwrap();
    let ended = Administrator { not_after: NOW, ..bob };
    let txn = Txn::new().put(key, crate::record::stored(&ended).unwrap());
    office.plant.store.transact(txn).await.unwrap();
    assert_eq!(refusal(remove(&office, &office.ada, "ada").await).0, Reason::Conflict);
}

#[tokio::test]
async fn one_owner_does_not_make_the_second_person() {
    let office = Office::new().await;
    let invited = |zones: &[&str]| v1::InviteAdministratorRequest {
        name: "puppet".to_owned(),
        role: "operator".to_owned(),
        zones: zones.iter().map(|zone| (*zone).to_owned()).collect(),
        ..v1::InviteAdministratorRequest::default()
    };
    let service = &office.service;
    // Whatever the zones ask for: the plant has two owners.
    waits(service.invite_administrator(by(&office.ada, invited(&["cell-4"]))).await);
    let everywhere = waits(service.invite_administrator(by(&office.ada, invited(&[]))).await);
    waits(service.invite_administrator(by(&office.ada, invited(&["cell-3"]))).await);
    office.administrator("vic", AdminRole::Viewer, None).await;
    waits(role(&office, &office.ada, "vic", "operator").await);
    let answer = office.approve(&office.bob, &everywhere).await.unwrap().answer;
    let made: v1::InviteAdministratorResponse = prost::Message::decode(answer.as_slice()).unwrap();
    let key = KeyPair::generate().unwrap();
    answer_to(&office, &made.code, &key).await.unwrap();
    assert_eq!(known(&office, "puppet").await.let_in_by, None, "two owners stand for them");
    // To remove somebody who is no owner never waits, whatever the zones ask for.
    remove(&office, &office.ada, "puppet").await.unwrap();
}

#[tokio::test]
async fn an_owner_goes_with_the_word_of_two_others() {
    let office = Office::of(Bench::new().await).await;
    let eve = office.administrator("eve", AdminRole::Owner, None).await;
    let sam = office.administrator("sam", AdminRole::Security, None).await;
    let id = waits(remove(&office, &office.ada, "eve").await);
    known(&office, "eve").await;
    let not_theirs = |outcome: Result<(), Status>, words: &str| {
        let (reason, text) = refusal(outcome);
        assert!(reason == Reason::NotPermitted && text.contains(words), "{reason:?}: {text}");
    };
    not_theirs(office.approve(&office.ada, &id).await.map(drop), "nobody approves their own");
    not_theirs(office.approve(&sam, &id).await.map(drop), "needs the role owner; sam has the role security");
    not_theirs(office.approve(&eve, &id).await.map(drop), "it is about eve; another owner approves it");
    not_theirs(
        office.reject(&eve, &id).await,
        "is about eve; ada, who asked for it, or another owner may drop it",
    );
    office.approve(&office.bob, &id).await.unwrap();
    not_theirs(remove(&office, &eve, "ada").await, "no longer, registered");
    let told = office.events().await.into_iter().filter(|event| event.action == "admin.remove");
    let told: Vec<_> = told.map(|event| (event.actor, event.text)).collect();
    let text = "approved by bob; removed; was owner of the whole plant".to_owned();
    assert_eq!(told, [("ada".to_owned(), text)]);
}

#[tokio::test]
async fn an_owner_whose_certificate_ended_is_removed_by_one() {
    let office = Office::of(Bench::new().await).await;
    let ended = Administrator { not_after: NOW, ..known(&office, "bob").await };
    let txn = Txn::new().put(admin_key("bob"), crate::record::stored(&ended).unwrap());
    office.plant.store.transact(txn).await.unwrap();
    remove(&office, &office.ada, "bob").await.unwrap();
}

async fn known(office: &Office, name: &str) -> Administrator {
    let held: Option<Held<Administrator>> =
        fetch(office.plant.store.as_ref(), admin_key(name)).await.unwrap();
    held.unwrap().record
}

/// A security administrator whom ada alone let in.
async fn let_in_alone(office: &Office, name: &str) -> AdministratorPeer {
    let peer = office.administrator(name, AdminRole::Security, None).await;
    let record = Administrator { let_in_by: Some("ada".to_owned()), ..known(office, name).await };
    let txn = Txn::new().put(admin_key(name), crate::record::stored(&record).unwrap());
    office.plant.store.transact(txn).await.unwrap();
    peer
}

#[tokio::test]
async fn whom_one_owner_let_in_alone_is_not_their_second_person() {
    let bench = Bench::new().await;
    bench.zone(&observing("cell-3")).await;
    let office = Office::of(bench).await;
    let owner = known(&office, "bob").await;
    office.plant.store.transact(Txn::new().delete(admin_key("bob"))).await.unwrap();
    let cy = let_in_alone(&office, "cy").await;
    let (reason, text) = refusal(office.two_person(&office.ada, "cell-3", true).await);
    assert!(reason == Reason::Conflict && text.contains("ada, cy are not two people"), "{text}");
    let di = let_in_alone(&office, "di").await;
    // Day one: nobody else can let people in, so the two are two.
    office.two_person(&office.ada, "cell-3", true).await.unwrap();
    for (asks, approves) in [(&office.ada, &cy), (&cy, &office.ada)] {
        let id = waits(office.two_person(asks, "cell-3", false).await);
        let (reason, text) = refusal(office.approve(approves, &id).await);
        assert_eq!(reason, Reason::NotPermitted);
        assert!(text.contains("ada alone let in cy; let a second owner in"), "{text}");
        assert!(!office.waiting(approves).await[0].yours_to_approve);
        office.reject(asks, &id).await.unwrap();
    }
    let id = waits(office.two_person(&cy, "cell-3", false).await);
    office.approve(&di, &id).await.unwrap();

    // With a second owner they are in one hand, until that owner confirms one of them.
    office.two_person(&office.ada, "cell-3", true).await.unwrap();
    let txn = Txn::new().put(admin_key("bob"), crate::record::stored(&owner).unwrap());
    office.plant.store.transact(txn).await.unwrap();
    let id = waits(office.two_person(&cy, "cell-3", false).await);
    let (_, text) = refusal(office.approve(&di, &id).await);
    assert!(text.contains("ada alone let in cy and di; another owner confirms them"), "{text}");
    let confirmed = waits(role(&office, &office.bob, "cy", "security").await);
    office.approve(&office.ada, &confirmed).await.unwrap();
    assert_eq!(known(&office, "cy").await.let_in_by, None);
    office.approve(&di, &id).await.unwrap();
}

async fn answer_to(
    office: &Office,
    code: &str,
    key: &KeyPair,
) -> Result<v1::AcceptInvitationResponse, Status> {
    let code: Code = code.parse().unwrap();
    let csr = csr(key);
    let proof = proof(&code.secret, &csr);
    let request = v1::AcceptInvitationRequest { id: hex::encode(code.id), csr, proof };
    let service = Invitations::new(std::sync::Arc::clone(&office.plant));
    service.accept(Request::new(request)).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_certificate_is_renewed_for_its_own_key_only() {
    let bench = Bench::new().await;
    let code = code(&bench, AdminRole::Viewer, &[]).await;
    let key = KeyPair::generate().unwrap();
    let accepted = answer(&bench.plant, &code, &key).await.unwrap();
    let cy = peer(&bench.plant, &accepted.chain, NOW);
    let office = Office::of(bench).await;
    office.clock.set(NOW.plus(LIFETIME - 60));
    let renew = async |public_key: Vec<u8>| {
        let request = v1::RenewAdministratorRequest { public_key };
        office.service.renew_administrator(by(&cy, request)).await.map(tonic::Response::into_inner)
    };
    let renewed = renew(key.subject_public_key_info()).await.unwrap();
    assert_eq!(renewed.not_after, NOW.plus(2 * LIFETIME - 60).0);
    let now = NOW.plus(LIFETIME + 60);
    let again = peer(&office.plant, &renewed.chain, now);
    assert_eq!((again.name.as_str(), again.spki), ("cy", Digest::of(&key.subject_public_key_info())));
    authorize(&office.plant, &again, Act::ReadStatus).await.unwrap();
    for other in [AuthorityKey::generate().unwrap().spki(), Vec::new(), vec![0; 300]] {
        let (reason, text) = refusal(renew(other).await);
        assert!(matches!(reason, Reason::NotPermitted | Reason::Malformed), "{text}");
    }
}

#[test]
fn an_administrator_of_version_1_reaches_the_plant_and_ends() {
    let old = format!(
        r#"{{"v":1,"d":{{"name":"ada","role":"owner","spki":"{}","created":1000}}}}"#,
        Digest::of(b"key").hex()
    );
    let spelled = serde_json::to_string(&Digest::of(b"key")).unwrap();
    let old = old.replace(&format!("\"{}\"", Digest::of(b"key").hex()), &spelled);
    let read: Administrator = decode("admin/ada", old.as_bytes()).unwrap();
    assert_eq!((read.zones, read.not_after), (None, UnixTime(1000 + 2 * 365 * 86_400)));
}

#[tokio::test]
async fn the_second_of_two_owners_who_change_a_role_is_shown_the_difference() {
    let office = Office::of(Bench::new().await).await;
    office.administrator("eve", AdminRole::Viewer, None).await;
    let ask = async |who: &AdministratorPeer, role: &str, seen, dry_run| {
        let (name, role, zones) = ("eve".to_owned(), role.to_owned(), Vec::new());
        let request = v1::SetAdministratorRequest { name, role, zones, dry_run, seen };
        office.service.set_administrator(by(who, request)).await.map(tonic::Response::into_inner)
    };
    let looked = ask(&office.ada, "operator", None, true).await.unwrap().seen;
    let first = waits(ask(&office.bob, "engineer", looked.clone(), false).await);
    office.approve(&office.ada, &first).await.unwrap();
    let (reason, text) = refusal(ask(&office.ada, "operator", looked, false).await);
    assert_eq!(reason, Reason::Conflict);
    assert!(
        text.contains(
            "eve was changed since you looked: you saw viewer of the whole plant, it is now engineer"
        ),
        "{text}"
    );
}
