//! How far rollouts are, for people and programs.

use std::fmt::Write as _;

use proto::v1::{Rollout, RolloutDevice, RolloutWave};
use serde::Serialize;

use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::output::table::Table;
use crate::output::{Page, View, words};

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
}

/// A device that something is to be said of.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct DeviceView {
    device: String,
    wave: u32,
    stage: String,
    told_at: Option<String>,
    held_by: Vec<String>,
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
}

/// Every rollout.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Rollouts {
    rollouts: Vec<RolloutView>,
}

impl From<RolloutWave> for WaveView {
    fn from(wave: RolloutWave) -> Self {
        let RolloutWave { selects, devices, waiting, told, running, lost, unhealthy } = wave;
        Self { selects, devices, waiting, told, running, lost, unhealthy }
    }
}

impl From<RolloutDevice> for DeviceView {
    fn from(device: RolloutDevice) -> Self {
        Self {
            told_at: words::json_time(device.told_at),
            told: device.told_at,
            device: device.device,
            wave: device.wave.saturating_add(1),
            stage: device.stage,
            held_by: device.held_by,
        }
    }
}

impl From<Rollout> for RolloutView {
    fn from(rollout: Rollout) -> Self {
        let some = |text: String| (!text.is_empty()).then_some(text);
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
}

impl Rollouts {
    /// Whether one of them moves by itself.
    pub(super) fn go_on(&self) -> bool {
        self.rollouts.iter().any(|one| matches!(one.state.as_str(), "running" | "rolling-back"))
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
        }
        text
    }
}

impl View for Rollouts {
    fn text(&self, page: &Page) -> String {
        if self.rollouts.is_empty() {
            return "no rollouts; `touchstone golden rollout PRODUCT@VERSION` starts one\n".to_owned();
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
    }
}
