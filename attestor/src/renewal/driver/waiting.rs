//! What needs no TPM, while the one of this device does not answer at a start: conduits close on time, and local software
//! is answered. Does not prove, watch or renew anything.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{Attester, Driver, DriverError, ServiceManager, TpmHandle, elapsed, hooks};
use crate::status::ALIVE_EVERY;

/// Pause before the TPM is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// Returns once `tpm` answers.
pub async fn wait_for_tpm(
    attester: Arc<Attester>,
    manager: ServiceManager,
    tpm: &TpmHandle,
) -> Result<ServiceManager, DriverError> {
    let _followers = hooks::follow_all(&attester);
    let mut driver = Driver::new(attester, manager);
    let mut alive = interval(driver.manager.alive_every(Duration::from_secs(ALIVE_EVERY)));
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let answers = async {
        loop {
            sleep(ASK_AGAIN).await;
            if tpm.attestation_key().await.is_ok() {
                return;
            }
        }
    };
    tokio::pin!(answers);
    driver.open_and_close();
    loop {
        let edge = driver.next_edge();
        tokio::select! {
            () = &mut answers => return Ok(driver.manager),
            () = elapsed(edge) => driver.open_and_close(),
            _ = alive.tick() => {
                if let Some((operation, since)) = tpm.stuck() {
                    return Err(DriverError::TpmStuck { operation, since });
                }
                driver.stay_alive()?;
            }
        }
    }
}
