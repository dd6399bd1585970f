//! How every act is asked for, inside and outside the zones of somebody who is limited.
//!
//! An act that is added does not compile here until it says how.

use std::fmt::Debug;

use policy::appraisal::claims::{Claim, ClaimValue, LeastClaims};
use policy::digest::Digest;
use policy::zone::Zone;
use proto::v1::admin_server::Admin;
use proto::{convert, v1};
use tonic::{Response, Status};

use super::keys::public_key;
use super::office::{Office, by};
use super::{Bench, NOW, enforcing, golden, keys, observing};
use crate::admin::{Act, authorize};
use crate::grpc::peer::AdministratorPeer;
use crate::record::device::{Decision, Pending, pending_key};
use crate::record::plant::AdminRole;
use crate::record::rollout::{Rollout, rollout_key};
use crate::record::zone::zone_key;
use crate::record::{Held, fetch, stored};
use crate::session::Refusal;
use crate::store::Txn;

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

/// A plant with a device, a waiting TPM, a join token, a conduit and a signed release on either side.
pub(super) struct Plant {
    pub(super) office: Office,
    releases: [Vec<u8>; 2],
    /// Ids of a token on either side.
    tokens: [String; 2],
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
        let mut tokens = Vec::new();
        for zone in ["cell-3", "cell-4"] {
            let zones = vec![zone.to_owned()];
            let request = v1::CreateTokenRequest { zones, ..Default::default() };
            let made = office.service.create_token(by(&office.ada, request)).await.unwrap().into_inner();
            tokens.push(made.token.split('.').nth(1).unwrap().to_owned());
        }
        Self { office, releases: releases.try_into().unwrap(), tokens: tokens.try_into().unwrap() }
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
                let all = all + &call!(list_tokens, ListTokensRequest { ..Default::default() })?;
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
                call!(readmit_device, ReadmitDeviceRequest { name: device, reason: reason(), seen: None })
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
            Act::SettleVouched => {
                let (name, kind) = ("plc-1".to_owned(), "PLC".to_owned());
                let machine = Some(v1::VouchedMachine { name, kind, ..Default::default() });
                call!(
                    settle_vouched,
                    SettleVouchedRequest { gateway: device, machine, accept: true, dry_run: false }
                )
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
            Act::RevokeToken => {
                let id = self.tokens[of.pick(0, 1)].clone();
                call!(revoke_token, RevokeTokenRequest { id, dry_run: false })
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
                    AllowConduitRequest {
                        conduit: Some(conduit(of, "ssh")),
                        unoffered: true,
                        ..Default::default()
                    }
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
                    SetAdministratorRequest { name, role, zones: vec![zone], ..Default::default() }
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
        if act == Act::SettleVouched {
            let key = zone_key(&of.pick("cell-3", "cell-4").parse().unwrap());
            let held: Held<Zone> =
                fetch(self.office.plant.store.as_ref(), key.clone()).await.unwrap().unwrap();
            let least = LeastClaims::new([(Claim::InstanceIdentity, ClaimValue::AFFIRMING)].into());
            let zone = stored(&Zone { least, ..held.record }).unwrap();
            self.office.plant.store.transact(Txn::new().put(key, zone)).await.unwrap();
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
