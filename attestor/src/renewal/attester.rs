//! The device in its role as Attester (RFC 9334): everything that exchanges with the broker need.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use policy::id::PlantDomain;
use policy::time::UnixTime;
use tokio::sync::watch;

use super::boot::Boot;
use super::broker_time::BrokerTime;
use super::heard::{Heard, SILENCE};
use super::left_out;
use super::shown::Shown;
use crate::authorize::listener::Desk;
use crate::authorize::{Answer, Question, answer_by};
use crate::client::{BrokerClient, BrokerNameError, Credentials};
use crate::config::{Config, Program, Workload};
use crate::deliver::FileSink;
use crate::evidence::Prover;
use crate::gate::Host;
use crate::health::Checkup;
use crate::hooks::{FailingHook, Hooks, StateHooks};
use crate::idevid::IdevId;
use crate::images::Images;
use crate::plant::PlantRoot;
use crate::ports::{Clock, Entropy, FlooredClock, System};
use crate::role::{Role, Seat};
use crate::state::{Keeper, MAKE_ROOM, State, UNSAVED};
use crate::svid::HeldSvid;
use crate::tpm::TpmHandle;
use crate::unbound::Unbound;
use crate::workload_api::{Offer, Source, Withheld};

/// What the device proves itself with.
#[derive(Debug)]
pub enum Means {
    /// Its TPM.
    Tpm(Box<Prover>),
    /// A key in software, which the state keeps.
    Key,
    /// A TPM that does not answer, for this reason. The device cannot prove itself until it does.
    Absent(String),
}

impl Means {
    /// The TPM, if there is one.
    #[must_use]
    pub fn tpm(&self) -> Option<&TpmHandle> {
        match self {
            Self::Tpm(prover) => Some(prover.tpm()),
            Self::Key | Self::Absent(_) => None,
        }
    }

    /// The images that it measures, if it does.
    #[must_use]
    pub fn images(&self) -> Option<&Arc<Images>> {
        match self {
            Self::Tpm(prover) => prover.images(),
            Self::Key | Self::Absent(_) => None,
        }
    }
}

impl From<Prover> for Means {
    fn from(prover: Prover) -> Self {
        Self::Tpm(Box::new(prover))
    }
}

/// The broker's client, and the clock by which it believes: what a device has before its TPM has derived its keys.
#[derive(Debug)]
pub struct Line {
    client: BrokerClient,
    clock: Arc<OwnClock>,
}

/// The clock of the device, never before the last time that the broker signed.
pub type OwnClock = FlooredClock<Arc<dyn Clock>>;

impl Line {
    /// The line of the device that `config` describes.
    pub fn of(config: &Config, root: &PlantRoot, keeper: &Keeper) -> Result<Self, BrokerNameError> {
        Self::by(Arc::new(System::default()), config, root, keeper)
    }

    /// The same by another clock than the system's.
    pub fn by(
        clock: Arc<dyn Clock>,
        config: &Config,
        root: &PlantRoot,
        keeper: &Keeper,
    ) -> Result<Self, BrokerNameError> {
        let floor = keeper.read(|state: &State| state.clock_floor);
        let clock = Arc::new(OwnClock::new(clock, floor));
        let tls_clock: Arc<dyn Clock> = Arc::<OwnClock>::clone(&clock);
        let client = BrokerClient::new(config.broker.clone(), config.plant.clone(), root.clone(), tls_clock)?;
        Ok(Self { client: client.or(&config.other_brokers), clock })
    }

    /// Begins to open the connection that the first exchange will ask for.
    pub fn connect_ahead(&self, keeper: &Keeper) {
        self.client.connect_ahead(keeper.read(|state: &State| state.issuing_number));
    }
}

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
    pub prover: Means,
    /// The identity that its manufacturer gave it, by which it joins where it has no TPM.
    pub idevid: Option<Arc<IdevId>>,
    /// Whom it asks.
    pub client: BrokerClient,
    /// Where it delivers.
    pub sink: FileSink,
    /// Who is told of it.
    pub hooks: Hooks,
    /// Who is told of its state.
    pub state_hooks: StateHooks,
    /// Its health command, if it has one.
    pub health: Option<Arc<Checkup>>,
    /// The time.
    pub clock: Arc<OwnClock>,
    /// Jitter.
    pub entropy: Arc<dyn Entropy>,
    /// What software has of it.
    pub(super) shown: Shown,
    /// Whether what it holds was proved by this boot.
    pub(super) boot: Boot,
    /// When the broker was heard.
    pub(super) heard: Heard,
    /// What time it said.
    pub(super) broker_time: BrokerTime,
    /// Where it should listen and does not.
    pub(crate) unbound: Unbound,
    /// Whether the TPM still knows the keys that are held is to be tried.
    pub(super) untried: AtomicBool,
    /// What need not be sent again.
    pub(super) known_logs: left_out::Known,
}

impl Desk for Attester {
    fn answer(&self, question: &Question) -> Answer {
        answer_by(&self.keeper, &self.config.plant, question, self.now())
    }
}

impl Source for Attester {
    fn workloads(&self) -> &[Workload] {
        &self.config.workloads
    }

    fn offer(&self, program: &Program) -> Result<(Offer, Duration), Withheld> {
        if let Some(doubt) = self.boot.doubt() {
            return Err(Withheld::OtherBoot(doubt));
        }
        let now = self.now();
        self.keeper.read(|state| Offer::of(state, &self.config.plant, program, now))
    }

    fn changes(&self) -> watch::Receiver<()> {
        self.keeper.changes()
    }
}

impl Host for Attester {
    fn plant(&self) -> &PlantDomain {
        &self.config.plant
    }

    fn now(&self) -> UnixTime {
        self.clock.now()
    }

    fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        self.keeper.read(look)
    }

    fn changes(&self) -> watch::Receiver<()> {
        self.keeper.changes()
    }

    fn heard(&self) -> bool {
        self.heard.ago().is_some_and(|ago| ago <= SILENCE)
    }

    fn doubt(&self) -> Option<String> {
        self.boot.doubt()
    }

    fn outdated(&self) -> Option<String> {
        self.keeper.is_outdated().then(|| format!("{UNSAVED}; {MAKE_ROOM}"))
    }

    fn tpm(&self) -> Option<&TpmHandle> {
        self.prover.tpm()
    }
}

impl Attester {
    /// The parts of the device that `config` describes, around those that are opened first.
    pub fn new(
        config: Config,
        root: PlantRoot,
        keeper: Keeper,
        prover: impl Into<Means>,
    ) -> Result<Self, BrokerNameError> {
        let line = Line::of(&config, &root, &keeper)?;
        Ok(Self::on(line, config, root, keeper, prover))
    }

    /// The same with a line to the broker that is there already.
    pub fn on(
        Line { client, clock }: Line,
        config: Config,
        root: PlantRoot,
        keeper: Keeper,
        prover: impl Into<Means>,
    ) -> Self {
        let sink = FileSink::new(config.deliver.clone());
        let hooks = Hooks::new(config.hooks.clone(), config.deliver.clone());
        let state_hooks = StateHooks::new(config.state_hooks.clone(), &config.deliver);
        let health = config.health.clone().map(|check| Arc::new(Checkup::new(check)));
        Self {
            config,
            root,
            keeper,
            prover: prover.into(),
            idevid: None,
            client,
            sink,
            hooks,
            state_hooks,
            health,
            clock,
            entropy: Arc::new(System::default()),
            shown: Shown::default(),
            boot: Boot::default(),
            heard: Heard::default(),
            broker_time: BrokerTime::default(),
            unbound: Unbound::default(),
            untried: AtomicBool::new(true),
            known_logs: left_out::Known::default(),
        }
    }

    /// Also joins by this identity.
    #[must_use]
    pub fn with_idevid(self, idevid: Option<Arc<IdevId>>) -> Self {
        Self { idevid, ..self }
    }

    /// The time.
    pub(super) fn now(&self) -> UnixTime {
        self.clock.now()
    }

    /// The device's name for logs: the one it has, or asks for.
    pub(crate) fn name(&self) -> Option<String> {
        let given = self.keeper.read(|state: &State| state.device.clone());
        given.or_else(|| self.config.device.clone()).map(|name| name.to_string())
    }

    /// Whether it has a certificate that has not ended, and was proved by this boot.
    pub(super) fn is_certified(&self) -> bool {
        let (now, proved) = (self.now(), self.boot.doubt().is_none());
        proved && self.keeper.read(|state: &State| state.last_end().is_some_and(|end| now <= end))
    }

    /// The hooks that did not end well.
    pub(super) fn failing(&self) -> Vec<FailingHook> {
        [self.state_hooks.failing(), self.hooks.failing()].concat()
    }

    /// The highest number of an issuing key of the plant that was seen: no lower one is believed any more.
    pub(super) fn issuing_number(&self) -> u32 {
        self.keeper.read(|state: &State| state.issuing_number)
    }

    /// A caller certificate that holds, with its key: what Watch is opened with.
    pub(super) fn credentials(&self) -> Option<Credentials> {
        if self.boot.doubt().is_some() {
            return None;
        }
        let now = self.now();
        let found = self.keeper.read(|state: &State| {
            let valid = |(seat, svid): &(&Seat, &HeldSvid)| seat.role == Role::Caller && svid.holds(now);
            let (seat, svid) = state.holding().filter(valid).max_by_key(|(_, svid)| svid.not_after())?;
            Some((svid.chain().to_vec(), state.keys.get(seat)?.clone()))
        });
        let (chain, key) = found?;
        let key = key.signing_key(self.prover.tpm())?;
        Some(Credentials { chain, key })
    }
}
