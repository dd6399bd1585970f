//! The device with whatever answers its calls, and driven step by step: for tests that lose requests and answers, and have a
//! time of their own (feature `test-util`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proto::v1;

use super::attester::Attester;
use super::driver::Driver;
use super::exchange::{self, Answered, ExchangeError, Known, Said};
use super::keyed;
use super::machine::{Effect, Exchange, Input, Outcome};
use super::watch::News;
use crate::client::{CallError, Calls};
use crate::service_manager::ServiceManager;

/// The daemon's loop, whose waits and calls are made by somebody else.
pub struct Trial(Driver);

/// How an exchange ended.
pub struct Proof(Result<Answered, ExchangeError>);

/// Exchanges with `broker` as the daemon does.
pub async fn prove(attester: Arc<Attester>, broker: impl Calls, exchange: Exchange) -> Proof {
    Proof(exchange::over(&attester, &broker, exchange).await)
}

impl Trial {
    /// The daemon starts.
    #[must_use]
    pub fn start(attester: Arc<Attester>) -> Self {
        let mut driver = Driver::new(attester, ServiceManager::of_process());
        driver.start();
        Self(driver)
    }

    /// The device.
    #[must_use]
    pub const fn attester(&self) -> &Arc<Attester> {
        &self.0.attester
    }

    /// What is to be done now instead of what was before, if it is anything new.
    pub const fn next(&mut self) -> Option<Effect> {
        self.0.asked.take()
    }

    /// The wait that it asked for is over.
    pub fn timer_fires(&mut self) {
        self.0.input(Input::TimerFired);
    }

    /// The exchange that it asked for ended.
    pub fn finish(&mut self, proof: Proof) {
        self.0.finish(proof.0);
    }

    /// A conduit's hours begin or end.
    pub fn open_and_close(&mut self) {
        self.0.open_and_close();
    }

    /// The stream is open.
    pub fn hear_opened(&mut self) {
        self.0.hear(News::Opened);
    }

    /// The stream brought a trust set.
    pub fn hear_trust(&mut self, set: v1::SignedTrustSet) {
        self.0.hear(News::Trust(Box::new(set), 0));
    }

    /// The stream asked for proof.
    pub fn hear_attest_now(&mut self, reason: &str) {
        self.0.hear(News::AttestNow(reason.to_owned()));
    }

    /// The stream, which was opened with the certificate `of`, said that it was revoked.
    pub fn hear_trust_lost(&mut self, denial: v1::Denial, of: Vec<u8>) {
        self.0.hear(News::TrustLost { denial: Box::new(denial), of });
    }
}

impl Attester {
    /// Proves the device by its key and takes over the answer, as the daemon does. Says what it would tell its machine.
    pub async fn prove_by_key(&self, broker: &impl Calls, exchange: Exchange) -> Outcome {
        let known = &Known::of(self);
        let said = Said { known, health: None, software_keys: Vec::new() };
        match keyed::run(self, broker, exchange, said).await {
            Ok((response, identity_keys)) => {
                let Some(outcome) = response.outcome else { return Outcome::Failed };
                let answered = Answered {
                    outcome,
                    software_keys: BTreeMap::new(),
                    identity_keys,
                    boot: None,
                    behind: false,
                    seen: 0,
                };
                self.adopt(answered).map_or(Outcome::Failed, |adopted| adopted.outcome)
            }
            Err(ExchangeError::Call { at_begin, call: CallError::Denied(denial) }) => Outcome::Denied {
                at_begin,
                reason: denial.reason(),
                retry_after: Duration::from_secs(denial.retry_after_seconds.into()),
            },
            Err(ExchangeError::Call { .. }) => Outcome::Unreachable,
            Err(_) => Outcome::Failed,
        }
    }
}
