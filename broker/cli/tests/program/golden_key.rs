//! `touchstone golden key`, run as a program against a broker that says what the test told it.

use std::fs;

use proto::v1::*;

use crate::fake_broker::FakeBroker;
use crate::golden::Desk;

#[test]
fn a_private_key_never_leaves_the_machine() {
    let (broker, desk) = (FakeBroker::start(), Desk::new());
    desk.key("release.key");
    let ran = broker.run(&[
        "golden",
        "key",
        "add",
        "build",
        "--public",
        &desk.path("release.key"),
        "--product",
        "edge",
    ]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("this is a private key: keep it to yourself"), "{ran:?}");
    let ran = broker.run(&["golden", "key", "rotate", "build", "--public", &desk.path("release.key")]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(broker.asked::<AddReleaseKeyRequest>("add_release_key").is_empty());
    assert!(broker.asked::<RotateReleaseKeyRequest>("rotate_release_key").is_empty());
}

#[test]
fn what_was_seen_first_is_named_in_the_change() {
    let (broker, desk) = (FakeBroker::start(), Desk::new());
    let pair = rcgen::KeyPair::generate().unwrap();
    fs::write(desk.path("release.pub"), pair.public_key_pem()).unwrap();
    let seen = Some(Seen { revision: 7, words: "no key".to_owned() });
    let key =
        ReleaseKey { name: "build".to_owned(), products: vec!["edge".to_owned()], ..Default::default() };
    let answer = AddReleaseKeyResponse { key: Some(key), seen: seen.clone() };
    broker.answers("add_release_key", &answer).answers("add_release_key", &answer);
    let public = desk.path("release.pub");
    let ran = broker.run(&[
        "golden",
        "key",
        "add",
        "build",
        "--public",
        &public,
        "--product",
        "edge",
        "-o",
        "json",
    ]);
    assert_eq!((ran.code, &ran.json()["key"]["name"]), (0, &"build".into()), "{ran:?}");
    let asked: Vec<AddReleaseKeyRequest> = broker.asked("add_release_key");
    let told = |n: usize| asked.get(n).map(|asked| (asked.dry_run, asked.seen.clone()));
    assert_eq!((told(0), told(1)), (Some((true, None)), Some((false, seen))));
}

#[test]
fn a_compromise_is_shown_and_agreed_to_before_it_is_said() {
    let broker = FakeBroker::start();
    let line = ["golden", "key", "remove", "build", "--compromised"];
    let ran = broker.run(&line);
    assert!(ran.code == 64 && ran.stderr.contains("golden key remove --compromised asks before"), "{ran:?}");
    assert!(broker.asked::<RemoveReleaseKeyRequest>("remove_release_key").is_empty());
    let answer = RemoveReleaseKeyResponse { void: vec!["edge@1.4".to_owned()], ..Default::default() };
    broker.answers("remove_release_key", &answer).answers("remove_release_key", &answer);
    let ran = broker.run(&[&line[..], &["--yes"]].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains("would be removed as compromised"), "{ran:?}");
    assert!(ran.stderr.contains("nothing counts any more of edge@1.4"), "{ran:?}");
    assert!(ran.stdout.contains("is removed as compromised"), "{ran:?}");
}
