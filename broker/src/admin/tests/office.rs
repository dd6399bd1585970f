//! A plant behind its Admin service, for tests of who may do what.

use std::sync::Arc;

use proto::denial::from_status;
use proto::v1;
use proto::v1::DenialReason as Reason;
use proto::v1::admin_server::Admin;
use tempfile::TempDir;
use tonic::{Request, Status};

use super::{Bench, Hand, observing};
use crate::audit::Event;
use crate::grpc::admin::Administration;
use crate::grpc::connection::ConnectionInfo;
use crate::grpc::peer::{AdministratorPeer, Peer};
use crate::plant::Plant;
use crate::record::change::CHANGE;
use crate::record::device::{Device, device_key};
use crate::record::plant::AdminRole;
use crate::record::{Held, fetch};
use crate::store::record::decode;
use crate::store::{AUDIT_PREFIX, AuditRecord};

/// A plant behind its service.
pub(crate) struct Office {
    pub(crate) service: Administration,
    pub(crate) plant: Arc<Plant>,
    pub(crate) clock: Hand,
    pub(crate) ada: AdministratorPeer,
    pub(crate) bob: AdministratorPeer,
    _dir: TempDir,
}

impl Office {
    /// One whose zone cell-3 needs two people, and cell-4 one.
    pub(crate) async fn new() -> Self {
        let bench = Bench::new().await;
        for zone in ["cell-3", "cell-4"] {
            bench.zone(&observing(zone)).await;
        }
        bench.device("press-7", &["cell-3"]).await;
        bench.device("press-8", &["cell-4"]).await;
        let office = Self::of(bench).await;
        office.two_person(&office.ada, "cell-3", true).await.unwrap();
        office
    }

    /// The service of a plant, with the owners ada and bob.
    pub(crate) async fn of(bench: Bench) -> Self {
        let (ada, clock) = (bench.owner(), bench.clock.clone());
        let bob = bench.administrator("bob", AdminRole::Owner, None).await;
        let (plant, dir) = bench.into_plant();
        Self { service: Administration::new(Arc::clone(&plant)), plant, clock, ada, bob, _dir: dir }
    }

    pub(crate) async fn administrator(
        &self,
        name: &str,
        role: AdminRole,
        zones: Option<&[&str]>,
    ) -> AdministratorPeer {
        super::administrator(&self.plant, name, role, zones).await
    }

    pub(crate) async fn two_person(
        &self,
        who: &AdministratorPeer,
        zone: &str,
        on: bool,
    ) -> Result<(), Status> {
        let request = v1::SetZoneRequest {
            name: zone.to_owned(),
            two_person: Some(on),
            ..v1::SetZoneRequest::default()
        };
        self.service.set_zone(by(who, request)).await.map(drop)
    }

    pub(crate) async fn readmit(&self, who: &AdministratorPeer, device: &str) -> Result<(), Status> {
        let request =
            v1::ReadmitDeviceRequest { name: device.to_owned(), reason: "repaired".to_owned(), seen: None };
        self.service.readmit_device(by(who, request)).await.map(drop)
    }

    pub(crate) async fn move_to(
        &self,
        who: &AdministratorPeer,
        device: &str,
        zones: &[&str],
    ) -> Result<(), Status> {
        let request = v1::AdmitDeviceRequest {
            device: device.to_owned(),
            zones: zones.iter().map(|zone| (*zone).to_owned()).collect(),
            ..v1::AdmitDeviceRequest::default()
        };
        self.service.admit_device(by(who, request)).await.map(drop)
    }

    pub(crate) async fn approve(
        &self,
        who: &AdministratorPeer,
        id: &str,
    ) -> Result<v1::ApproveChangeResponse, Status> {
        let request = v1::ApproveChangeRequest { id: id.to_owned(), dry_run: false };
        self.service.approve_change(by(who, request)).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn reject(&self, who: &AdministratorPeer, id: &str) -> Result<(), Status> {
        let request = v1::RejectChangeRequest { id: id.to_owned(), reason: "not now".to_owned() };
        self.service.reject_change(by(who, request)).await.map(drop)
    }

    pub(crate) async fn waiting(&self, who: &AdministratorPeer) -> Vec<v1::Change> {
        let answer = self.service.list_changes(by(who, v1::ListChangesRequest {})).await.unwrap();
        answer.into_inner().changes
    }

    pub(crate) async fn device(&self, name: &str) -> Device {
        let key = device_key(&name.parse().unwrap());
        fetch(self.plant.store.as_ref(), key).await.unwrap().map(|held: Held<Device>| held.record).unwrap()
    }

    /// Everything but the audit chain: a change that waits is stored, nothing else.
    pub(crate) async fn state(&self) -> Vec<(String, Vec<u8>)> {
        let all = self.plant.store.scan("", None, 1000).await.unwrap();
        let kept =
            all.into_iter().filter(|(key, _)| !key.starts_with(AUDIT_PREFIX) && !key.starts_with(CHANGE));
        kept.map(|(key, found)| (key, found.value)).collect()
    }

    pub(crate) async fn events(&self) -> Vec<Event> {
        let all = self.plant.store.scan(AUDIT_PREFIX, None, 1000).await.unwrap();
        let event = |(key, found): (String, crate::store::Versioned)| {
            let record: AuditRecord = decode(&key, &found.value).unwrap();
            serde_json::from_slice(&record.entry).unwrap()
        };
        all.into_iter().map(event).collect()
    }
}

pub(crate) fn by<T>(who: &AdministratorPeer, request: T) -> Request<T> {
    let mut request = Request::new(request);
    request.extensions_mut().insert(ConnectionInfo { peer: Peer::Administrator(Arc::new(who.clone())) });
    request
}

/// Reason and message of a refusal.
pub(crate) fn refusal<T: std::fmt::Debug>(outcome: Result<T, Status>) -> (Reason, String) {
    let denial = from_status(&outcome.unwrap_err()).unwrap();
    (denial.reason(), denial.message)
}

/// Id of the change that waits.
pub(crate) fn waits<T: std::fmt::Debug>(outcome: Result<T, Status>) -> String {
    let denial = from_status(&outcome.unwrap_err()).unwrap();
    assert_eq!(denial.reason(), Reason::Waits, "{}", denial.message);
    assert!(denial.message.ends_with(&format!("`touchstone change approve {}`", denial.change)));
    denial.change
}
