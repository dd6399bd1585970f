//! Health that means something: the issuing key signs and the store keeps a promise.

use std::sync::Arc;
use std::time::Duration;

use policy::cause::chain;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::plant::Plant;

/// How often health is tried.
const EVERY: Duration = Duration::from_secs(5);

/// Tries the broker's health for ever and reports it for the whole server (the empty service name).
pub async fn watch(plant: Arc<Plant>, reporter: HealthReporter) {
    let mut interval = tokio::time::interval(EVERY);
    loop {
        interval.tick().await;
        let status = match tried(&plant).await {
            Ok(()) => ServingStatus::Serving,
            Err(error) => {
                tracing::error!(%error, "the broker is not well");
                ServingStatus::NotServing
            }
        };
        plant.metrics.healthy(status == ServingStatus::Serving);
        reporter.set_service_status("", status).await;
    }
}

async fn tried(plant: &Plant) -> Result<(), String> {
    plant.store.probe().await.map_err(|error| chain(&error))?;
    plant.keys.load().issuing.sign(b"touchstone/v1/health").map_err(|error| chain(&error))?;
    Ok(())
}
