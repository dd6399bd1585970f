//! What the use of a key that was followed leads to, and what a person makes of it.

use super::*;
use crate::admin::device::stop::{quarantine, readmit};
use crate::admin::device::view;
use crate::admin::device::why::why;
use crate::record::device::{HeldCertificates, held_prefix};
use crate::record::{Held, list};

/// A device whose thief was found out.
async fn alarmed() -> (Bench, Copy, Copy) {
    let (bench, mut device) = joined().await;
    let mut thief = device.clone();
    device.attest(&bench, &[csr(), csr()]).await.unwrap();
    let text = refused!(thief.attest(&bench, &[csr(), csr()]).await, Quarantined);
    assert!(text.contains("clone alarm: its key number 1 was used after number 2: it was copied"), "{text}");
    (bench, device, thief)
}

async fn told(bench: &Bench) -> (Vec<String>, String) {
    let actor = bench.actor(Act::ReadDevices).await;
    let seen = view::device(&bench.plant, actor.scope(), &meter()).await.unwrap();
    let why = why(&view::Seen::Device(Box::new(seen)), &[], NOW);
    (why.sentences, why.next_command)
}

async fn stops(bench: &Bench) -> bool {
    bench.read::<Tpm>(ek_key(&no_ek(&meter()))).await.quarantine.is_some()
}

#[tokio::test]
async fn a_key_that_was_followed_stops_both_copies_and_only_a_new_line_of_keys_goes_on() {
    let (bench, mut device, mut thief) = alarmed().await;
    refused!(device.attest(&bench, &[]).await, Quarantined);
    let held: Vec<Held<HeldCertificates>> =
        list(bench.plant.store.as_ref(), &held_prefix(&meter())).await.unwrap();
    assert!(held.is_empty(), "what either holds is revoked");
    let (sentences, next) = told(&bench).await;
    assert!(sentences[1].contains("find out which box is meter-4"), "{sentences:?}");
    assert_eq!(next, "touchstone device readmit meter-4 --reason TEXT");
    bench.clock.set(NOW.plus(60));
    let early = token_for(&bench, "yard", "meter-4", true).await.unwrap();
    refused!(Copy::new().enroll(&bench, "meter-4", &early).await, Quarantined);

    let actor = bench.actor(Act::ReadmitDevice).await;
    let next = readmit(&bench.plant, &actor, (&meter(), None), "the thief's disk is found").await.unwrap();
    assert_eq!(next.as_deref(), Some("touchstone token create --without-tpm --device meter-4 --zone yard"));
    let (sentences, command) = told(&bench).await;
    assert!(sentences[1].contains("let it join again with a new token"), "{sentences:?}");
    assert_eq!(Some(command), next);
    let begin =
        v1::BeginAttestationRequest { versions: vec![1], device: "meter-4".into(), ..Default::default() };
    let text = refused!(begin::attestation(&bench.plant, &begin).await, NotFound);
    assert_eq!(text, "no key of meter-4 counts any more; it has to join again");

    let text = refused!(device.enroll(&bench, "meter-4", &early).await, NotAdmitted);
    assert!(text.contains("whoever copied it has it too; delete the state of meter-4"), "{text}");
    let mut anew = Copy::new();
    anew.enroll(&bench, "meter-4", &early).await.unwrap();
    assert!(!stops(&bench).await, "the token lifts it");
    assert_eq!(
        bench.events(Some(&meter()), 9).await.iter().filter(|e| e.action == "device.joined-again").count(),
        1
    );
    for copy in [&mut device, &mut thief] {
        let text = refused!(copy.attest(&bench, &[]).await, NotAdmitted);
        assert!(text.starts_with("this key is not meter-4's;"), "{text}");
    }
    anew.attest(&bench, &[csr(), csr()]).await.unwrap();
}

#[tokio::test]
async fn a_token_from_before_the_alarm_lifts_nothing() {
    let (bench, mut device) = joined().await;
    bench.clock.set(NOW.plus(60));
    let before = token_for(&bench, "yard", "meter-4", true).await.unwrap();
    let mut thief = device.clone();
    device.attest(&bench, &[]).await.unwrap();
    refused!(thief.attest(&bench, &[]).await, Quarantined);
    let actor = bench.actor(Act::ReadmitDevice).await;
    readmit(&bench.plant, &actor, (&meter(), None), "looked at").await.unwrap();
    let text = refused!(thief.enroll(&bench, "meter-4", &before).await, NotAdmitted);
    assert!(text.contains("was made before the device was stopped"), "{text}");
    assert!(stops(&bench).await);
    // Stopped once more, it is stopped by a person, and a token alone does not end that.
    bench.clock.set(NOW.plus(120));
    let actor = bench.actor(Act::QuarantineDevice).await;
    quarantine(&bench.plant, &actor, &meter(), "not yet").await.unwrap();
    bench.clock.set(NOW.plus(180));
    let after = token_for(&bench, "yard", "meter-4", true).await.unwrap();
    let text = refused!(Copy::new().enroll(&bench, "meter-4", &after).await, Quarantined);
    assert!(text.contains("not yet"), "{text}");
    // And when that ends, the alarm is in force once more.
    let actor = bench.actor(Act::ReadmitDevice).await;
    let next = readmit(&bench.plant, &actor, (&meter(), None), "looked at again").await.unwrap();
    assert!(next.is_some_and(|next| next.starts_with("touchstone token create --without-tpm")));
    assert!(stops(&bench).await);
    let text = refused!(Copy::new().enroll(&bench, "meter-4", &after).await, NotAdmitted);
    assert!(text.contains("was made before the device was stopped"), "{text}");
    bench.clock.set(NOW.plus(240));
    let last = token_for(&bench, "yard", "meter-4", true).await.unwrap();
    Copy::new().enroll(&bench, "meter-4", &last).await.unwrap();
    assert!(!stops(&bench).await);
}

#[tokio::test]
async fn the_last_key_and_the_first_are_known_without_a_ticket() {
    let (bench, mut device) = joined().await;
    let mut thief = Copy { ticket: Vec::new(), ..device.clone() };
    device.attest(&bench, &[]).await.unwrap();
    let text = refused!(thief.attest(&bench, &[]).await, Quarantined);
    assert!(text.contains("its key number 1 was used after number 2"), "{text}");

    let (bench, mut device) = (self::bench().await, Copy::new());
    let token = token_for(&bench, "yard", "meter-4", true).await.unwrap();
    let mut whose_answer_was_lost = device.clone();
    device.enroll(&bench, "meter-4", &token).await.unwrap();
    device.attest(&bench, &[]).await.unwrap();
    device.attest(&bench, &[]).await.unwrap();
    let text = refused!(whose_answer_was_lost.enroll(&bench, "meter-4", &token).await, Quarantined);
    assert!(text.contains("its key number 0 was used after number 3"), "{text}");
}

#[tokio::test]
async fn a_proof_that_was_taken_already_is_no_alarm() {
    let (bench, device) = joined().await;
    let (sealed, expected, _) = Copy::begin(&bench).await;
    let (next, stated) =
        (new_key(), v1::Statement { purpose: v1::Purpose::Renew.into(), ..Default::default() });
    let answer = device.answer(sealed, &expected, &next, stated.clone());
    complete::complete(&bench.plant, answer, Door::Attestation).await.unwrap();
    // Its answer was lost: the device hears which key is expected, and with what ticket.
    let (sealed, expected, ticket) = Copy::begin(&bench).await;
    assert_eq!(expected, Digest::of(&spki(&next)).0);
    let again = device.answer(sealed, &expected, &next, stated);
    let text = refused!(complete::complete(&bench.plant, again, Door::Attestation).await, MustReattest);
    assert!(text.starts_with("this proof was taken already"), "{text}");
    let mut device = Copy { key: next, ticket };
    let mut thief = device.clone();
    for _ in 0..3 {
        thief.attest(&bench, &[]).await.unwrap();
    }
    let text = refused!(device.attest(&bench, &[]).await, Quarantined);
    assert!(text.contains("its key number 2 was used after number 5"), "{text}");
}
