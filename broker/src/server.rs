//! The daemon: opens the plant, listens, serves, and stops in order.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use policy::x509::certificate::Certificate;
use proto::v1::admin_server::AdminServer;
use proto::v1::attestation_server::AttestationServer;
use proto::v1::authorize_server::AuthorizeServer;
use proto::v1::enrollment_server::EnrollmentServer;
use proto::v1::invitation_server::InvitationServer;
use proto::v1::watch_server::WatchServer;
use proto::{MAX_ADMIN_REQUEST, MAX_REQUEST, denial, v1};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tonic::body::Body;
use tonic::codegen::http::{HeaderValue, Response};
use tonic::transport::Server;
use tower::util::{MapRequestLayer, MapResponseLayer};

use crate::admin::staging;
use crate::attendance::Attendance;
use crate::audit::Event;
use crate::audit::grants::Grants;
use crate::audit::refusals::Refusals;
use crate::authority::IssuerCache;
use crate::chores;
use crate::config::{Config, ConfigError};
use crate::drill::Drills;
use crate::golden::GoldenCache;
use crate::grpc::admin::Administration;
use crate::grpc::{
    authorize, confined, connection, device::Devices, health, invitation, peer::Anchors, watch::Watching,
};
use crate::hub::{Hub, moves_trust};
use crate::init::{id_file, kek_file};
use crate::kek::{Keeping, KekError};
use crate::leader::Lead;
use crate::manufacturers::{self, IDEVID_ROOTS, RootsError, TPM_ROOTS};
use crate::metrics::page::Page;
use crate::metrics::{Metrics, listener};
use crate::plant::{FORECASTS, KeysError, Plant, PlantKeys, adopt_keys, moves_keys};
use crate::ports::{Clock, Entropy, System};
use crate::publication;
use crate::secrets::SecretKey;
use crate::session::complete::commit;
use crate::store::blobs::{Blobs, BlobsError};
use crate::store::fence::Fenced;
use crate::store::open::{StoreError, open as open_store};
use crate::store::timed::Timed;
use crate::store::{BrokerIdError, Store, Txn, Watch};
use crate::tls::{Tls, TlsError};
use crate::trust::{self, TrustError, ViewCache};

/// Longest request of services that are asked with a name or a number.
const SHORT_REQUEST: usize = 4 << 10;
/// Requests that one connection may have open.
const STREAMS: u32 = 16;
/// A request whose answer has not begun by then is given up, its body with it; streams go on.
const REQUEST: Duration = Duration::from_secs(120);
/// A peer that does not answer a ping within this time is gone.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// Open streams get this long to end when the broker stops.
const DRAIN: Duration = Duration::from_secs(1);
/// How often it is looked whether the broker's own certificate is to be made anew.
const RENEW: Duration = Duration::from_secs(10);
/// The same after a failure, so that the log stays readable.
const RENEW_FAILED: Duration = Duration::from_secs(3600);

/// The broker cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The key-encryption key.
    #[error(transparent)]
    Kek(#[from] KekError),
    /// The broker's id.
    #[error(
        "{file} does not hold the broker's id ({why}); restore the `secrets` folder that belongs to this store"
    )]
    Id {
        /// The file.
        file: PathBuf,
        /// Why.
        why: String,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The blobs.
    #[error(transparent)]
    Blobs(#[from] BlobsError),
    /// The plant's keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// TPM manufacturers' certificates.
    #[error(transparent)]
    Roots(#[from] RootsError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Trust sets.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The port.
    #[error(
        "cannot listen on {address} ({source}); stop the program that has the port, or change `{key}` in broker.toml"
    )]
    Listen {
        /// The key that names the address.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The certificate of what is published.
    #[error(transparent)]
    Publish(#[from] publication::ServerFilesError),
    /// The address file.
    #[error("cannot write {file} ({source})")]
    Address {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// gRPC.
    #[error("the server stopped: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// Reflection.
    #[error("server reflection cannot be set up: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// A message over its limit is refused before any handler sees it; this gives it the form of every other
/// refusal. Nothing else here answers OUT_OF_RANGE.
fn structured(response: Response<Body>) -> Response<Body> {
    let code = response.headers().get("grpc-status").map(HeaderValue::as_bytes);
    if code != Some(b"11") {
        return response;
    }
    let message = format!(
        "the message is larger than {MAX_REQUEST} bytes, or of an administrator than {MAX_ADMIN_REQUEST}; send less"
    );
    let reason = v1::DenialReason::Malformed.into();
    denial::to_status(&v1::Denial { reason, message, ..v1::Denial::default() }).into_http()
}

/// Opens the plant in `dir`.
pub async fn open(dir: &Path) -> Result<Arc<Plant>, ServeError> {
    let config = Config::load(dir)?;
    let keeping = Keeping::read(&kek_file(dir))?;
    let kek = keeping.open()?;
    tracing::info!(kept = keeping.describe(), "the key-encryption key opened");
    let metrics = Metrics::default();
    let store = open_store(dir, &config.store, broker_id(dir)?, &System::default()).await?;
    let store = Arc::new(Fenced(Timed::new(store, &metrics.store)));
    let ground = Ground { store, clock: Arc::new(System::default()), entropy: Arc::new(System::default()) };
    on(ground, config, kek, metrics).await
}

/// What a plant runs on besides its folder.
pub struct Ground {
    /// Its store.
    pub store: Arc<dyn Store>,
    /// Its clock.
    pub clock: Arc<dyn Clock>,
    /// Its random bytes.
    pub entropy: Arc<dyn Entropy>,
}

/// Opens the plant in `dir`, whose records are in another store.
pub async fn open_on(ground: Ground, dir: &Path) -> Result<Arc<Plant>, ServeError> {
    let kek = Keeping::read(&kek_file(dir))?.open()?;
    on(ground, Config::load(dir)?, kek, Metrics::default()).await
}

async fn on(
    Ground { store, clock, entropy }: Ground,
    config: Config,
    kek: SecretKey,
    metrics: Metrics,
) -> Result<Arc<Plant>, ServeError> {
    let keys = PlantKeys::open(store.as_ref(), &kek).await?;
    keys.serve_at(clock.now())?;
    let (roots, files) = manufacturers::import(TPM_ROOTS, &config.tpm_roots)?;
    manufacturers::log(TPM_ROOTS, &files);
    let (idevid_roots, files) = manufacturers::import(IDEVID_ROOTS, &config.idevid_roots)?;
    manufacturers::log(IDEVID_ROOTS, &files);
    Ok(Arc::new(Plant {
        blobs: Blobs::open_on(&config.dir, &config.store)?,
        clock,
        entropy,
        keys: ArcSwap::from_pointee(keys),
        issuers: IssuerCache::default(),
        golden: GoldenCache::default(),
        views: ViewCache::default(),
        fleet: crate::rollout::FleetCache::default(),
        roots,
        idevid_roots,
        turned_away: AtomicU64::new(0),
        refusals: Refusals::default(),
        grants: Grants::default(),
        metrics,
        store,
        kek,
        config,
        drills: Drills::default(),
        attendance: Attendance::default(),
        forecasts: Semaphore::new(FORECASTS),
        vouching: OnceLock::new(),
    }))
}

/// What the broker of the plant in `dir` writes its audit chain as.
pub fn broker_id(dir: &Path) -> Result<crate::store::BrokerId, ServeError> {
    let file = id_file(dir);
    let text = std::fs::read_to_string(&file)
        .map_err(|error| ServeError::Id { file: file.clone(), why: error.to_string() })?;
    text.trim().parse().map_err(|error: BrokerIdError| ServeError::Id { file, why: error.to_string() })
}

/// Serves the plant in `dir` until `stop` resolves.
pub async fn serve(dir: &Path, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
    let plant = open(dir).await?;
    // What is staged counts for nothing, so a plant whose store refuses to write starts all the same.
    if let Err(error) = staging::sweep(&plant, plant.now()).await {
        tracing::warn!(%error, "what an unfinished change left behind stays");
    }
    let tls = Tls::new(&plant)?;
    issued(&plant, &tls).await;
    refresh_anchors(&plant, &tls).await?;
    let config = tls.config(Arc::clone(&plant.clock))?;
    let (listener, address) = bind("listen", plant.config.listen).await?;
    let metrics = tokio::spawn(serve_metrics(&plant).await?);
    let published = tokio::spawn(publish(&plant, &tls).await?);
    let hub = Arc::new(Hub::default());
    let lead = Arc::new(Lead::new(broker_id(dir)?.to_string()));
    let (reporter, health_service) = tonic_health::server::health_reporter();
    let tasks = [
        tokio::spawn(follow(Arc::clone(&plant), Arc::clone(&tls), Arc::clone(&hub))),
        tokio::spawn(renew(Arc::clone(&plant), Arc::clone(&tls))),
        tokio::spawn(Arc::clone(&lead).follow(Arc::clone(&plant), chores::of_the_leader)),
        tokio::spawn(crate::audit::seal::regularly(Arc::clone(&plant))),
        tokio::spawn(chores::tell_others(Arc::clone(&plant), broker_id(dir)?.to_string())),
        tokio::spawn(crate::drill::follow(Arc::clone(&plant))),
        tokio::spawn(health::watch(Arc::clone(&plant), reporter)),
    ];
    let devices = Devices::new(Arc::clone(&plant));
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let router = Server::builder()
        .max_concurrent_streams(STREAMS)
        .timeout(REQUEST)
        .layer(MapResponseLayer::new(structured))
        .layer(MapRequestLayer::new(confined::to_their_right))
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .add_service(EnrollmentServer::new(devices.clone()).max_decoding_message_size(MAX_REQUEST))
        .add_service(AttestationServer::new(devices).max_decoding_message_size(MAX_REQUEST))
        .add_service(
            InvitationServer::new(invitation::Invitations::new(Arc::clone(&plant)))
                .max_decoding_message_size(invitation::MAX_REQUEST),
        )
        .add_service(
            AuthorizeServer::new(authorize::Authorizing::new(Arc::clone(&plant)))
                .max_decoding_message_size(authorize::MAX_REQUEST),
        )
        .add_service(
            WatchServer::new(Watching::new(Arc::clone(&plant), hub)).max_decoding_message_size(SHORT_REQUEST),
        )
        .add_service(
            AdminServer::new(Administration::new(Arc::clone(&plant)))
                .max_decoding_message_size(MAX_ADMIN_REQUEST),
        )
        .add_service(health_service.max_decoding_message_size(SHORT_REQUEST))
        .add_service(reflection);
    let incoming = connection::accept(listener, TlsAcceptor::from(Arc::new(config)), tls, Arc::clone(&plant));
    announce(dir, "address", address)?;
    let stopping = Arc::new(tokio::sync::Notify::new());
    let server = router.serve_with_incoming_shutdown(incoming, {
        let stopping = Arc::clone(&stopping);
        async move { stopping.notified().await }
    });
    let drained = async {
        stop.await;
        tracing::info!("stopping");
        stopping.notify_one();
        tokio::time::sleep(DRAIN).await;
    };
    let result = tokio::select! {
        result = server => result,
        () = drained => Ok(()),
    };
    tasks.iter().chain([&metrics, &published]).for_each(tokio::task::JoinHandle::abort);
    lead.resign(&plant).await;
    crate::audit::seal::once(&plant).await;
    Ok(result?)
}

async fn bind(key: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let failed = |source| ServeError::Listen { key, address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Serves metrics for ever, if it is told where.
async fn serve_metrics(plant: &Arc<Plant>) -> Result<impl Future<Output = ()> + use<>, ServeError> {
    let bound = match plant.config.metrics {
        Some(address) => Some(bind("metrics", address).await?),
        None => None,
    };
    if let Some((_, address)) = &bound {
        announce(&plant.config.dir, "metrics-address", *address)?;
        if let Some(warning) = listener::warning(*address) {
            tracing::warn!("{warning}");
        }
    }
    let page = Page::new(Arc::clone(plant));
    Ok(async move {
        if let Some((bound, _)) = bound {
            listener::serve(bound, page).await;
        }
    })
}

/// Serves what the plant publishes for ever, if it is told where.
async fn publish(plant: &Arc<Plant>, tls: &Arc<Tls>) -> Result<impl Future<Output = ()> + use<>, ServeError> {
    let serving = match &plant.config.publish {
        Some(config) => {
            let (listener, address) = bind("publish.listen", config.listen).await?;
            announce(&plant.config.dir, "publish-address", address)?;
            Some(publication::serve(listener, Arc::clone(plant), config, Arc::clone(tls)).await?)
        }
        None => None,
    };
    Ok(async move {
        if let Some(serving) = serving {
            serving.await;
        }
    })
}

/// Tells in a file where the broker listens: port 0 takes a free one.
fn announce(dir: &Path, name: &str, address: SocketAddr) -> Result<(), ServeError> {
    let file = dir.join(name);
    crate::files::write_public(&file, format!("{address}\n").as_bytes())
        .map_err(|source| ServeError::Address { file, source })?;
    tracing::info!(%address, "listening");
    Ok(())
}

/// Sets what client certificates are verified against.
async fn refresh_anchors(plant: &Plant, tls: &Tls) -> Result<(), TrustError> {
    let view = trust::view(plant).await?;
    let keys = plant.keys.load();
    tls.anchors.store(Arc::new(Anchors {
        plant: Some(keys.domain.clone()),
        issuing: keys.issuing.certificate().to_vec(),
        callers: view.callers().map(|(zone, der)| (zone.clone(), der.to_vec())).collect(),
    }));
    Ok(())
}

/// Hands every change of the store to those it concerns, the port's own anchors first.
pub(crate) fn follow(plant: Arc<Plant>, tls: Arc<Tls>, hub: Arc<Hub>) -> impl Future<Output = ()> {
    let changes = plant.store.watch(plant.store.revision());
    let served = plant.keys.load_full();
    follow_from(changes, served, plant, tls, hub)
}

async fn follow_from(
    mut changes: Watch,
    mut served: Arc<PlantKeys>,
    plant: Arc<Plant>,
    tls: Arc<Tls>,
    hub: Arc<Hub>,
) {
    let mut stale = false;
    while let Some(event) = changes.next().await {
        if stale || moves_keys(&event) {
            let adopted = adopt_keys(&plant).await;
            stale = adopted.is_err();
            if let Err(error) = adopted {
                tracing::error!(%error, "the plant's keys are read again with the next change");
            }
        }
        // A restore replaces the store, then the keys, then writes its audit entry: with that one at the
        // latest the keys are seen to be others.
        let keys = plant.keys.load_full();
        let restored = !Arc::ptr_eq(&served, &keys);
        if (restored || moves_trust(&event))
            && let Err(error) = refresh_anchors(&plant, &tls).await
        {
            tracing::error!(%error, "client certificates are verified against the last known authorities");
        }
        if restored {
            match tls.renew(&plant) {
                Ok(()) => issued(&plant, &tls).await,
                Err(error) => tracing::error!(%error, "the broker's own certificate stays the old one"),
            }
            served = keys;
            hub.wake_all();
        }
        crate::drill::keep_up(&plant, &event).await;
        hub.tell(&event);
        trust::keep_up(&plant).await;
    }
}

/// Puts the certificate that the broker shows on record. A store that refuses to write must not keep anybody from
/// asking the broker what is wrong with it.
async fn issued(plant: &Plant, tls: &Tls) {
    let server = tls.server();
    let leaf = server.cert.first().and_then(|leaf| Certificate::parse(leaf).ok());
    let Some(leaf) = leaf else { return };
    let text = format!("serial {}, ends {}", leaf.serial_text(), leaf.validity().not_after);
    let event = Event::new(plant.now(), "broker", "server-certificate.create", "broker", &text);
    if let Err(error) = commit(plant, Txn::new().audit(event.entry())).await {
        tracing::error!(%error, "the broker's own certificate is not on record");
    }
}

async fn renew(plant: Arc<Plant>, tls: Arc<Tls>) {
    loop {
        tokio::time::sleep(RENEW).await;
        if !tls.is_due(plant.now()) {
            continue;
        }
        let renewed = plant.keys.load().serve_at(plant.now()).map_err(ServeError::from);
        match renewed.and_then(|()| Ok(tls.renew(&plant)?)) {
            Ok(()) => issued(&plant, &tls).await,
            Err(error) => {
                tracing::error!(%error, "the broker's own certificate could not be made anew");
                tokio::time::sleep(RENEW_FAILED).await;
            }
        }
    }
}
