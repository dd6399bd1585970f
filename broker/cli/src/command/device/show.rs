//! `touchstone device show`: the device, and what is wanted of it, accepted from it and run by it.

use proto::v1::GetDeviceResponse;
use serde::Serialize;

use super::view::{DevicePage, pairs};
use crate::command::overriding::OverrideView;
use crate::output::{Page, View, words};

/// One device with the releases of its products and the override that holds for it.
#[derive(Debug, Serialize)]
pub(super) struct ShowPage {
    #[serde(flatten)]
    device: DevicePage,
    releases: Releases,
    #[serde(rename = "override")]
    overriding: Option<OverrideView>,
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
            ..GetDeviceResponse::default()
        });
        let text = page.text(&Page::plain(100));
        for line in [
            "wanted          edge@1.5\n",
            "accepted        edge@1.4, edge@1.5\n",
            "running         edge@1.4\n",
            "override        ends in 60 min, by olga and eve: line stands\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        let json = serde_json::to_value(page).unwrap();
        assert_eq!((&json["name"], &json["releases"]["running"][0]), (&"press-7".into(), &"edge@1.4".into()));
        assert_eq!(json["override"]["until"], "1970-01-01T01:01:40Z");
    }
}
