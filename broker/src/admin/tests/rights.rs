//! Who may do what.

use std::collections::BTreeSet;

use policy::digest::Digest;

use super::{Bench, refused};
use crate::admin::{Act, authorize};
use crate::grpc::peer::{AdministratorPeer, Peer};
use crate::record::plant::{AdminRole, admin_key};
use crate::store::Txn;

const ROLES: [AdminRole; 5] =
    [AdminRole::Viewer, AdminRole::Engineer, AdminRole::Operator, AdminRole::Security, AdminRole::Owner];

/// Everybody reads, and calls what asks for the role of the change that it decides.
const EVERYBODY: &str = "status.read device.read golden.read zone.read audit.read change.read change.approve change.reject \
     admin.read admin.renew";

/// The acts of each role beyond those of everybody, written out: whoever changes the table changes this.
const fn acts(role: AdminRole) -> &'static str {
    match role {
        AdminRole::Viewer => "",
        AdminRole::Engineer => {
            "golden.learn golden.apply golden.set-state golden.want rollout.start rollout.halt rollout.resume rollout.rollback sbom.add sbom.remove"
        }
        AdminRole::Operator => {
            "device.import device.admit device.quarantine device.readmit device.move device.replace device.retire device.address device.vouch device.expect-clear device.override \
             device.end-override device.attest-now token.create token.revoke"
        }
        AdminRole::Security => {
            "zone.create conduit.allow conduit.close zone.set release-key.add release-key.rotate release-key.remove \
             release-key.threshold zone.apply authority.rotate authority.activate authority.distrust"
        }
        AdminRole::Owner => "admin.invite admin.remove admin.role plant.backup plant.restore",
    }
}

/// Names in any order.
fn names(words: &str) -> BTreeSet<&str> {
    words.split_whitespace().collect()
}

#[tokio::test]
async fn each_role_may_do_its_acts_and_no_other() {
    let bench = Bench::new().await;
    for role in ROLES {
        let peer = bench.administrator(role.name(), role, None).await;
        let mut allowed = Vec::new();
        for &act in Act::ALL {
            match authorize(&bench.plant, &peer, act).await {
                Ok(_) => allowed.push(act.name()),
                outcome => {
                    let text = refused!(outcome, NotPermitted);
                    let needed = format!("{} needs the role ", act.name());
                    assert!(text.starts_with(&needed) && text.contains(&peer.name), "{text}");
                }
            }
        }
        let mut expected = &names(EVERYBODY) | &names(acts(role));
        if role == AdminRole::Owner {
            // What anybody may, an owner may.
            expected.extend(ROLES.into_iter().flat_map(|role| names(acts(role))));
        }
        assert_eq!(allowed.into_iter().collect::<BTreeSet<_>>(), expected, "{role:?}");
    }
}

#[tokio::test]
async fn a_refusal_names_the_role_that_is_needed() {
    let bench = Bench::new().await;
    let peer = bench.administrator("operator", AdminRole::Operator, None).await;
    let text = refused!(authorize(&bench.plant, &peer, Act::CreateZone).await, NotPermitted);
    assert_eq!(text, "zone.create needs the role security; operator has the role operator");
}

#[tokio::test]
async fn a_removed_administrator_and_another_key_are_strangers() {
    let bench = Bench::new().await;
    let mut peer = bench.owner();
    peer.spki = Digest::of(b"a key of before");
    let text = refused!(authorize(&bench.plant, &peer, Act::ReadStatus).await, NotPermitted);
    assert!(text.contains("no longer, registered"), "{text}");

    bench.plant.store.transact(Txn::new().delete(admin_key("ada"))).await.unwrap();
    refused!(authorize(&bench.plant, &bench.owner(), Act::ReadStatus).await, NotPermitted);
    for name in ["", "a b", "ada/../ada", &"a".repeat(300)] {
        let peer = AdministratorPeer { name: name.to_owned(), ..bench.owner() };
        refused!(authorize(&bench.plant, &peer, Act::ReadStatus).await, NotPermitted);
    }
}

#[test]
fn devices_and_strangers_are_no_administrators() {
    refused!(Peer::Anonymous.administrator(), NotPermitted);
}
