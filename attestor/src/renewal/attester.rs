//! The device in its role as Attester (RFC 9334): everything that exchanges with the broker need.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use policy::time::UnixTime;

use crate::authorize::listener::Desk;
use crate::authorize::{Answer, Question, answer};
use crate::client::{BrokerClient, Credentials};
use crate::config::Config;
use crate::deliver::FileSink;
use crate::evidence::Prover;
use crate::hooks::Hooks;
use crate::plant::PlantRoot;
use crate::ports::{Clock, Entropy, FlooredClock, System};
use crate::role::Role;
use crate::state::{Keeper, State};
use crate::tpm::TpmIdentityKey;

/// All parts of the device; made once, shared by driver and exchanges.
#[derive(Debug)]
pub struct Attester {
    /// What it is told.
    pub config: Config,
    /// What it believes.
    pub root: PlantRoot,
    /// What it remembers.
    pub keeper: Keeper,
    /// What it proves itself with.
    pub prover: Prover,
    /// Whom it asks.
    pub client: BrokerClient,
    /// Where it delivers.
    pub sink: FileSink,
    /// Who is told of it.
    pub hooks: Hooks,
    /// The time.
    pub clock: Arc<FlooredClock<System>>,
    /// Jitter.
    pub entropy: Arc<dyn Entropy>,
    /// Whether software has what the state holds.
    pub delivered: AtomicBool,
    /// For which second: what opens and closes since then is still to be shown.
    pub delivered_at: AtomicU64,
}

impl Desk for Attester {
    fn answer(&self, question: &Question) -> Answer {
        let now = self.now();
        self.keeper.read(|state| answer(state, &self.config.plant, question, now))
    }
}

impl Attester {
    /// The time.
    pub(super) fn now(&self) -> UnixTime {
        self.clock.now()
    }

    /// The device's name for logs: the one it has, or asks for.
    pub(super) fn name(&self) -> Option<String> {
        let given = self.keeper.read(|state: &State| state.device.clone());
        given.or_else(|| self.config.device.clone()).map(|name| name.to_string())
    }

    /// The highest number of an issuing key of the plant that was seen: no lower one is believed any more.
    pub(super) fn issuing_number(&self) -> u32 {
        self.keeper.read(|state: &State| state.issuing_number)
    }

    /// A caller certificate that has not ended, with its key in the TPM: what Watch is opened with.
    pub(super) fn credentials(&self) -> Option<Credentials> {
        let now = self.now();
        let found = self.keeper.read(|state: &State| {
            let valid = state.holding().filter(|(seat, svid)| {
                seat.role == Role::Caller && (svid.not_before()..=svid.not_after()).contains(&now)
            });
            let (seat, svid) = valid.max_by_key(|(_, svid)| svid.not_after())?;
            Some((svid.chain().to_vec(), state.keys.get(seat)?.clone()))
        });
        found.map(|(chain, key)| Credentials {
            chain,
            key: TpmIdentityKey::new(self.prover.tpm().clone(), key),
        })
    }
}
