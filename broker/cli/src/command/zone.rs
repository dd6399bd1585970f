//! `touchstone zone`: who gets certificates, and how often they prove themselves.

use clap::Subcommand;
use policy::id::ZoneName;
use proto::v1::{GetZoneRequest, ListZonesRequest};

mod create;
mod graph;
mod losing;
mod mode;
mod options;
mod outside;
mod page;
mod peers;
mod picture;
mod set;

use self::page::{ZonePage, Zones};
use crate::client::failed;
use crate::failure::Result;
use crate::output::{Report, Session};

/// Verbs of `zone`.
#[derive(Debug, Subcommand)]
pub(crate) enum ZoneCommand {
    /// Make a zone with its two authorities
    Create(create::CreateArgs),
    /// Change how a zone is administered
    Set(set::SetArgs),
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
    #[command(
        after_help = "Ends with 1 if a spot is serious, with 0 if others only want a look.\nExample: touchstone zone check"
    )]
    Check,
    /// All zones and conduits as one TOML file
    #[command(after_help = "Example: touchstone zone export > zones.toml")]
    Export,
    /// Say what a file of zones and conduits would change, and which devices gain or lose which peer
    Plan(graph::PlanArgs),
    /// Make zones and conduits what a file says, all at once
    #[command(visible_alias = "import")]
    Apply(graph::ApplyArgs),
}

/// Runs a verb.
pub(crate) async fn run(command: ZoneCommand, session: &Session) -> Result<Report> {
    match command {
        ZoneCommand::Create(args) => create::create(args, session).await,
        ZoneCommand::Set(args) => set::set(args, session).await,
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
