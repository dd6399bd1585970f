//! A join token is as good as whoever made it is now.

use super::{Bench, Copy, NOW, bench, meter, refused, token_for};
use crate::admin::tests::observing;
use crate::admin::{Act, token};
use crate::record::device::{Admission, Device, TOKEN, Token, device_key};
use crate::record::plant::{AdminRole, admin_key};
use crate::record::zone::zone_key;
use crate::record::{Held, list, stored};
use crate::session::challenge::Door;
use crate::session::complete;
use crate::session::tests::TestTpm;
use crate::store::Txn;
use policy::zone::Zone;

const BY_ADA: &str = "the join token was made by ada, who may not let devices into yard any more; ask the administrator for a new one";

/// The yard with a token of ada for it.
async fn made() -> (Bench, String) {
    let bench = bench().await;
    let token = token_for(&bench, "yard", "meter-4", true).await.unwrap();
    (bench, token)
}

async fn only(bench: &Bench) -> Held<Token> {
    list(bench.plant.store.as_ref(), TOKEN).await.unwrap().remove(0)
}

async fn transact(bench: &Bench, txn: Txn) {
    bench.plant.store.transact(txn).await.unwrap();
}

/// Why the token is refused; nothing is changed by that.
async fn told(bench: &Bench, token: &str) -> String {
    let before = bench.revision();
    let text = refused!(Copy::new().enroll(bench, "meter-4", token).await, NotAdmitted);
    assert_eq!(bench.revision(), before, "{text}");
    text
}

/// Turns the zone into one that asks for two people.
async fn two_people(bench: &Bench) {
    let key = zone_key(&"yard".parse().unwrap());
    let zone = Zone { two_person: true, ..bench.read::<Zone>(key.clone()).await };
    transact(bench, Txn::new().put(key, stored(&zone).unwrap())).await;
}

/// Makes the token one that these people made; none: it is of before they were known.
async fn made_by(bench: &Bench, people: &[&str]) {
    let Held { key, mut record, .. } = only(bench).await;
    let since = record.people[0].since;
    let person = |name: &&str| crate::record::person::Person { name: (*name).to_owned(), since };
    record.people = people.iter().map(person).collect();
    transact(bench, Txn::new().put(key, stored(&record).unwrap())).await;
}

#[tokio::test]
async fn a_token_ends_with_the_right_of_whoever_made_it() {
    let (bench, token) = made().await;
    transact(&bench, Txn::new().delete(admin_key("ada"))).await;
    assert_eq!(told(&bench, &token).await, BY_ADA, "removed");

    bench.administrator("ada", AdminRole::Operator, Some(&["cell-3"])).await;
    assert_eq!(told(&bench, &token).await, BY_ADA, "limited to another zone");
    bench.administrator("ada", AdminRole::Viewer, None).await;
    assert_eq!(told(&bench, &token).await, BY_ADA, "with a role that makes no tokens");
    bench.clock.set(NOW.plus(1));
    bench.administrator("ada", AdminRole::Owner, None).await;
    assert_eq!(told(&bench, &token).await, BY_ADA, "another person of that name");

    bench.clock.set(NOW);
    bench.administrator("ada", AdminRole::Operator, Some(&["yard"])).await;
    Copy::new().enroll(&bench, "meter-4", &token).await.unwrap();
    let device: Device = bench.read(device_key(&meter())).await;
    assert_eq!((device.admission, device.admitted_by.as_str()), (Admission::Admitted, "join token of ada"));
}

#[tokio::test]
async fn a_zone_that_asks_for_two_people_since_takes_no_token_of_one() {
    let (bench, token) = made().await;
    two_people(&bench).await;
    let alone = "the join token was made by ada alone, and zone yard asks for two people now; ask the administrator \
                 for a new one";
    assert_eq!(told(&bench, &token).await, alone);
    // Two stand for it only while both do.
    bench.administrator("bob", AdminRole::Operator, None).await;
    made_by(&bench, &["ada", "bob"]).await;
    transact(&bench, Txn::new().delete(admin_key("bob"))).await;
    assert_eq!(told(&bench, &token).await, BY_ADA.replace("ada", "bob"));
    bench.administrator("bob", AdminRole::Operator, None).await;
    Copy::new().enroll(&bench, "meter-4", &token).await.unwrap();
}

#[tokio::test]
async fn a_token_of_before_people_were_recorded_holds_while_there_is_one_of_that_name() {
    let (bench, token) = made().await;
    made_by(&bench, &[]).await;
    let ada = bench.plant.store.get(&admin_key("ada")).await.unwrap().unwrap().value;
    transact(&bench, Txn::new().delete(admin_key("ada"))).await;
    assert_eq!(told(&bench, &token).await, BY_ADA);
    transact(&bench, Txn::new().put(admin_key("ada"), ada)).await;
    Copy::new().enroll(&bench, "meter-4", &token).await.unwrap();
}

#[tokio::test]
async fn a_token_for_a_tpm_ends_with_whoever_made_it_too() {
    let bench = Bench::new().await;
    bench.zone(&Zone { token_admits: true, ..observing("yard") }).await;
    let actor = bench.actor(Act::CreateToken).await;
    let zones = vec!["yard".parse().unwrap()];
    let request = token::Request { zones, ek: None, device: None, lifetime: 0, without_tpm: false };
    let created = token::create(&bench.plant, &actor, &request).await.unwrap();
    let [_, id, secret] = created.text.split('.').collect::<Vec<_>>()[..] else { panic!("a token") };
    let secret = hex::decode(secret).unwrap();
    transact(&bench, Txn::new().delete(admin_key("ada"))).await;

    let before = bench.revision();
    let claim = TestTpm::new().answer_with(&bench.plant, "press-7", Some((id, &secret))).await.unwrap();
    let text = refused!(complete::complete(&bench.plant, claim, Door::Enrollment).await, NotAdmitted);
    assert_eq!(text, BY_ADA);
    // Whoever does not know the secret is not told whose token it is.
    let claim = TestTpm::new().answer_with(&bench.plant, "press-7", Some((id, &[7; 32]))).await.unwrap();
    let text = refused!(complete::complete(&bench.plant, claim, Door::Enrollment).await, NotAdmitted);
    assert!(text.starts_with("the join token is unknown"), "{text}");
    assert_eq!(bench.revision(), before, "a refusal changes nothing");
}
