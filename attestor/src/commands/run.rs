//! `touchstone-attestor run`: the daemon.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::{CommandError, system};
use crate::authorize::listener::{self, Listener};
use crate::config::Config;
use crate::evidence::Prover;
use crate::plant::PlantRoot;
use crate::renewal::{Attester, Means, driver};
use crate::state::Keeper;
use crate::tpm::{EsapiTpm, TpmHandle};

/// How long a stop waits for the TPM's last command; service managers kill after 90.
const LAST_COMMAND: Duration = Duration::from_secs(8);

/// Runs the daemon until SIGTERM or SIGINT.
pub async fn run(config: &Path) -> Result<(), CommandError> {
    let config = Config::load(config)?;
    let stop = stop_signal()?;
    let start = |address| TpmHandle::start(EsapiTpm::new(address)).map_err(system("a thread for the TPM"));
    let tpm = config.tpm.clone().map(start).transpose()?;
    let ended = serve(config, tpm.clone(), stop).await;
    if let Some(tpm) = tpm {
        tpm.close(LAST_COMMAND).await;
    }
    ended?;
    tracing::info!("the attestor stopped");
    Ok(())
}

async fn serve(
    config: Config,
    tpm: Option<TpmHandle>,
    stop: impl Future<Output = ()>,
) -> Result<(), CommandError> {
    let mut stop = Box::pin(stop);
    let attester = tokio::select! {
        // A slow TPM may take minutes to derive its keys.
        () = &mut stop => return Ok(()),
        attester = assemble(config, tpm) => Arc::new(attester?),
    };
    announce(&attester);
    let answering = answer_locally(&attester).await?;
    let ended = driver::run(attester, stop).await;
    answering.abort();
    Ok(ended?)
}

fn announce(attester: &Attester) {
    let broker = &attester.config.broker;
    match &attester.prover {
        Means::Tpm(prover) => {
            let endorsement_key = prover.endorsement_key().template.name();
            tracing::info!(%broker, endorsement_key, "the attestor runs");
        }
        Means::Key => tracing::warn!(%broker, "the attestor runs without a TPM: its keys can be copied"),
    }
}

/// Answers local software, if it is told where.
async fn answer_locally(attester: &Arc<Attester>) -> Result<tokio::task::JoinHandle<()>, CommandError> {
    let bound = match &attester.config.authorize {
        Some(address) => {
            let bound = Listener::bind(address).await;
            let source = |source| CommandError::Listen { address: address.clone(), source };
            Some(bound.map_err(source)?)
        }
        None => None,
    };
    let desk = Arc::clone(attester);
    Ok(tokio::spawn(async move {
        if let Some(listener) = bound {
            listener::serve(listener, desk).await;
        }
    }))
}

async fn assemble(config: Config, tpm: Option<TpmHandle>) -> Result<Attester, CommandError> {
    let root = PlantRoot::load(&config.plant_root)?;
    let keeper = Keeper::load(&config.state, &config.plant, &root)?;
    let Some(tpm) = tpm else { return Ok(Attester::new(config, root, keeper, Means::Key)?) };
    let prover = Prover::new(tpm, config.firmware_log.clone())
        .await?
        .with_userspace_log(&config.userspace_log)
        .with_ima_log(config.ima_log.as_deref());
    Ok(Attester::new(config, root, keeper, prover)?)
}

fn stop_signal() -> Result<impl Future<Output = ()>, CommandError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(system("a signal handler"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("a signal handler"))?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
