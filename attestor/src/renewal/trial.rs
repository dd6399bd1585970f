//! One exchange of a device without a TPM with whatever answers its calls: for tests that lose requests and answers
//! (feature `test-util`).

use std::collections::BTreeMap;
use std::time::Duration;

use super::attester::Attester;
use super::exchange::{Answered, ExchangeError, Known, Said};
use super::keyed;
use super::machine::{Exchange, Outcome};
use crate::client::{CallError, Calls};

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
