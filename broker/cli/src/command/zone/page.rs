//! Zones as they are shown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use proto::v1::{GetZoneResponse, Zone};
use serde::Serialize;

use crate::command::conduit::ConduitView;
use crate::output::table::Table;
use crate::output::{Page, View, words};

/// What a zone that is marked for drills promises of them.
#[derive(Debug, Serialize)]
pub(super) struct DrillsView {
    cut_within_seconds: u32,
    recover_within_seconds: u32,
}

impl DrillsView {
    pub(super) fn words(&self) -> String {
        let (cut, recover) = (self.cut_within_seconds, self.recover_within_seconds);
        format!(
            "cut within {}, trusted again within {}",
            words::span(cut.into()),
            words::span(recover.into())
        )
    }
}

/// A zone as it is shown.
#[derive(Debug, Serialize)]
pub(super) struct ZoneView {
    pub(super) name: String,
    pub(super) function: Option<String>,
    pub(super) mode: String,
    pub(super) reattest_every_seconds: u32,
    pub(super) outlive_broker_seconds: u32,
    pub(super) silent_after_seconds: u32,
    pub(super) on_silence: String,
    pub(super) intra_zone: &'static str,
    pub(super) products: Vec<String>,
    pub(super) token_admits: bool,
    pub(super) idevid_admits: bool,
    pub(super) name_constraint: String,
    pub(super) software_keys: String,
    pub(super) two_person: bool,
    pub(super) subnets: Vec<String>,
    pub(super) gate_drain_seconds: u32,
    pub(super) gate_fail: String,
    pub(super) drills: Option<DrillsView>,
    pub(super) least: BTreeMap<String, String>,
}

impl From<Zone> for ZoneView {
    fn from(zone: Zone) -> Self {
        let timing = zone.timing.unwrap_or_default();
        Self {
            name: zone.name,
            function: (!zone.function.is_empty()).then_some(zone.function),
            mode: zone.mode,
            reattest_every_seconds: timing.reattest_every_seconds,
            outlive_broker_seconds: timing.outlive_broker_seconds,
            silent_after_seconds: timing.silent_after_seconds,
            on_silence: zone.on_silence,
            intra_zone: if zone.intra_zone { "allow" } else { "deny" },
            products: zone.products,
            token_admits: zone.token_admits,
            idevid_admits: zone.idevid_admits,
            name_constraint: zone.name_constraint,
            software_keys: zone.software_keys,
            two_person: zone.two_person,
            subnets: zone.subnets,
            gate_drain_seconds: zone.gate_drain_seconds,
            gate_fail: zone.gate_fail,
            drills: zone.drills.map(|bounds| DrillsView {
                cut_within_seconds: bounds.cut_within_seconds,
                recover_within_seconds: bounds.recover_within_seconds,
            }),
            least: zone.least.into_iter().collect(),
        }
    }
}

impl ZoneView {
    /// What its gates do with a session that is not allowed any more.
    pub(super) fn drains(&self) -> String {
        match self.gate_drain_seconds {
            0 => "cut at once".to_owned(),
            seconds => format!("drain for {}", words::span(seconds.into())),
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Zones {
    pub(super) zones: Vec<ZoneView>,
}

impl View for Zones {
    fn text(&self, page: &Page) -> String {
        let mut table = Table::new([
            "ZONE",
            "MODE",
            "PRODUCTS",
            "REATTEST EVERY",
            "OUTLIVES BROKER",
            "INSIDE",
            "SOFTWARE KEYS",
        ]);
        for zone in &self.zones {
            table.row([
                zone.name.clone(),
                zone.mode.clone(),
                words::list(&zone.products),
                words::span(zone.reattest_every_seconds.into()),
                words::span(zone.outlive_broker_seconds.into()),
                zone.intra_zone.to_owned(),
                zone.software_keys.clone(),
            ]);
        }
        table.text("no zones; `touchstone zone create NAME` makes one", page.colour)
    }
}

/// A zone that was made or changed.
#[derive(Serialize)]
pub(super) struct Created {
    pub(super) dry_run: bool,
    pub(super) zone: ZoneView,
}

/// One zone with what hangs on it.
#[derive(Debug, Serialize)]
pub(super) struct ZonePage {
    #[serde(flatten)]
    zone: ZoneView,
    devices: u32,
    certificate_seconds: u32,
    conduits: Vec<ConduitView>,
}

impl From<GetZoneResponse> for ZonePage {
    fn from(answer: GetZoneResponse) -> Self {
        Self {
            zone: answer.zone.unwrap_or_default().into(),
            devices: answer.devices,
            certificate_seconds: answer.certificate_seconds,
            conduits: answer.conduits.into_iter().map(Into::into).collect(),
        }
    }
}

impl View for ZonePage {
    fn text(&self, page: &Page) -> String {
        let zone = &self.zone;
        let least: Vec<_> = zone.least.iter().map(|(claim, tier)| format!("{claim}={tier}")).collect();
        let lines = [
            ("zone", zone.name.clone()),
            ("for", zone.function.clone().unwrap_or_else(|| "-".to_owned())),
            ("mode", zone.mode.clone()),
            ("devices", self.devices.to_string()),
            ("products", words::list(&zone.products)),
            ("least", words::list(&least)),
            ("reattest every", words::span(zone.reattest_every_seconds.into())),
            ("outlives broker", words::span(zone.outlive_broker_seconds.into())),
            ("silent after", words::span(zone.silent_after_seconds.into())),
            ("on silence", words::or_dash(&zone.on_silence)),
            ("certificates live", words::span(self.certificate_seconds.into())),
            ("inside the zone", zone.intra_zone.to_owned()),
            ("token admits", yes(zone.token_admits).to_owned()),
            ("IDevID admits", yes(zone.idevid_admits).to_owned()),
            ("name constraint", zone.name_constraint.clone()),
            ("software keys", words::or_dash(&zone.software_keys)),
            ("changes need", people(zone.two_person).to_owned()),
            ("subnets", words::list(&zone.subnets)),
            ("gates drain for", words::span(zone.gate_drain_seconds.into())),
            ("gates fail", words::or_dash(&zone.gate_fail)),
            ("drills", zone.drills.as_ref().map_or_else(|| "-".to_owned(), DrillsView::words)),
        ];
        let mut text = String::new();
        for (label, value) in lines {
            let _ = writeln!(text, "{label:<18} {}", words::visible(&value));
        }
        text.push('\n');
        text.push_str(&ConduitView::table(&self.conduits, page));
        text
    }
}

pub(super) const fn yes(holds: bool) -> &'static str {
    if holds { "yes" } else { "no" }
}

pub(super) const fn people(two_person: bool) -> &'static str {
    if two_person { "two people" } else { "one person" }
}
