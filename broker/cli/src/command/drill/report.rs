//! What a drill came to: each bound with what was promised and what was measured.

use std::fmt::Write as _;
use std::time::Duration;

use policy::id::{DeviceName, ZoneName};
use policy::zone::Fault;
use proto::v1::StartDrillResponse;
use serde::Serialize;

use super::course::is_healthy;
use crate::output::moment::Moment;
use crate::output::table::Table;
use crate::output::{Page, View, words};

/// One promise, held against what happened.
#[derive(Debug, Serialize)]
pub(super) struct Bound {
    what: String,
    promised: String,
    measured: String,
    /// The same in seconds, where it is a time.
    promised_seconds: Option<f64>,
    measured_seconds: Option<f64>,
    kept: bool,
}

impl Bound {
    #[cfg(test)]
    pub(super) const fn is_kept(&self) -> bool {
        self.kept
    }

    /// Something that happens within `promised`, and took `took`; none: it did not happen as long as it was waited for.
    pub(super) fn within(what: impl Into<String>, promised: Duration, took: Option<Duration>) -> Self {
        let measured = took.map_or_else(|| "it did not happen".to_owned(), |took| seconds(tenths(took)));
        Self {
            what: what.into(),
            promised: format!("within {}", words::span(promised.as_secs())),
            measured,
            promised_seconds: Some(promised.as_secs_f64()),
            measured_seconds: took.map(tenths),
            kept: took.is_some_and(|took| took <= promised),
        }
    }

    /// A time that is left, of which there are at least `promised` seconds.
    pub(super) fn at_least(what: impl Into<String>, promised: u32, left: u64) -> Self {
        let as_seconds = |value: u64| u32::try_from(value).map_or(f64::from(u32::MAX), f64::from);
        Self {
            what: what.into(),
            promised: format!("at least {}", words::span(promised.into())),
            measured: words::span(left),
            promised_seconds: Some(promised.into()),
            measured_seconds: Some(as_seconds(left)),
            kept: left >= promised.into(),
        }
    }

    /// Something that befalls none of `of`, and befell `these`.
    pub(super) fn none(what: impl Into<String>, of: usize, these: &[String]) -> Self {
        let measured = match these {
            [] => format!("none of {of}"),
            _ => format!("{} of {of}: {}", these.len(), words::list(these)),
        };
        Self {
            what: what.into(),
            promised: "none".to_owned(),
            measured,
            promised_seconds: None,
            measured_seconds: None,
            kept: these.is_empty(),
        }
    }
}

fn tenths(took: Duration) -> f64 {
    (took.as_secs_f64() * 10.0).ceil() / 10.0
}

fn seconds(value: f64) -> String {
    format!("{value:.1} s")
}

/// What a drill came to.
#[derive(Debug, Default)]
pub(super) struct Drilled {
    pub(super) bounds: Vec<Bound>,
    /// Devices that were watched.
    pub(super) watched: Vec<String>,
    /// Those that watch another broker of the plant.
    pub(super) elsewhere: Vec<String>,
    /// What the drill says nothing of, and why.
    pub(super) unjudged: Vec<String>,
}

/// What gates of the zone do by themselves.
#[derive(Debug, Serialize)]
struct SafeMode {
    gate_drain_seconds: u32,
    gate_fail: String,
}

/// The whole drill.
#[derive(Debug, Serialize)]
pub(super) struct DrillReport {
    zone: String,
    fault: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    began: Moment,
    safe_mode: SafeMode,
    bounds: Vec<Bound>,
    /// Devices that it judges.
    watched: Vec<String>,
    /// Devices that watch another broker of the plant, and were not seen.
    elsewhere: Vec<String>,
    /// What it does not judge, and why.
    not_judged: Vec<String>,
    /// Devices that are in other zones too, which the drill did not touch.
    left_out: Vec<String>,
    /// Devices that were not trusted or not connected before, and so were not watched.
    unfit: Vec<String>,
    kept: bool,
}

impl DrillReport {
    pub(super) fn new(
        fault: Fault,
        zone: &ZoneName,
        device: Option<&DeviceName>,
        begun: StartDrillResponse,
        drilled: Drilled,
    ) -> Self {
        let Drilled { bounds, watched, elsewhere, unjudged } = drilled;
        let before = begun.before.unwrap_or_default();
        let unfit = before.devices.iter().filter(|device| !is_healthy(device) && !device.elsewhere);
        let rules = before.zone.unwrap_or_default();
        Self {
            zone: zone.to_string(),
            fault: fault.to_string(),
            device: device.map(ToString::to_string),
            began: Moment(before.broker_time),
            safe_mode: SafeMode { gate_drain_seconds: rules.gate_drain_seconds, gate_fail: rules.gate_fail },
            left_out: before.left_out,
            unfit: unfit.map(|device| device.device.clone()).collect(),
            kept: bounds.iter().all(|bound| bound.kept),
            bounds,
            watched,
            elsewhere,
            not_judged: unjudged,
        }
    }

    pub(super) const fn is_kept(&self) -> bool {
        self.kept
    }
}

impl View for DrillReport {
    fn text(&self, page: &Page) -> String {
        let whom = self.device.as_ref().map_or_else(String::new, |device| format!(" of {device}"));
        let mut text = String::new();
        let _ = writeln!(text, "{}{whom} in zone {}, {}", self.fault, self.zone, self.began);
        let SafeMode { gate_drain_seconds, gate_fail } = &self.safe_mode;
        let drain = match gate_drain_seconds {
            0 => "cut at once".to_owned(),
            drain => format!("drain for {}", words::span((*drain).into())),
        };
        let _ = writeln!(
            text,
            "safe mode: gates {drain} who lost trust, and fail {} without the broker\n",
            words::or_dash(gate_fail)
        );
        let mut table = Table::new(["BOUND", "PROMISED", "MEASURED", ""]);
        for bound in &self.bounds {
            let verdict = if bound.kept { "kept" } else { "BROKEN" }.to_owned();
            table.row([bound.what.clone(), bound.promised.clone(), bound.measured.clone(), verdict]);
        }
        text.push_str(&table.text("nothing was promised", page.colour));
        for (what, these) in [
            ("watched", &self.watched),
            ("not touched, being in other zones too", &self.left_out),
            ("not watched, being not trusted or not connected before", &self.unfit),
            ("not watched, being connected to another broker: drill there too", &self.elsewhere),
            ("not judged", &self.not_judged),
        ] {
            if !these.is_empty() {
                let _ = writeln!(text, "\n{what}: {}", words::visible(&words::list(these)));
            }
        }
        let end = if self.kept { "every bound was kept" } else { "a bound was broken" };
        let _ = writeln!(text, "\n{end}");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(bounds: Vec<Bound>) -> DrillReport {
        let (zone, begun) = ("staging".parse().unwrap(), StartDrillResponse::default());
        DrillReport::new(Fault::LinkLoss, &zone, None, begun, Drilled { bounds, ..Drilled::default() })
    }

    #[test]
    fn a_drill_fails_with_one_broken_bound() {
        let minute = Duration::from_secs(60);
        let kept = || {
            vec![
                Bound::within("trusted again", minute, Some(Duration::from_millis(59_940))),
                Bound::at_least("certificates last", 900, 900),
                Bound::none("devices that lost trust", 2, &[]),
            ]
        };
        assert!(report(kept()).is_kept());
        for broken in [
            Bound::within("trusted again", minute, None),
            Bound::within("trusted again", minute, Some(Duration::from_millis(60_001))),
            Bound::at_least("certificates last", 900, 899),
            Bound::none("devices that lost trust", 2, &["press-7".to_owned()]),
        ] {
            let report = report(kept().into_iter().chain([broken]).collect());
            assert!(!report.is_kept(), "{report:?}");
            let text = report.text(&Page::plain(60));
            assert!(text.contains("BROKEN") && text.ends_with("\na bound was broken\n"), "{text}");
        }
    }
}
