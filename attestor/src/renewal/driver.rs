//! The loop around the machine: waits, exchanges, listens, and keeps the status true.
//!
//! Promises: one exchange at a time; an answer that arrived is adopted whole before the loop ends; on an orderly
//! stop the last status says so. The service manager gets a sign of life from this loop alone, and none once a TPM hangs
//! for good: the loop ends then, so that the service is restarted even where no watchdog runs.

mod verdicts;
mod waiting;

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch as latest};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};
use tracing::Instrument;

use super::attester::{Attester, Means, OwnClock};
use super::exchange::{self, Answered, ExchangeError};
use super::machine::{Effect, Exchange, Input, Machine, Memory};
use super::report::Reporter;
use super::shown::next_look;
use super::watch;
use crate::client::Credentials;
use crate::health::Checkup;
use crate::hooks::{self, Change};
use crate::images::{self, Images};
use crate::ports::{Clock, System};
use crate::service_manager::ServiceManager;
use crate::state::State;
use crate::status::{ALIVE_EVERY, Refusal, Word};
use crate::tpm::{Operation, TpmHandle};
use crate::wanted::tell_updater;

pub use waiting::{answers, go_without};

/// The loop cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The TPM does not come back.
    #[error("for {} s the TPM has been asked to {operation}; restarting, if it stays so restart the machine", since.as_secs())]
    TpmStuck {
        /// What it does.
        operation: Operation,
        /// For how long.
        since: Duration,
    },
}

/// How long a stop waits for what is in the middle of a step.
const LAST_TURN: Duration = Duration::from_secs(2);

type InFlight = Pin<Box<dyn Future<Output = Result<Answered, ExchangeError>> + Send>>;

/// Runs until `stop` is ready.
pub async fn run(
    attester: Arc<Attester>,
    manager: ServiceManager,
    stop: impl Future<Output = ()>,
) -> Result<(), DriverError> {
    let (sender, mut news) = mpsc::channel(watch::QUEUE);
    let mut driver = Driver::new(attester, manager);
    let listener = watch::follow(Arc::clone(&driver.attester), driver.credentials.subscribe(), sender);
    let mut beside = JoinSet::new();
    beside.spawn(listener);
    let updater = tell_updater(Arc::clone(&driver.attester), Arc::clone(&driver.wanted));
    beside.spawn(updater);
    let (boot, read) = (Arc::clone(&driver.attester), Arc::new(Notify::new()));
    let boot_read = Arc::clone(&read);
    beside.spawn(async move {
        if boot.read_boot_again().await {
            boot_read.notify_one();
        }
    });
    let followers = hooks::follow_all(&driver.attester);
    let images = driver.attester.prover.images().cloned();
    let measurer = driver.measure_images();
    let attester = Arc::clone(&driver.attester);
    let every = driver.manager.alive_every(Duration::from_secs(ALIVE_EVERY));
    // What a start finds out waits for the first save that an exchange needs.
    let mut alive = interval_at(Instant::now() + every, every);
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::pin!(stop);
    driver.start();
    let ended = loop {
        let (timer, edge) = (driver.timer, driver.next_edge());
        let (behind, in_flight) = (driver.behind, &mut driver.in_flight);
        tokio::select! {
            () = &mut stop => break Ok(()),
            result = finished(in_flight) => driver.finish(result),
            () = elapsed(timer) => driver.input(Input::TimerFired),
            () = elapsed(edge) => driver.open_and_close(),
            Some(item) = news.recv() => driver.hear(item),
            () = changed(images.as_deref()) => driver.attest_images(),
            () = checked(attester.health.as_deref()) => driver.attest_health(),
            () = read.notified() => driver.know_boot(),
            () = attester.hooks.all_told(), if behind => driver.attest_delivered(),
            _ = alive.tick() => if let Err(error) = driver.stay_alive() { break Err(error) },
        }
    };
    driver.manager.stopping();
    drop((followers, measurer));
    // One may be in the middle of a signature; that the TPM is closed next would look like a fault.
    drop(timeout(LAST_TURN, beside.shutdown()).await);
    driver.report(true);
    ended
}

async fn finished(in_flight: &mut Option<InFlight>) -> Result<Answered, ExchangeError> {
    match in_flight {
        Some(exchange) => exchange.await,
        None => pending().await,
    }
}

async fn changed(images: Option<&Images>) {
    match images {
        Some(images) => images.changed().await,
        None => pending().await,
    }
}

async fn checked(health: Option<&Checkup>) {
    match health {
        Some(health) => health.late().await,
        None => pending().await,
    }
}

async fn elapsed(timer: Option<Instant>) {
    match timer {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

pub(super) struct Driver {
    pub(super) attester: Arc<Attester>,
    machine: Machine,
    reporter: Reporter,
    credentials: latest::Sender<Option<Credentials>>,
    timer: Option<Instant>,
    in_flight: Option<InFlight>,
    /// The broker was told that software does not have everything, and waits to hear that it has.
    behind: bool,
    /// Another release may be wanted.
    wanted: Arc<Notify>,
    manager: ServiceManager,
    /// What the machine asked for last, for whoever drives the driver.
    #[cfg(feature = "test-util")]
    pub(super) asked: Option<Effect>,
}

impl Driver {
    pub(super) fn new(attester: Arc<Attester>, manager: ServiceManager) -> Self {
        let now = attester.now();
        attester.claim_state();
        let certified = attester.is_certified();
        let memory = attester.keeper.read(|state| Memory {
            bound: state.device.is_some(),
            certified,
            refused: state.refusal.as_ref().map(Refusal::reason),
        });
        let (credentials, _) = latest::channel(None);
        let (machine, mut reporter) = (Machine::new(memory), Reporter::new(now));
        if let Means::Absent(why) = &attester.prover {
            reporter.problem = Some(why.clone());
        }
        let wanted = Arc::new(Notify::new());
        Self {
            attester,
            machine,
            reporter,
            credentials,
            timer: None,
            in_flight: None,
            behind: false,
            wanted,
            manager,
            #[cfg(feature = "test-util")]
            asked: None,
        }
    }

    /// A delivery that a power cut interrupted is completed before anything is asked.
    pub(super) fn start(&mut self) {
        self.saved(self.attester.forget_unwanted());
        if let Err(error) = self.attester.deliver() {
            tracing::error!(%error, "what the device holds is not delivered");
            self.reporter.problem = Some(error.to_string());
        }
        self.attester.show_wanted();
        self.wanted.notify_one();
        self.credentials.send_replace(self.attester.credentials());
        self.input(Input::Started);
    }

    pub(super) fn input(&mut self, input: Input) {
        if let (Input::AttestNow | Input::ZoneLost | Input::Changed | Input::Measured, Some(health)) =
            (input, &self.attester.health)
        {
            // Also the exchange in flight: it may wait for the command, and the next begins only after it.
            health.hurry(true);
        }
        let jitter = self.attester.entropy.jitter();
        let effect = self.machine.step(input, jitter);
        #[cfg(feature = "test-util")]
        if effect.is_some() {
            self.asked = effect;
        }
        match effect {
            Some(Effect::Begin(exchange)) => {
                self.timer = None;
                self.in_flight = Some(self.begin(exchange));
            }
            Some(Effect::Wait(wait)) => {
                tracing::debug!(seconds = wait.as_secs_f64(), "waiting");
                self.in_flight = None;
                self.timer = Some(Instant::now() + wait);
            }
            None => {}
        }
        self.report(false);
    }

    fn begin(&self, exchange: Exchange) -> InFlight {
        if let Some(health) = &self.attester.health {
            health.hurry(exchange == Exchange::OnDemand);
        }
        let attester = Arc::clone(&self.attester);
        let span = tracing::info_span!("exchange", kind = ?exchange, device.id = attester.name());
        Box::pin(async move { exchange::run(&attester, exchange).await }.instrument(span))
    }

    /// A stream that is open under the same certificate stays: another costs a handshake and a signature of the TPM. One that is
    /// not is opened at once, since the broker answers.
    fn show_credentials(&self) {
        let (newest, watching) = (self.attester.credentials(), self.reporter.watching);
        let chain = |shown: &Option<Credentials>| shown.as_ref().map(|shown| shown.chain.clone());
        self.credentials.send_if_modified(|shown| {
            let differs = chain(shown) != chain(&newest);
            *shown = newest;
            differs || !watching
        });
    }

    /// Measures images until the value is dropped.
    fn measure_images(&self) -> JoinSet<()> {
        let mut measuring = JoinSet::new();
        if let Some(images) = self.attester.prover.images() {
            let clock: Arc<dyn Clock> = Arc::<OwnClock>::clone(&self.attester.clock);
            measuring.spawn(images::follow(Arc::clone(images), clock, Arc::new(System::default())));
        }
        measuring
    }

    /// What a device uses is proven at once, whoever changed it.
    fn attest_images(&mut self) {
        tracing::info!("the image log has a new entry; attesting now");
        self.input(Input::Measured);
    }

    /// A proof did not wait for the health command; now it has ended.
    fn attest_health(&mut self) {
        tracing::info!("the health command has ended; the broker hears of it now");
        self.input(Input::Changed);
    }

    /// The TPM says at last what was booted.
    fn know_boot(&mut self) {
        if let Err(error) = self.attester.deliver() {
            tracing::error!(%error, "what the device holds is not delivered");
            self.reporter.problem = Some(error.to_string());
        }
        self.find_certified();
        self.report(false);
    }

    /// What did not count when the attestor started, as by a clock that was ahead and is set since, may count now.
    fn find_certified(&mut self) {
        if !self.attester.is_certified() {
            return;
        }
        self.machine.find_certified();
        if self.credentials.borrow().is_none() {
            self.show_credentials();
        }
    }

    /// A move to another zone ends, and an authority signs, once software has what it needs for that.
    fn attest_delivered(&mut self) {
        self.behind = false;
        tracing::info!("software goes by its new files; the broker hears of it now");
        self.input(Input::Changed);
    }

    /// Saves what everybody has heard of.
    fn settle(&mut self) {
        if let Err(error) = self.attester.keeper.catch_up() {
            self.saved(Err(error));
            self.report(false);
        }
    }

    /// When software is shown something by the clock. One that is set meanwhile is noticed within a minute.
    fn next_edge(&self) -> Option<Instant> {
        let edge = |after| self.attester.keeper.read(|state: &State| state.trust.as_ref()?.next_edge(after));
        let wait = next_look(self.attester.shown.as_of(), self.attester.now(), edge)?;
        Some(Instant::now() + wait)
    }

    /// Conduits open and close on time, broker or not.
    pub(super) fn open_and_close(&mut self) {
        self.saved(self.attester.keep_time());
        let delivered = self.attester.deliver();
        if let Err(error) = delivered {
            tracing::error!(%error, "the edge of a conduit's hours is not delivered");
            self.reporter.problem = Some(error.to_string());
        }
    }

    fn saved(&mut self, result: Result<(), crate::state::SaveStateError>) {
        if let Err(error) = result {
            tracing::error!(%error, "the state is not saved");
            self.reporter.problem = Some(error.to_string());
        }
    }

    fn stay_alive(&mut self) -> Result<(), DriverError> {
        self.saved(self.attester.keeper.catch_up());
        self.find_certified();
        self.report(false);
        match self.attester.prover.tpm().and_then(TpmHandle::stuck) {
            Some((operation, since)) => Err(DriverError::TpmStuck { operation, since }),
            None => {
                self.manager.alive();
                Ok(())
            }
        }
    }

    fn report(&mut self, stopped: bool) {
        let standing = self.machine.standing();
        let status = self.reporter.write(&self.attester, standing, stopped);
        if let Some(change) = Change::of(&status) {
            self.attester.state_hooks.note(change);
        }
        // What is ordered after the attestor reads its files.
        let trusted =
            matches!(status.state, Word::Trusted | Word::Holding) && self.attester.sink.shows_something();
        self.manager.state(&status.sentence(self.attester.now()), trusted);
    }
}

#[cfg(test)]
mod tests;
