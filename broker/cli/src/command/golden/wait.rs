//! `golden apply --wait`: what devices really come to, held against the forecast.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use policy::reference::release::ReleaseId;
use proto::v1::{FollowResultsRequest, ForecastGroup, LiveResult};
use serde::Serialize;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::groups::Outcome;
use crate::args::Span;
use crate::client::failed;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::output::table::Table;
use crate::output::{Page, Session, words};

/// How long to wait before a stream that broke is opened again.
const AGAIN: Duration = Duration::from_secs(2);
/// Devices that are named; `-o json` has them all.
const SHOWN: usize = 10;

/// What is foreseen, and what is real.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum End {
    Trusted,
    /// Trusted by a zone that observes, which would refuse it.
    WouldRefuse,
    Refused,
}

impl End {
    fn of(outcome: &str, would_refuse: bool) -> Self {
        match Outcome::of("trusted", outcome, would_refuse) {
            Outcome::Loses | Outcome::StaysRefused | Outcome::Unknown => Self::Refused,
            Outcome::WouldRefuse => Self::WouldRefuse,
            Outcome::StaysTrusted | Outcome::Gains => Self::Trusted,
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Trusted => "trusted",
            Self::WouldRefuse => "would be refused if enforced",
            Self::Refused => "refused",
        }
    }
}

/// A device that came to something else than was foreseen.
#[derive(Debug, Serialize)]
struct Departure {
    device: String,
    foreseen: End,
    is: End,
    reason: String,
}

/// What came of a forecast.
#[derive(Debug, Serialize)]
pub(super) struct Live {
    as_foreseen: usize,
    left_forecast: Vec<Departure>,
    not_heard: Vec<String>,
    /// Devices of which nothing could be foreseen, and that were heard.
    unforeseen_trusted: usize,
    unforeseen_refused: Vec<String>,
}

impl Live {
    /// Whether every device came to what was foreseen.
    pub(super) const fn is_as_foreseen(&self) -> bool {
        self.left_forecast.is_empty() && self.not_heard.is_empty()
    }

    pub(super) fn text(&self, page: &Page) -> String {
        let mut text = String::new();
        if !self.left_forecast.is_empty() {
            let mut table = Table::new(["DEVICE", "FORESEEN", "IS", "WHY"]);
            for one in &self.left_forecast {
                let (foreseen, is) = (one.foreseen.words().to_owned(), one.is.words().to_owned());
                table.row([one.device.clone(), foreseen, is, words::or_dash(&one.reason)]);
            }
            text.push_str(&table.text("", page.colour));
        }
        let _ = writeln!(
            text,
            "{} as foreseen, {} left the forecast, {} not heard.",
            words::count(self.as_foreseen, "device"),
            self.left_forecast.len(),
            self.not_heard.len()
        );
        for (what, devices) in
            [("Not heard", &self.not_heard), ("Refused, and was unknown", &self.unforeseen_refused)]
        {
            if !devices.is_empty() {
                let names = devices.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
                let more = devices.len().saturating_sub(SHOWN);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                let _ = writeln!(text, "{what}: {}{more}", words::visible(&names));
            }
        }
        if !self.is_as_foreseen() {
            text.push_str("`touchstone device why NAME` tells more; `touchstone golden withdraw` or `retire` takes the release back.\n");
        }
        text
    }
}

/// A forecast with what has come of it so far.
struct Following {
    foreseen: BTreeMap<String, Option<End>>,
    is: BTreeMap<String, End>,
    /// Once a device left the forecast, it has.
    left: BTreeMap<String, Departure>,
    waiting: usize,
}

impl Following {
    fn new(groups: &[ForecastGroup]) -> Self {
        let of = |group: &ForecastGroup| {
            (group.after != "unknown").then(|| End::of(&group.after, group.would_refuse))
        };
        let devices = groups
            .iter()
            .flat_map(|group| group.devices.iter().map(move |device| (device.device.clone(), of(group))));
        let foreseen: BTreeMap<String, Option<End>> = devices.collect();
        let waiting = foreseen.values().flatten().count();
        Self { foreseen, is: BTreeMap::new(), left: BTreeMap::new(), waiting }
    }

    fn hear(&mut self, result: LiveResult) {
        // A device that came since the forecast was made is not held against it.
        let Some(foreseen) = self.foreseen.get(&result.device).copied() else { return };
        let is = End::of(&result.outcome, result.would_refuse);
        if let Some(foreseen) = foreseen.filter(|foreseen| *foreseen != is) {
            let device = result.device.clone();
            let departure = || Departure { device, foreseen, is, reason: result.reason };
            self.left.entry(result.device.clone()).or_insert_with(departure);
        }
        let first = self.is.insert(result.device, is).is_none();
        if first && foreseen.is_some() {
            self.waiting = self.waiting.saturating_sub(1);
        }
    }

    fn end(self) -> Live {
        let mut live = Live {
            as_foreseen: 0,
            left_forecast: Vec::new(),
            not_heard: Vec::new(),
            unforeseen_trusted: 0,
            unforeseen_refused: Vec::new(),
        };
        for (device, foreseen) in self.foreseen {
            match (foreseen, self.is.get(&device)) {
                (None, None) => {}
                (None, Some(End::Refused)) => live.unforeseen_refused.push(device),
                (None, Some(_)) => live.unforeseen_trusted = live.unforeseen_trusted.saturating_add(1),
                (Some(_), None) => live.not_heard.push(device),
                (Some(_), Some(_)) if self.left.contains_key(&device) => {}
                (Some(_), Some(_)) => live.as_foreseen = live.as_foreseen.saturating_add(1),
            }
        }
        live.left_forecast = self.left.into_values().collect();
        live
    }
}

/// Follows the results of `release` under golden values of the revision `golden` until every device that was
/// foreseen was heard, or until patience ends.
pub(super) async fn follow(
    session: &Session,
    release: &str,
    golden: u64,
    foreseen: &[ForecastGroup],
    patience: Span,
) -> Result<Live> {
    let product = release.parse::<ReleaseId>().map(|release| release.product.to_string());
    let product = product.map_err(|e| Failure::new(Exit::Internal, format!("the broker's answer: {e}")))?;
    if golden == 0 {
        let what = format!("{release} is applied, and this broker is too old to follow what comes of it");
        return Err(
            Failure::new(Exit::Internal, what).next("update the broker; `touchstone status` shows the fleet")
        );
    }
    let deadline = Instant::now() + Duration::from_secs(u64::from(patience.0));
    let mut following = Following::new(foreseen);
    while following.waiting > 0 && Instant::now() < deadline {
        let request = FollowResultsRequest { product: product.clone(), golden };
        match timeout_at(deadline, listen(session, request, &mut following)).await {
            Err(_) => break,
            Ok(Ok(())) => {}
            // The broker tells everything again to whoever comes back.
            Ok(Err(failure)) if failure.exit() == Exit::Unreachable => {
                sleep_until(deadline.min(Instant::now() + AGAIN)).await;
            }
            Ok(Err(failure)) => return Err(failure),
        }
    }
    Ok(following.end())
}

/// Hears results until all are there, or the stream ends.
async fn listen(session: &Session, request: FollowResultsRequest, following: &mut Following) -> Result<()> {
    let mut client = session.patient_client().await?;
    let mut results = client.follow_results(request).await.map_err(|s| failed(&s))?.into_inner();
    while following.waiting > 0 {
        let page = results.message().await.map_err(|s| failed(&s))?;
        let ended = || Failure::new(Exit::Unreachable, "the broker ended the stream of results");
        page.ok_or_else(ended)?.results.into_iter().for_each(|result| following.hear(result));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proto::v1::ForecastDevice;

    use super::*;

    fn group(after: &str, devices: &[&str]) -> ForecastGroup {
        let device = |name: &&str| ForecastDevice { device: (*name).to_owned(), ..Default::default() };
        ForecastGroup {
            before: "trusted".to_owned(),
            after: after.to_owned(),
            devices: devices.iter().map(device).collect(),
            ..ForecastGroup::default()
        }
    }

    fn heard(device: &str, outcome: &str) -> LiveResult {
        let reason = "PCR 4 is another".to_owned();
        LiveResult { device: device.to_owned(), outcome: outcome.to_owned(), reason, ..Default::default() }
    }

    #[test]
    fn whoever_leaves_the_forecast_has_left_it_whatever_comes_then() {
        let mut following = Following::new(&[
            group("trusted", &["a", "b", "c"]),
            group("refused", &["d"]),
            group("unknown", &["e"]),
        ]);
        for (device, outcome) in [("a", "trusted"), ("b", "refused"), ("b", "trusted"), ("d", "refused")] {
            following.hear(heard(device, outcome));
        }
        assert_eq!(following.waiting, 1, "c is missing; e may be");
        following.hear(heard("e", "refused"));
        following.hear(heard("new", "refused"));
        let live = following.end();
        assert!(!live.is_as_foreseen());
        let text = live.text(&Page::plain(0));
        assert!(text.contains("b       trusted   refused  PCR 4 is another"), "{text}");
        assert!(text.contains("2 devices as foreseen, 1 left the forecast, 1 not heard."), "{text}");
        assert!(text.contains("Not heard: c\n") && text.contains("Refused, and was unknown: e\n"), "{text}");
    }

    #[test]
    fn a_forecast_that_comes_true_needs_nobody() {
        let mut following = Following::new(&[group("trusted", &["a"]), group("unknown", &["e"])]);
        following.hear(heard("a", "trusted"));
        let live = following.end();
        assert!(live.is_as_foreseen());
        assert_eq!(live.text(&Page::plain(0)), "1 device as foreseen, 0 left the forecast, 0 not heard.\n");
        let observed = LiveResult { would_refuse: true, ..heard("a", "trusted") };
        let mut following = Following::new(&[group("trusted", &["a"])]);
        following.hear(observed);
        assert!(!following.end().is_as_foreseen(), "an enforcing zone would refuse it");
    }
}
