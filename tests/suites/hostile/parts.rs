//! An IMA list in parts: whoever has not answered the challenge is not listened to, and nobody for ever.

use attestor::client::{CallError, Calls as _};
use e2e::{DEADLINE, World};
use proto::v1::complete_part::Part;
use proto::v1::complete_response::Outcome;
use proto::v1::{CompletePart, CompleteRequest, CompleteResponse, DenialReason as Reason};
use proto::{MAX_IMA_IN_PARTS, v1};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::thief::{Thief, denied, issued};

/// The longest lists of known devices for which the broker has room at once.
const LONGEST: usize = 4;
/// MiB of such a list.
const MIB: usize = MAX_IMA_IN_PARTS >> 20;

async fn world() -> Option<(World, e2e::Device, Thief)> {
    let (world, [device]) = World::with_devices(["press-1"])?;
    device.measure("boot-a");
    device.start_ima();
    ["/bin/a", "/bin/b", "/bin/c"].iter().for_each(|program| device.execute(program, program));
    let mut thief = Thief::of(&device).await;
    world.admin("zone create press --mode observe");
    world.register(&device, "press");
    thief.make_keys("press").await;
    thief.enroll().await;
    Some((world, device, thief))
}

/// An honest answer and its list.
async fn taken_apart(thief: &Thief) -> (CompleteRequest, Vec<u8>) {
    let mut request = thief.request().await;
    let list = std::mem::take(&mut request.ima_log);
    assert!(list.len() > 100, "the device has a list");
    (request, list)
}

async fn send(
    thief: &Thief,
    parts: impl IntoIterator<Item = Option<Part>>,
) -> Result<CompleteResponse, CallError> {
    let parts: Vec<CompletePart> = parts.into_iter().map(|part| CompletePart { part }).collect();
    let (sender, receiver) = mpsc::channel(parts.len().max(1));
    for part in parts {
        sender.send(part).await.expect("there is room");
    }
    drop(sender);
    thief.connection.complete_attestation_in_parts(receiver).await
}

fn whole(request: CompleteRequest, list: &[u8]) -> Vec<Option<Part>> {
    let list = list.chunks(50).map(|part| Some(Part::ImaLog(part.to_vec())));
    [Some(Part::Request(request))].into_iter().chain(list).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_the_request_and_its_list_is_refused_and_changes_nothing() {
    let Some((world, _device, thief)) = world().await else { return };
    let before = world.store();
    let (request, list) = taken_apart(&thief).await;
    let part = |bytes: &[u8]| Some(Part::ImaLog(bytes.to_vec()));
    let first = || Some(Part::Request(request.clone()));
    let stranger =
        || Some(Part::Request(v1::CompleteRequest { quote_signature: vec![0; 80], ..request.clone() }));
    let other = taken_apart(&thief).await.0;
    let of_other = v1::CompleteRequest {
        quote: other.quote.clone(),
        quote_signature: other.quote_signature.clone(),
        ..request.clone()
    };
    let short = v1::CompleteRequest {
        ima_before: Some(v1::LogBeginning { length: 1, digest: vec![0; 32] }),
        ..request.clone()
    };
    let large = vec![7; 1 << 20];
    let endless = std::iter::once(first()).chain((0..=MAX_IMA_IN_PARTS >> 20).map(|_| part(&large)));
    let half = list.len() / 2;
    let cases: Vec<(&str, Vec<Option<Part>>, Reason, &str)> = vec![
        ("nothing", vec![], Reason::Malformed, "send the request before its list"),
        ("the list first", vec![part(&list), first()], Reason::Malformed, "send the request before its list"),
        ("no part", vec![first(), None], Reason::Malformed, "a part is empty"),
        ("an empty part", vec![first(), part(&[])], Reason::Malformed, "send parts of its list"),
        ("the request twice", vec![first(), first()], Reason::Malformed, "send parts of its list"),
        (
            "a list without its beginning",
            vec![Some(Part::Request(short)), part(&list)],
            Reason::Malformed,
            "send the whole list after the request",
        ),
        ("an endless list", endless.collect(), Reason::Malformed, "has more than 16777216 bytes"),
        ("no signature", vec![stranger(), part(&list)], Reason::EvidenceInvalid, "signature"),
        (
            "another quote",
            vec![Some(Part::Request(of_other)), part(&list)],
            Reason::EvidenceInvalid,
            "another challenge",
        ),
        ("half a list", vec![first(), part(&list[..half])], Reason::EvidenceInvalid, "IMA list"),
        (
            "a turned list",
            vec![first(), part(&list[half..]), part(&list[..half])],
            Reason::EvidenceInvalid,
            "IMA list",
        ),
    ];
    for (case, parts, reason, words) in cases {
        let (told, message) = denied(send(&thief, parts).await);
        assert_eq!(told, reason, "{case}: {message}");
        assert!(message.contains(words), "{case}: {message}");
    }
    assert_eq!(world.store(), before, "a refusal changes nothing");
    issued(send(&thief, whole(request, &list)).await.expect("the honest answer is accepted"));
}

/// The same in one message, with a beginning of so many MiB that the broker would have to add.
async fn claim(thief: &Thief, mebibytes: usize, forged: bool) -> Result<CompleteResponse, CallError> {
    let mut request = thief.request().await;
    let length = u64::try_from(mebibytes << 20).expect("a length");
    request.ima_log.clear();
    request.ima_before = Some(v1::LogBeginning { length, digest: vec![7; 32] });
    if forged {
        request.quote_signature = vec![0; 80];
    }
    thief.complete(request).await
}

/// A call of somebody who sends the request and so many MiB of a list, and then no more as long as the sender lives.
async fn squat(
    thief: &Thief,
    mebibytes: usize,
    calls: &mut JoinSet<Result<CompleteResponse, CallError>>,
) -> mpsc::Sender<CompletePart> {
    let (sender, receiver) = mpsc::channel(mebibytes + 1);
    let (request, _) = taken_apart(thief).await;
    let list = std::iter::repeat_n(Part::ImaLog(vec![7; 1 << 20]), mebibytes);
    for part in [Part::Request(request)].into_iter().chain(list) {
        sender.send(CompletePart { part: Some(part) }).await.expect("there is room");
    }
    let connection = thief.connection.clone();
    calls.spawn(async move { connection.complete_attestation_in_parts(receiver).await });
    sender
}

/// The next that is told to go because others need the room.
async fn told_to_go(calls: &mut JoinSet<Result<CompleteResponse, CallError>>) {
    let next = timeout(DEADLINE, calls.join_next()).await.expect("one is told to go");
    let (reason, message) = denied(next.expect("a call").expect("it ends"));
    assert_eq!(reason, Reason::TryLater, "{message}");
    assert!(message.contains("the IMA lists of other devices"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_sends_slowly_gives_way() {
    let Some((_world, _device, thief)) = world().await else { return };
    let (mut held, mut idle, mut calls) = (Vec::new(), JoinSet::new(), JoinSet::new());
    // Who sends nothing is in nobody's way, though there are more than lists that there is room for.
    for _ in 0..=LONGEST {
        held.push(squat(&thief, 0, &mut idle).await);
    }
    let (request, list) = taken_apart(&thief).await;
    issued(send(&thief, whole(request, &list)).await.expect("there is room"));
    // With their requests, one less than `LONGEST` has room: two are told to go, whenever their parts come.
    for _ in 0..=LONGEST {
        held.push(squat(&thief, MIB, &mut calls).await);
    }
    told_to_go(&mut calls).await;
    told_to_go(&mut calls).await;
    let (request, list) = taken_apart(&thief).await;
    issued(send(&thief, whole(request, &list)).await.expect("there is room again"));
    // They give way to a list of which the beginning is the broker's to add, but not to a stranger's.
    assert_eq!(denied(claim(&thief, MIB, true).await).0, Reason::EvidenceInvalid);
    let (request, list) = taken_apart(&thief).await;
    issued(send(&thief, whole(request, &list)).await.expect("there is room still"));
    assert!(calls.try_join_next().is_none(), "somebody was told to go");
    let outcome = claim(&thief, MIB, false).await.expect("others give way").outcome;
    assert!(matches!(outcome, Some(Outcome::LogsWanted(_))), "{outcome:?}");
    told_to_go(&mut calls).await;
}
