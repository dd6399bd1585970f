//! `touchstone zone set`.

use clap::{ArgGroup, Args};
use policy::id::{ProductName, ZoneName};
use policy::zone::{Function, Subnet};
use proto::v1::{GetZoneRequest, Products, Seen, SetZoneRequest, Subnets};
use serde::Serialize;

use super::losing::{LongerView, LosesView, losing};
use super::options::{Drills, GateFail, IntraZone, LeastChange, NameConstraint, OnSilence, Switch, written};
use super::outside::OutsideView;
use super::page::{ZoneView, people};
use super::peers::PeersView;
use crate::args::{DryRun, Span};
use crate::client::failed;
use crate::failure::Result;
use crate::output::{Report, Sentence, Session, words};

/// Options of which one is needed.
const SETTINGS: [&str; 19] = [
    "two_person",
    "reattest_every",
    "outlive_broker",
    "silent_after",
    "function",
    "no_function",
    "intra_zone",
    "products",
    "least",
    "token_admits",
    "name_constraint",
    "subnets",
    "no_subnets",
    "gate_drain",
    "no_gate_drain",
    "gate_fail",
    "on_silence",
    "idevid_admits",
    "drills",
];

/// What changes of the zone.
#[derive(Debug, Args)]
#[command(after_help = "\
Where two people are needed, a change waits until another administrator with role and reach for it approves it
(touchstone change list). To quarantine a device never waits.
The name of a zone, and whether it allows software keys, are for life: certificates rest on them.
Examples:
  touchstone zone set cell-3 --outlive-broker 4h --dry-run
  touchstone zone set cell-3 --least hardware=warning --product edge-box
  touchstone zone set cell-3 --two-person on
  touchstone zone set cell-3 --subnet 10.1.3.0/24
  touchstone zone set cell-3 --gate-drain 5m --gate-fail closed")]
#[command(group(ArgGroup::new("what").required(true).multiple(true).args(SETTINGS)))]
pub(crate) struct SetArgs {
    /// Name of the zone
    name: ZoneName,
    /// Whether changes need two people; to turn it off needs two itself
    #[arg(long, value_enum, value_name = "ON|OFF")]
    two_person: Option<Switch>,
    /// How often a device proves itself, from its next proof on
    #[arg(long, value_name = "TIME")]
    reattest_every: Option<Span>,
    /// How long everything runs without the broker; certificates live 1.5 times as long, those issued before as long as they
    /// say
    #[arg(long, value_name = "TIME")]
    outlive_broker: Option<Span>,
    /// Silence of a device, while others of the zone are heard, that `--on-silence` is about; follows --reattest-every
    /// while it is three times that
    #[arg(long, value_name = "TIME")]
    silent_after: Option<Span>,
    /// What it is for: control, safety, sensors, vendor or it; `zone check` holds the plant against it
    #[arg(long, value_name = "FUNCTION", conflicts_with = "no_function")]
    function: Option<Function>,
    /// It is for nothing that is said
    #[arg(long)]
    no_function: bool,
    /// Whether devices of the zone may open each other's services
    #[arg(long, value_enum)]
    intra_zone: Option<IntraZone>,
    /// Product whose golden releases the zone accepts, in place of those it has; may repeat
    #[arg(long = "product", value_name = "PRODUCT")]
    products: Vec<ProductName>,
    /// The worst that is accepted for a claim, other claims stay: executables=affirming, hardware=warning, or
    /// file-system=none to ask nothing of it; may repeat
    #[arg(long = "least", value_name = "CLAIM=TIER")]
    least: Vec<LeastChange>,
    /// Whether a join token admits even when it is bound to no TPM
    #[arg(long, value_enum, value_name = "ON|OFF")]
    token_admits: Option<Switch>,
    /// DNS name constraint of the zone's authorities, which are followed by others for that, as for --subnet
    #[arg(long, value_enum)]
    name_constraint: Option<NameConstraint>,
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
    let loses: Vec<LosesView> = answer.loses.into_iter().map(Into::into).collect();
    let (loses_left_out, longer) = (answer.loses_left_out, answer.longer.map(LongerView::from));
    let changed: Vec<String> = answer.changed.iter().map(|field| words::visible(field)).collect();
    let losing = losing(&loses, loses_left_out, &session.plain_page());
    let dry_run = args.dry_run.dry_run;
    let peers = PeersView::new((answer.gained, answer.gained_left_out), (answer.lost, answer.lost_left_out));
    let told = match args.intra_zone {
        Some(_) => peers.text(dry_run, &session.plain_page()),
        None => String::new(),
    };
    let lines = changed
        .iter()
        .cloned()
        .chain(told.lines().map(str::to_owned))
        .chain(losing.lines().map(str::to_owned))
        .chain(longer.iter().map(LongerView::line))
        .chain(lines);
    let lines: Vec<String> = lines.collect();
    let fields = Changed {
        dry_run,
        zone,
        outside,
        outside_left_out: left_out,
        changed,
        loses,
        loses_left_out,
        longer,
        peers,
    };
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

    fn function(&self) -> Option<String> {
        let cleared = self.no_function.then(String::new);
        cleared.or_else(|| self.function.map(|function| function.to_string()))
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
            reattest_every_seconds: seconds(self.reattest_every),
            outlive_broker_seconds: seconds(self.outlive_broker),
            silent_after_seconds: seconds(self.silent_after),
            function: self.function(),
            intra_zone: self.intra_zone.map(|setting| setting == IntraZone::Allow),
            products: (!self.products.is_empty())
                .then(|| Products { products: self.products.iter().map(ToString::to_string).collect() }),
            least: self.least.iter().map(|one| (one.claim.clone(), one.tier.clone())).collect(),
            token_admits: self.token_admits.map(|switch| switch == Switch::On),
            name_constraint: self.name_constraint.map(written).unwrap_or_default(),
            ..SetZoneRequest::default()
        }
    }

    /// What is told of the zone as it is now.
    fn told(&self, zone: &ZoneView) -> String {
        let verb = if self.dry_run.dry_run { "would be set" } else { "is set" };
        let mut text = format!("zone {} {verb}", zone.name);
        if self.two_person.is_some() {
            text.push_str(&format!("; changes of it need {}", people(zone.two_person)));
        }
        if self.name_constraint.is_some() {
            text.push_str(&format!(
                "; name constraint: {}, once its next authorities sign (`touchstone authority list`)",
                zone.name_constraint
            ));
        }
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
    changed: Vec<String>,
    loses: Vec<LosesView>,
    loses_left_out: u32,
    longer: Option<LongerView>,
    /// Among devices of the zone; nobody where `intra_zone` stays.
    #[serde(flatten)]
    peers: PeersView,
}

fn seconds(span: Option<Span>) -> u32 {
    span.map_or(0, |span| span.0)
}
