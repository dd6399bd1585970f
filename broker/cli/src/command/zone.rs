//! `touchstone zone`: who gets certificates, and how often they prove themselves.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};
use policy::id::{ProductName, ZoneName};
use policy::time::UnixTime;
use policy::zone::{Function, Subnet};
use proto::v1::{
    CreateZoneRequest, DrillBounds, GetZoneRequest, GetZoneResponse, ListZonesRequest, Outside, SetZoneRequest,
    Subnets, Zone, ZoneTiming,
};
use serde::Serialize;

use super::conduit::ConduitView;

mod graph;
mod losing;
mod mode;
mod picture;

use crate::args::{DryRun, Span};
use crate::client::failed;
use crate::failure::Result;
use crate::output::table::Table;
use crate::output::{Page, Report, Sentence, Session, View, words};

/// Verbs of `zone`.
#[derive(Debug, Subcommand)]
pub(crate) enum ZoneCommand {
    /// Make a zone with its two authorities
    Create(CreateArgs),
    /// Change how a zone is administered
    Set(SetArgs),
    /// Refuse what is not golden from now on; says first what that would have done
    Enforce(mode::EnforceArgs),
    /// Only record what would be refused: the way back
    Observe(mode::ObserveArgs),
    /// Every zone
    #[command(after_help = "Example: touchstone zone list")]
    List,
    /// One zone with its numbers, conduits and devices; or all zones as a picture
    #[command(after_help = "\
Examples:
  touchstone zone show cell-3
  touchstone zone show --picture dot | dot -Tsvg > plant.svg
  touchstone zone show cell-3 --picture mermaid")]
    Show {
        /// Name of the zone
        #[arg(required_unless_present = "picture")]
        name: Option<ZoneName>,
        /// Draw zones and conduits, or those that touch NAME
        #[arg(long, value_enum, value_name = "LANGUAGE")]
        picture: Option<picture::Language>,
    },
    /// Find flat spots: zones that reach each other, devices that join what must stay apart, hours that never come
    #[command(after_help = "Ends with 1 if a spot is serious.\nExample: touchstone zone check")]
    Check,
    /// All zones and conduits as one TOML file
    #[command(after_help = "Example: touchstone zone export > zones.toml")]
    Export,
    /// Say what a file of zones and conduits would change, and which devices gain or lose which peer
    Plan(graph::PlanArgs),
    /// Make zones and conduits what a file says, all at once
    Apply(graph::ApplyArgs),
}

/// What the zone is like.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  touchstone zone create cell-3 --product edge
  touchstone zone create lab --mode observe --least executables=warning --token-admits")]
pub(crate) struct CreateArgs {
    /// Name of the zone: a-z, 0-9 and -, at most 40
    name: ZoneName,
    /// What it is for: control, safety, sensors, vendor or it; `zone check` holds the plant against it
    #[arg(long, value_name = "FUNCTION")]
    function: Option<Function>,
    /// Whether what is not golden is refused or only recorded
    #[arg(long, value_enum, default_value_t = Mode::Enforce)]
    mode: Mode,
    /// Product whose golden releases the zone accepts; may repeat
    #[arg(long = "product", value_name = "PRODUCT")]
    products: Vec<ProductName>,
    /// How often a device proves itself
    #[arg(long, value_name = "TIME", default_value = "15m")]
    reattest_every: Span,
    /// How long everything runs without the broker; certificates live 1.5 times as long
    #[arg(long, value_name = "TIME", default_value = "8h")]
    outlive_broker: Span,
    /// Silence of a device, while others of the zone are heard, that `--on-silence` is about [default: 3 times --reattest-every]
    #[arg(long, value_name = "TIME")]
    silent_after: Option<Span>,
    /// What is done about it; a cut cable looks the same as a stopped device
    #[arg(long, value_enum, default_value_t = OnSilence::Alert)]
    on_silence: OnSilence,
    /// Whether devices of the zone may open each other's services
    #[arg(long, value_enum, default_value_t = IntraZone::Deny)]
    intra_zone: IntraZone,
    /// A join token admits even when it is bound to no TPM
    #[arg(long)]
    token_admits: bool,
    /// A box that nobody registered is admitted where a manufacturer in `idevid_roots` gave it an IDevID
    #[arg(long)]
    idevid_admits: bool,
    /// DNS name constraint of the zone's authorities; mbedTLS peers cannot read a critical one
    #[arg(long, value_enum, default_value_t = NameConstraint::Critical)]
    name_constraint: NameConstraint,
    /// Whether servers that cannot use a TPM may have keys outside it, certified through their device
    #[arg(long, value_enum, default_value_t = SoftwareKeys::Refuse)]
    software_keys: SoftwareKeys,
    /// Changes of the zone need two people
    #[arg(long)]
    two_person: bool,
    /// Subnet whose addresses its devices may have in certificates, for example 10.1.3.0/24; may repeat
    #[arg(long = "subnet", value_name = "CIDR")]
    subnets: Vec<Subnet>,
    /// How long a session through a gate may take to end once it is not allowed any more, at most 1h [default: it
    /// is cut at once]
    #[arg(long, value_name = "TIME")]
    gate_drain: Option<Span>,
    /// Whether gates let other zones begin sessions while they do not hear the broker
    #[arg(long, value_enum, default_value_t = GateFail::Open)]
    gate_fail: GateFail,
    #[command(flatten)]
    drills: Drills,
    /// The worst that is accepted for a claim, for example executables=affirming; may repeat
    #[arg(long = "least", value_name = "CLAIM=TIER")]
    least: Vec<Least>,
    #[command(flatten)]
    dry_run: DryRun,
}

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

/// Whether the zone is there to be broken on purpose.
#[derive(Debug, Default, Args)]
struct Drills {
    /// Whether failure drills may break things in it (`touchstone drill`); for staging zones [default: off]
    #[arg(long, value_enum, value_name = "ON|OFF")]
    drills: Option<Switch>,
    /// Promise of drills: who lost trust is cut off within this [default: 10s]
    #[arg(long, value_name = "TIME", requires = "drills")]
    cut_within: Option<Span>,
    /// Promise of drills: devices are trusted again within this, once the fault is over [default: 2m]
    #[arg(long, value_name = "TIME", requires = "drills")]
    recover_within: Option<Span>,
}

impl Drills {
    /// The mark, if it is set.
    fn bounds(&self) -> Option<DrillBounds> {
        let seconds = |span: Option<Span>| span.map_or(0, |span| span.0);
        (self.drills == Some(Switch::On)).then(|| DrillBounds {
            cut_within_seconds: seconds(self.cut_within),
            recover_within_seconds: seconds(self.recover_within),
        })
    }
}

/// Something that is on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Switch {
    /// It holds
    On,
    /// It does not
    Off,
}

/// What a zone does with a device that is not golden.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    /// Records what enforcing would have refused
    Observe,
    /// Refuses
    Enforce,
}

/// Traffic inside the zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum IntraZone {
    /// Devices of the zone open each other's services
    Allow,
    /// They do not
    Deny,
}

/// The constraint in the authorities' certificates (RFC 5280, section 4.2.1.10).
#[derive(Clone, Copy, Debug, ValueEnum)]
enum NameConstraint {
    /// Marked critical
    Critical,
    /// Not marked critical
    NonCritical,
    /// None
    Off,
}

/// Keys outside the TPM: root of the machine can copy them.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum SoftwareKeys {
    /// Every key of the zone is in a TPM
    Refuse,
    /// A device may ask for them, service by service
    Allow,
}

/// Gates that do not hear the broker.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum GateFail {
    /// They go on by what they know
    Open,
    /// They let in nobody of another zone
    Closed,
}

/// A device that is silent while others of its zone are heard.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnSilence {
    /// People are told
    Alert,
    /// Its certificates are revoked, until it proves itself again
    Refuse,
}

/// The least a zone accepts for a claim (AR4SI, section 2.3).
#[derive(Clone, Debug, PartialEq, Eq)]
struct Least {
    claim: String,
    tier: String,
}

impl FromStr for Least {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        const CLAIMS: [&str; 8] = [
            "instance-identity",
            "configuration",
            "executables",
            "file-system",
            "hardware",
            "runtime-opaque",
            "storage-opaque",
            "sourced-data",
        ];
        const TIERS: [&str; 2] = ["affirming", "warning"];
        let (claim, tier) = text.split_once('=').unwrap_or((text, ""));
        if !CLAIMS.contains(&claim) {
            return Err(format!("`{claim}` is no claim; use one of {}", CLAIMS.join(", ")));
        }
        if !TIERS.contains(&tier) {
            return Err(format!("`{tier}` is no tier; write {claim}=affirming or {claim}=warning"));
        }
        Ok(Self { claim: claim.to_owned(), tier: tier.to_owned() })
    }
}

fn written(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

impl From<CreateArgs> for Zone {
    fn from(args: CreateArgs) -> Self {
        let silent = args.silent_after.map_or(args.reattest_every.0.saturating_mul(3), |span| span.0);
        Self {
            name: args.name.to_string(),
            mode: written(args.mode),
            timing: Some(ZoneTiming {
                zone: args.name.to_string(),
                reattest_every_seconds: args.reattest_every.0,
                outlive_broker_seconds: args.outlive_broker.0,
                silent_after_seconds: silent,
                ..ZoneTiming::default()
            }),
            intra_zone: args.intra_zone == IntraZone::Allow,
            products: args.products.iter().map(ToString::to_string).collect(),
            token_admits: args.token_admits,
            idevid_admits: args.idevid_admits,
            name_constraint: written(args.name_constraint),
            least: args.least.into_iter().map(|least| (least.claim, least.tier)).collect(),
            software_keys: written(args.software_keys),
            two_person: args.two_person,
            subnets: args.subnets.iter().map(ToString::to_string).collect(),
            function: args.function.map(|function| function.to_string()).unwrap_or_default(),
            gate_drain_seconds: args.gate_drain.map_or(0, |drain| drain.0),
            gate_fail: written(args.gate_fail),
            on_silence: written(args.on_silence),
            drills: args.drills.bounds(),
        }
    }
}

/// What a zone that is marked for drills promises of them.
#[derive(Debug, Serialize)]
struct DrillsView {
    cut_within_seconds: u32,
    recover_within_seconds: u32,
}

impl DrillsView {
    fn words(&self) -> String {
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
struct ZoneView {
    name: String,
    function: Option<String>,
    mode: String,
    reattest_every_seconds: u32,
    outlive_broker_seconds: u32,
    silent_after_seconds: u32,
    on_silence: String,
    intra_zone: &'static str,
    products: Vec<String>,
    token_admits: bool,
    idevid_admits: bool,
    name_constraint: String,
    software_keys: String,
    two_person: bool,
    subnets: Vec<String>,
    gate_drain_seconds: u32,
    gate_fail: String,
    drills: Option<DrillsView>,
    least: BTreeMap<String, String>,
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
    fn drains(&self) -> String {
        match self.gate_drain_seconds {
            0 => "cut at once".to_owned(),
            seconds => format!("drain for {}", words::span(seconds.into())),
        }
    }
}

#[derive(Debug, Serialize)]
struct Zones {
    zones: Vec<ZoneView>,
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

/// One zone with what hangs on it.
#[derive(Debug, Serialize)]
struct ZonePage {
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

/// Runs a verb.
pub(crate) async fn run(command: ZoneCommand, session: &Session) -> Result<Report> {
    match command {
        ZoneCommand::Create(args) => create(args, session).await,
        ZoneCommand::Set(args) => set(args, session).await,
        ZoneCommand::Enforce(args) => mode::enforce(args, session).await,
        ZoneCommand::Observe(args) => mode::observe(args, session).await,
        ZoneCommand::List => {
            let mut client = session.client().await?;
            let answer = client.list_zones(ListZonesRequest {}).await.map_err(|s| failed(&s))?;
            let zones = answer.into_inner().zones.into_iter().map(Into::into).collect();
            session.report(&Zones { zones })
        }
        ZoneCommand::Check => graph::check(session).await,
        ZoneCommand::Export => graph::export(session).await,
        ZoneCommand::Plan(args) => graph::plan(&args, session).await,
        ZoneCommand::Apply(args) => graph::apply(args, session).await,
        ZoneCommand::Show { name, picture: Some(language) } => {
            graph::picture(language, name.as_ref().map(ZoneName::as_str), session).await
        }
        ZoneCommand::Show { name, picture: None } => {
            let name = name.map(|name| name.to_string()).unwrap_or_default();
            let request = GetZoneRequest { name };
            let answer = session.client().await?.get_zone(request).await.map_err(|s| failed(&s))?;
            session.report(&ZonePage::from(answer.into_inner()))
        }
    }
}

async fn create(args: CreateArgs, session: &Session) -> Result<Report> {
    let dry_run = args.dry_run.dry_run;
    let request = CreateZoneRequest { zone: Some(args.into()), dry_run };
    let answer = session.client().await?.create_zone(request).await.map_err(|s| failed(&s))?;
    let zone = ZoneView::from(answer.into_inner().zone.unwrap_or_default());
    let verb = if dry_run { "would be made" } else { "is made" };
    let text = format!(
        "zone {} {verb}: {}, proves itself every {}, outlives the broker by {}",
        zone.name,
        zone.mode,
        words::span(zone.reattest_every_seconds.into()),
        words::span(zone.outlive_broker_seconds.into()),
    );
    session.report(&Sentence { text, fields: Created { dry_run, zone } })
}

const fn yes(holds: bool) -> &'static str {
    if holds { "yes" } else { "no" }
}

const fn people(two_person: bool) -> &'static str {
    if two_person { "two people" } else { "one person" }
}

async fn set(args: SetArgs, session: &Session) -> Result<Report> {
    let dry_run = args.dry_run.dry_run;
    let two_person = args.two_person.map(|switch| switch == Switch::On);
    let changed = args.no_subnets || !args.subnets.is_empty();
    let listed = args.subnets.iter().map(ToString::to_string).collect();
    let subnets = changed.then_some(Subnets { subnets: listed });
    let mut client = session.client().await?;
    let name = args.name.to_string();
    let looked = client.get_zone(GetZoneRequest { name: name.clone() }).await.map_err(|s| failed(&s))?;
    let seen = looked.into_inner().seen;
    let drain = if args.no_gate_drain { Some(0) } else { args.gate_drain.map(|drain| drain.0) };
    let gates = drain.is_some() || args.gate_fail.is_some();
    let request = SetZoneRequest {
        name,
        two_person,
        dry_run,
        seen,
        subnets,
        gate_drain_seconds: drain,
        gate_fail: args.gate_fail.map(written).unwrap_or_default(),
        drills: args.drills.bounds(),
        no_drills: args.drills.drills == Some(Switch::Off),
        idevid_admits: args.idevid_admits.map(|switch| switch == Switch::On),
        on_silence: args.on_silence.map(written).unwrap_or_default(),
        ..SetZoneRequest::default()
    };
    let answer = client.set_zone(request).await.map_err(|s| failed(&s))?.into_inner();
    let zone = ZoneView::from(answer.zone.unwrap_or_default());
    let outside: Vec<OutsideView> = answer.outside.into_iter().map(OutsideView::from).collect();
    let lines: Vec<String> = outside.iter().map(OutsideView::line).collect();
    let left_out = answer.outside_left_out;
    let verb = if dry_run { "would need" } else { "need" };
    let mut text = format!("changes of zone {} {verb} {}", zone.name, people(zone.two_person));
    if changed {
        let subnets = words::list(&zone.subnets);
        text.push_str(&format!(
            "; subnets: {subnets}, once its next authorities sign (`touchstone authority list`)"
        ));
    }
    if gates {
        text.push_str(&format!("; its gates {} and fail {}", zone.drains(), zone.gate_fail));
    }
    if args.on_silence.is_some() {
        text.push_str(&format!("; on silence: {}", zone.on_silence));
    }
    match &zone.drills {
        Some(bounds) => text.push_str(&format!("; marked for drills: {}", bounds.words())),
        None if args.drills.drills.is_some() => text.push_str("; not marked for drills"),
        None => {}
    }
    if args.idevid_admits.is_some() {
        let rule = if zone.idevid_admits { "admits" } else { "does not admit" };
        text.push_str(&format!("; an IDevID {rule} a box that nobody registered"));
    }
    let fields = Changed { dry_run, zone, outside, outside_left_out: left_out };
    let report = session.report(&Sentence { text, fields })?;
    let report = lines.into_iter().fold(report, |report, line| report.aside(line));
    Ok(match left_out {
        0 => report,
        more => report.aside(format!("and {} more", words::count(more, "device"))),
    })
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

#[derive(Serialize)]
struct Created {
    dry_run: bool,
    zone: ZoneView,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn create(line: &str) -> Zone {
        let words = ["touchstone", "zone", "create"].into_iter().chain(line.split(' '));
        match Cli::try_parse_from(words).unwrap().command {
            Command::Zone(ZoneCommand::Create(args)) => args.into(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_zone_enforces_and_denies_unless_told() {
        let zone = create("cell-3 --product edge");
        assert_eq!((zone.mode.as_str(), zone.intra_zone, zone.token_admits), ("enforce", false, false));
        assert_eq!((zone.name_constraint.as_str(), zone.software_keys.as_str()), ("critical", "refuse"));
        let timing = zone.timing.unwrap();
        assert_eq!(
            (timing.reattest_every_seconds, timing.outlive_broker_seconds, timing.silent_after_seconds),
            (900, 28_800, 2_700)
        );
    }

    #[test]
    fn every_option_reaches_the_request() {
        let zone = create(
            "lab --mode observe --product edge --product plc --reattest-every 2s --outlive-broker 15m \
             --silent-after 10s --on-silence refuse --intra-zone allow --token-admits --idevid-admits --name-constraint non-critical --software-keys allow \
             --least executables=affirming --least hardware=warning",
        );
        assert_eq!((zone.mode.as_str(), zone.intra_zone, zone.token_admits), ("observe", true, true));
        assert!(zone.idevid_admits && zone.on_silence == "refuse");
        assert_eq!(zone.products, ["edge", "plc"]);
        assert_eq!((zone.name_constraint.as_str(), zone.software_keys.as_str()), ("non-critical", "allow"));
        assert_eq!(zone.least["hardware"], "warning");
        assert_eq!(zone.timing.unwrap().silent_after_seconds, 10);
    }

    #[test]
    fn an_unknown_claim_or_tier_is_refused_by_name() {
        assert!("kernel=affirming".parse::<Least>().unwrap_err().contains("`kernel` is no claim"));
        assert!("hardware=good".parse::<Least>().unwrap_err().contains("`good` is no tier"));
    }
}
