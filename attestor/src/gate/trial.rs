//! A gate without a network and without a clock: what it decides about peers and sessions, for tests that have a time of
//! their own (feature `test-util`).

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::table::Table;
use super::{Host, stand};
use crate::authorize::Told;
use crate::config::GateConfig;

/// The gate.
#[derive(Debug)]
pub struct Trial {
    config: GateConfig,
    table: Table,
}

/// A session.
#[derive(Debug)]
pub struct Live {
    number: u64,
    cut: oneshot::Receiver<()>,
}

impl Live {
    /// Whether the gate cut it.
    pub fn is_cut(&mut self) -> bool {
        !matches!(self.cut.try_recv(), Err(oneshot::error::TryRecvError::Empty))
    }
}

impl Trial {
    /// A gate that has not looked at its device yet.
    #[must_use]
    pub fn new(config: GateConfig) -> Self {
        Self { table: Table::new(config.limits.each), config }
    }

    /// Decides about every session by what `host` holds now.
    pub fn review(&self, host: &impl Host, at: Instant) {
        let now = host.now();
        self.table.review(&self.config, host.plant(), stand(host, &self.config, now), (now, at));
    }

    /// Lets a peer in that proved to have the key of `certificate`, or says why not.
    pub fn open(&self, host: &impl Host, certificate: &[u8], at: Instant) -> Result<Live, String> {
        let words = |told: Vec<Told>| told.first().map_or_else(String::new, |first| first.code.to_owned());
        let (now, plant) = (host.now(), host.plant());
        let standing = self.table.stand().map_err(words)?;
        let allowed = standing.decide(plant, &self.config, certificate, now, host.heard()).map_err(words)?;
        let entered = self.table.enter(&self.config, plant, &standing, allowed, (now, at));
        let (number, cut) = entered.map_err(words)?;
        Ok(Live { number, cut })
    }

    /// The session is over.
    pub fn close(&self, session: &Live) {
        self.table.leave(session.number);
    }
}
