//! `touchstone device show`: the device, what is wanted of it, accepted from it and run by it, and how well it runs.

use proto::v1::{DeviceHealth, DeviceRollout, GetDeviceResponse};
use serde::Serialize;

use super::view::{DevicePage, pairs};
use crate::command::overriding::OverrideView;
use crate::output::moment::Moment;
use crate::output::{Page, View, words};

/// One device with the releases of its products and the override that holds for it.
#[derive(Debug, Serialize)]
pub(super) struct ShowPage {
    #[serde(flatten)]
    device: DevicePage,
    releases: Releases,
    #[serde(rename = "override")]
    overriding: Option<OverrideView>,
    health: Option<HealthView>,
    rollouts: Vec<RolloutView>,
    failing_hooks: Vec<String>,
}

/// What the device's own health command said last.
#[derive(Debug, Serialize)]
struct HealthView {
    state: String,
    failing_in_a_row: u32,
    baseline: String,
}

impl From<DeviceHealth> for HealthView {
    fn from(health: DeviceHealth) -> Self {
        let DeviceHealth { state, failing_in_a_row, baseline, .. } = health;
        Self { state, failing_in_a_row, baseline }
    }
}

impl HealthView {
    fn line(&self) -> String {
        match self.failing_in_a_row {
            0 => self.state.clone(),
            count => {
                format!("{}, {count} in a row; a rollout holds it against {}", self.state, self.baseline)
            }
        }
    }
}

/// What a rollout told the device.
#[derive(Debug, Serialize)]
struct RolloutView {
    id: String,
    state: String,
    release: String,
    told_at: Moment,
    proven_at: Moment,
}

impl From<DeviceRollout> for RolloutView {
    fn from(rollout: DeviceRollout) -> Self {
        let DeviceRollout { id, state, release, told_at, proven_at } = rollout;
        Self { id, state, release, told_at: Moment(told_at), proven_at: Moment(proven_at) }
    }
}

impl RolloutView {
    fn line(&self) -> String {
        let proven = match self.proven_at.0 {
            0 => "not proven yet".to_owned(),
            _ => format!("proven {}", self.proven_at),
        };
        format!("{} ({}) told {} {}, {proven}", self.id, self.state, self.release, self.told_at)
    }
}

/// Three things that are not one: a wish, what keeps trust, and what a quote proved. Each product@version.
#[derive(Debug, Serialize)]
struct Releases {
    wanted: Vec<String>,
    accepted: Vec<String>,
    running: Vec<String>,
}

impl From<GetDeviceResponse> for ShowPage {
    fn from(answer: GetDeviceResponse) -> Self {
        Self {
            device: answer.device.unwrap_or_default().into(),
            releases: Releases { wanted: answer.wanted, accepted: answer.accepted, running: answer.running },
            overriding: answer.r#override.map(Into::into),
            health: answer.health.map(Into::into),
            rollouts: answer.rollouts.into_iter().map(Into::into).collect(),
            failing_hooks: answer.failing_hooks,
        }
    }
}

impl ShowPage {
    fn lines(&self, page: &Page) -> Vec<(&'static str, String)> {
        let Releases { wanted, accepted, running } = &self.releases;
        let mut lines = self.device.lines(page);
        lines.extend([
            ("wanted", words::list(wanted)),
            ("accepted", words::list(accepted)),
            ("running", words::list(running)),
        ]);
        lines.extend(self.overriding.as_ref().map(|held| ("override", held.line(page))));
        lines.extend(self.health.as_ref().map(|health| ("health", health.line())));
        lines.extend(self.rollouts.iter().map(|rollout| ("rollout", rollout.line())));
        if !self.failing_hooks.is_empty() {
            lines.push(("failing hooks", words::list(&self.failing_hooks)));
        }
        lines
    }
}

impl View for ShowPage {
    fn text(&self, page: &Page) -> String {
        pairs(self.lines(page), page) + &self.device.tables(page)
    }
}

#[cfg(test)]
mod tests {
    use proto::v1::{Device, OverrideState};

    use super::*;

    #[test]
    fn wanted_accepted_and_running_are_three_lines() {
        let of = |versions: &[&str]| versions.iter().map(|v| format!("edge@{v}")).collect::<Vec<_>>();
        let held = OverrideState {
            until: 3_700,
            by: "olga".to_owned(),
            approved_by: "eve".to_owned(),
            reason: "line stands".to_owned(),
            ..OverrideState::default()
        };
        let page = ShowPage::from(GetDeviceResponse {
            device: Some(Device { name: "press-7".to_owned(), ..Device::default() }),
            wanted: of(&["1.5"]),
            accepted: of(&["1.4", "1.5"]),
            running: of(&["1.4"]),
            r#override: Some(held),
            health: Some(DeviceHealth {
                state: "failing".to_owned(),
                failing_in_a_row: 2,
                baseline: "ok".to_owned(),
                ..DeviceHealth::default()
            }),
            rollouts: vec![DeviceRollout {
                id: "edge/3".to_owned(),
                state: "running".to_owned(),
                release: "edge@1.5".to_owned(),
                told_at: 60,
                proven_at: 0,
            }],
            failing_hooks: vec!["nginx".to_owned(), "safe-state".to_owned()],
            ..GetDeviceResponse::default()
        });
        let text = page.text(&Page::plain(100));
        for line in [
            "wanted          edge@1.5\n",
            "accepted        edge@1.4, edge@1.5\n",
            "running         edge@1.4\n",
            "failing hooks   nginx, safe-state\n",
            "override        ends in 60 min, by olga and eve: line stands\n",
            "health          failing, 2 in a row; a rollout holds it against ok\n",
            "rollout         edge/3 (running) told edge@1.5 1970-01-01T00:01:00Z, not proven yet\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        let json = serde_json::to_value(page).unwrap();
        assert_eq!((&json["name"], &json["releases"]["running"][0]), (&"press-7".into(), &"edge@1.4".into()));
        assert_eq!(json["override"]["until"], "1970-01-01T01:01:40Z");
    }
}
