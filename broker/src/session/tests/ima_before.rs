//! IMA lists without their beginning, and what a device could gain by leaving it out.

use std::cell::RefCell;

use policy::digest::Digest;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use proto::v1;
use proto::v1::complete_response::Outcome;

use super::ima::{INTRUDER, PRESS, findings, run, trusted, with_ima};
use super::tpm::TestTpm;
use super::{plant_of, refused};
use crate::admin::tests::Bench;
use crate::record::device::{Attested, attested_key};
use crate::record::stored;
use crate::session::challenge::Door;
use crate::session::{Refusal, by_digest, complete, kept};
use crate::store::Txn;

/// A plant with press-7, which sent a list with its proof.
async fn scene() -> (Bench, TestTpm) {
    let mut tpm = with_ima();
    run(&mut tpm.booted, PRESS, "press 1");
    run(&mut tpm.booted, "/usr/bin/second", "second 1");
    let (bench, _) = plant_of(&tpm, true).await;
    tpm.enroll(&bench.plant, "press-7").await.unwrap();
    (bench, tpm)
}

async fn attest(bench: &Bench, request: v1::CompleteRequest) -> Result<Outcome, Refusal> {
    let answer = complete::complete(&bench.plant, request, Door::Attestation).await?;
    Ok(answer.outcome.unwrap())
}

async fn is_wanted(bench: &Bench, request: v1::CompleteRequest) -> bool {
    matches!(attest(bench, request).await.unwrap(), Outcome::LogsWanted(_))
}

async fn last(bench: &Bench) -> Attested {
    bench.read(attested_key(&"press-7".parse().unwrap())).await
}

fn beginning(bytes: &[u8]) -> v1::LogBeginning {
    v1::LogBeginning { length: bytes.len().try_into().unwrap(), digest: Digest::of(bytes).0.to_vec() }
}

/// `request` without the first `cut` bytes of its list.
fn cut(request: &v1::CompleteRequest, cut: usize) -> v1::CompleteRequest {
    let (before, rest) = request.ima_log.split_at(cut);
    v1::CompleteRequest { ima_log: rest.to_vec(), ima_before: Some(beginning(before)), ..request.clone() }
}

/// With a rest of which the broker makes something else.
fn with_rest(request: &v1::CompleteRequest, rest: &[u8]) -> v1::CompleteRequest {
    v1::CompleteRequest { ima_log: rest.to_vec(), ..request.clone() }
}

#[tokio::test]
async fn a_list_without_its_beginning_is_kept_as_if_it_came_whole() {
    let (bench, mut tpm) = scene().await;
    let mut sent = tpm.booted.ima_log.len();
    // One program, none, some that fill a chunk of what is kept, and one after them.
    for programs in [1, 0, 5_500, 1] {
        for n in 0..programs {
            let path = format!("/usr/lib/programs/number-{n:04}-{programs}");
            run(&mut tpm.booted, &path, &path);
        }
        let whole = tpm.renewal(&bench.plant, "press-7").await;
        let outcome = attest(&bench, cut(&whole, sent)).await.unwrap();
        assert!(matches!(outcome, Outcome::Issued(_)), "{outcome:?}");
        let kept = kept::request(&bench.plant.blobs, &last(&bench).await).unwrap();
        assert_eq!((&kept.ima_log, &kept.ima_before), (&whole.ima_log, &None));
        // What says nothing new is the evidence of the proof before.
        assert_eq!(kept == whole, programs > 0);
        sent = whole.ima_log.len();
    }
    assert_eq!(last(&bench).await.logs.unwrap().ima.len(), 1, "a chunk was filled");
    // The answer to a proof was lost, and the device knows of the one before only.
    let whole = tpm.renewal(&bench.plant, "press-7").await;
    let outcome = attest(&bench, cut(&whole, sent / 2)).await.unwrap();
    assert!(matches!(outcome, Outcome::Issued(_)), "{outcome:?}");
}

#[tokio::test]
async fn what_ran_since_is_found_as_if_the_list_came_whole() {
    let (bench, _, mut tpm) = trusted().await;
    let sent = tpm.booted.ima_log.len();
    run(&mut tpm.booted, INTRUDER, "intruder 1");
    let mut found = Vec::new();
    for before in [sent, 0] {
        let mut request = tpm.renewal(&bench.plant, "press-7").await;
        if before > 0 {
            request = cut(&request, before);
        }
        found.push(findings(complete::complete(&bench.plant, request, Door::Attestation).await));
    }
    assert!(found[0].iter().any(|finding| finding.sentence.contains(INTRUDER)), "{found:?}");
    assert_eq!(found[0], found[1]);
    // The list of the refused proof is one to go on from, too.
    let request = tpm.renewal(&bench.plant, "press-7").await;
    let again = cut(&request, request.ima_log.len());
    assert_eq!(findings(complete::complete(&bench.plant, again, Door::Attestation).await), found[0]);
}

/// What is sent after a beginning.
#[derive(Debug, Clone)]
enum Rest {
    /// What follows it, so many bytes later or earlier.
    Shifted(isize),
    Any(Vec<u8>),
}

fn rest() -> impl Strategy<Value = Rest> {
    prop_oneof![
        3 => Just(Rest::Shifted(0)),
        1 => (-200..200_isize).prop_map(Rest::Shifted),
        1 => prop::collection::vec(any::<u8>(), 0..200).prop_map(Rest::Any),
    ]
}

/// What is proven by `request`, or why nothing is: all that is decided and kept follows from it.
async fn proven(bench: &Bench, request: v1::CompleteRequest) -> Option<String> {
    match by_digest::prove(&bench.plant, request, Door::Attestation).await {
        Ok(proven) => proven.map(|proven| Digest::of(format!("{proven:?}").as_bytes()).hex()),
        Err(refusal) => Some(format!("{refusal:?}")),
    }
}

#[test]
fn beginning_and_rest_are_what_the_broker_had_and_what_was_sent() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (bench, tpm) = runtime.block_on(scene());
    let kept = tpm.booted.ima_log.clone();
    let (tpm, seen) = (RefCell::new(tpm), RefCell::new([0; 2]));
    let strategy = (1..=kept.len(), 0..3_usize, rest(), -3..=3_i64, prop::option::weighted(0.2, any::<u8>()));
    let mut runner = TestRunner::new(Config { cases: 200, ..Config::default() });
    let property = |(at, more, rest, off, wrong): (usize, usize, Rest, i64, Option<u8>)| {
        let mut tpm = tpm.borrow_mut();
        let before = tpm.booted.clone();
        (0..more).for_each(|n| run(&mut tpm.booted, &format!("/bin/{n}"), "more"));
        let honest = runtime.block_on(tpm.renewal(&bench.plant, "press-7"));
        tpm.booted = before;
        let list = &honest.ima_log;
        let rest = match rest {
            Rest::Any(bytes) => bytes,
            Rest::Shifted(by) => list[at.saturating_add_signed(by).min(list.len())..].to_vec(),
        };
        let spliced = with_rest(&honest, &[&kept[..at], &rest].concat());
        let mut short = with_rest(&cut(&honest, at), &rest);
        let claim = short.ima_before.as_mut().unwrap();
        claim.length = claim.length.saturating_add_signed(off).max(1);
        claim.digest[0] ^= wrong.unwrap_or_default();
        let is_true = claim.length == u64::try_from(at).unwrap() && wrong.unwrap_or_default() == 0;
        let (short, whole) =
            runtime.block_on(async { (proven(&bench, short).await, proven(&bench, spliced).await) });
        prop_assert_eq!(short, whole.filter(|_| is_true));
        seen.borrow_mut()[usize::from(is_true)] += 1;
        Ok(())
    };
    runner.run(&strategy, property).unwrap();
    assert!(seen.into_inner().iter().all(|count| *count > 10), "both were tried");
}

#[tokio::test]
async fn a_beginning_that_is_not_of_the_last_proof_of_this_device_and_boot_is_asked_for() {
    let (bench, mut tpm) = scene().await;
    let sent = tpm.booted.ima_log.len();
    run(&mut tpm.booted, PRESS, "press 2");
    let request = tpm.renewal(&bench.plant, "press-7").await;
    let before = bench.revision();
    let longer = cut(&request, sent + 1);
    let claims = |change: fn(&mut v1::LogBeginning)| {
        let mut short = cut(&request, sent);
        change(short.ima_before.as_mut().unwrap());
        short
    };
    assert!(is_wanted(&bench, longer).await, "it was not sent yet");
    assert!(is_wanted(&bench, claims(|before| before.length += 1)).await);
    assert!(is_wanted(&bench, claims(|before| before.length -= 1)).await);
    assert!(is_wanted(&bench, claims(|before| before.digest[31] ^= 1)).await);
    tpm.resets += 1;
    let rebooted = tpm.renewal(&bench.plant, "press-7").await;
    assert!(is_wanted(&bench, cut(&rebooted, sent)).await, "a list begins anew with each boot");
    tpm.resets -= 1;
    assert_eq!(bench.revision(), before, "nothing is decided yet");

    // The broker has it, of another device.
    let mut other = with_ima();
    run(&mut other.booted, INTRUDER, "of press-9");
    let press_9 = bench.device("press-9", &["cell-3"]).await;
    let (attested, own) = (last(&bench).await, other.booted.ima_log.clone());
    let (evidence, logs) = kept::keep(&bench.plant, other.booted.clone(), Vec::new()).await;
    let attested = Attested { evidence, logs: Some(logs), ..attested };
    let txn = Txn::new().put(attested_key(&press_9), stored(&attested).unwrap());
    bench.plant.store.transact(txn).await.unwrap();
    tpm.booted = other.booted;
    let request = tpm.renewal(&bench.plant, "press-7").await;
    assert!(is_wanted(&bench, cut(&request, own.len())).await);
    let outcome = attest(&bench, request).await.unwrap();
    assert!(matches!(outcome, Outcome::Issued(_)), "the challenge still holds: {outcome:?}");
}

#[tokio::test]
async fn a_rest_that_does_not_fit_is_refused_as_if_the_list_came_whole() {
    let (bench, mut tpm) = scene().await;
    let sent = tpm.booted.ima_log.len();
    run(&mut tpm.booted, INTRUDER, "intruder 1");
    run(&mut tpm.booted, PRESS, "press 2");
    let request = tpm.renewal(&bench.plant, "press-7").await;
    let (kept, rest) = request.ima_log.split_at(sent);
    let half = rest.len() / 2;
    for (case, other) in [
        ("nothing", &rest[..0]),
        ("a record left out", &rest[half..]),
        ("the last record missing", &rest[..half]),
        ("in the middle of a record", &rest[1..]),
        ("what was sent before, again", &request.ima_log[sent / 2..]),
        ("the whole list", &request.ima_log[..]),
    ] {
        let short = with_rest(&cut(&request, sent), other);
        let whole = with_rest(&request, &[kept, other].concat());
        let short = refused!(attest(&bench, short).await, EvidenceInvalid);
        assert!(short.contains("IMA list"), "{case}: {short}");
        assert_eq!(short, refused!(attest(&bench, whole).await, EvidenceInvalid), "{case}");
    }
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_anything_is_read() {
    let (bench, mut tpm) = scene().await;
    let request = tpm.renewal(&bench.plant, "press-7").await;
    let claiming = |length, digest: &[u8]| v1::CompleteRequest {
        ima_before: Some(v1::LogBeginning { length, digest: digest.to_vec() }),
        ..request.clone()
    };
    let most = u64::try_from(proto::MAX_IMA_IN_PARTS - request.ima_log.len()).unwrap();
    for (request, words) in [
        (claiming(0, &[1; 32]), "is nothing"),
        (claiming(most + 1, &[1; 32]), "longer than 16777216 bytes"),
        (claiming(u64::MAX, &[1; 32]), "longer than 16777216 bytes"),
        (claiming(9, &[1; 31]), "no SHA-256"),
    ] {
        let text = refused!(attest(&bench, request).await, Malformed);
        assert!(text.contains(words), "{text}");
    }
    assert!(is_wanted(&bench, claiming(most, &[1; 32])).await);
    let enrollment = tpm.answer(&bench.plant, "press-7").await.unwrap();
    let enrollment = cut(&enrollment, enrollment.ima_log.len());
    let text = refused!(complete::complete(&bench.plant, enrollment, Door::Enrollment).await, Malformed);
    assert!(text.contains("sends its whole IMA list"), "{text}");
}

#[tokio::test]
async fn who_does_not_have_the_key_does_not_learn_which_list_the_broker_has() {
    let (bench, mut tpm) = scene().await;
    let request = tpm.renewal(&bench.plant, "press-7").await;
    let quote_signature = tpm.sign(b"of something else");
    let request = v1::CompleteRequest { quote_signature, ..request };
    let mut said = Vec::new();
    for at in [request.ima_log.len(), 9] {
        let mut wrong = cut(&request, at);
        said.push(refused!(attest(&bench, wrong.clone()).await, EvidenceInvalid));
        wrong.ima_before.as_mut().unwrap().digest[0] ^= 1;
        said.push(refused!(attest(&bench, wrong).await, EvidenceInvalid));
    }
    assert!(said.iter().all(|text| *text == said[0]), "{said:?}");
    assert!(said[0].contains("not signed by the device's attestation key"), "{said:?}");
}

#[tokio::test]
async fn a_list_that_was_lost_is_asked_for_and_kept_again() {
    let (bench, mut tpm) = scene().await;
    let sent = tpm.booted.ima_log.len();
    bench.plant.blobs.remove(last(&bench).await.evidence).await.unwrap();
    let request = tpm.renewal(&bench.plant, "press-7").await;
    assert!(is_wanted(&bench, cut(&request, sent)).await);
    attest(&bench, request).await.unwrap();
    let request = tpm.renewal(&bench.plant, "press-7").await;
    let outcome = attest(&bench, cut(&request, sent)).await.unwrap();
    assert!(matches!(outcome, Outcome::Issued(_)), "{outcome:?}");
}
