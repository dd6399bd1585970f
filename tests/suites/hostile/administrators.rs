//! The Admin service and who may not call it.

use std::fs;
use std::sync::Arc;

use attestor::role::Role;
use attestor::tpm::TpmIdentityKey;
use e2e::World;
use policy::zone::document::MAX_DOCUMENT;
use proto::v1;
use proto::v1::DenialReason;
use proto::v1::admin_client::AdminClient;
use tonic::Status;

use super::caller::{Identity, connect, software_key};
use super::thief::Thief;

/// Asks for the status of the plant with a certificate and key, or without.
async fn status(world: &World, identity: Option<Identity>) -> Result<(), Status> {
    let channel = connect(world, identity).await?;
    AdminClient::new(channel).get_status(v1::GetStatusRequest {}).await.map(drop)
}

fn not_permitted(result: Result<(), Status>) {
    let status = result.expect_err("the Admin service answered");
    let denial = proto::denial::from_status(&status).expect("a refusal with a reason");
    assert_eq!(denial.reason(), DenialReason::NotPermitted);
    assert!(denial.message.contains("administrator's certificate"), "{}", denial.message);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_administrators_administer() {
    let Some((world, [device])) = World::with_devices(["press-1"]) else { return };
    world.admin("zone create press --mode observe");
    device.measure("boot-a");
    world.register(&device, "press");
    let mut thief = Thief::of(&device).await;
    thief.make_keys("press").await;
    let svids = thief.enroll().await.svids;
    let before = world.store();

    not_permitted(status(&world, None).await);

    let caller = svids.iter().find(|svid| svid.role() == v1::Role::Caller).expect("a caller certificate");
    let (_, key) = thief.keys.iter().find(|(seat, _)| seat.role == Role::Caller).expect("a caller key");
    let key = TpmIdentityKey::new(thief.prover.tpm().clone(), key.clone());
    not_permitted(status(&world, Some((caller.chain[0].clone(), Arc::new(key)))).await);

    // The names of the owner, signed by nobody.
    let owner = pem::parse(fs::read(world.plant.path("owner/admin.pem")).expect("the owner")).expect("PEM");
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::default();
    let uri = "spiffe://control.plant.example/admin/alice".try_into().expect("a URI");
    params.subject_alt_names.push(rcgen::SanType::URI(uri));
    params.extended_key_usages.push(rcgen::ExtendedKeyUsagePurpose::ClientAuth);
    let forged = params.self_signed(&key).expect("a certificate").der().to_vec();
    let stolen = owner.contents().to_vec();
    for leaf in [forged, stolen] {
        let refused = status(&world, Some((leaf, software_key(&key.serialize_der())))).await;
        let refused = refused.expect_err("the Admin service answered a stranger");
        assert!(proto::denial::from_status(&refused).is_none(), "refused below gRPC: {refused:?}");
    }
    assert_eq!(world.store(), before, "a refusal changes nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_file_of_zones_comes_with_the_graph_that_it_was_planned_on() {
    let Some((world, [_device])) = World::with_devices(["press-1"]) else { return };
    world.admin("zone create press --mode observe");
    let read = |name: &str| pem::parse(fs::read(world.plant.path(name)).expect("a file")).expect("PEM");
    let (leaf, key) = (read("owner/admin.pem"), read("owner/admin.key"));
    let owner = (leaf.contents().to_vec(), software_key(key.contents()));
    let mut admin = AdminClient::new(connect(&world, Some(owner)).await.expect("the broker answers"));
    let graph = admin.get_graph(v1::GetGraphRequest {}).await.expect("the graph").into_inner().document;
    let document = format!("{graph}{}", "#".repeat(MAX_DOCUMENT - graph.len()));
    let request =
        v1::ApplyGraphRequest { before: document.clone(), document, dry_run: true, unoffered: false };
    let change = admin.apply_graph(request).await.expect("the broker reads it").into_inner().change;
    let change = change.expect("a change");
    assert_eq!((change.zones_changed.len(), change.zones_removed.len(), change.steps), (0, 0, 1));
}
