//! Who gains and loses which peer by a change of zones and conduits.

use std::fmt::Write as _;

use proto::v1::{Callers, LaterPeers, Reachable};
use serde::Serialize;

use crate::output::moment::Moment;
use crate::output::table::Table;
use crate::output::{Page, words};

/// Services that a person reads of; programs get all that the broker named.
const SHOWN: usize = 20;

#[derive(Debug, Serialize)]
struct ReachableView {
    device: String,
    zone: String,
    service: String,
    from: String,
}

impl From<Reachable> for ReachableView {
    fn from(one: Reachable) -> Self {
        let Reachable { device, zone, service, from } = one;
        Self { device, zone, service, from }
    }
}

/// What may be opened only after a change, and only before it.
#[derive(Debug, Serialize)]
pub(super) struct PeersView {
    gained: Vec<ReachableView>,
    gained_left_out: u32,
    lost: Vec<ReachableView>,
    lost_left_out: u32,
}

impl PeersView {
    /// As the broker says it: what it names, and how many it left out.
    pub(super) fn new(gained: (Vec<Reachable>, u32), lost: (Vec<Reachable>, u32)) -> Self {
        let views = |all: Vec<Reachable>| all.into_iter().map(Into::into).collect();
        Self {
            gained: views(gained.0),
            gained_left_out: gained.1,
            lost: views(lost.0),
            lost_left_out: lost.1,
        }
    }

    /// In words, for a change that would be made or that was made.
    pub(super) fn text(&self, would: bool, page: &Page) -> String {
        let would = if would { "would " } else { "" };
        let gained = told(&format!("{would}gain"), "now", &self.gained, self.gained_left_out, page);
        gained + &told(&format!("{would}lose"), "now", &self.lost, self.lost_left_out, page)
    }
}

/// What changes only when a conduit opens next.
#[derive(Debug, Serialize)]
pub(super) struct LaterView {
    at: Moment,
    #[serde(flatten)]
    peers: PeersView,
}

impl From<LaterPeers> for LaterView {
    fn from(later: LaterPeers) -> Self {
        let LaterPeers { at, gained, gained_left_out, lost, lost_left_out } = later;
        Self { at: Moment(at), peers: PeersView::new((gained, gained_left_out), (lost, lost_left_out)) }
    }
}

impl LaterView {
    /// In words, for a change that would be made.
    pub(super) fn text(&self, page: &Page) -> String {
        let PeersView { gained, gained_left_out, lost, lost_left_out } = &self.peers;
        let sides = [("would gain", gained, gained_left_out), ("would lose", lost, lost_left_out)];
        let sides = sides.into_iter().filter(|(_, all, _)| !all.is_empty());
        let at = format!("at {}", self.at);
        sides.map(|(verb, all, left_out)| told(verb, &at, all, *left_out, page)).collect()
    }
}

/// The devices of a zone from which something is gained or lost.
#[derive(Debug, Serialize)]
pub(super) struct CallersView {
    zone: String,
    devices: Vec<String>,
    left_out: u32,
}

impl From<Callers> for CallersView {
    fn from(Callers { zone, devices, left_out }: Callers) -> Self {
        Self { zone, devices, left_out }
    }
}

impl CallersView {
    /// In a line.
    pub(super) fn line(&self) -> String {
        let left_out = usize::try_from(self.left_out).unwrap_or(usize::MAX);
        let named: Vec<&str> = self.devices.iter().take(SHOWN).map(String::as_str).collect();
        let more = self.devices.len().saturating_add(left_out).saturating_sub(named.len());
        let devices = if named.is_empty() { "no device yet".to_owned() } else { named.join(", ") };
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("opened from zone {} by: {devices}{more}\n", self.zone)
    }
}

fn told(verb: &str, when: &str, all: &[ReachableView], left_out: u32, page: &Page) -> String {
    if all.is_empty() {
        let none = if verb.starts_with("would") { verb.to_owned() } else { format!("{verb}s") };
        return format!("no device {none} a peer {when}\n");
    }
    let count = all.len().saturating_add(usize::try_from(left_out).unwrap_or(usize::MAX));
    let mut table = Table::new(["DEVICE", "ZONE", "SERVICE", "OPENED FROM"]);
    for one in all.iter().take(SHOWN) {
        table.row([one.device.clone(), one.zone.clone(), one.service.clone(), one.from.clone()]);
    }
    let mut text = format!("{} {verb} peers {when}:\n", words::count(count, "service"));
    text.push_str(&table.text("", page.colour));
    let more = count.saturating_sub(SHOWN);
    if more > 0 {
        let _ = writeln!(text, "and {more} more; -o json names them");
    }
    text
}
