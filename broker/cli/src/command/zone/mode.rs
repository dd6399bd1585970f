//! `touchstone zone enforce` and `zone observe`: from recording to refusing, and back.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::Args;
use policy::id::ZoneName;
use proto::v1::{
    ForecastEnforcementRequest, ForecastEnforcementResponse, GetZoneRequest, SetZoneRequest, SetZoneResponse,
    WouldBeRefused,
};
use serde::Serialize;

use super::losing::{LosesView, losing};
use super::page::Created;
use crate::args::{DryRun, Span};
use crate::client::failed;
use crate::failure::Result;
use crate::output::moment::Moment;
use crate::output::table::Table;
use crate::output::{Page, Report, Sentence, Session, View, agree, words};

/// Devices named in one line of the forecast; `-o json` has them all.
const SHOWN: usize = 3;

/// Which zone, and what to look at first.
#[derive(Debug, Args)]
#[command(after_help = "\
Shows which devices would have been refused while the zone observed, and whose certificates end at once because
their last proof would be refused, connected or not; asks, and then changes it. Every device proves itself again:
  touchstone zone enforce cell-3 --plan --since 30d
  touchstone zone enforce cell-3 --reason \"quiet for a month\"")]
pub(crate) struct EnforceArgs {
    /// Name of the zone
    name: ZoneName,
    /// Say what enforcing would have done and change nothing
    #[arg(long)]
    plan: bool,
    /// How far back to look
    #[arg(long, value_name = "TIME", default_value = "30d")]
    since: Span,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Change it without asking
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    dry_run: DryRun,
}

/// Which zone, and why.
#[derive(Debug, Args)]
#[command(after_help = "\
Devices that were refused for what they booted are trusted again when they prove themselves, and what an
enforcing zone would say is recorded:
  touchstone zone observe cell-3 --reason \"update went wrong, line stands\"")]
pub(crate) struct ObserveArgs {
    /// Name of the zone
    name: ZoneName,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    reason: String,
    /// Let its conduits into enforcing zones stay; they are on the status page from then on
    #[arg(long)]
    accept_observed: bool,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Debug, Serialize)]
struct Refused {
    device: String,
    first: Moment,
    last: Moment,
    count: u64,
    still: bool,
    owner: String,
    criticality: String,
    reasons: Vec<String>,
}

impl From<WouldBeRefused> for Refused {
    fn from(device: WouldBeRefused) -> Self {
        Self {
            device: device.device,
            first: Moment(device.first),
            last: Moment(device.last),
            count: device.count,
            still: device.still,
            owner: device.owner,
            criticality: device.criticality,
            reasons: device.reasons,
        }
    }
}

/// What enforcing would have done.
#[derive(Debug, Serialize)]
struct Forecast {
    zone: String,
    mode: String,
    since: Moment,
    refused: Vec<Refused>,
    refused_left_out: u32,
    clean: u32,
    unknown: Vec<String>,
    unknown_count: u32,
    loses: Vec<LosesView>,
    loses_left_out: u32,
}

impl Forecast {
    fn new(zone: &ZoneName, since: Moment, answer: ForecastEnforcementResponse) -> Self {
        Self {
            zone: zone.to_string(),
            mode: answer.mode,
            since,
            refused: answer.refused.into_iter().map(Into::into).collect(),
            refused_left_out: answer.left_out,
            clean: answer.clean,
            unknown: answer.unknown,
            unknown_count: answer.unknown_count,
            loses: answer.loses.into_iter().map(Into::into).collect(),
            loses_left_out: answer.loses_left_out,
        }
    }

    fn summary(&self) -> String {
        let all =
            self.refused.len().saturating_add(usize::try_from(self.refused_left_out).unwrap_or(usize::MAX));
        let still = self.refused.iter().filter(|device| device.still).count();
        format!(
            "Since {}, enforcing would have refused {}, and would refuse {still} of them now; {} would have been trusted throughout, {} have not proved themselves lately.",
            self.since,
            words::count(all, "device"),
            self.clean,
            self.unknown_count,
        )
    }
}

impl View for Forecast {
    fn text(&self, page: &Page) -> String {
        // A thousand devices with one fault are one line.
        let mut groups: BTreeMap<(bool, &str), Vec<&Refused>> = BTreeMap::new();
        for device in &self.refused {
            let why = device.reasons.first().map_or("", String::as_str);
            groups.entry((!device.still, why)).or_default().push(device);
        }
        let mut table = Table::new(["DEVICES", "NOW", "LAST", "CRITICALITY", "WHY"]);
        for ((gone, why), devices) in groups {
            let names: Vec<String> = devices.iter().take(SHOWN).map(|device| device.device.clone()).collect();
            let more = devices.len().saturating_sub(SHOWN);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let last = devices.iter().map(|device| device.last).max().unwrap_or(Moment(0));
            let criticality =
                devices.iter().map(|device| device.criticality.as_str()).max().unwrap_or_default();
            table.row([
                format!("{}{more}", names.join(", ")),
                if gone { "passes" } else { "refused" }.to_owned(),
                words::age(last.0, page.now),
                words::or_dash(criticality),
                words::or_dash(why),
            ]);
        }
        let mut text = table.text("no device would have been refused", page.colour);
        let _ = writeln!(text, "{}", self.summary());
        text.push_str(&losing(&self.loses, self.loses_left_out, page));
        text
    }
}

/// Shows the forecast, asks, and lets the zone enforce.
pub(super) async fn enforce(args: EnforceArgs, session: &Session) -> Result<Report> {
    let only_plan = args.plan || args.dry_run.dry_run;
    agree::possible(args.yes || only_plan, "zone enforce", "--plan")?;
    let since = Moment(session.now().minus(args.since.0.into()).0);
    let mut client = session.client().await?;
    let request = ForecastEnforcementRequest { zone: args.name.to_string(), since: since.0 };
    let answer = client.forecast_enforcement(request).await.map_err(|s| failed(&s))?.into_inner();
    let seen = answer.seen.clone();
    let forecast = Forecast::new(&args.name, since, answer);
    if only_plan {
        return session.report(&forecast);
    }
    eprint!("{}", forecast.text(&session.plain_page()));
    if forecast.mode == "enforce" {
        let request = GetZoneRequest { name: args.name.to_string() };
        let answer = client.get_zone(request).await.map_err(|s| failed(&s))?.into_inner();
        let text = format!("zone {} enforces already", args.name);
        let zone = super::page::ZoneView::from(answer.zone.unwrap_or_default());
        return session.report(&Sentence { text, fields: Created { dry_run: false, zone } });
    }
    agree::settle(args.yes, &format!("Let zone {} enforce?", args.name))?;
    let request = SetZoneRequest {
        name: args.name.to_string(),
        mode: "enforce".to_owned(),
        reason: args.reason,
        seen,
        ..SetZoneRequest::default()
    };
    let answer = client.set_zone(request).await.map_err(|s| failed(&s))?.into_inner();
    changed(answer, false, session)
}

/// Lets the zone observe.
pub(super) async fn observe(args: ObserveArgs, session: &Session) -> Result<Report> {
    let dry_run = args.dry_run.dry_run;
    let mut client = session.client().await?;
    let looked = GetZoneRequest { name: args.name.to_string() };
    let seen = client.get_zone(looked).await.map_err(|s| failed(&s))?.into_inner().seen;
    let request = SetZoneRequest {
        seen,
        name: args.name.to_string(),
        mode: "observe".to_owned(),
        accept_observed: args.accept_observed,
        reason: args.reason,
        dry_run,
        ..SetZoneRequest::default()
    };
    let answer = client.set_zone(request).await.map_err(|s| failed(&s))?.into_inner();
    changed(answer, dry_run, session)
}

fn changed(answer: SetZoneResponse, dry_run: bool, session: &Session) -> Result<Report> {
    let zone = super::page::ZoneView::from(answer.zone.unwrap_or_default());
    let verb = if dry_run { "would" } else { "will" };
    let what =
        if zone.mode == "enforce" { "refuse what is not golden" } else { "only record what it would refuse" };
    let text = format!("zone {} {verb} {what}; its devices prove themselves again", zone.name);
    session.report(&Sentence { text, fields: Created { dry_run, zone } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str, still: bool, why: &str) -> WouldBeRefused {
        WouldBeRefused {
            device: name.to_owned(),
            first: 1,
            last: 100,
            count: 2,
            reasons: vec![why.to_owned()],
            still,
            criticality: "high".to_owned(),
            ..WouldBeRefused::default()
        }
    }

    #[test]
    fn devices_with_one_fault_are_one_line() {
        let refused = (1..=5).map(|n| device(&format!("press-{n}"), true, "kernel is not golden"));
        let refused = refused.chain([device("pump", false, "dbx differs")]).collect();
        let answer =
            ForecastEnforcementResponse { refused, clean: 7, unknown_count: 2, ..Default::default() };
        let forecast = Forecast::new(&"cell-3".parse().unwrap(), Moment(0), answer);
        let text = forecast.text(&Page::plain(160));
        assert!(text.contains("press-1, press-2, press-3 and 2 more  refused  60 s ago"), "{text}");
        assert!(text.contains("pump") && text.contains("passes"), "{text}");
        assert!(
            text.contains("would have refused 6 devices, and would refuse 5 of them now; 7 would"),
            "{text}"
        );
    }
}
