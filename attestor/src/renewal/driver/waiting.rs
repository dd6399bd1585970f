//! What needs no TPM, while the one of this device does not answer at a start: conduits close on time, and local software
//! is answered. Does not prove, watch or renew anything.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{Attester, Driver, DriverError, ServiceManager, TpmHandle, elapsed, hooks};
use crate::status::ALIVE_EVERY;

/// Pause before the TPM is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// Returns once `tpm` answers.
pub async fn answers(tpm: &TpmHandle) -> Result<(), DriverError> {
    loop {
        sleep(ASK_AGAIN).await;
        if tpm.attestation_key().await.is_ok() {
            return Ok(());
        }
        if let Some((operation, since)) = tpm.stuck() {
            return Err(DriverError::TpmStuck { operation, since });
        }
    }
}

/// Does what needs no TPM until one is `there`.
pub async fn go_without(
    attester: Arc<Attester>,
    manager: ServiceManager,
    there: impl Future<Output = Result<(), DriverError>>,
) -> Result<ServiceManager, DriverError> {
    let _followers = hooks::follow_all(&attester);
    let mut driver = Driver::new(attester, manager);
    let mut alive = interval(driver.manager.alive_every(Duration::from_secs(ALIVE_EVERY)));
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::pin!(there);
    driver.open_and_close();
    loop {
        let edge = driver.next_edge();
        tokio::select! {
            found = &mut there => return found.map(|()| driver.manager),
            () = elapsed(edge) => driver.open_and_close(),
            _ = alive.tick() => driver.stay_alive()?,
        }
    }
}
