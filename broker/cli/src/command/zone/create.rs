//! `touchstone zone create`.

use clap::Args;
use policy::id::{ProductName, ZoneName};
use policy::zone::{Function, Subnet};
use proto::v1::{CreateZoneRequest, Zone, ZoneTiming};

use super::options::{
    Drills, GateFail, IntraZone, Least, Mode, NameConstraint, OnSilence, SoftwareKeys, written,
};
use super::page::{Created, ZoneView};
use crate::args::{DryRun, Span};
use crate::client::failed;
use crate::failure::Result;
use crate::output::{Report, Sentence, Session, words};

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

pub(super) async fn create(args: CreateArgs, session: &Session) -> Result<Report> {
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};
    use crate::command::zone::ZoneCommand;

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
}
