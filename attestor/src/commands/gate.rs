//! `touchstone-attestor gate`: one gate as a process of its own, beside the daemon.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use policy::id::PlantDomain;
use policy::time::UnixTime;
use tokio::sync::watch;
use tokio::time::Instant;

use super::run::{LAST_COMMAND, stop_signal, unbound};
use super::{CommandError, system};
use crate::boot_set::BootSet;
use crate::config::{Config, GateConfig, LocalAddress, RawGate};
use crate::gate::{FOLDER, Gate, Host};
use crate::plant::PlantRoot;
use crate::ports::{Clock, FlooredClock, System};
use crate::renewal::{READ_AGAIN, SILENCE};
use crate::state::{Keeper, MAKE_ROOM, State, UNSAVED};
use crate::status::Status;
use crate::telemetry;
use crate::tpm::{EsapiTpm, TpmHandle};
use crate::uptime::Uptime;

/// How often it is looked whether the daemon has written another state: a peer that lost trust is cut within this
/// time, and a look costs some microseconds.
const LOOK: Duration = Duration::from_millis(25);

/// Time in which the daemon's state may be unreadable: no free file descriptor, say. After that the gate opens to nobody.
const PATIENCE: Duration = Duration::from_secs(5);

/// The device as the daemon's files have it.
#[derive(Debug)]
struct Beside {
    plant: PlantDomain,
    keeper: Keeper,
    clock: FlooredClock<System>,
    tpm: Option<TpmHandle>,
    /// What the device booted, or why that could not be read; None without a TPM.
    booted: Option<Mutex<Result<BootSet, String>>>,
    /// Where the daemon says when it heard the broker.
    deliver: PathBuf,
    /// The daemon's state could not be read for too long.
    blind: AtomicBool,
}

impl Host for Beside {
    fn plant(&self) -> &PlantDomain {
        &self.plant
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
        let status = Status::read(&self.deliver, self.now());
        status.is_ok_and(|status| status.heard_within(SILENCE.as_secs(), &Uptime::now()))
    }

    fn doubt(&self) -> Option<String> {
        let booted = self.booted.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.keeper.read(|state| BootSet::doubt(state.accepted_boot.as_ref(), &booted))
    }

    fn outdated(&self) -> Option<String> {
        if self.blind.load(Ordering::SeqCst) {
            return Some("the daemon's state cannot be read; the log of this gate says why".to_owned());
        }
        self.keeper.is_outdated().then(|| format!("{UNSAVED}; {MAKE_ROOM}"))
    }

    fn tpm(&self) -> Option<&TpmHandle> {
        self.tpm.as_ref()
    }
}

/// Runs the gate that `raw` means until SIGTERM or SIGINT.
pub async fn gate(file: &Path, raw: &RawGate) -> Result<(), CommandError> {
    let config = Config::load(file)?;
    telemetry::start(config.log_format);
    let gate =
        GateConfig::read(raw, &config.services).map_err(|faults| CommandError::Gate(faults.join("; ")))?;
    let root = PlantRoot::load(&config.plant_root)?;
    let keeper = Keeper::load(&config.state, &config.plant, &root)?;
    let clock = FlooredClock::new(System::default(), keeper.read(|state| state.clock_floor));
    let start = |address| TpmHandle::start(EsapiTpm::new(address)).map_err(system("a thread for the TPM"));
    let tpm = config.tpm.clone().map(start).transpose()?;
    let booted = match &tpm {
        Some(tpm) => Some(Mutex::new(booted(tpm, &keeper).await)),
        None => None,
    };
    let host = Arc::new(Beside {
        plant: config.plant.clone(),
        keeper,
        clock,
        tpm: tpm.clone(),
        booted,
        deliver: config.deliver.clone(),
        blind: AtomicBool::new(false),
    });
    let (listen, gate) = (gate.listen, Arc::new(Gate::new(gate, Arc::clone(&host))));
    let listener = gate.bind().await.map_err(unbound("listen", LocalAddress::Tcp(listen)))?;
    let stop = stop_signal()?;
    tokio::select! {
        () = stop => {}
        () = gate.run(listener, config.deliver.join(FOLDER)) => {}
        () = follow(&host, &config.plant, &root) => {}
        () = read_boot_again(&host) => {}
    }
    if let Some(tpm) = tpm {
        tpm.close(LAST_COMMAND).await;
    }
    Ok(())
}

async fn booted(tpm: &TpmHandle, keeper: &Keeper) -> Result<BootSet, String> {
    let accepted = keeper.read(|state| state.accepted_boot.clone());
    BootSet::of(tpm, accepted.as_ref()).await
}

/// Asks a TPM that did not say what was booted until it does, and never returns.
async fn read_boot_again(host: &Beside) {
    if let (Some(tpm), Some(known)) = (&host.tpm, &host.booted) {
        let set = |booted| *known.lock().unwrap_or_else(PoisonError::into_inner) = booted;
        while known.lock().unwrap_or_else(PoisonError::into_inner).is_err() {
            tokio::time::sleep(READ_AGAIN).await;
            set(booted(tpm, &host.keeper).await);
            host.keeper.announce();
        }
    }
    std::future::pending().await
}

/// Takes what the daemon writes, for ever.
async fn follow(host: &Beside, plant: &PlantDomain, root: &PlantRoot) {
    let mut failing = None;
    loop {
        tokio::time::sleep(LOOK).await;
        look_again(host, plant, root, &mut failing, Instant::now());
    }
}

/// Takes what the daemon wrote; `failing`: since when that could not be read.
fn look_again(
    host: &Beside,
    plant: &PlantDomain,
    root: &PlantRoot,
    failing: &mut Option<Instant>,
    now: Instant,
) {
    let floor = |state: &State| state.clock_floor;
    let before = host.keeper.read(floor);
    match host.keeper.reread(plant, root) {
        Ok(changed) => {
            *failing = None;
            if changed {
                let read = host.keeper.read(floor);
                // The daemon takes it down where the broker's clock ran ahead.
                if read < before {
                    host.clock.lower(read);
                }
                host.clock.raise(read);
            }
            if host.blind.swap(false, Ordering::SeqCst) {
                host.keeper.announce();
            }
        }
        Err(error) => {
            if failing.is_none() {
                tracing::error!(%error, "the daemon's state cannot be read");
            }
            // What was read last holds for a moment: the daemon replaces the file whole.
            let since = *failing.get_or_insert(now);
            if now.saturating_duration_since(since) >= PATIENCE && !host.blind.swap(true, Ordering::SeqCst) {
                host.keeper.announce();
            }
        }
    }
}

#[cfg(test)]
mod tests;
