//! How far rollouts are, for people and programs.

use std::fmt::Write as _;

use proto::v1::{Rollout, RolloutDevice, RolloutWave, Seen};
use serde::Serialize;

use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::output::table::Table;
use crate::output::{Page, View, words};

/// Names in one line of a forecast; `-o json` has more.
const SHOWN: usize = 6;
/// Longest part of a reason that the broker is told was seen.
const MAX_SEEN: usize = 100;

/// One wave.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct WaveView {
    selects: String,
    devices: u32,
    waiting: u32,
    told: u32,
    running: u32,
    lost: u32,
    unhealthy: u32,
    /// Its devices, when a rollout starts.
    names: Vec<String>,
}

/// A device that something is to be said of.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct DeviceView {
    device: String,
    wave: u32,
    stage: String,
    running: Option<String>,
    told_at: Option<String>,
    held_by: Vec<String>,
    /// Whether it loses trust if the former release is retired before it can be told; before a rollout starts.
    would_lose_trust: bool,
    #[serde(skip)]
    told: u64,
}

/// A rollout.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct RolloutView {
    dry_run: bool,
    id: String,
    product: String,
    from: Option<String>,
    to: String,
    state: String,
    reason: Option<String>,
    wave: u32,
    waves: Vec<WaveView>,
    budget_trust: u32,
    budget_health: u32,
    hold_seconds: u64,
    deadline_seconds: u64,
    started_at: Option<String>,
    started_by: String,
    ended_at: Option<String>,
    devices: Vec<DeviceView>,
    devices_left_out: u32,
    #[serde(skip)]
    revision: u64,
    #[serde(skip)]
    seconds: u64,
}

/// Every rollout.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Rollouts {
    rollouts: Vec<RolloutView>,
}

impl From<RolloutWave> for WaveView {
    fn from(wave: RolloutWave) -> Self {
        let RolloutWave { selects, devices, waiting, told, running, lost, unhealthy, names } = wave;
        Self { selects, devices, waiting, told, running, lost, unhealthy, names }
    }
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

impl From<RolloutDevice> for DeviceView {
    fn from(device: RolloutDevice) -> Self {
        Self {
            told_at: words::json_time(device.told_at),
            told: device.told_at,
            device: device.device,
            wave: device.wave.saturating_add(1),
            stage: device.stage,
            running: some(device.running),
            held_by: device.held_by,
            would_lose_trust: false,
        }
    }
}

impl From<Rollout> for RolloutView {
    fn from(rollout: Rollout) -> Self {
        Self {
            dry_run: false,
            id: rollout.id,
            product: rollout.product,
            from: some(rollout.from),
            to: rollout.to,
            state: rollout.state,
            reason: some(rollout.reason),
            wave: rollout.wave.saturating_add(1),
            waves: rollout.waves.into_iter().map(Into::into).collect(),
            budget_trust: rollout.trust_budget,
            budget_health: rollout.health_budget,
            hold_seconds: rollout.hold_seconds,
            deadline_seconds: rollout.deadline_seconds,
            started_at: words::json_time(rollout.started_at),
            started_by: rollout.started_by,
            ended_at: words::json_time(rollout.ended_at),
            devices: rollout.devices.into_iter().map(Into::into).collect(),
            devices_left_out: rollout.devices_left_out,
            revision: rollout.revision,
            seconds: rollout.ended_at.saturating_sub(rollout.started_at),
        }
    }
}

impl From<Vec<Rollout>> for Rollouts {
    fn from(rollouts: Vec<Rollout>) -> Self {
        Self { rollouts: rollouts.into_iter().map(Into::into).collect() }
    }
}

impl RolloutView {
    /// The rollout of an answer.
    pub(super) fn of(rollout: Option<Rollout>, dry_run: bool) -> Result<Self> {
        let rollout = rollout.ok_or_else(|| Failure::new(Exit::Internal, "the broker's answer is empty"))?;
        Ok(Self { dry_run, ..rollout.into() })
    }

    /// What a rollout would come to that is not started yet.
    pub(super) fn forecast(rollout: Option<Rollout>) -> Result<Self> {
        let mut view = Self::of(rollout, true)?;
        // Nobody is told yet, so whoever is listed cannot be told as things stand.
        for device in &mut view.devices {
            device.would_lose_trust = device.running.is_some() && device.running == view.from;
        }
        Ok(view)
    }

    /// The rollout as somebody sees it now, so that they are told if it is another when they decide.
    pub(super) fn seen(&self) -> Seen {
        let reason: String = self.reason.iter().flat_map(|reason| reason.chars()).take(MAX_SEEN).collect();
        let between = if reason.is_empty() { "" } else { ": " };
        Seen { revision: self.revision, words: format!("{}{between}{reason}", self.state) }
    }

    /// Whether it waits for a person.
    fn is_halted(&self) -> bool {
        self.state == "halted"
    }

    fn total(&self, count: impl Fn(&WaveView) -> u32) -> u32 {
        self.waves.iter().map(count).fold(0, u32::saturating_add)
    }

    /// What it came to, or what to do next.
    fn outcome(&self) -> String {
        let (to, product) = (words::visible(&self.to), words::visible(&self.product));
        let (all, there) = (self.total(|wave| wave.devices), self.total(|wave| wave.running));
        let (lost, sick) = (self.total(|wave| wave.lost), self.total(|wave| wave.unhealthy));
        let so_far = format!(
            "{there} of {} run {to}; {lost} lost, {sick} unhealthy",
            words::count(size(all), "device")
        );
        match self.state.as_str() {
            "finished" => format!(
                "Ended after {}: {so_far}, {} not told in a wave and told as they come.\n",
                words::span(self.seconds),
                self.total(|wave| wave.waiting)
            ),
            "rolled-back" => {
                format!("Ended after {}: no device runs {to} any more.\n", words::span(self.seconds))
            }
            "halted" => format!(
                "Halted: {so_far}.\nNext: `touchstone device why NAME`, then one of\n  touchstone golden rollout resume {product} --budget-trust N\n  touchstone golden rollback {product}\n"
            ),
            _ => format!("So far {so_far}.\n"),
        }
    }

    /// Who is in which wave, who cannot be told, and what that means.
    fn outlook(&self) -> String {
        let mut text = String::new();
        for (number, wave) in (1_u32..).zip(&self.waves) {
            let shown: Vec<&str> = wave.names.iter().map(String::as_str).take(SHOWN).collect();
            let more = size(wave.devices).saturating_sub(shown.len());
            let more =
                if more > 0 && !shown.is_empty() { format!(" and {more} more") } else { String::new() };
            let names = if shown.is_empty() { "nobody".to_owned() } else { shown.join(", ") };
            let _ = writeln!(text, "Wave {number}: {}{more}", words::visible(&names));
        }
        match size(self.devices_left_out).saturating_add(self.devices.len()) {
            0 => text.push_str("Every device can be told.\n"),
            n => {
                let _ = writeln!(
                    text,
                    "{} cannot be told now; told as they come back.",
                    words::count(n, "device")
                );
            }
        }
        let lost: Vec<&str> =
            self.devices.iter().filter(|one| one.would_lose_trust).map(|one| one.device.as_str()).collect();
        if let (Some(from), false) = (&self.from, lost.is_empty()) {
            let shown: Vec<&str> = lost.iter().copied().take(SHOWN).collect();
            let more = lost.len().saturating_sub(shown.len());
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let line =
                format!("{}{more} would lose trust if {from} were retired before that.", shown.join(", "));
            let _ = writeln!(text, "{}", words::visible(&line));
        }
        text
    }
}

fn size(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

impl Rollouts {
    /// Whether one of them moves by itself.
    pub(super) fn go_on(&self) -> bool {
        self.rollouts.iter().any(|one| matches!(one.state.as_str(), "running" | "rolling-back"))
    }

    /// Whether one of them waits for a person.
    pub(super) fn need_you(&self) -> bool {
        self.rollouts.iter().any(RolloutView::is_halted)
    }

    /// The one of a product that was asked for alone.
    pub(super) fn first(&self) -> Option<&RolloutView> {
        self.rollouts.first()
    }
}

impl View for RolloutView {
    fn text(&self, page: &Page) -> String {
        let mut text = String::new();
        let from = self.from.as_deref().map_or_else(String::new, |from| format!("{from} -> "));
        let state = if self.dry_run { "would be" } else { "is" };
        // Writing to a String cannot fail.
        let _ = write!(text, "{from}{}: {} {state} {}", self.to, self.id, self.state);
        let _ = match &self.reason {
            Some(reason) => writeln!(text, ", {}", words::visible(reason)),
            None => {
                writeln!(text, ", at most {} lost and {} unhealthy", self.budget_trust, self.budget_health)
            }
        };
        let heads = ["WAVE", "SELECTS", "DEVICES", "WAITING", "TOLD", "RUNNING", "LOST", "UNHEALTHY"];
        let mut table = Table::new(heads);
        for (number, wave) in (1_u32..).zip(&self.waves) {
            let here = number == self.wave && self.ended_at.is_none();
            let counts = [wave.devices, wave.waiting, wave.told, wave.running, wave.lost, wave.unhealthy];
            let [devices, waiting, told, running, lost, unhealthy] = counts.map(|count| count.to_string());
            let number = format!("{number}{}", if here { " <" } else { "" });
            table.row([number, wave.selects.clone(), devices, waiting, told, running, lost, unhealthy]);
        }
        text.push_str(&table.text("no wave", page.colour));
        if !self.devices.is_empty() {
            let mut table = Table::new(["DEVICE", "WAVE", "STAGE", "TOLD", "HELD BY"]);
            for device in &self.devices {
                table.row([
                    device.device.clone(),
                    device.wave.to_string(),
                    device.stage.clone(),
                    words::age(device.told, page.now),
                    words::list(&device.held_by),
                ]);
            }
            text.push_str(&table.text("", page.colour));
            if self.devices_left_out > 0 {
                let _ = writeln!(text, "and {} more", words::count(size(self.devices_left_out), "device"));
            }
        }
        text.push_str(&if self.dry_run { self.outlook() } else { self.outcome() });
        text
    }
}

impl View for Rollouts {
    fn text(&self, page: &Page) -> String {
        if self.rollouts.is_empty() {
            return "no rollouts; `touchstone golden rollout PRODUCT@VERSION --wave 100%` starts one\n"
                .to_owned();
        }
        let texts: Vec<_> = self.rollouts.iter().map(|one| one.text(page)).collect();
        texts.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_how_far_each_wave_is_and_who_is_in_the_way() {
        let wave = |selects: &str, running, lost| RolloutWave {
            selects: selects.to_owned(),
            devices: 3,
            waiting: 3 - running - lost,
            running,
            lost,
            ..RolloutWave::default()
        };
        let view = RolloutView::from(Rollout {
            id: "edge/2".to_owned(),
            from: "edge@1.4".to_owned(),
            to: "edge@1.5".to_owned(),
            state: "running".to_owned(),
            trust_budget: 2,
            health_budget: 1,
            wave: 1,
            waves: vec![wave("zone=staging", 3, 0), wave("100%", 1, 1)],
            devices: vec![RolloutDevice {
                device: "press-8".to_owned(),
                stage: "waiting".to_owned(),
                wave: 1,
                held_by: vec!["press-7".to_owned()],
                ..RolloutDevice::default()
            }],
            ..Rollout::default()
        });
        let text = view.text(&Page::plain(0));
        assert!(
            text.starts_with("edge@1.4 -> edge@1.5: edge/2 is running, at most 2 lost and 1 unhealthy\n"),
            "{text}"
        );
        assert!(text.contains("2 <   100%          3        1        0     1        1     0"), "{text}");
        assert!(text.contains("press-8  2     waiting"), "{text}");
        assert!(text.contains("press-7"), "{text}");
        assert!(text.ends_with("So far 4 of 6 devices run edge@1.5; 1 lost, 0 unhealthy.\n"), "{text}");
    }

    fn planned() -> Rollout {
        let device = |name: &str, running: &str| RolloutDevice {
            device: name.to_owned(),
            stage: "not-trusted".to_owned(),
            running: running.to_owned(),
            ..RolloutDevice::default()
        };
        let wave = |selects: &str, names: &[&str], devices| RolloutWave {
            selects: selects.to_owned(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            devices,
            ..RolloutWave::default()
        };
        Rollout {
            id: "edge/1".to_owned(),
            product: "edge".to_owned(),
            from: "edge@1.4".to_owned(),
            to: "edge@1.5".to_owned(),
            state: "running".to_owned(),
            waves: vec![wave("zone=staging", &["test-1"], 1), wave("100%", &["press-1", "press-2"], 9)],
            devices: vec![device("press-1", "edge@1.4"), device("press-2", "")],
            ..Rollout::default()
        }
    }

    #[test]
    fn a_forecast_says_who_is_told_when_who_cannot_be_and_who_would_lose() {
        let view = RolloutView::forecast(Some(planned())).unwrap();
        let text = view.text(&Page::plain(0));
        assert!(text.contains("Wave 1: test-1\nWave 2: press-1, press-2 and 7 more\n"), "{text}");
        assert!(text.contains("2 devices cannot be told now"), "{text}");
        assert!(text.ends_with("press-1 would lose trust if edge@1.4 were retired before that.\n"), "{text}");
        let json = serde_json::to_value(&view).unwrap();
        assert_eq!(
            (&json["devices"][0]["would_lose_trust"], &json["waves"][0]["names"][0]),
            (&true.into(), &"test-1".into())
        );
    }

    #[test]
    fn what_ended_is_summed_up_and_what_halted_says_what_to_do() {
        let ended = Rollout { state: "finished".to_owned(), started_at: 100, ended_at: 700, ..planned() };
        let text = RolloutView::from(ended).text(&Page::plain(0));
        assert!(text.contains("Ended after 10 min: 0 of 10 devices run edge@1.5; 0 lost"), "{text}");
        let (state, reason) = ("halted".to_owned(), "smoke".to_owned());
        let view = RolloutView::from(Rollout { state, reason, revision: 7, ..planned() });
        let text = view.text(&Page::plain(0));
        assert!(text.contains("  touchstone golden rollout resume edge --budget-trust N\n"), "{text}");
        assert_eq!(view.seen(), Seen { revision: 7, words: "halted: smoke".to_owned() });
        assert!(Rollouts { rollouts: vec![view] }.need_you());
    }
}
