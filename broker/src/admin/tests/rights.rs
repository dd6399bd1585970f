//! Who may do what.

use policy::digest::Digest;

use super::{Bench, NOW, refused};
use crate::admin::{Act, authorize};
use crate::grpc::peer::{AdministratorPeer, Peer};
use crate::record::plant::{AdminRole, Administrator, admin_key};
use crate::record::stored;
use crate::store::Txn;

const ROLES: [AdminRole; 5] =
    [AdminRole::Viewer, AdminRole::Engineer, AdminRole::Operator, AdminRole::Security, AdminRole::Owner];

async fn administrator(bench: &Bench, role: AdminRole) -> AdministratorPeer {
    let name = format!("{role:?}").to_lowercase();
    let spki = Digest::of(name.as_bytes());
    let record = Administrator { name: name.clone(), role, spki, created: NOW };
    let txn = Txn::new().put(admin_key(&name), stored(&record).unwrap());
    bench.plant.store.transact(txn).await.unwrap();
    AdministratorPeer { name, spki, not_after: NOW.plus(1) }
}

/// The acts of each role, written out: whoever changes the table changes this.
fn acts(role: AdminRole) -> &'static str {
    match role {
        AdminRole::Viewer => "status.read device.read golden.read zone.read audit.read",
        AdminRole::Engineer => {
            "status.read device.read golden.read zone.read audit.read golden.learn golden.apply golden.want"
        }
        AdminRole::Operator => {
            "status.read device.read golden.read zone.read audit.read device.import device.admit \
             device.quarantine device.readmit device.attest-now token.create"
        }
        AdminRole::Security => {
            "status.read device.read golden.read zone.read audit.read zone.create conduit.allow conduit.close"
        }
        AdminRole::Owner => {
            "status.read device.read golden.read zone.read audit.read golden.learn golden.apply golden.want \
             device.import device.admit device.quarantine device.readmit device.attest-now token.create \
             zone.create conduit.allow conduit.close plant.backup plant.restore"
        }
    }
}

#[tokio::test]
async fn each_role_may_do_its_acts_and_no_other() {
    let bench = Bench::new().await;
    for role in ROLES {
        let peer = administrator(&bench, role).await;
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
        assert_eq!(allowed.join(" "), acts(role), "{role:?}");
    }
}

#[tokio::test]
async fn a_refusal_names_the_role_that_is_needed() {
    let bench = Bench::new().await;
    let peer = administrator(&bench, AdminRole::Operator).await;
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
