//! A TPM that named its other EK once is known under it, whatever its AK is.

use std::collections::BTreeMap;

use policy::digest::Digest;
use policy::tpm::public::EkPublic;
use proto::v1::CompleteRequest;

use super::endorsed::Maker;
use super::faulty::{Fault, break_store};
use super::plant_of;
use super::tpm::{TestTpm, ek};
use crate::admin::device::DeviceRef;
use crate::admin::device::admit::{Request, admit};
use crate::admin::device::import::{Entry, import};
use crate::admin::tests::{Bench, NOW, observing, refused};
use crate::admin::{Act, token};
use crate::record::device::{
    AkOwner, Device, MAX_OTHER_EKS, Quarantine, TOKEN, Token, Tpm, device_key, ek_key, other_ek_key,
};
use crate::record::{Held, fetch, list, stored};
use crate::session::Refusal;
use crate::session::challenge::Door;
use crate::session::complete::complete;
use crate::store::Txn;

fn digest(public: &[u8]) -> Digest {
    EkPublic::parse(public).unwrap().digest()
}

/// A plant with the device press-7, and a zone cell-4 that takes whoever has a token.
async fn plant(tpm: &TestTpm) -> (Bench, Maker) {
    let (mut bench, _) = plant_of(tpm, false).await;
    let maker = Maker::trusted_by(&mut bench);
    let mut zone = observing("cell-4");
    zone.token_admits = true;
    bench.zone(&zone).await;
    (bench, maker)
}

/// `tpm` shows and names certificates of `maker`, for its EK and for `others`.
fn certified(tpm: &mut TestTpm, maker: &Maker, others: &[Vec<u8>]) {
    tpm.booted.ek_certificate = maker.certify(tpm.ek_public());
    tpm.other_ek_certificates = others.iter().map(|public| maker.certify(public)).collect();
}

/// Makes a token that is bound to no TPM, and enrolls with it.
async fn enroll_by_token(bench: &Bench, tpm: &mut TestTpm, name: &str) -> Result<(), Refusal> {
    let request = ask_by_token(bench, tpm, name).await;
    complete(&bench.plant, request, Door::Enrollment).await.map(drop)
}

/// The same up to its last word.
async fn ask_by_token(bench: &Bench, tpm: &mut TestTpm, name: &str) -> CompleteRequest {
    let actor = bench.actor(Act::CreateToken).await;
    let zones = vec!["cell-4".parse().unwrap()];
    let request = token::Request { zones, ek: None, device: None, lifetime: 0, without_tpm: false };
    let created = token::create(&bench.plant, &actor, &request).await.unwrap();
    let [_, id, secret] = created.text.split('.').collect::<Vec<_>>()[..] else { panic!("a token") };
    let secret = hex::decode(secret).unwrap();
    tpm.answer_with(&bench.plant, name, Some((id, &secret))).await.unwrap()
}

/// `tpm` as another device: with the EK `public`, a fresh AK, and no word of its other EKs.
fn disguise(tpm: &mut TestTpm, maker: &Maker, public: &[u8]) {
    tpm.take_ek(public.to_vec());
    tpm.switch_ak();
    certified(tpm, maker, &[]);
}

async fn change_tpm(bench: &Bench, ek: &Digest, change: impl FnOnce(Tpm) -> Tpm) {
    let known = change(bench.read(ek_key(ek)).await);
    bench.plant.store.transact(Txn::new().put(ek_key(ek), stored(&known).unwrap())).await.unwrap();
}

fn stop() -> Quarantine {
    Quarantine { at: NOW, by: "ada".to_owned(), reason: "stolen".to_owned(), beneath: None }
}

#[tokio::test]
async fn a_stopped_tpm_does_not_come_back_with_another_ek_and_a_fresh_ak() {
    let (mut tpm, second) = (TestTpm::new(), ek());
    let (bench, maker) = plant(&tpm).await;
    certified(&mut tpm, &maker, std::slice::from_ref(&second));
    tpm.enroll(&bench.plant, "press-7").await.unwrap();
    let first = tpm.ek_digest();
    disguise(&mut tpm, &maker, &second);

    change_tpm(&bench, &first, |known| Tpm { quarantine: Some(stop()), ..known }).await;
    let text = refused!(enroll_by_token(&bench, &mut tpm, "press-8").await, Quarantined);
    assert!(text.contains("press-7 is quarantined") && text.contains("stolen"), "{text}");
    change_tpm(&bench, &first, |known| Tpm { quarantine: None, retired: true, ..known }).await;
    let text = refused!(enroll_by_token(&bench, &mut tpm, "press-8").await, Retired);
    assert!(text.contains("press-7"), "{text}");
    let press_8: Option<Held<Device>> =
        fetch(bench.plant.store.as_ref(), device_key(&"press-8".parse().unwrap())).await.unwrap();
    assert!(press_8.is_none());
    let tokens: Vec<Held<Token>> = list(bench.plant.store.as_ref(), TOKEN).await.unwrap();
    assert_eq!(tokens.len(), 2, "neither is used up");

    // The very same answer is good from a TPM that nobody named.
    tpm.switch_ek();
    certified(&mut tpm, &maker, &[]);
    enroll_by_token(&bench, &mut tpm, "press-8").await.unwrap();
}

#[tokio::test]
async fn a_device_that_comes_with_its_other_ek_is_told_and_a_person_may_register_that() {
    let (mut tpm, second) = (TestTpm::new(), ek());
    let (bench, maker) = plant(&tpm).await;
    certified(&mut tpm, &maker, std::slice::from_ref(&second));
    tpm.enroll(&bench.plant, "press-7").await.unwrap();
    let first = tpm.ek_digest();
    disguise(&mut tpm, &maker, &second);
    let text = refused!(enroll_by_token(&bench, &mut tpm, "press-8").await, Conflict);
    assert!(text.contains(&format!("this TPM is press-7 already, under its EK {first}")), "{text}");
    assert!(text.contains("touchstone device import"), "{text}");
    let again = refused!(tpm.enroll(&bench.plant, "press-8").await, Conflict);
    assert_eq!(again, text, "it does not even wait");

    let (name, zones) = ("press-8".parse().unwrap(), vec!["cell-3".parse().unwrap()]);
    let entry = Entry { name, zones, ek: digest(&second), inventory: BTreeMap::new() };
    import(&bench.plant, &bench.actor(Act::ImportDevices).await, &[entry], false).await.unwrap();
    tpm.enroll(&bench.plant, "press-8").await.unwrap();
}

#[tokio::test]
async fn a_list_with_another_ek_of_a_stopped_tpm_says_what_that_means() {
    let (mut tpm, second) = (TestTpm::new(), ek());
    let (bench, maker) = plant(&tpm).await;
    certified(&mut tpm, &maker, std::slice::from_ref(&second));
    tpm.enroll(&bench.plant, "press-7").await.unwrap();
    let (name, zones) = ("press-8".parse().unwrap(), vec!["cell-3".parse().unwrap()]);
    let list = [Entry { name, zones, ek: digest(&second), inventory: BTreeMap::new() }];
    let actor = bench.actor(Act::ImportDevices).await;
    let warned = async |dry_run| import(&bench.plant, &actor, &list, dry_run).await.unwrap().warnings;
    assert!(warned(true).await.is_empty(), "nobody stopped it");
    change_tpm(&bench, &tpm.ek_digest(), |known| Tpm { quarantine: Some(stop()), ..known }).await;
    let told = warned(true).await;
    let ["EK", rest] = told[0].splitn(2, ' ').collect::<Vec<_>>()[..] else { panic!("{told:?}") };
    assert!(rest.contains("(press-8) is another EK of the TPM of press-7"), "{rest}");
    assert!(rest.contains("by ada (stolen): registered, it is a device of its own"), "{rest}");
    assert_eq!(warned(false).await, told);
    assert!(warned(false).await.is_empty(), "it is known now");
}

/// press-7, and a token's answer by its TPM under another EK that nobody named, with a fresh AK.
async fn disguised() -> (Bench, Digest, Digest, CompleteRequest) {
    let (mut tpm, second) = (TestTpm::new(), ek());
    let (bench, maker) = plant(&tpm).await;
    certified(&mut tpm, &maker, &[]);
    tpm.enroll(&bench.plant, "press-7").await.unwrap();
    let first = tpm.ek_digest();
    disguise(&mut tpm, &maker, &second);
    let request = ask_by_token(&bench, &mut tpm, "press-8").await;
    (bench, first, digest(&second), request)
}

/// The answer comes while somebody writes `value` under `key`; what is said of it then, and of the same once more.
async fn overtaken(bench: &mut Bench, request: &CompleteRequest, key: String, value: Vec<u8>) -> Refusal {
    break_store(bench, Fault::Overtaken(key, value));
    let text = refused!(complete(&bench.plant, request.clone(), Door::Enrollment).await, MustReattest);
    assert!(text.contains("something this decision rests on was changed"), "{text}");
    let again = complete(&bench.plant, request.clone(), Door::Enrollment).await.map(drop).unwrap_err();
    let press_8 = fetch::<Device>(bench.plant.store.as_ref(), device_key(&"press-8".parse().unwrap())).await;
    assert!(press_8.unwrap().is_none());
    again
}

#[tokio::test]
async fn an_ek_that_is_named_while_it_enrolls_is_no_second_device() {
    let (mut bench, first, second, request) = disguised().await;
    let owner = stored(&AkOwner { ek: first }).unwrap();
    let again = overtaken(&mut bench, &request, other_ek_key(&second), owner).await;
    assert!(
        matches!(&again, Refusal::Conflict(text) if text.contains("this TPM is press-7 already")),
        "{again:?}"
    );
}

#[tokio::test]
async fn a_tpm_that_is_stopped_while_it_enrolls_under_another_ek_does_not_get_in() {
    let (mut bench, first, second, request) = disguised().await;
    // It was let go, and its names stay.
    change_tpm(&bench, &first, |known| Tpm { device: None, ..known }).await;
    let named = Txn::new().put(other_ek_key(&second), stored(&AkOwner { ek: first }).unwrap());
    bench.plant.store.transact(named).await.unwrap();
    let known: Tpm = bench.read(ek_key(&first)).await;
    let stopped = stored(&Tpm { quarantine: Some(stop()), ..known }).unwrap();
    let again = overtaken(&mut bench, &request, ek_key(&first), stopped).await;
    assert!(matches!(&again, Refusal::Quarantined { reason, .. } if reason == "stolen"), "{again:?}");
}

#[tokio::test]
async fn an_ek_that_waits_is_not_admitted_once_a_device_named_it() {
    let (mut tpm, second) = (TestTpm::new(), ek());
    let (bench, maker) = plant(&tpm).await;
    let first = tpm.ek_public().to_vec();
    disguise(&mut tpm, &maker, &second);
    tpm.enroll(&bench.plant, "press-8").await.unwrap();
    disguise(&mut tpm, &maker, &first);
    certified(&mut tpm, &maker, std::slice::from_ref(&second));
    tpm.enroll(&bench.plant, "press-7").await.unwrap();

    let actor = bench.actor(Act::AdmitDevice).await;
    let device = DeviceRef::Ek(digest(&second));
    let request = Request { device, name: None, zones: vec!["cell-3".parse().unwrap()], seen: None };
    let text = refused!(admit(&bench.plant, &actor, &request).await, Conflict);
    assert!(text.contains("this TPM is press-7 already"), "{text}");
}

#[tokio::test]
async fn whoever_names_the_eks_of_others_takes_nothing_from_them() {
    let (mut honest, mut liar, third) = (TestTpm::new(), TestTpm::new(), ek());
    let (bench, maker) = plant(&honest).await;
    let (of_honest, of_liar) = (honest.ek_public().to_vec(), liar.ek_digest());
    certified(&mut honest, &maker, std::slice::from_ref(&third));
    honest.enroll(&bench.plant, "press-7").await.unwrap();
    // Under its own EK the device is itself, whoever named that.
    certified(&mut liar, &maker, std::slice::from_ref(&third));
    let text = refused!(enroll_by_token(&bench, &mut liar, "liar").await, Conflict);
    assert!(text.contains("this TPM is press-7 already"), "{text}");
    certified(&mut liar, &maker, &[]);
    enroll_by_token(&bench, &mut liar, "liar").await.unwrap();
    certified(&mut liar, &maker, &[of_honest.clone(), third.clone()]);
    liar.enroll(&bench.plant, "liar").await.unwrap();

    assert_eq!(bench.read::<Tpm>(ek_key(&of_liar)).await.other_eks, [], "both are somebody's");
    let owner: AkOwner = bench.read(other_ek_key(&digest(&third))).await;
    assert_eq!(owner.ek, digest(&of_honest), "never another's");
    change_tpm(&bench, &of_liar, |known| Tpm { quarantine: Some(stop()), ..known }).await;
    honest.enroll(&bench.plant, "press-7").await.unwrap();
}

#[tokio::test]
async fn no_more_eks_are_remembered_than_a_tpm_has() {
    let mut tpm = TestTpm::new();
    let (bench, maker) = plant(&tpm).await;
    let all: Vec<Vec<u8>> = (0..=MAX_OTHER_EKS).map(|_| ek()).collect();
    let (last, first) = all.split_last().unwrap();
    certified(&mut tpm, &maker, first);
    tpm.enroll(&bench.plant, "press-7").await.unwrap();
    certified(&mut tpm, &maker, std::slice::from_ref(last));
    tpm.enroll(&bench.plant, "press-7").await.unwrap();
    let known: Tpm = bench.read(ek_key(&tpm.ek_digest())).await;
    assert_eq!(known.other_eks, first.iter().map(|public| digest(public)).collect::<Vec<_>>());
    let last: Option<Held<AkOwner>> =
        fetch(bench.plant.store.as_ref(), other_ek_key(&digest(last))).await.unwrap();
    assert!(last.is_none());
}
