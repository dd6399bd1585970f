//! The gate: a proxy between mutual TLS 1.3 on the network and software of this device that knows no TLS.
//!
//! ```text
//! server:  peer -- mutual TLS --> gate -- TCP --> local server          client:  local client -- TCP --> gate -- mutual TLS --> peer
//!
//! standing.rs   what it goes by: trust set, zone, own certificate       tls.rs       the handshake's questions, answered by the standing
//! accept.rs     connections in, bounded                                 session.rs   from a connection to a session, or a refusal
//! lines.rs      lines in the log about refusals, bounded
//! table.rs      live sessions; decided again whenever the standing is another    relay.rs     bytes, both ways
//! ```
//!
//! Promises: no byte of a peer reaches local software before certificate, conduit, hours and revocation allow it, and a
//! session ends, as its zone says, once they do not. What waits for a slow reader is bounded; a session in which
//! nothing moves holds no buffer. The end of one direction is passed on and leaves the other open; what was cut off
//! does not look like an end. Whatever cannot be decided is refused.
//! Does not promise more than the device knows: a revocation counts when the broker has told it.

mod accept;
mod lines;
mod relay;
mod report;
mod scratch;
mod session;
mod standing;
mod table;
mod tls;
#[cfg(feature = "test-util")]
mod trial;

use std::fmt::Display;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use policy::id::PlantDomain;
use policy::time::UnixTime;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use self::accept::Arrivals;
use self::lines::Lines;
use self::scratch::Pool;
use self::standing::Standing;
use self::table::{Stand, Table};
use crate::config::GateConfig;
use crate::state::State;
use crate::tpm::TpmHandle;

pub use self::report::{FOLDER, GateStatus, read_all};
#[cfg(feature = "test-util")]
pub use self::trial::{Live, Trial};

/// Signatures of one gate that wait for the TPM at once: attestation has its place in the queue beside all gates.
const SIGNING: usize = 2;
/// How often the clock is looked at while nothing happens: it may be set.
const LOOK: Duration = Duration::from_secs(60);

/// The device that gates stand before.
pub trait Host: Send + Sync + 'static {
    /// Its plant.
    fn plant(&self) -> &PlantDomain;
    /// The time there.
    fn now(&self) -> UnixTime;
    /// Looks at what it remembers.
    fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T;
    /// Hears whenever that changed.
    fn changes(&self) -> watch::Receiver<()>;
    /// Whether the broker gave a sign of life lately.
    fn heard(&self) -> bool;
    /// Why its certificates do not count in the boot that it is in, if they do not.
    fn doubt(&self) -> Option<String>;
    /// Why what it remembers may not be all that counts, if that is so.
    fn outdated(&self) -> Option<String> {
        None
    }
    /// Its TPM.
    fn tpm(&self) -> Option<&TpmHandle>;
}

/// A gate.
#[derive(Debug)]
pub struct Gate<H> {
    config: Arc<GateConfig>,
    host: Arc<H>,
    table: Table,
    arrivals: Arrivals,
    lines: Lines,
    signing: Semaphore,
    pool: Pool,
}

impl<H: Host> Gate<H> {
    /// A gate of `host`, closed until it runs.
    pub fn new(config: GateConfig, host: Arc<H>) -> Self {
        let (table, arrivals) = (Table::new(config.limits.each), Arrivals::new(config.limits.connections));
        Self {
            config: Arc::new(config),
            host,
            table,
            arrivals,
            lines: Lines::default(),
            signing: Semaphore::new(SIGNING),
            pool: Pool::default(),
        }
    }

    /// Takes the address that it listens on.
    pub fn bind(&self) -> impl Future<Output = io::Result<TcpListener>> {
        TcpListener::bind(self.config.listen)
    }

    /// Serves for ever, and keeps its status in the folder `reports`.
    pub async fn run(self: Arc<Self>, listener: TcpListener, reports: std::path::PathBuf) {
        tracing::info!(
            gate = self.config.name, service = %self.config.service, listen = %self.config.listen,
            connect = self.config.connect, "a gate opens"
        );
        // Nobody is let in before the standing is known.
        self.review();
        tokio::join!(
            accept::serve(Arc::clone(&self), listener),
            self.oversee(),
            report::keep(&self, &reports)
        );
    }

    /// Decides about live sessions again whenever something may be another.
    async fn oversee(&self) {
        let mut changes = self.host.changes();
        loop {
            changes.mark_unchanged();
            let wait = self.review().unwrap_or(LOOK).min(LOOK);
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(wait) => {}
                () = self.table.sooner() => {}
            }
        }
    }

    /// Counts a connection that became no session, and says so while the log has room for it.
    fn refuse(&self, from: IpAddr, code: &'static str, why: &dyn Display) {
        self.table.refused(code);
        if let Some(left_out) = self.lines.room(code, Instant::now()) {
            tracing::info!(gate = self.config.name, %from, reason = code, left_out, "a connection is refused: {why}");
        }
    }

    /// Takes the standing of now; gives the time until the next moment at which something ends by itself.
    fn review(&self) -> Option<Duration> {
        let now = self.host.now();
        let stand = stand(self.host.as_ref(), &self.config, now);
        self.table.review(&self.config, self.host.plant(), stand, (now, Instant::now()))
    }
}

/// What a gate of `host` goes by at `now`.
fn stand(host: &impl Host, config: &GateConfig, now: UnixTime) -> Stand {
    let told = |code, words: Option<String>| words.map(|words| (code, words));
    let doubt = told("state-outdated", host.outdated()).or_else(|| told("other-boot", host.doubt()));
    let tpm = host.tpm();
    host.look(|state| Standing::of(state, config, tpm, doubt, now))
}
