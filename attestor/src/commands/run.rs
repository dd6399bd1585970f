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
use crate::renewal::{Attester, driver};
use crate::state::Keeper;
use crate::tpm::{EsapiTpm, TpmHandle};

/// How long a stop waits for the TPM's last command; service managers kill after 90.
const LAST_COMMAND: Duration = Duration::from_secs(8);

/// Runs the daemon until SIGTERM or SIGINT.
pub async fn run(config: &Path) -> Result<(), CommandError> {
    let config = Config::load(config)?;
    let stop = stop_signal()?;
    let tpm = TpmHandle::start(EsapiTpm::new(config.tpm.clone())).map_err(system("a thread for the TPM"))?;
    let ended = serve(config, &tpm, stop).await;
    tpm.close(LAST_COMMAND).await;
    ended?;
    tracing::info!("the attestor stopped");
    Ok(())
}

async fn serve(config: Config, tpm: &TpmHandle, stop: impl Future<Output = ()>) -> Result<(), CommandError> {
    let mut stop = Box::pin(stop);
    let attester = tokio::select! {
        // A slow TPM may take minutes to derive its keys.
        () = &mut stop => return Ok(()),
        attester = assemble(config, tpm.clone()) => Arc::new(attester?),
    };
    tracing::info!(
        broker = %attester.config.broker,
        tpm = %attester.config.tpm,
        endorsement_key = attester.prover.endorsement_key().template.name(),
        "the attestor runs"
    );
    let answering = answer_locally(&attester).await?;
    let ended = driver::run(attester, stop).await;
    answering.abort();
    Ok(ended?)
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

async fn assemble(config: Config, tpm: TpmHandle) -> Result<Attester, CommandError> {
    let root = PlantRoot::load(&config.plant_root)?;
    let keeper = Keeper::load(&config.state, &config.plant, &root)?;
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
