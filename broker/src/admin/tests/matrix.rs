//! Every role, every act, inside and outside the zones that somebody is limited to.
//!
//! The table is walked from [`Act::ALL`]: an act that is added does not compile here until it says how it is refused
//! beyond one's zones, nor in `asking` until it says how it is asked for.

use proto::v1;
use proto::v1::DenialReason as Reason;
use proto::v1::admin_server::Admin;
use tonic::Status;

use super::asking::{Of, Plant};
use super::office::{Office, by, refusal};
use super::{Bench, observing};
use crate::admin::Act;
use crate::grpc::peer::AdministratorPeer;
use crate::record::plant::AdminRole;
use crate::store::{AUDIT_PREFIX, MAX_SCAN, Revision};

const ROLES: [AdminRole; 5] =
    [AdminRole::Viewer, AdminRole::Engineer, AdminRole::Operator, AdminRole::Security, AdminRole::Owner];
/// The zones of whoever is limited; the last one is not made yet.
const MINE: [&str; 3] = ["cell-3", "hall-3", "lab-3"];

/// How an act ends beyond one's zones.
enum Beyond {
    /// What is read there is left out of lists, and not there when it is named.
    Unseen,
    /// The device is not there.
    NoDevice,
    /// The zone is not theirs.
    NotTheirs,
    /// It touches the whole plant: it is refused whatever it is asked for.
    WholePlant,
    /// It is plant-wide and read by everybody.
    Shown,
    /// It depends on the act that it decides: `second` has its cases.
    Decides,
    /// It concerns whoever asks, and their key: `people` has its cases.
    Own,
}

fn beyond(act: Act) -> Beyond {
    match act {
        Act::ReadStatus | Act::ReadDevices | Act::ReadZones | Act::ReadAudit | Act::ReadChanges => {
            Beyond::Unseen
        }
        Act::ReadReleases | Act::ReadAdministrators => Beyond::Shown,
        Act::LearnRelease
        | Act::AdmitDevice
        | Act::QuarantineDevice
        | Act::ReadmitDevice
        | Act::MoveDevice
        | Act::ReplaceDevice
        | Act::RetireDevice
        | Act::ChangeAddresses
        | Act::SettleVouched
        | Act::ExpectClear
        | Act::Override
        | Act::EndOverride
        | Act::AttestDevice => Beyond::NoDevice,
        Act::ApplyRelease
        | Act::SetReleaseState
        | Act::WantRelease
        | Act::AddReleaseKey
        | Act::RotateReleaseKey
        | Act::RemoveReleaseKey
        | Act::SetReleaseThreshold
        | Act::StartRollout
        | Act::HaltRollout
        | Act::ResumeRollout
        | Act::Rollback
        | Act::ImportDevices
        | Act::CreateToken
        | Act::RevokeToken
        | Act::CreateZone
        | Act::SetZone
        | Act::RotateAuthority
        | Act::ActivateAuthority
        | Act::DistrustAuthority
        | Act::AllowConduit
        | Act::CloseConduit
        | Act::InviteAdministrator
        | Act::RemoveAdministrator
        | Act::SetAdministrator => Beyond::NotTheirs,
        Act::ApproveChange | Act::RejectChange => Beyond::Decides,
        Act::RenewCertificate => Beyond::Own,
        Act::AddSbom | Act::RemoveSbom | Act::ApplyGraph | Act::Backup | Act::Restore => Beyond::WholePlant,
    }
}

fn may(role: AdminRole, act: Act) -> bool {
    act.needs() == AdminRole::Viewer || role == act.needs() || role == AdminRole::Owner
}

#[tokio::test]
async fn every_act_is_refused_to_every_other_role_wherever_it_is_asked_for() {
    let plant = Plant::new().await;
    for role in ROLES {
        let everywhere = plant.office.administrator(role.name(), role, None).await;
        let limited = plant.office.administrator(&format!("{}-3", role.name()), role, Some(&MINE)).await;
        let before = content(&plant.office.plant).await;
        for &act in Act::ALL.iter().filter(|act| !may(role, **act)) {
            for (who, of) in [
                (&everywhere, Of::Mine),
                (&everywhere, Of::Others),
                (&limited, Of::Mine),
                (&limited, Of::Others),
            ] {
                let (reason, text) = refusal(plant.ask(who, act, of).await);
                let words = format!(
                    "{} needs the role {}; {} has the role",
                    act.name(),
                    act.needs().name(),
                    who.name
                );
                assert!(
                    reason == Reason::NotPermitted && text.starts_with(&words),
                    "{role:?} {act:?} {of:?}: {text}"
                );
            }
        }
        assert_eq!(content(&plant.office.plant).await, before, "a refusal changes nothing");
    }
}

#[tokio::test]
async fn every_act_ends_at_the_zones_of_whoever_is_limited() {
    let plant = Plant::new().await;
    for &act in Act::ALL {
        for role in ROLES.into_iter().filter(|role| may(*role, act)) {
            let name = format!("{}-3", role.name());
            let who = plant.office.administrator(&name, role, Some(&MINE)).await;
            let before = content(&plant.office.plant).await;
            let outcome = plant.ask(&who, act, Of::Others).await;
            let limits = "cell-3, hall-3, lab-3";
            match beyond(act) {
                Beyond::Unseen => unseen(&who, act, &plant, outcome).await,
                Beyond::NoDevice => {
                    let (reason, text) = refusal(outcome);
                    let words = format!("in your zones ({limits}); `touchstone device list`");
                    assert!(reason == Reason::NotFound && text.contains(&words), "{name} {act:?}: {text}");
                }
                Beyond::NotTheirs => {
                    let (reason, text) = refusal(outcome);
                    let (zone, words) = ("-4;", format!("{name} is limited to {limits}"));
                    let touches =
                        text.starts_with(&format!("{} touches zone ", act.name())) && text.contains(zone);
                    assert!(
                        reason == Reason::NotPermitted && touches && text.ends_with(&words),
                        "{act:?}: {text}"
                    );
                }
                Beyond::WholePlant => {
                    let (reason, text) = refusal(outcome);
                    let words =
                        format!("{} touches the whole plant; {name} is limited to {limits}", act.name());
                    assert!(reason == Reason::NotPermitted && text == words, "{act:?}: {text}");
                }
                Beyond::Shown | Beyond::Decides | Beyond::Own => drop(outcome.unwrap()),
            }
            assert_eq!(content(&plant.office.plant).await, before, "{act:?} changed something");
        }
    }
}

/// Every record with its version, but for the audit: that something was refused is on record, and no change.
async fn content(plant: &crate::plant::Plant) -> Vec<(String, Revision)> {
    let (mut all, mut after) = (Vec::new(), None);
    while let page = plant.store.scan("", after.as_deref(), MAX_SCAN).await.unwrap()
        && let Some((last, _)) = page.last()
    {
        after = Some(last.clone());
        all.extend(page.into_iter().map(|(key, found)| (key, found.version)));
    }
    all.retain(|(key, _)| !key.starts_with(AUDIT_PREFIX));
    all
}

/// What is in other zones is in no list, and not there when it is named.
async fn unseen(who: &AdministratorPeer, act: Act, plant: &Plant, outcome: Result<String, Status>) {
    if matches!(act, Act::ReadDevices | Act::ReadZones) {
        let (reason, text) = refusal(outcome);
        assert!(reason == Reason::NotFound && text.contains("in your zones"), "{act:?}: {text}");
    }
    let text = plant.ask(who, act, Of::Mine).await.unwrap();
    assert!(
        act == Act::ReadChanges || text.contains("cell-3") || text.contains("press-7"),
        "{act:?}: {text}"
    );
    for other in ["press-8", "new-cell-4", "lab-4"] {
        assert!(!text.contains(other), "{} {act:?} shows {other}: {text}", who.name);
    }
    // A conduit between both is seen from either side.
    let text = text.replace("cell-3 -> cell-4", "").replace("from: \"cell-3\", to: \"cell-4\"", "");
    assert!(!text.contains("cell-4"), "{} {act:?}: {text}", who.name);
}

#[tokio::test]
async fn every_act_is_allowed_within_ones_zones_and_everywhere_to_the_others() {
    for &act in Act::ALL {
        for role in [act.needs(), AdminRole::Owner] {
            for (zones, of) in [(None, Of::Others), (None, Of::Mine), (Some(MINE.as_slice()), Of::Mine)] {
                if zones.is_some() && matches!(beyond(act), Beyond::WholePlant) {
                    continue;
                }
                let plant = Plant::new().await;
                let who = plant.office.administrator("eve", role, zones).await;
                plant.prepare(act, of).await;
                let outcome = plant.ask(&who, act, of).await;
                // The devices of this plant are refused for nothing that could be accepted, and have no override.
                let allowed = outcome.as_ref().map_or_else(
                    |status| match act {
                        Act::Override => status.message().contains("is refused for nothing"),
                        Act::EndOverride => status.message().contains("has no override"),
                        // The plant has two owners.
                        Act::InviteAdministrator | Act::SetAdministrator => {
                            status.message().contains("waits for a second person")
                        }
                        _ => false,
                    },
                    |_| true,
                );
                assert!(allowed, "{role:?} {act:?} {of:?} {zones:?}: {outcome:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_gateway_in_two_zones_is_seen_from_either_and_changed_by_whoever_has_both() {
    let bench = Bench::new().await;
    for zone in ["cell-3", "cell-4"] {
        bench.zone(&observing(zone)).await;
    }
    bench.device("gateway", &["cell-3", "cell-4"]).await;
    let nowhere = bench.device("spare", &[]).await;
    let office = Office::of(bench).await;
    let half = office.administrator("half", AdminRole::Operator, Some(&["cell-3"])).await;
    let both = office.administrator("both", AdminRole::Operator, Some(&["cell-3", "cell-4"])).await;
    let listed = office.service.list_devices(by(&half, v1::ListDevicesRequest::default())).await.unwrap();
    let names: Vec<String> = listed.into_inner().devices.into_iter().map(|device| device.name).collect();
    assert_eq!(names, ["gateway"], "what is in no zone is the plant's");
    let (reason, text) = refusal(office.readmit(&half, "gateway").await);
    assert_eq!(
        (reason, text.as_str()),
        (Reason::NotPermitted, "device.readmit touches zone cell-4; half is limited to cell-3")
    );
    office.readmit(&both, "gateway").await.unwrap();
    assert_eq!(refusal(office.readmit(&both, nowhere.as_str()).await).0, Reason::NotFound);
    office.readmit(&office.ada, nowhere.as_str()).await.unwrap();
    // Nobody who is limited brings a device that is in no zone, not even among others.
    let entry = |name: &str, n: u8, zones: &[&str]| v1::DeviceEntry {
        name: name.to_owned(),
        zones: zones.iter().map(|zone| (*zone).to_owned()).collect(),
        ek_digest: vec![n; 32],
        ..v1::DeviceEntry::default()
    };
    let devices = vec![entry("x", 1, &["cell-3"]), entry("y", 2, &[])];
    let request = v1::ImportDevicesRequest { devices, dry_run: false };
    let (reason, text) = refusal(office.service.import_devices(by(&both, request)).await);
    assert!(reason == Reason::NotPermitted && text.contains("touches the whole plant"), "{text}");
}
