//! Every role, every act, inside and outside the zones that somebody is limited to.
//!
//! The table is walked from [`Act::ALL`]: an act that is added does not compile here until it says how it is asked
//! for and how it is refused beyond one's zones.

use std::fmt::Debug;

use policy::digest::Digest;
use policy::zone::Zone;
use proto::v1::DenialReason as Reason;
use proto::v1::admin_server::Admin;
use proto::{convert, v1};
use tonic::{Response, Status};

use super::keys::public_key;
use super::office::{Office, by, refusal};
use super::{Bench, NOW, enforcing, golden, keys, observing};
use crate::admin::{Act, authorize};
use crate::grpc::peer::AdministratorPeer;
use crate::record::device::{Decision, Pending, pending_key};
use crate::record::plant::AdminRole;
use crate::record::rollout::{Rollout, rollout_key};
use crate::record::{fetch, stored};
use crate::session::Refusal;
use crate::store::{AUDIT_PREFIX, MAX_SCAN, Revision, Txn};

const ROLES: [AdminRole; 5] =
    [AdminRole::Viewer, AdminRole::Engineer, AdminRole::Operator, AdminRole::Security, AdminRole::Owner];
/// The zones of whoever is limited; the last one is not made yet.
const MINE: [&str; 3] = ["cell-3", "hall-3", "lab-3"];

/// What an act is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// Something in the zones of whoever is limited.
    Mine,
    /// Something that also touches, or is in, another zone.
    Others,
}

impl Of {
    const fn pick<T: Copy>(self, mine: T, others: T) -> T {
        match self {
            Self::Mine => mine,
            Self::Others => others,
        }
    }
}

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

/// A plant with a device, a waiting TPM, a conduit and a signed release on either side.
pub(super) struct Plant {
    pub(super) office: Office,
    releases: [Vec<u8>; 2],
}

impl Plant {
    pub(super) async fn new() -> Self {
        let bench = Bench::new().await;
        let with = |name: &str, product: &str| {
            let products = [product.parse().unwrap()].into();
            Zone { products, subnets: ["10.1.0.0/16".parse().unwrap()].into(), ..enforcing(name) }
        };
        for zone in [with("cell-3", "edge-box"), with("cell-4", "gate-box"), with("hall-3", "edge-box")] {
            bench.zone(&zone).await;
        }
        let mut releases = Vec::new();
        for (name, zone, product) in [("press-7", "cell-3", "edge-box"), ("press-8", "cell-4", "gate-box")] {
            let device = bench.device(name, &[zone]).await;
            bench.attest(&device, "boot-a", Decision::Refused).await;
            golden::pending(&bench, name, product).await;
            releases.push(golden::released(&bench, name, product).await);
            // Each product has a key of its own, which is called like it.
            keys::register(&bench, product, &[product]).await;
            let ek = Digest::of(zone.as_bytes());
            let pending = Pending {
                ek,
                name: Some(format!("new-{zone}").parse().unwrap()),
                zones: vec![zone.parse().unwrap()],
                since: NOW,
                tpm: "no EK certificate".to_owned(),
            };
            let txn = Txn::new().put(pending_key(&ek), stored(&pending).unwrap());
            bench.plant.store.transact(txn).await.unwrap();
        }
        let office = Office::of(bench).await;
        for zone in ["cell-3", "cell-4"] {
            office.administrator(&format!("vic-{zone}"), AdminRole::Viewer, Some(&[zone])).await;
        }
        for of in [Of::Mine, Of::Others] {
            let request =
                v1::AllowConduitRequest { conduit: Some(conduit(of, "opcua")), ..Default::default() };
            office.service.allow_conduit(by(&office.ada, request)).await.unwrap();
        }
        Self { office, releases: releases.try_into().unwrap() }
    }

    /// What `who` gets who asks for `act`, as text.
    pub(super) async fn ask(&self, who: &AdministratorPeer, act: Act, of: Of) -> Result<String, Status> {
        let service = &self.office.service;
        let (device, zone) =
            (of.pick("press-7", "press-8").to_owned(), of.pick("cell-3", "cell-4").to_owned());
        let reason = || "a reason".to_owned();
        let new = |name: &str| Some(convert::zone_to_wire(&observing(name)));
        macro_rules! call {
            ($method:ident, $request:ident $fields:tt) => {
                shown(service.$method(by(who, v1::$request $fields)).await)
            };
        }
        match act {
            Act::ReadStatus => call!(get_status, GetStatusRequest {}),
            Act::ReadDevices => {
                let all = call!(list_devices, ListDevicesRequest { ..Default::default() })?;
                Ok(all + &call!(get_device, GetDeviceRequest { name: device })?)
            }
            Act::ReadReleases => call!(list_releases, ListReleasesRequest {}),
            Act::ReadZones => {
                let zones = call!(list_zones, ListZonesRequest {})?;
                let authorities = call!(list_authorities, ListAuthoritiesRequest {})?;
                Ok(zones + &authorities + &call!(get_zone, GetZoneRequest { name: zone })?)
            }
            Act::ReadAudit => call!(list_audit_events, ListAuditEventsRequest { ..Default::default() }),
            Act::ReadChanges => call!(list_changes, ListChangesRequest {}),
            Act::LearnRelease => {
                let (product, version) = ("edge-box".to_owned(), "9".to_owned());
                call!(
                    learn_release,
                    LearnReleaseRequest { devices: vec![device], product, version, one_of: false }
                )
            }
            Act::ApplyRelease => {
                let envelope = self.releases[of.pick(0, 1)].clone();
                call!(apply_release, ApplyReleaseRequest { envelope, ..Default::default() })
            }
            Act::SetReleaseState => {
                let (product, version) = (of.pick("edge-box", "gate-box").to_owned(), "0.9".to_owned());
                let state = "active".to_owned();
                call!(
                    set_release_state,
                    SetReleaseStateRequest { product, version, state, ..Default::default() }
                )
            }
            Act::WantRelease => {
                let product = of.pick("edge-box", "gate-box").to_owned();
                call!(want_release, WantReleaseRequest { product, ..Default::default() })
            }
            Act::AddReleaseKey => {
                let (name, public_key, products) = ("new".to_owned(), public_key(), vec![product(of)]);
                call!(
                    add_release_key,
                    AddReleaseKeyRequest { name, public_key, products, ..Default::default() }
                )
            }
            Act::RotateReleaseKey => {
                let (key, public_key) = (product(of), public_key());
                call!(rotate_release_key, RotateReleaseKeyRequest { key, public_key, ..Default::default() })
            }
            Act::RemoveReleaseKey => {
                call!(remove_release_key, RemoveReleaseKeyRequest { key: product(of), ..Default::default() })
            }
            Act::SetReleaseThreshold => {
                call!(
                    set_release_threshold,
                    SetReleaseThresholdRequest { product: product(of), needed: 2, ..Default::default() }
                )
            }
            Act::StartRollout => {
                let (version, waves) = ("1.0".to_owned(), vec!["100%".to_owned()]);
                call!(
                    start_rollout,
                    StartRolloutRequest { product: product(of), version, waves, ..Default::default() }
                )
            }
            Act::HaltRollout => {
                call!(
                    halt_rollout,
                    HaltRolloutRequest { product: product(of), reason: reason(), dry_run: false }
                )
            }
            Act::ResumeRollout => {
                call!(resume_rollout, ResumeRolloutRequest { product: product(of), ..Default::default() })
            }
            Act::Rollback => call!(rollback, RollbackRequest { product: product(of), ..Default::default() }),
            Act::ImportDevices => {
                let zones: &[&str] = of.pick(&["cell-3"], &["cell-3", "cell-4"]);
                let zones = zones.iter().map(|zone| (*zone).to_owned()).collect();
                let entry = v1::DeviceEntry {
                    name: "x".to_owned(),
                    zones,
                    ek_digest: vec![9; 32],
                    ..Default::default()
                };
                call!(import_devices, ImportDevicesRequest { devices: vec![entry], dry_run: false })
            }
            Act::AdmitDevice => {
                call!(
                    admit_device,
                    AdmitDeviceRequest { device: format!("new-{zone}"), ..Default::default() }
                )
            }
            Act::QuarantineDevice => {
                call!(quarantine_device, QuarantineDeviceRequest { name: device, reason: reason() })
            }
            Act::ReadmitDevice => {
                call!(readmit_device, ReadmitDeviceRequest { name: device, reason: reason() })
            }
            Act::MoveDevice => {
                let to = of.pick("hall-3", "cell-3").to_owned();
                call!(move_device, MoveDeviceRequest { name: device, to, ..Default::default() })
            }
            Act::ReplaceDevice => {
                let (ek_digest, reason) = (vec![9; 32], reason());
                call!(
                    replace_device,
                    ReplaceDeviceRequest { name: device, ek_digest, reason, dry_run: false }
                )
            }
            Act::RetireDevice => {
                call!(retire_device, RetireDeviceRequest { name: device, reason: reason(), dry_run: false })
            }
            Act::ChangeAddresses => {
                let add = vec!["10.1.3.7".to_owned()];
                call!(change_addresses, ChangeAddressesRequest { name: device, add, ..Default::default() })
            }
            Act::ExpectClear => {
                call!(
                    expect_clear,
                    ExpectClearRequest { name: device, reason: reason(), lifetime_seconds: 3600 }
                )
            }
            Act::Override => {
                call!(
                    override_device,
                    OverrideDeviceRequest {
                        name: device,
                        reason: reason(),
                        lifetime_seconds: 3600,
                        ..Default::default()
                    }
                )
            }
            Act::EndOverride => call!(end_override, EndOverrideRequest { name: device }),
            Act::AttestDevice => call!(attest_device, AttestDeviceRequest { name: device }),
            Act::CreateToken => {
                call!(create_token, CreateTokenRequest { zones: vec![zone], ..Default::default() })
            }
            Act::CreateZone => {
                call!(create_zone, CreateZoneRequest { zone: new(of.pick("lab-3", "lab-4")), dry_run: false })
            }
            Act::SetZone => {
                call!(set_zone, SetZoneRequest { name: zone, two_person: Some(true), ..Default::default() })
            }
            Act::RotateAuthority => {
                call!(rotate_authority, RotateAuthorityRequest { zone, ..Default::default() })
            }
            Act::ActivateAuthority => {
                let role = v1::Role::Caller.into();
                call!(activate_authority, ActivateAuthorityRequest { zone, role, dry_run: false })
            }
            Act::DistrustAuthority => {
                let (role, reason) = (v1::Role::Caller.into(), "stolen".to_owned());
                call!(
                    distrust_authority,
                    DistrustAuthorityRequest { zone, role, generation: 1, reason, dry_run: false }
                )
            }
            Act::AllowConduit => {
                call!(
                    allow_conduit,
                    AllowConduitRequest { conduit: Some(conduit(of, "ssh")), ..Default::default() }
                )
            }
            Act::CloseConduit => {
                call!(
                    close_conduit,
                    CloseConduitRequest { conduit: Some(conduit(of, "opcua")), ..Default::default() }
                )
            }
            Act::ReadAdministrators => call!(list_administrators, ListAdministratorsRequest {}),
            Act::InviteAdministrator => {
                let (name, role) = ("new".to_owned(), "operator".to_owned());
                call!(
                    invite_administrator,
                    InviteAdministratorRequest { name, role, zones: vec![zone], ..Default::default() }
                )
            }
            Act::RemoveAdministrator => {
                call!(
                    remove_administrator,
                    RemoveAdministratorRequest { name: format!("vic-{zone}"), dry_run: false }
                )
            }
            Act::SetAdministrator => {
                let (name, role) = (format!("vic-{zone}"), "operator".to_owned());
                call!(
                    set_administrator,
                    SetAdministratorRequest { name, role, zones: vec![zone], dry_run: false }
                )
            }
            Act::ApproveChange | Act::RejectChange | Act::RenewCertificate => Ok(String::new()),
            Act::Backup => service.backup(by(who, v1::BackupRequest {})).await.map(|_| String::new()),
            Act::AddSbom | Act::RemoveSbom | Act::ApplyGraph | Act::Restore => self.reaches(who, act).await,
        }
    }

    /// Brings about what an act on a rollout or a rotation needs to be there.
    pub(super) async fn prepare(&self, act: Act, of: Of) {
        let (service, ada, product) = (&self.office.service, &self.office.ada, product(of));
        if act == Act::ActivateAuthority {
            let (zone, role) = (of.pick("cell-3", "cell-4").to_owned(), v1::Role::Caller.into());
            let request = v1::RotateAuthorityRequest { zone, role, dry_run: false };
            service.rotate_authority(by(ada, request)).await.unwrap();
        }
        if !matches!(act, Act::StartRollout | Act::HaltRollout | Act::ResumeRollout | Act::Rollback) {
            return;
        }
        let envelope = self.releases[of.pick(0, 1)].clone();
        let request = v1::ApplyReleaseRequest { envelope, ..Default::default() };
        service.apply_release(by(ada, request)).await.unwrap();
        if act == Act::StartRollout {
            return;
        }
        let (version, waves) = ("1.0".to_owned(), vec!["100%".to_owned()]);
        let request =
            v1::StartRolloutRequest { product: product.clone(), version, waves, ..Default::default() };
        service.start_rollout(by(ada, request)).await.unwrap();
        if act == Act::ResumeRollout {
            let request = v1::HaltRolloutRequest { product, reason: "a reason".to_owned(), dry_run: false };
            service.halt_rollout(by(ada, request)).await.unwrap();
        } else if act == Act::Rollback {
            let key = rollout_key(&product.parse().unwrap());
            let held = fetch(self.office.plant.store.as_ref(), key.clone()).await.unwrap();
            let mut rollout: Rollout = held.unwrap().record;
            rollout.from = Some(rollout.plan.to().clone());
            let txn = Txn::new().put(key, stored(&rollout).unwrap());
            self.office.plant.store.transact(txn).await.unwrap();
        }
    }

    /// Where the client sends a stream, which only a connection makes: what decides about it is asked.
    async fn reaches(&self, who: &AdministratorPeer, act: Act) -> Result<String, Status> {
        let plant = &self.office.plant;
        let reached = async { authorize(plant, who, act).await?.reach(plant, &[]).await };
        let status = |refusal: Refusal| crate::grpc::status::status(plant, &refusal);
        reached.await.map(|_| String::new()).map_err(status)
    }
}

fn product(of: Of) -> String {
    of.pick("edge-box", "gate-box").to_owned()
}

/// Both ends in one's zones, or one of them.
fn conduit(of: Of, service: &str) -> v1::Conduit {
    v1::Conduit {
        from: "cell-3".to_owned(),
        to: of.pick("hall-3", "cell-4").to_owned(),
        service: service.to_owned(),
        ..v1::Conduit::default()
    }
}

fn shown<T: Debug>(answer: Result<Response<T>, Status>) -> Result<String, Status> {
    answer.map(|answer| format!("{:?}", answer.into_inner()))
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
