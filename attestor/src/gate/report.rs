//! What a gate says of itself: a file in the delivery folder, which `touchstone-attestor status` shows.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use policy::id::{ServiceName, ZoneName};
use policy::time::UnixTime;
use serde::{Deserialize, Serialize};

use super::{Gate, Host};
use crate::config::MAX_GATES;
use crate::durable;
use crate::role::Role;
use crate::status::{ALIVE_EVERY, is_live};
use crate::uptime::Uptime;

/// The folder of the files, in the delivery folder.
pub const FOLDER: &str = "gates";
/// How soon what changed is written.
const SOON: Duration = Duration::from_secs(1);
/// Longest file in bytes: some counts.
const MAX_FILE: u64 = 64 * 1024;

/// What a gate did since it opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateStatus {
    /// Its name.
    pub name: String,
    /// Listener: it stands before a server; caller: before a client.
    pub role: Role,
    /// The service.
    pub service: ServiceName,
    /// The device's zone; None while it opens to nobody.
    pub zone: Option<ZoneName>,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Why it opens to nobody, or to no other zone; None: it opens to whom conduits allow.
    pub closed: Option<String>,
    /// Live sessions.
    pub sessions: usize,
    /// Those of them that are not allowed any more, and have a while to end.
    pub draining: usize,
    /// Sessions that were opened.
    pub opened: u64,
    /// Sessions that were cut, by reason.
    pub cut: BTreeMap<String, u64>,
    /// Connections that became no session, by reason.
    pub refused: BTreeMap<String, u64>,
    /// When this was written.
    pub written_at: UnixTime,
    /// The same by the machine's uptime; None: by a gate of before this was said.
    #[serde(default)]
    pub written_up: Option<Uptime>,
}

impl GateStatus {
    /// A line for people, and one more for what went otherwise than wished.
    #[must_use]
    pub fn describe(&self) -> String {
        let (name, service, listen) = (&self.name, &self.service, self.listen);
        let of = self.zone.as_ref().map(|zone| format!(" of zone {zone}")).unwrap_or_default();
        let what = match self.role {
            Role::Listener => "serves",
            Role::Caller => "opens",
        };
        let sessions = self.sessions;
        let mut text =
            format!("  gate          {name} {what} {service}{of} at {listen}: {sessions} sessions");
        if self.draining > 0 {
            text.push_str(&format!(", {} of them are to end", self.draining));
        }
        if let Some(why) = &self.closed {
            text.push_str(&format!("; it is closed: {why}"));
        }
        let counted = |counts: &BTreeMap<String, u64>| {
            let counts: Vec<String> = counts.iter().map(|(code, count)| format!("{count} {code}")).collect();
            counts.join(", ")
        };
        for (word, counts) in [("refused", &self.refused), ("cut", &self.cut)] {
            if !counts.is_empty() {
                text.push_str(&format!("\n                {word} {}", counted(counts)));
            }
        }
        text.push('\n');
        text
    }
}

impl<H: Host> Gate<H> {
    /// What it did, as of now.
    pub fn status(&self) -> GateStatus {
        let (counts, stand) = (self.table.counts(), self.table.stand());
        let words = |all: &BTreeMap<&'static str, u64>| {
            all.iter().map(|(code, count)| ((*code).to_owned(), *count)).collect()
        };
        GateStatus {
            name: self.config.name.clone(),
            role: self.config.role,
            service: self.config.service.clone(),
            zone: stand.as_ref().ok().map(|standing| standing.zone.clone()),
            listen: self.config.listen,
            closed: match stand {
                Ok(standing) => standing.shut(self.host.heard()),
                Err(told) => Some(told.into_iter().map(|told| told.message).collect()),
            },
            sessions: counts.sessions,
            draining: counts.draining,
            opened: counts.opened,
            cut: words(&counts.cut),
            refused: words(&counts.refused),
            written_at: self.host.now(),
            written_up: Some(Uptime::now()),
        }
    }
}

/// Keeps the file of a gate true: soon after a change, and now and then as a sign of life.
pub(super) async fn keep<H: Host>(gate: &Gate<H>, dir: &Path) {
    let file = dir.join(format!("{}.json", gate.config.name));
    let mut said: Option<(GateStatus, Instant)> = None;
    loop {
        let status = gate.status();
        let is_said = |(said, at): &(GateStatus, Instant)| {
            let GateStatus { written_at, written_up, .. } = said.clone();
            let same = *said == GateStatus { written_at, written_up, ..status.clone() };
            same && at.elapsed() < Duration::from_secs(ALIVE_EVERY)
        };
        if !said.as_ref().is_some_and(is_said) {
            if let Err(error) = write(dir, &file, &status) {
                let dir = dir.display();
                tracing::warn!(gate = status.name, %error, "the status of a gate cannot be written to {dir}");
            }
            said = Some((status, Instant::now()));
        }
        tokio::time::sleep(SOON).await;
    }
}

fn write(dir: &Path, file: &Path, status: &GateStatus) -> std::io::Result<()> {
    durable::make_dir(dir, 0o755)?;
    let mut json = serde_json::to_vec_pretty(status).map_err(std::io::Error::other)?;
    json.push(b'\n');
    durable::replace(file, &json, 0o644)
}

/// The gates whose files are in the delivery folder `deliver` and that still run `now`.
#[must_use]
pub fn read_all(deliver: &Path, now: &Uptime) -> Vec<GateStatus> {
    let Ok(entries) = std::fs::read_dir(deliver.join(FOLDER)) else { return Vec::new() };
    let files = entries.flatten().map(|entry| entry.path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let read = |file: &Path| {
        let status: GateStatus = serde_json::from_slice(&durable::read_bounded(file, MAX_FILE).ok()?).ok()?;
        is_live(status.written_up.as_ref(), now).then_some(status)
    };
    let mut found: Vec<_> = files.take(2 * MAX_GATES).filter_map(|file| read(&file)).collect();
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found
}
