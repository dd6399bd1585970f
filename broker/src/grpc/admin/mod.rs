//! The Admin service: who calls, convert, call, convert.

mod audit;
mod authority;
mod backup;
mod calendar;
mod change;
mod day_two;
mod device;
mod exposure;
mod forecast;
mod golden;
mod graph;
mod import;
mod overriding;
mod parse;
pub(super) mod people;
mod progress;
mod release_key;
mod rollout;
mod status;
mod token;
mod vouch;
mod zone;

use std::sync::Arc;

use proto::v1;
use proto::v1::admin_server::Admin;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use super::connection::ConnectionInfo;
use super::status::status as wire_status;
use crate::admin::{Act, Actor, authorize};
use crate::audit::refusals::Caller;
use crate::plant::Plant;
use crate::session::Refusal;

/// Backups and restores that run at once: each reads or writes the whole store.
const COPIES: usize = 1;

/// Lists of devices that are registered at once: each is held in memory as a whole.
const LISTS: usize = 1;

/// Exports of the audit that run at once: each reads all of it.
const EXPORTS: usize = 2;

/// Readers that follow the audit at once: a SIEM, its stand-in, and who looks after them.
const SIEMS: usize = 4;

/// Administrators who follow live results at once: each wakes with every attestation.
const FOLLOWERS: usize = 16;

/// The service.
#[derive(Clone)]
pub struct Administration {
    plant: Arc<Plant>,
    copies: Arc<Semaphore>,
    lists: Arc<Semaphore>,
    exports: Arc<Semaphore>,
    siems: Arc<Semaphore>,
    followers: Arc<Semaphore>,
}

impl Administration {
    /// The service of this plant.
    #[must_use]
    pub fn new(plant: Arc<Plant>) -> Self {
        let places = |most| Arc::new(Semaphore::new(most));
        Self {
            plant,
            copies: places(COPIES),
            lists: places(LISTS),
            exports: places(EXPORTS),
            siems: places(SIEMS),
            followers: places(FOLLOWERS),
        }
    }

    /// The caller, if they may do `act`.
    async fn actor<T>(&self, request: &Request<T>, act: Act) -> Result<Actor, Status> {
        let info = request.extensions().get::<ConnectionInfo>();
        let peer = info.map(|info| info.peer.clone());
        let allowed = async {
            let peer = peer.ok_or_else(|| {
                Refusal::internal("the Admin service is served without its connection's peer".to_owned())
            })?;
            authorize(&self.plant, peer.administrator()?, act).await
        };
        match allowed.await {
            Ok(actor) => Ok(actor),
            Err(refusal) => {
                let known = info.and_then(|info| info.peer.administrator().ok());
                Err(self.refuse(known.map(|peer| peer.name.as_str()), act, &refusal).await)
            }
        }
    }

    /// Puts the refusal of `caller`, an administrator, on record; none is somebody without their certificate.
    async fn refuse(&self, caller: Option<&str>, act: Act, refusal: &Refusal) -> Status {
        tracing::info!(act = act.name(), reason = %refusal, "refused");
        self.plant.metrics.refused(act.name(), refusal);
        let caller = caller.map_or(Caller::Claimed("nobody"), Caller::Proven);
        self.plant.refusals.note(&self.plant, caller, act.name(), refusal).await;
        wire_status(&self.plant, refusal)
    }

    /// Answers `actor` with what `work` came to.
    async fn answer<T>(
        &self,
        actor: &Actor,
        work: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<Response<T>, Status> {
        match work.await {
            Ok(answer) => Ok(Response::new(answer)),
            Err(refusal) => Err(self.refuse(Some(actor.name()), actor.act(), &refusal).await),
        }
    }
}

/// A unary method: authorizes `act`, then answers with what the function makes of plant, caller and request.
macro_rules! unary {
    ($name:ident, $request:ident, $response:ident, $act:expr, $work:path) => {
        fn $name<'life, 'future>(
            &'life self,
            request: Request<v1::$request>,
        ) -> std::pin::Pin<Box<dyn Future<Output = Result<Response<v1::$response>, Status>> + Send + 'future>>
        where
            'life: 'future,
            Self: 'future,
        {
            Box::pin(async move {
                let actor = self.actor(&request, $act).await?.asking(request.get_ref());
                self.answer(&actor, $work(&self.plant, &actor, request.into_inner())).await
            })
        }
    };
}

impl Admin for Administration {
    unary!(get_status, GetStatusRequest, GetStatusResponse, Act::ReadStatus, status::read);
    unary!(get_calendar, GetCalendarRequest, GetCalendarResponse, Act::ReadStatus, calendar::read);
    unary!(list_devices, ListDevicesRequest, ListDevicesResponse, Act::ReadDevices, device::list);
    unary!(get_device, GetDeviceRequest, GetDeviceResponse, Act::ReadDevices, device::one);
    unary!(
        import_devices,
        ImportDevicesRequest,
        ImportDevicesResponse,
        Act::ImportDevices,
        import::whole_list
    );
    unary!(admit_device, AdmitDeviceRequest, AdmitDeviceResponse, Act::AdmitDevice, device::admit);
    unary!(
        quarantine_device,
        QuarantineDeviceRequest,
        QuarantineDeviceResponse,
        Act::QuarantineDevice,
        device::quarantine
    );
    unary!(readmit_device, ReadmitDeviceRequest, ReadmitDeviceResponse, Act::ReadmitDevice, device::readmit);
    unary!(move_device, MoveDeviceRequest, MoveDeviceResponse, Act::MoveDevice, day_two::move_device);
    unary!(replace_device, ReplaceDeviceRequest, ReplaceDeviceResponse, Act::ReplaceDevice, day_two::replace);
    unary!(retire_device, RetireDeviceRequest, RetireDeviceResponse, Act::RetireDevice, day_two::retire);
    unary!(
        change_addresses,
        ChangeAddressesRequest,
        ChangeAddressesResponse,
        Act::ChangeAddresses,
        day_two::addresses
    );
    unary!(list_vouched, ListVouchedRequest, ListVouchedResponse, Act::ReadDevices, vouch::list);
    unary!(settle_vouched, SettleVouchedRequest, SettleVouchedResponse, Act::SettleVouched, vouch::settle);
    unary!(expect_clear, ExpectClearRequest, ExpectClearResponse, Act::ExpectClear, device::expect_clear);
    unary!(override_device, OverrideDeviceRequest, OverrideDeviceResponse, Act::Override, overriding::accept);
    unary!(end_override, EndOverrideRequest, EndOverrideResponse, Act::EndOverride, overriding::end);
    unary!(list_overrides, ListOverridesRequest, ListOverridesResponse, Act::ReadDevices, overriding::list);
    unary!(attest_device, AttestDeviceRequest, AttestDeviceResponse, Act::AttestDevice, device::attest);
    unary!(get_result, GetResultRequest, GetResultResponse, Act::ReadDevices, device::result);
    unary!(create_token, CreateTokenRequest, CreateTokenResponse, Act::CreateToken, token::create);
    unary!(list_tokens, ListTokensRequest, ListTokensResponse, Act::ReadDevices, token::list);
    unary!(revoke_token, RevokeTokenRequest, RevokeTokenResponse, Act::RevokeToken, token::revoke);
    unary!(learn_release, LearnReleaseRequest, LearnReleaseResponse, Act::LearnRelease, golden::learn);
    unary!(plan_release, PlanReleaseRequest, PlanReleaseResponse, Act::ReadReleases, golden::plan);
    unary!(apply_release, ApplyReleaseRequest, ApplyReleaseResponse, Act::ApplyRelease, golden::apply);
    unary!(list_releases, ListReleasesRequest, ListReleasesResponse, Act::ReadReleases, golden::list);
    unary!(get_release, GetReleaseRequest, GetReleaseResponse, Act::ReadReleases, golden::one);
    unary!(
        set_release_state,
        SetReleaseStateRequest,
        SetReleaseStateResponse,
        Act::SetReleaseState,
        golden::set_state
    );
    unary!(want_release, WantReleaseRequest, WantReleaseResponse, Act::WantRelease, golden::want);
    unary!(
        list_release_keys,
        ListReleaseKeysRequest,
        ListReleaseKeysResponse,
        Act::ReadReleases,
        release_key::list
    );
    unary!(
        add_release_key,
        AddReleaseKeyRequest,
        AddReleaseKeyResponse,
        Act::AddReleaseKey,
        release_key::add
    );
    unary!(
        rotate_release_key,
        RotateReleaseKeyRequest,
        RotateReleaseKeyResponse,
        Act::RotateReleaseKey,
        release_key::rotate
    );
    unary!(
        remove_release_key,
        RemoveReleaseKeyRequest,
        RemoveReleaseKeyResponse,
        Act::RemoveReleaseKey,
        release_key::remove
    );
    unary!(
        set_release_threshold,
        SetReleaseThresholdRequest,
        SetReleaseThresholdResponse,
        Act::SetReleaseThreshold,
        release_key::set_threshold
    );
    unary!(start_rollout, StartRolloutRequest, StartRolloutResponse, Act::StartRollout, rollout::start);
    unary!(list_rollouts, ListRolloutsRequest, ListRolloutsResponse, Act::ReadReleases, rollout::list);
    unary!(halt_rollout, HaltRolloutRequest, HaltRolloutResponse, Act::HaltRollout, rollout::halt);
    unary!(resume_rollout, ResumeRolloutRequest, ResumeRolloutResponse, Act::ResumeRollout, rollout::resume);
    unary!(rollback, RollbackRequest, RollbackResponse, Act::Rollback, rollout::rollback);
    unary!(list_sboms, ListSbomsRequest, ListSbomsResponse, Act::ReadReleases, exposure::list);
    unary!(remove_sbom, RemoveSbomRequest, RemoveSbomResponse, Act::RemoveSbom, exposure::remove);
    unary!(create_zone, CreateZoneRequest, CreateZoneResponse, Act::CreateZone, zone::create);
    unary!(list_zones, ListZonesRequest, ListZonesResponse, Act::ReadZones, zone::list);
    unary!(get_zone, GetZoneRequest, GetZoneResponse, Act::ReadZones, zone::one);
    unary!(
        forecast_enforcement,
        ForecastEnforcementRequest,
        ForecastEnforcementResponse,
        Act::ReadZones,
        zone::forecast
    );
    unary!(set_zone, SetZoneRequest, SetZoneResponse, Act::SetZone, zone::set);
    unary!(get_graph, GetGraphRequest, GetGraphResponse, Act::ReadZones, graph::one);
    unary!(plan_graph, PlanGraphRequest, PlanGraphResponse, Act::ReadZones, graph::planned);
    unary!(apply_graph, ApplyGraphRequest, ApplyGraphResponse, Act::ApplyGraph, graph::applied);
    unary!(allow_conduit, AllowConduitRequest, AllowConduitResponse, Act::AllowConduit, zone::allow);
    unary!(close_conduit, CloseConduitRequest, CloseConduitResponse, Act::CloseConduit, zone::close);
    unary!(list_conduits, ListConduitsRequest, ListConduitsResponse, Act::ReadZones, zone::conduits);
    unary!(explain_conduit, ExplainConduitRequest, ExplainConduitResponse, Act::ReadZones, zone::explain);
    unary!(
        list_authorities,
        ListAuthoritiesRequest,
        ListAuthoritiesResponse,
        Act::ReadZones,
        zone::authorities
    );
    unary!(
        rotate_authority,
        RotateAuthorityRequest,
        RotateAuthorityResponse,
        Act::RotateAuthority,
        authority::next
    );
    unary!(
        activate_authority,
        ActivateAuthorityRequest,
        ActivateAuthorityResponse,
        Act::ActivateAuthority,
        authority::sign
    );
    unary!(
        distrust_authority,
        DistrustAuthorityRequest,
        DistrustAuthorityResponse,
        Act::DistrustAuthority,
        authority::bar
    );
    unary!(get_jwks, GetJwksRequest, GetJwksResponse, Act::ReadZones, zone::jwks);
    unary!(list_changes, ListChangesRequest, ListChangesResponse, Act::ReadChanges, change::list);
    unary!(get_change, GetChangeRequest, GetChangeResponse, Act::ReadChanges, change::one);
    unary!(approve_change, ApproveChangeRequest, ApproveChangeResponse, Act::ApproveChange, change::approve);
    unary!(reject_change, RejectChangeRequest, RejectChangeResponse, Act::RejectChange, change::reject);
    unary!(
        list_administrators,
        ListAdministratorsRequest,
        ListAdministratorsResponse,
        Act::ReadAdministrators,
        people::list
    );
    unary!(
        invite_administrator,
        InviteAdministratorRequest,
        InviteAdministratorResponse,
        Act::InviteAdministrator,
        people::invite
    );
    unary!(
        remove_administrator,
        RemoveAdministratorRequest,
        RemoveAdministratorResponse,
        Act::RemoveAdministrator,
        people::remove
    );
    unary!(
        set_administrator,
        SetAdministratorRequest,
        SetAdministratorResponse,
        Act::SetAdministrator,
        people::set
    );
    unary!(
        renew_administrator,
        RenewAdministratorRequest,
        RenewAdministratorResponse,
        Act::RenewCertificate,
        people::renew
    );
    unary!(list_audit_events, ListAuditEventsRequest, ListAuditEventsResponse, Act::ReadAudit, audit::list);
    unary!(get_audit_seal, GetAuditSealRequest, GetAuditSealResponse, Act::ReadAudit, audit::newest_seal);

    type ExportAuditStream = audit::Stream;

    fn export_audit<'life, 'future>(
        &'life self,
        request: Request<v1::ExportAuditRequest>,
    ) -> std::pin::Pin<
        Box<dyn Future<Output = Result<Response<Self::ExportAuditStream>, Status>> + Send + 'future>,
    >
    where
        'life: 'future,
        Self: 'future,
    {
        Box::pin(async move {
            let actor = self.actor(&request, Act::ReadAudit).await?;
            let work = audit::export(self, actor.clone(), request.into_inner());
            self.answer(&actor, work).await
        })
    }

    fn add_sbom<'life, 'future>(
        &'life self,
        request: Request<tonic::Streaming<v1::AddSbomRequest>>,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Response<v1::AddSbomResponse>, Status>> + Send + 'future>>
    where
        'life: 'future,
        Self: 'future,
    {
        Box::pin(async move {
            let actor = self.actor(&request, Act::AddSbom).await?;
            self.answer(&actor, exposure::add(self, actor.clone(), request.into_inner())).await
        })
    }

    type GetSbomStream = exposure::Parts<v1::SbomPart>;

    fn get_sbom<'life, 'future>(
        &'life self,
        request: Request<v1::GetSbomRequest>,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Response<Self::GetSbomStream>, Status>> + Send + 'future>>
    where
        'life: 'future,
        Self: 'future,
    {
        Box::pin(async move {
            let actor = self.actor(&request, Act::ReadReleases).await?;
            self.answer(&actor, exposure::one(&self.plant, request.into_inner())).await
        })
    }

    type ListExposedStream = exposure::Parts<v1::ExposedPart>;

    fn list_exposed<'life, 'future>(
        &'life self,
        request: Request<v1::ListExposedRequest>,
    ) -> std::pin::Pin<
        Box<dyn Future<Output = Result<Response<Self::ListExposedStream>, Status>> + Send + 'future>,
    >
    where
        'life: 'future,
        Self: 'future,
    {
        Box::pin(async move {
            let actor = self.actor(&request, Act::ReadDevices).await?;
            self.answer(&actor, async { exposure::exposed(self, actor.clone(), request.into_inner()) }).await
        })
    }

    type FollowResultsStream = forecast::Results;

    fn follow_results<'life, 'future>(
        &'life self,
        request: Request<v1::FollowResultsRequest>,
    ) -> std::pin::Pin<
        Box<dyn Future<Output = Result<Response<Self::FollowResultsStream>, Status>> + Send + 'future>,
    >
    where
        'life: 'future,
        Self: 'future,
    {
        Box::pin(async move {
            let actor = self.actor(&request, Act::ReadDevices).await?;
            self.answer(&actor, async { forecast::follow(self, actor.clone(), request.get_ref()) }).await
        })
    }

    type BackupStream = backup::Stream;

    fn backup<'life, 'future>(
        &'life self,
        request: Request<v1::BackupRequest>,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Response<Self::BackupStream>, Status>> + Send + 'future>>
    where
        'life: 'future,
        Self: 'future,
    {
        Box::pin(async move {
            let actor = self.actor(&request, Act::Backup).await?;
            self.answer(&actor, backup::backup(self, actor.clone())).await
        })
    }

    fn import_list<'life, 'future>(
        &'life self,
        request: Request<tonic::Streaming<v1::ImportListRequest>>,
    ) -> std::pin::Pin<
        Box<dyn Future<Output = Result<Response<v1::ImportDevicesResponse>, Status>> + Send + 'future>,
    >
    where
        'life: 'future,
        Self: 'future,
    {
        Box::pin(async move {
            let actor = self.actor(&request, Act::ImportDevices).await?;
            self.answer(&actor, import::list(self, actor.clone(), request.into_inner())).await
        })
    }

    fn restore<'life, 'future>(
        &'life self,
        request: Request<tonic::Streaming<v1::RestoreChunk>>,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Response<v1::RestoreResponse>, Status>> + Send + 'future>>
    where
        'life: 'future,
        Self: 'future,
    {
        Box::pin(async move {
            let actor = self.actor(&request, Act::Restore).await?;
            self.answer(&actor, backup::restore(self, actor.clone(), request.into_inner())).await
        })
    }
}

#[cfg(test)]
mod tests {
    use proto::denial::from_status;
    use proto::v1::DenialReason;

    use super::*;
    use crate::admin::tests::Bench;
    use crate::grpc::peer::Peer;

    async fn ask(service: &Administration, peer: Option<Peer>) -> Result<v1::GetStatusResponse, Status> {
        let mut request = Request::new(v1::GetStatusRequest {});
        if let Some(peer) = peer {
            request.extensions_mut().insert(ConnectionInfo { peer });
        }
        service.get_status(request).await.map(Response::into_inner)
    }

    #[tokio::test]
    async fn only_a_connection_with_an_administrator_is_answered() {
        let bench = Bench::new().await;
        let owner = Peer::Administrator(Arc::new(bench.owner()));
        let service = Administration::new(Arc::new(bench.plant));
        assert_eq!(ask(&service, Some(owner)).await.unwrap().plant, "plant.example");
        let stranger = from_status(&ask(&service, Some(Peer::Anonymous)).await.unwrap_err()).unwrap();
        assert_eq!(stranger.reason(), DenialReason::NotPermitted);
        assert_eq!(stranger.message, "this call needs an administrator's certificate");
        let defect = from_status(&ask(&service, None).await.unwrap_err()).unwrap();
        assert_eq!(defect.reason(), DenialReason::Unspecified);
    }

    #[tokio::test]
    async fn two_copies_never_run_at_once() {
        let bench = Bench::new().await;
        let owner = Peer::Administrator(Arc::new(bench.owner()));
        let service = Administration::new(Arc::new(bench.plant));
        let _busy = service.copies.clone().acquire_owned().await.unwrap();
        let mut request = Request::new(v1::BackupRequest {});
        request.extensions_mut().insert(ConnectionInfo { peer: owner });
        let Err(status) = service.backup(request).await else { panic!("two at once") };
        let denial = from_status(&status).unwrap();
        assert_eq!((denial.reason(), denial.retry_after_seconds), (DenialReason::TryLater, 30));
    }
}
