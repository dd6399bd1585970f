//! Every act that changes something is an event, and no other act is.
//!
//! The table is walked from [`Act::ALL`]: an act that is added does not compile here until it says how it is on record.

use policy::digest::Digest;
use proto::v1;
use proto::v1::admin_server::Admin;
use tokio::sync::mpsc;

use super::asking::{Of, Plant};
use super::exposure::SPDX;
use super::office::{Office, by, waits};
use crate::admin::backup::backup;
use crate::admin::backup::restore::{Staged, restore};
use crate::admin::conduit::Unoffered;
use crate::admin::{Act, authorize, graph, sbom};
use crate::audit::Event;
use crate::ca::AuthorityKey;
use crate::grpc::peer::AdministratorPeer;
use crate::record::plant::{AdminRole, Administrator, admin_key};
use crate::record::{Held, fetch, stored};
use crate::store::Txn;

/// What an act leaves in the audit.
enum Trace {
    /// Nothing: it reads.
    None,
    /// One event or more under its name, once it is asked for as in the matrix.
    Asked,
    /// The same, done here in another way.
    Done,
    /// The same, on real evidence: the session's test of overrides.
    OnEvidence,
}

fn trace(act: Act) -> Trace {
    match act {
        Act::ReadStatus
        | Act::ReadDevices
        | Act::ReadReleases
        | Act::ReadZones
        | Act::ReadAudit
        | Act::ReadChanges
        | Act::ReadAdministrators
        | Act::LearnRelease => Trace::None,
        Act::ApplyRelease
        | Act::SetReleaseState
        | Act::AddReleaseKey
        | Act::RotateReleaseKey
        | Act::RemoveReleaseKey
        | Act::SetReleaseThreshold
        | Act::StartRollout
        | Act::HaltRollout
        | Act::ResumeRollout
        | Act::Rollback
        | Act::ImportDevices
        | Act::AdmitDevice
        | Act::QuarantineDevice
        | Act::ReadmitDevice
        | Act::MoveDevice
        | Act::ReplaceDevice
        | Act::RetireDevice
        | Act::ChangeAddresses
        | Act::SettleVouched
        | Act::ExpectClear
        | Act::AttestDevice
        | Act::CreateToken
        | Act::RevokeToken
        | Act::CreateZone
        | Act::AllowConduit
        | Act::CloseConduit
        | Act::SetZone
        | Act::RotateAuthority
        | Act::ActivateAuthority
        | Act::DistrustAuthority
        | Act::InviteAdministrator
        | Act::RemoveAdministrator
        | Act::SetAdministrator => Trace::Asked,
        Act::Override | Act::EndOverride => Trace::OnEvidence,
        Act::WantRelease
        | Act::ApplyGraph
        | Act::AddSbom
        | Act::RemoveSbom
        | Act::ApproveChange
        | Act::RejectChange
        | Act::RenewCertificate
        | Act::Backup
        | Act::Restore => Trace::Done,
    }
}

/// Events of `who` under the name of `act`.
async fn events(office: &Office, who: &AdministratorPeer, act: Act) -> Vec<Event> {
    let all = office.events().await.into_iter();
    all.filter(|event| event.actor == who.name && event.action == act.name()).collect()
}

#[tokio::test]
async fn every_act_that_changes_something_is_on_record() {
    for &act in Act::ALL {
        let plant = Plant::new().await;
        let eve = plant.office.administrator("eve", AdminRole::Owner, None).await;
        plant.prepare(act, Of::Mine).await;
        let before = plant.office.events().await.len();
        match trace(act) {
            Trace::None => {
                plant.ask(&eve, act, Of::Mine).await.unwrap();
                assert_eq!(plant.office.events().await.len(), before, "{act:?} reads");
                continue;
            }
            Trace::OnEvidence => continue,
            Trace::Asked => match plant.ask(&eve, act, Of::Mine).await {
                Ok(_) => {}
                // What two owners do.
                waiting => {
                    let id = waits(waiting);
                    plant.office.approve(&plant.office.ada, &id).await.unwrap();
                }
            },
            Trace::Done => done(&plant, &eve, act).await,
        }
        let found = events(&plant.office, &eve, act).await;
        assert!(
            !found.is_empty() && found.iter().all(|event| !event.subject.is_empty()),
            "{act:?}: {found:?}"
        );
    }
}

/// Does what the matrix does not.
async fn done(matrix: &Plant, eve: &AdministratorPeer, act: Act) {
    let (office, plant) = (&matrix.office, &matrix.office.plant);
    let actor = authorize(plant, eve, act).await.unwrap();
    match act {
        Act::WantRelease => {
            matrix.prepare(Act::StartRollout, Of::Mine).await;
            let (product, version) = ("edge-box".to_owned(), "1.0".to_owned());
            let request = v1::WantReleaseRequest { product, version, ..Default::default() };
            office.service.want_release(by(eve, request)).await.unwrap();
        }
        Act::ApplyGraph => {
            let seen = graph::view(plant, actor.scope()).await.unwrap().document;
            let changed =
                seen.replacen("two_person = false", "function = \"control\"\ntwo_person = false", 1);
            graph::apply(plant, &actor, &changed, &seen, Unoffered::Refuse, false).await.unwrap();
        }
        Act::AddSbom => drop(sbom::add(plant, &actor, SPDX.to_vec(), false).await.unwrap()),
        Act::RemoveSbom => {
            let adding = authorize(plant, eve, Act::AddSbom).await.unwrap();
            let (kept, _) = sbom::add(plant, &adding, SPDX.to_vec(), false).await.unwrap();
            sbom::remove(plant, &actor, kept.record.document, false).await.unwrap();
        }
        Act::ApproveChange | Act::RejectChange => {
            office.two_person(&office.ada, "cell-3", true).await.unwrap();
            let change = waits(office.readmit(&office.ada, "press-7").await);
            match act {
                Act::ApproveChange => drop(office.approve(eve, &change).await.unwrap()),
                _ => office.reject(eve, &change).await.unwrap(),
            }
        }
        Act::RenewCertificate => {
            let key = AuthorityKey::generate().unwrap();
            let eve = AdministratorPeer { spki: Digest::of(&key.spki()), ..eve.clone() };
            let admin = admin_key(&eve.name);
            let held: Held<Administrator> =
                fetch(plant.store.as_ref(), admin.clone()).await.unwrap().unwrap();
            let record = Administrator { spki: eve.spki, ..held.record };
            plant.store.transact(Txn::new().put(admin, stored(&record).unwrap())).await.unwrap();
            let request = v1::RenewAdministratorRequest { public_key: key.spki() };
            office.service.renew_administrator(by(&eve, request)).await.unwrap();
        }
        Act::Backup => drop(saved(plant, eve).await),
        Act::Restore => {
            let mut staged = Staged::create(plant).await.unwrap();
            staged.append(&saved(plant, eve).await).await.unwrap();
            let reach = actor.reach(plant, &[]).await.unwrap();
            restore(plant, &reach, staged, &[]).await.unwrap();
        }
        other => panic!("{other:?} is not done here"),
    }
}

/// A backup that `eve` made.
async fn saved(plant: &crate::plant::Plant, eve: &AdministratorPeer) -> Vec<u8> {
    let actor = authorize(plant, eve, Act::Backup).await.unwrap();
    let reach = actor.reach(plant, &[]).await.unwrap();
    let (sink, mut chunks) = mpsc::channel::<Vec<u8>>(1000);
    backup(plant, &reach, &sink).await.unwrap();
    drop(sink);
    let mut file = Vec::new();
    while let Some(chunk) = chunks.recv().await {
        file.extend(chunk);
    }
    file
}
