//! A broker that says what a test told it, over real TLS, and remembers what it was asked.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its broker has failed")]

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use futures::stream::{self, BoxStream, StreamExt};
use prost::Message;
use proto::v1::admin_server::{Admin, AdminServer};
use proto::v1::{self, BackupChunk, Denial, DenialReason, RestoreChunk};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::WebPkiClientVerifier;
use tempfile::TempDir;
use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tonic::{Request, Response, Status, Streaming};

use crate::pki::{Authority, Issued, Purpose};
use crate::schema::filler::{Filler, Fullness};
use crate::tool::{self, Ran, Running};

/// Bytes between TLS and HTTP/2; any number works.
const PIPE: usize = 64 * 1024;

/// What the broker does with a call.
enum Act {
    /// Answers with this encoded message.
    Answer(Vec<u8>),
    /// Refuses.
    Refuse(Status),
    /// Says nothing, ever.
    Hang,
}

/// Acts by call, first to last.
type Script = BTreeMap<&'static str, VecDeque<Act>>;

/// A call and its encoded request.
type Asked = (&'static str, Vec<u8>);

#[derive(Clone, Default)]
struct Desk {
    script: Arc<Mutex<Script>>,
    /// How full the answers are that are not in the script; none: there are none.
    fullness: Arc<Mutex<Option<Fullness>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Desk {
    async fn answer<T: Message + Default>(
        &self,
        call: &'static str,
        request: &impl Message,
    ) -> Result<T, Status> {
        self.asked.lock().unwrap().push((call, request.encode_to_vec()));
        let act = self.script.lock().unwrap().get_mut(call).and_then(VecDeque::pop_front);
        match act {
            Some(Act::Answer(bytes)) => Ok(T::decode(bytes.as_slice()).unwrap()),
            Some(Act::Refuse(status)) => Err(status),
            Some(Act::Hang) => std::future::pending().await,
            None => match *self.fullness.lock().unwrap() {
                Some(fullness) => {
                    let name = std::any::type_name::<T>().rsplit("::").next().unwrap();
                    Ok(T::decode(Filler::new().encode(name, fullness).as_slice()).unwrap())
                }
                None => Err(Status::internal(format!("the test has no answer for {call}"))),
            },
        }
    }
}

macro_rules! scripted {
    ($($call:ident: $request:ident => $response:ident,)*) => {
        #[tonic::async_trait]
        impl Admin for Desk {
            $(async fn $call(&self, request: Request<v1::$request>) -> Result<Response<v1::$response>, Status> {
                self.answer(stringify!($call), request.get_ref()).await.map(Response::new)
            })*

            async fn import_list(&self, request: Request<Streaming<v1::ImportListRequest>>) -> Result<Response<v1::ImportDevicesResponse>, Status> {
                let mut whole = v1::ImportListRequest::default();
                let mut parts = request.into_inner();
                while let Some(part) = parts.message().await? {
                    whole.devices.extend(part.devices);
                    (whole.total, whole.dry_run) = (part.total, part.dry_run);
                }
                self.answer("import_list", &whole).await.map(Response::new)
            }

            async fn add_sbom(&self, request: Request<Streaming<v1::AddSbomRequest>>) -> Result<Response<v1::AddSbomResponse>, Status> {
                let mut whole = v1::AddSbomRequest::default();
                let mut parts = request.into_inner();
                while let Some(part) = parts.message().await? {
                    whole.dry_run |= part.dry_run;
                    whole.data.extend(part.data);
                }
                self.answer("add_sbom", &whole).await.map(Response::new)
            }

            type GetSbomStream = BoxStream<'static, Result<v1::SbomPart, Status>>;

            async fn get_sbom(&self, request: Request<v1::GetSbomRequest>) -> Result<Response<Self::GetSbomStream>, Status> {
                let part: v1::SbomPart = self.answer("get_sbom", request.get_ref()).await?;
                Ok(Response::new(stream::iter([Ok(part)]).boxed()))
            }

            type ListExposedStream = BoxStream<'static, Result<v1::ExposedPart, Status>>;

            /// Everything but the end in a first part, so that parts have to be put together.
            async fn list_exposed(&self, request: Request<v1::ListExposedRequest>) -> Result<Response<Self::ListExposedStream>, Status> {
                let part: v1::ExposedPart = self.answer("list_exposed", request.get_ref()).await?;
                let end = v1::ExposedPart { clear: part.clear, last: part.last, ..Default::default() };
                let begin = v1::ExposedPart { clear: 0, last: false, ..part };
                Ok(Response::new(stream::iter([Ok(begin), Ok(end)]).boxed()))
            }

            type FollowResultsStream = BoxStream<'static, Result<v1::LiveResults, Status>>;

            /// Its end is no end of the results: whoever still waits asks again.
            async fn follow_results(&self, request: Request<v1::FollowResultsRequest>) -> Result<Response<Self::FollowResultsStream>, Status> {
                let results: v1::LiveResults = self.answer("follow_results", request.get_ref()).await?;
                Ok(Response::new(stream::iter([Ok(results)]).boxed()))
            }

            type BackupStream = BoxStream<'static, Result<BackupChunk, Status>>;

            async fn backup(&self, request: Request<v1::BackupRequest>) -> Result<Response<Self::BackupStream>, Status> {
                let chunk: BackupChunk = self.answer("backup", request.get_ref()).await?;
                Ok(Response::new(stream::iter([Ok(chunk.clone()), Ok(chunk)]).boxed()))
            }

            type ExportAuditStream = BoxStream<'static, Result<v1::AuditChunk, Status>>;

            async fn export_audit(&self, request: Request<v1::ExportAuditRequest>) -> Result<Response<Self::ExportAuditStream>, Status> {
                let chunk: v1::AuditChunk = self.answer("export_audit", request.get_ref()).await?;
                Ok(Response::new(stream::iter([Ok(chunk)]).boxed()))
            }

            async fn restore(&self, request: Request<Streaming<RestoreChunk>>) -> Result<Response<v1::RestoreResponse>, Status> {
                let mut whole = RestoreChunk::default();
                let mut chunks = request.into_inner();
                while let Some(chunk) = chunks.message().await? {
                    whole.data.extend(chunk.data);
                    whole.revoked_serials.extend(chunk.revoked_serials);
                }
                self.answer("restore", &whole).await.map(Response::new)
            }
        }
    };
}

scripted! {
    get_status: GetStatusRequest => GetStatusResponse,
    list_devices: ListDevicesRequest => ListDevicesResponse,
    get_device: GetDeviceRequest => GetDeviceResponse,
    import_devices: ImportDevicesRequest => ImportDevicesResponse,
    admit_device: AdmitDeviceRequest => AdmitDeviceResponse,
    quarantine_device: QuarantineDeviceRequest => QuarantineDeviceResponse,
    readmit_device: ReadmitDeviceRequest => ReadmitDeviceResponse,
    override_device: OverrideDeviceRequest => OverrideDeviceResponse,
    end_override: EndOverrideRequest => EndOverrideResponse,
    list_overrides: ListOverridesRequest => ListOverridesResponse,
    forecast_enforcement: ForecastEnforcementRequest => ForecastEnforcementResponse,
    move_device: MoveDeviceRequest => MoveDeviceResponse,
    replace_device: ReplaceDeviceRequest => ReplaceDeviceResponse,
    retire_device: RetireDeviceRequest => RetireDeviceResponse,
    change_addresses: ChangeAddressesRequest => ChangeAddressesResponse,
    get_calendar: GetCalendarRequest => GetCalendarResponse,
    list_vouched: ListVouchedRequest => ListVouchedResponse,
    settle_vouched: SettleVouchedRequest => SettleVouchedResponse,
    expect_clear: ExpectClearRequest => ExpectClearResponse,
    attest_device: AttestDeviceRequest => AttestDeviceResponse,
    get_result: GetResultRequest => GetResultResponse,
    create_token: CreateTokenRequest => CreateTokenResponse,
    list_tokens: ListTokensRequest => ListTokensResponse,
    revoke_token: RevokeTokenRequest => RevokeTokenResponse,
    learn_release: LearnReleaseRequest => LearnReleaseResponse,
    plan_release: PlanReleaseRequest => PlanReleaseResponse,
    apply_release: ApplyReleaseRequest => ApplyReleaseResponse,
    list_releases: ListReleasesRequest => ListReleasesResponse,
    get_release: GetReleaseRequest => GetReleaseResponse,
    set_release_state: SetReleaseStateRequest => SetReleaseStateResponse,
    want_release: WantReleaseRequest => WantReleaseResponse,
    list_release_keys: ListReleaseKeysRequest => ListReleaseKeysResponse,
    add_release_key: AddReleaseKeyRequest => AddReleaseKeyResponse,
    rotate_release_key: RotateReleaseKeyRequest => RotateReleaseKeyResponse,
    remove_release_key: RemoveReleaseKeyRequest => RemoveReleaseKeyResponse,
    set_release_threshold: SetReleaseThresholdRequest => SetReleaseThresholdResponse,
    start_rollout: StartRolloutRequest => StartRolloutResponse,
    list_rollouts: ListRolloutsRequest => ListRolloutsResponse,
    halt_rollout: HaltRolloutRequest => HaltRolloutResponse,
    resume_rollout: ResumeRolloutRequest => ResumeRolloutResponse,
    rollback: RollbackRequest => RollbackResponse,
    list_sboms: ListSbomsRequest => ListSbomsResponse,
    remove_sbom: RemoveSbomRequest => RemoveSbomResponse,
    create_zone: CreateZoneRequest => CreateZoneResponse,
    list_zones: ListZonesRequest => ListZonesResponse,
    get_zone: GetZoneRequest => GetZoneResponse,
    rotate_authority: RotateAuthorityRequest => RotateAuthorityResponse,
    activate_authority: ActivateAuthorityRequest => ActivateAuthorityResponse,
    distrust_authority: DistrustAuthorityRequest => DistrustAuthorityResponse,
    get_graph: GetGraphRequest => GetGraphResponse,
    plan_graph: PlanGraphRequest => PlanGraphResponse,
    apply_graph: ApplyGraphRequest => ApplyGraphResponse,
    allow_conduit: AllowConduitRequest => AllowConduitResponse,
    close_conduit: CloseConduitRequest => CloseConduitResponse,
    list_conduits: ListConduitsRequest => ListConduitsResponse,
    explain_conduit: ExplainConduitRequest => ExplainConduitResponse,
    list_authorities: ListAuthoritiesRequest => ListAuthoritiesResponse,
    get_jwks: GetJwksRequest => GetJwksResponse,
    set_zone: SetZoneRequest => SetZoneResponse,
    list_changes: ListChangesRequest => ListChangesResponse,
    get_change: GetChangeRequest => GetChangeResponse,
    approve_change: ApproveChangeRequest => ApproveChangeResponse,
    reject_change: RejectChangeRequest => RejectChangeResponse,
    list_administrators: ListAdministratorsRequest => ListAdministratorsResponse,
    invite_administrator: InviteAdministratorRequest => InviteAdministratorResponse,
    remove_administrator: RemoveAdministratorRequest => RemoveAdministratorResponse,
    set_administrator: SetAdministratorRequest => SetAdministratorResponse,
    renew_administrator: RenewAdministratorRequest => RenewAdministratorResponse,
    list_audit_events: ListAuditEventsRequest => ListAuditEventsResponse,
    get_audit_seal: GetAuditSealRequest => GetAuditSealResponse,
}

/// The broker with an administrator's context folder for it.
pub(crate) struct FakeBroker {
    desk: Desk,
    /// Under which it and its administrator are.
    pub(crate) root: Authority,
    folder: TempDir,
    // Held so that the server runs as long as the broker is there.
    _runtime: Runtime,
}

impl FakeBroker {
    /// Starts a broker of plant.example on a free port.
    pub(crate) fn start() -> Self {
        Self::showing(|root| root.issue("broker.control.plant.example", Purpose::Server))
    }

    /// The same, with the certificate that `server` makes under the plant root.
    pub(crate) fn showing(server: impl Fn(&Authority) -> Issued) -> Self {
        let root = Authority::new("plant.example issuing 1");
        let (desk, runtime) = (Desk::default(), Runtime::new().unwrap());
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let service = AdminServer::new(desk.clone());
        let connections = connections(listener, acceptor(&root, &server(&root)));
        runtime
            .spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(connections));

        let broker = Self { desk, root, folder: tempfile::tempdir().unwrap(), _runtime: runtime };
        let context = format!("plant = \"plant.example\"\naddress = \"{address}\"\n");
        fs::write(broker.path("context.toml"), context).unwrap();
        broker.trust(&broker.root);
        broker.become_admin_of(&broker.root);
        broker
    }

    /// A file in the context folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes the administrator pin `root`.
    pub(crate) fn trust(&self, root: &Authority) {
        fs::write(self.path("plant-root.pem"), root.pem()).unwrap();
    }

    /// Gives the administrator a certificate of `root`.
    pub(crate) fn become_admin_of(&self, root: &Authority) {
        self.show(&root.issue("admin", Purpose::Client));
    }

    /// Gives the administrator this certificate.
    pub(crate) fn show(&self, admin: &Issued) {
        fs::write(self.path("admin.pem"), &admin.certificate).unwrap();
        fs::write(self.path("admin.key"), &admin.key).unwrap();
        fs::set_permissions(self.path("admin.key"), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Adds an answer.
    pub(crate) fn answers(&self, call: &'static str, message: &impl Message) -> &Self {
        self.push(call, Act::Answer(message.encode_to_vec()))
    }

    /// Makes it answer with made-up values what the script does not say.
    pub(crate) fn makes_up(&self, fullness: Fullness) -> &Self {
        *self.desk.fullness.lock().unwrap() = Some(fullness);
        self
    }

    /// Adds a refusal.
    pub(crate) fn denies(&self, call: &'static str, reason: DenialReason, message: &str) -> &Self {
        let message = message.to_owned();
        self.refuses(call, &Denial { reason: reason.into(), message, ..Denial::default() })
    }

    /// Adds an answer that it waits for a second person.
    pub(crate) fn lets_wait(&self, call: &'static str, change: &str) -> &Self {
        let reason = DenialReason::Waits.into();
        let message = format!("it waits for a second person: `touchstone change approve {change}`");
        self.refuses(call, &Denial { reason, message, change: change.to_owned(), ..Denial::default() })
    }

    /// Makes it as old as one that does not know the call.
    pub(crate) fn lacks(&self, call: &'static str) -> &Self {
        self.push(call, Act::Refuse(Status::unimplemented("")))
    }

    /// Makes it keep silent to a call.
    pub(crate) fn hangs(&self, call: &'static str) -> &Self {
        self.push(call, Act::Hang)
    }

    fn refuses(&self, call: &'static str, denial: &Denial) -> &Self {
        self.push(call, Act::Refuse(proto::denial::to_status(denial)))
    }

    fn push(&self, call: &'static str, act: Act) -> &Self {
        self.desk.script.lock().unwrap().entry(call).or_default().push_back(act);
        self
    }

    /// The requests of one call, in order.
    pub(crate) fn asked<T: Message + Default>(&self, call: &str) -> Vec<T> {
        let asked = self.desk.asked.lock().unwrap();
        let of_call = asked.iter().filter(|(name, _)| *name == call);
        of_call.map(|(_, request)| T::decode(request.as_slice()).unwrap()).collect()
    }

    /// Runs `touchstone` with this broker's context.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        tool::run(&[&["--context", self.context()], arguments].concat())
    }

    /// Starts `touchstone` with this broker's context, and goes on.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Running {
        tool::spawn(&[&["--context", self.context()], arguments].concat())
    }

    /// The context folder.
    pub(crate) fn context(&self) -> &str {
        self.folder.path().to_str().unwrap()
    }
}

fn acceptor(root: &Authority, server: &Issued) -> TlsAcceptor {
    let provider = Arc::new(default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(root.store()), Arc::clone(&provider));
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(clients.build().unwrap())
        .with_single_cert(server.chain(), server.private_key())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// Accepted connections without their TLS; one whose handshake fails is passed over.
fn connections(
    listener: TcpListener,
    acceptor: TlsAcceptor,
) -> BoxStream<'static, std::io::Result<DuplexStream>> {
    let accept = |(listener, acceptor): (TcpListener, TlsAcceptor)| async move {
        loop {
            let (tcp, _) = listener.accept().await.ok()?;
            let Ok(mut tls) = acceptor.accept(tcp).await else { continue };
            let (near, mut far) = tokio::io::duplex(PIPE);
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut tls, &mut far).await });
            return Some((Ok(near), (listener, acceptor)));
        }
    };
    stream::unfold((listener, acceptor), accept).boxed()
}
