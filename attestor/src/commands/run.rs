//! `touchstone-attestor run`: the daemon.

use std::fmt::Display;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{CommandError, system};
use crate::authorize::listener;
use crate::bootstrap::{self, PrepareError, Sources};
use crate::config::{Config, Local, LocalAddress, Outline};
use crate::durable;
use crate::evidence::{Prover, ProverError};
use crate::gate::{self, Gate};
use crate::idevid::IdevId;
use crate::images::{Images, Refusal};
use crate::local_http::Listener;
use crate::metrics;
use crate::plant::PlantRoot;
use crate::ports::{Clock, System};
use crate::renewal::{Attester, Line, Means, driver};
use crate::service_manager::ServiceManager;
use crate::state::{Keeper, Lock};
use crate::status::Status;
use crate::telemetry;
use crate::tpm::{EsapiTpm, TpmHandle};
use crate::workload_api;

/// Pause before the plant root is fetched again.
const FETCH_AGAIN: Duration = Duration::from_secs(5);
/// How long a stop waits for the TPM's last command; service managers kill after 90.
pub(super) const LAST_COMMAND: Duration = Duration::from_secs(8);

/// Runs the daemon until SIGTERM or SIGINT.
pub async fn run(config: &Path) -> Result<(), CommandError> {
    System::gather_entropy();
    let outline = Outline::read(config, &Sources::of_machine())?;
    telemetry::start(outline.log_format());
    // Before anything that the other one has: its status, the TPM, and the sockets of local software.
    let lock = Lock::of(&outline.state);
    let ended = match &lock {
        Ok(None) => return Err(CommandError::Taken(outline.state)),
        Ok(Some(_)) => begin(&outline, config).await,
        Err(_) => Ok(()),
    };
    // Held until the status tells of it: that of whoever begins next is theirs.
    let (_held, ended) = match lock {
        Ok(held) => (held, ended),
        Err(unreadable) => (None, Err(unreadable.into())),
    };
    match &ended {
        Ok(()) => tracing::info!("the attestor stopped"),
        // It ran, and told more.
        Err(CommandError::Driver(_)) => {}
        Err(error) => tell(config, error),
    }
    ended
}

async fn begin(outline: &Outline, file: &Path) -> Result<(), CommandError> {
    let mut stop = Box::pin(stop_signal()?);
    let manager = ServiceManager::of_process();
    tokio::select! {
        () = &mut stop => return Ok(()),
        prepared = prepare(outline, file, &manager) => prepared?,
    }
    let config = Config::load(file)?;
    let _held = moved(&outline.state, &config.state)?;
    let start = |address| TpmHandle::start(EsapiTpm::new(address)).map_err(system("a thread for the TPM"));
    let tpm = config.tpm.clone().map(start).transpose()?.map(|tpm| tpm.with_deadline(config.tpm_deadline));
    let ended = serve(config, tpm.clone(), manager, stop).await;
    if let Some(tpm) = tpm {
        tpm.close(LAST_COMMAND).await;
    }
    ended
}

/// Takes the state folder that the file names now, if it was another when the attestor began to wait.
fn moved(held: &Path, state: &Path) -> Result<Option<Lock>, CommandError> {
    if held == state {
        return Ok(None);
    }
    Lock::of(state)?.map(Some).ok_or_else(|| CommandError::Taken(state.to_owned()))
}

/// Waits for the network where the plant root has to be fetched.
async fn prepare(outline: &Outline, file: &Path, manager: &ServiceManager) -> Result<(), PrepareError> {
    loop {
        match bootstrap::prepare(outline).await {
            Err(error) if error.is_absence() => {
                tracing::warn!(%error, "not started yet");
                tell(file, &error);
            }
            ended => return ended,
        }
        manager.alive();
        sleep(FETCH_AGAIN).await;
    }
}

/// Says in the status why the attestor that `file` describes cannot begin: whoever looks there first is told to mend that, not
/// what an earlier one came to.
fn tell(file: &Path, problem: &dyn Display) {
    // What cannot be read says of no place where anybody would look.
    let Ok(outline) = Outline::read(file, &Sources::of_machine()) else { return };
    let broker = outline.broker().map(|broker| broker.to_string()).unwrap_or_default();
    let Ok(Local { device, deliver, .. }) = outline.local() else { return };
    let status = Status::of_start(device, broker, problem.to_string(), System::default().now());
    if let Err(error) = durable::make_dir(&deliver, 0o755).and_then(|()| status.write(&deliver)) {
        tracing::error!(%error, "the status cannot be written to {}; free space or correct its owner", deliver.display());
    }
}

async fn serve(
    config: Config,
    tpm: Option<TpmHandle>,
    manager: ServiceManager,
    stop: impl Future<Output = ()>,
) -> Result<(), CommandError> {
    tokio::pin!(stop);
    let (attester, manager) = tokio::select! {
        // A slow TPM may take minutes to derive its keys.
        () = &mut stop => return Ok(()),
        assembled = assemble_once_there(config, tpm, manager) => assembled?,
    };
    let attester = Arc::new(attester);
    announce(&attester);
    attester.look_at_boot().await;
    // Nobody is answered by the state of another device.
    attester.claim_state();
    let answering = answer_locally(&attester);
    let ended = driver::run(attester, manager, stop).await;
    drop(answering);
    Ok(ended?)
}

fn announce(attester: &Attester) {
    let broker = &attester.config.broker;
    match &attester.prover {
        Means::Tpm(prover) => {
            let endorsement_key = prover.endorsement_key().template.name();
            let tpm = attester.config.tpm.as_ref().map(tracing::field::display);
            tracing::info!(%broker, tpm, endorsement_key, "the attestor runs");
        }
        Means::Key => tracing::warn!(%broker, "the attestor runs without a TPM: its keys can be copied"),
        Means::Absent(why) => tracing::error!(%broker, "the attestor runs without its TPM: {why}"),
    }
}

/// Answers local software, where it is told; ends with the value. A place that cannot be taken yet keeps nothing else
/// waiting.
fn answer_locally(attester: &Arc<Attester>) -> JoinSet<()> {
    let (mut answering, config) = (JoinSet::new(), &attester.config);
    if let Some(address) = config.authorize.clone() {
        let attester = Arc::clone(attester);
        answering.spawn(async move {
            let bind = || Listener::bind(&address);
            let bound = attester.unbound.until_bound(format!("authorize.listen {address}"), bind).await;
            listener::serve(bound, Arc::clone(&attester)).await;
        });
    }
    if let Some(address) = config.metrics.clone() {
        let attester = Arc::clone(attester);
        answering.spawn(async move {
            let bind = || Listener::bind(&address);
            let bound = attester.unbound.until_bound(format!("metrics.listen {address}"), bind).await;
            metrics::serve(bound, Arc::clone(&attester)).await;
        });
    }
    if let Some(api) = config.workload_api.clone() {
        let attester = Arc::clone(attester);
        answering.spawn(async move {
            let address = LocalAddress::Unix(api.socket.clone());
            let bind = || workload_api::Listener::bind(&api);
            let bound = attester.unbound.until_bound(format!("workload_api.socket {address}"), bind).await;
            workload_api::serve(bound, Arc::clone(&attester)).await;
        });
    }
    for config in &config.gates {
        let gate = Arc::new(Gate::new(config.clone(), Arc::clone(attester)));
        let (attester, listen) = (Arc::clone(attester), config.listen);
        answering.spawn(async move {
            let bound = attester.unbound.until_bound(format!("gate.listen {listen}"), || gate.bind()).await;
            gate.run(bound, attester.config.deliver.join(gate::FOLDER)).await;
        });
    }
    answering
}

pub(super) fn unbound(
    key: &'static str,
    address: LocalAddress,
) -> impl FnOnce(std::io::Error) -> CommandError {
    move |source| CommandError::Listen { key, address, source }
}

/// While the TPM does not answer, what needs none goes on where software sees something already: after a restart of the
/// attestor conduits must close as they would have before.
async fn assemble_once_there(
    config: Config,
    tpm: Option<TpmHandle>,
    mut manager: ServiceManager,
) -> Result<(Attester, ServiceManager), CommandError> {
    loop {
        let error = match assemble(config.clone(), tpm.clone()).await {
            Err(CommandError::Tpm(error @ ProverError::Tpm(_))) => error,
            assembled => return Ok((assembled?, manager)),
        };
        let root = PlantRoot::load(&config.plant_root)?;
        let keeper = Keeper::load_or_set_aside(&config.state, &config.plant, &root)?;
        let attester = Attester::new(config.clone(), root, keeper, Means::Absent(error.to_string()))?;
        let Some(tpm) = tpm.as_ref().filter(|_| attester.sink.shows_something()) else {
            return Err(error.into());
        };
        tracing::error!(%error, "waiting for the TPM; conduits close on time meanwhile");
        let attester = Arc::new(attester);
        attester.look_at_boot().await;
        let mut answering = answer_locally(&attester);
        manager = driver::go_without(attester, manager, driver::answers(tpm)).await?;
        answering.shutdown().await;
    }
}

async fn assemble(config: Config, tpm: Option<TpmHandle>) -> Result<Attester, CommandError> {
    let root = PlantRoot::load(&config.plant_root)?;
    let load = |files| IdevId::load(files, tpm.is_some()).map(Arc::new);
    let idevid = config.idevid.as_ref().map(load).transpose()?;
    let Some(tpm) = tpm else {
        // Its keys are in the state alone: nobody but a person may begin anew.
        let keeper = Keeper::load(&config.state, &config.plant, &root)?;
        return Ok(Attester::new(config, root, keeper, Means::Key)?.with_idevid(idevid));
    };
    let keeper = Keeper::load_or_set_aside(&config.state, &config.plant, &root)?;
    let line = Line::of(&config, &root, &keeper)?;
    line.connect_ahead(&keeper);
    let prover = Prover::new(tpm, config.firmware_log.clone())
        .await?
        .with_userspace_log(&config.userspace_log)
        .with_ima_log(config.ima_log.as_deref())
        .with_idevid(idevid);
    let images = measured_images(&config, &prover).await?;
    let prover = prover.with_images(images);
    Ok(Attester::on(line, config, root, keeper, prover))
}

/// The log of this boot's images, if there is one to be kept.
async fn measured_images(config: &Config, prover: &Prover) -> Result<Option<Arc<Images>>, CommandError> {
    let Some(wanted) = config.images.clone() else { return Ok(None) };
    // One that cannot be read is named with the first evidence.
    let firmware = prover.firmware_log().unwrap_or_default();
    let refusal = Refusal::by_logs(&firmware, &prover.userspace_log());
    Ok(Some(Arc::new(Images::open(wanted, prover.tpm().clone(), refusal).await?)))
}

pub(super) fn stop_signal() -> Result<impl Future<Output = ()>, CommandError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(system("a signal handler"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("a signal handler"))?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
