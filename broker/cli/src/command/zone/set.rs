//! `touchstone zone set`.

use clap::Args;
use policy::id::ZoneName;
use policy::time::UnixTime;
use policy::zone::Subnet;
use proto::v1::{GetZoneRequest, Outside, Seen, SetZoneRequest, Subnets};
use serde::Serialize;

use super::options::{Drills, GateFail, OnSilence, Switch, written};
use super::page::{ZoneView, people};
use crate::args::{DryRun, Span};
use crate::client::failed;
use crate::failure::Result;
use crate::output::{Report, Sentence, Session, words};

/// What changes of the zone.
#[derive(Debug, Args)]
#[command(after_help = "\
Where two people are needed, a change waits until another administrator with role and reach for it approves it
(touchstone change list). To quarantine a device never waits.
Example:
  touchstone zone set cell-3 --two-person on
  touchstone zone set cell-3 --subnet 10.1.3.0/24
  touchstone zone set cell-3 --gate-drain 5m --gate-fail closed")]
pub(crate) struct SetArgs {
    /// Name of the zone
    name: ZoneName,
    /// Whether changes need two people; to turn it off needs two itself
    #[arg(
        long,
        value_enum,
        value_name = "ON|OFF",
        required_unless_present_any = ["subnets", "no_subnets", "gate_drain", "no_gate_drain", "gate_fail", "on_silence", "idevid_admits", "drills"]
    )]
    two_person: Option<Switch>,
    /// Subnet whose addresses its devices may have in certificates, in place of those it has; may repeat. The
    /// zone's authorities are followed by others for that, which takes until all devices know them
    #[arg(long = "subnet", value_name = "CIDR", conflicts_with = "no_subnets")]
    subnets: Vec<Subnet>,
    /// No addresses in certificates any more
    #[arg(long)]
    no_subnets: bool,
    /// How long a session through a gate may take to end once it is not allowed any more, at most 1h
    #[arg(long, value_name = "TIME", conflicts_with = "no_gate_drain")]
    gate_drain: Option<Span>,
    /// A session through a gate is cut at once when it is not allowed any more
    #[arg(long)]
    no_gate_drain: bool,
    /// Whether gates let other zones begin sessions while they do not hear the broker
    #[arg(long, value_enum)]
    gate_fail: Option<GateFail>,
    /// What is done about a device that is silent for longer than `silent_after` while others of the zone are heard
    #[arg(long, value_enum)]
    on_silence: Option<OnSilence>,
    /// Whether a box that nobody registered is admitted where a manufacturer in `idevid_roots` gave it an IDevID
    #[arg(long, value_enum, value_name = "ON|OFF")]
    idevid_admits: Option<Switch>,
    #[command(flatten)]
    drills: Drills,
    #[command(flatten)]
    dry_run: DryRun,
}

pub(super) async fn set(args: SetArgs, session: &Session) -> Result<Report> {
    let mut client = session.client().await?;
    let name = args.name.to_string();
    let looked = client.get_zone(GetZoneRequest { name }).await.map_err(|s| failed(&s))?;
    let request = args.request(looked.into_inner().seen);
    let answer = client.set_zone(request).await.map_err(|s| failed(&s))?.into_inner();
    let zone = ZoneView::from(answer.zone.unwrap_or_default());
    let outside: Vec<OutsideView> = answer.outside.into_iter().map(OutsideView::from).collect();
    let lines: Vec<String> = outside.iter().map(OutsideView::line).collect();
    let left_out = answer.outside_left_out;
    let text = args.told(&zone);
    let fields = Changed { dry_run: args.dry_run.dry_run, zone, outside, outside_left_out: left_out };
    let report = session.report(&Sentence { text, fields })?;
    let report = lines.into_iter().fold(report, |report, line| report.aside(line));
    Ok(match left_out {
        0 => report,
        1 => report.aside("and 1 more device".to_owned()),
        more => report.aside(format!("and {more} more devices")),
    })
}

impl SetArgs {
    fn subnets(&self) -> Option<Subnets> {
        let changed = self.no_subnets || !self.subnets.is_empty();
        changed.then(|| Subnets { subnets: self.subnets.iter().map(ToString::to_string).collect() })
    }

    fn drain(&self) -> Option<u32> {
        if self.no_gate_drain { Some(0) } else { self.gate_drain.as_ref().map(|drain| drain.0) }
    }

    /// The change of the zone that was `seen`.
    fn request(&self, seen: Option<Seen>) -> SetZoneRequest {
        SetZoneRequest {
            name: self.name.to_string(),
            two_person: self.two_person.map(|switch| switch == Switch::On),
            dry_run: self.dry_run.dry_run,
            seen,
            subnets: self.subnets(),
            gate_drain_seconds: self.drain(),
            gate_fail: self.gate_fail.map(written).unwrap_or_default(),
            drills: self.drills.bounds(),
            no_drills: self.drills.drills == Some(Switch::Off),
            idevid_admits: self.idevid_admits.map(|switch| switch == Switch::On),
            on_silence: self.on_silence.map(written).unwrap_or_default(),
            ..SetZoneRequest::default()
        }
    }

    /// What is told of the zone as it is now.
    fn told(&self, zone: &ZoneView) -> String {
        let verb = if self.dry_run.dry_run { "would need" } else { "need" };
        let mut text = format!("changes of zone {} {verb} {}", zone.name, people(zone.two_person));
        if self.subnets().is_some() {
            let subnets = words::list(&zone.subnets);
            text.push_str(&format!(
                "; subnets: {subnets}, once its next authorities sign (`touchstone authority list`)"
            ));
        }
        if self.drain().is_some() || self.gate_fail.is_some() {
            text.push_str(&format!("; its gates {} and fail {}", zone.drains(), zone.gate_fail));
        }
        if self.on_silence.is_some() {
            text.push_str(&format!("; on silence: {}", zone.on_silence));
        }
        match &zone.drills {
            Some(bounds) => text.push_str(&format!("; marked for drills: {}", bounds.words())),
            None if self.drills.drills.is_some() => text.push_str("; not marked for drills"),
            None => {}
        }
        if self.idevid_admits.is_some() {
            let rule = if zone.idevid_admits { "admits" } else { "does not admit" };
            text.push_str(&format!("; an IDevID {rule} a box that nobody registered"));
        }
        text
    }
}

#[derive(Serialize)]
struct Changed {
    dry_run: bool,
    zone: ZoneView,
    outside: Vec<OutsideView>,
    outside_left_out: u32,
}

/// What a device holds that names addresses outside the subnets.
#[derive(Serialize)]
struct OutsideView {
    device: String,
    addresses: Vec<String>,
    until: u64,
}

impl From<Outside> for OutsideView {
    fn from(Outside { device, addresses, until }: Outside) -> Self {
        Self { device, addresses, until }
    }
}

impl OutsideView {
    fn line(&self) -> String {
        format!(
            "{} has certificates until {} that name {}, outside the subnets: it is to replace them at once, and they are revoked \
             after an interval of the zone",
            words::visible(&self.device),
            UnixTime(self.until),
            words::list(&self.addresses)
        )
    }
}
