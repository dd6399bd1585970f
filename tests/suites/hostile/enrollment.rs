//! Enrollment: who cannot open the credential is nobody.

use attestor::client::Calls as _;
use e2e::World;
use proto::v1;
use proto::v1::DenialReason as Reason;

use super::thief::{Thief, denied};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_enrolls_without_the_credential_of_this_challenge() {
    let Some((world, [device])) = World::with_devices(["press-1"]) else { return };
    device.measure("boot-a");
    let mut thief = Thief::of(&device).await;
    world.admin("zone create press --mode observe");
    world.register(&device, "press");
    thief.make_keys("press").await;
    let before = world.store();
    let honest = thief.enroll_request().await;
    let other = thief.enroll_request().await;
    let cases = [
        ("a wrong secret", v1::CompleteRequest { credential_secret: vec![7; 32], ..honest.clone() }),
        ("no secret", v1::CompleteRequest { credential_secret: Vec::new(), ..honest.clone() }),
        (
            "the secret of another challenge",
            v1::CompleteRequest { credential_secret: other.credential_secret.clone(), ..honest.clone() },
        ),
    ];
    for (case, request) in cases {
        let (reason, message) = denied(thief.connection.complete_enrollment(request).await);
        assert_eq!(reason, Reason::EvidenceInvalid, "{case}: {message}");
        assert!(message.contains("credential was not opened"), "{case}: {message}");
    }
    let begin = |change: fn(&mut v1::BeginEnrollmentRequest)| {
        let mut request = thief.enrollment();
        change(&mut request);
        let connection = thief.connection.clone();
        async move { denied(connection.begin_enrollment(request).await) }
    };
    assert_eq!(begin(|request| request.versions = vec![2, 3]).await.0, Reason::UnsupportedVersion);
    assert_eq!(begin(|request| request.ek_public.truncate(20)).await.0, Reason::Malformed);
    assert_eq!(begin(|request| request.ak_public = request.ek_public.clone()).await.0, Reason::Malformed);
    assert_eq!(world.store(), before, "a refusal changes nothing");

    thief.connection.complete_enrollment(honest.clone()).await.expect("the honest answer is accepted");
    let after = world.store();
    for used in [honest, other] {
        let (reason, message) = denied(thief.connection.complete_enrollment(used).await);
        assert_eq!(reason, Reason::MustReattest, "{message}");
    }
    assert_eq!(world.store(), after, "a replay changes nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ek_that_nobody_vouches_for_is_turned_away_and_leaves_nothing() {
    let Some((world, [device])) = World::with_devices(["press-1"]) else { return };
    device.measure("boot-a");
    let mut thief = Thief::of(&device).await;
    world.admin("zone create press --mode observe");
    thief.make_keys("press").await;
    let before = world.store();
    let mut request = thief.enroll_request().await;
    request.ek_certificate = Vec::new();
    let (reason, message) = denied(thief.connection.complete_enrollment(request).await);
    assert_eq!(reason, Reason::NotEndorsed, "{message}");
    for part in ["the TPM holds no EK certificate", "nor registered", "touchstone device import"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert_eq!(world.store(), before, "it costs the broker nothing");
}
