//! The command line: what is common to all commands, and the values that they share.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::command::{
    admin, appraise, audit, authority, backup, calendar, change, completion, conduit, context, device, drill,
    exposure, golden, inspect, man, overriding, sbom, status, token, zone,
};
use crate::exit;

const EXAMPLES: &str = "\
Examples:
  touchstone status                          what needs you this morning
  touchstone device why press-7              why a device is refused, and what to do
  touchstone device import supplier.toml     admit devices by their TPM
  touchstone golden learn --from press-7 --product edge --version 1.4 --out edge.toml
  touchstone golden sign edge.toml && touchstone golden apply edge.toml.dsse.json
  touchstone conduit allow --from cell-3 --to historian --service opcua
  touchstone exposure --advisory DSA-5764-1.json   which devices run what an advisory is about";

/// Administers the machine identities of a plant.
#[derive(Debug, Parser)]
#[command(name = "touchstone", version, after_help = format!("{EXAMPLES}\n\n{}", exit::help()))]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Where the broker is and how to answer.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// Context: plant, address, certificate and keys of the administrator, by the name in `context list` or as a
    /// folder [default: the one of `context use`]
    #[arg(long, value_name = "NAME|DIR", env = "TOUCHSTONE_CONTEXT", global = true)]
    pub(crate) context: Option<PathBuf>,
    /// Address of the broker, instead of the one in the context
    #[arg(long, value_name = "HOST:PORT", env = "TOUCHSTONE_ADDRESS", global = true)]
    pub(crate) address: Option<String>,
    /// Tables for people, JSON or YAML for programs
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t, global = true)]
    pub(crate) output: Format,
}

/// How to answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs; the shape is versioned by its field `schema`.
    Json,
    /// The same document as JSON.
    Yaml,
    /// For calendar programs (RFC 5545): of `calendar` alone.
    Ics,
}

/// Nouns, each with its verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The morning page: is the broker well, what needs you, how the devices are
    Status(status::StatusArgs),
    /// Devices: list, admit, quarantine, and why one is refused
    #[command(subcommand)]
    Device(device::DeviceCommand),
    /// One-time join tokens for new devices
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Accept for a time what one device is refused for; needs two people
    Override(overriding::OverrideArgs),
    /// Golden releases: what may boot
    #[command(subcommand)]
    Golden(golden::GoldenCommand),
    /// SBOMs: what golden releases contain
    #[command(subcommand)]
    Sbom(sbom::SbomCommand),
    /// Which devices run a vulnerable component, as far as they proved it
    Exposure(exposure::ExposureArgs),
    /// Zones: who gets certificates, how often they prove themselves
    #[command(subcommand)]
    Zone(zone::ZoneCommand),
    /// Conduits: which zone may open which service of another
    #[command(subcommand)]
    Conduit(conduit::ConduitCommand),
    /// Failure drills: break something in a staging zone, and see whether its bounds are kept
    #[command(subcommand)]
    Drill(drill::DrillCommand),
    /// Authorities that sign the certificates of zones
    #[command(subcommand)]
    Authority(authority::AuthorityCommand),
    /// Administrators: invite, accept, roles, remove
    #[command(subcommand)]
    Admin(admin::AdminCommand),
    /// Changes that wait for a second person: list, approve, reject
    #[command(subcommand)]
    Change(change::ChangeCommand),
    /// Everything that ends, and what begins by the clock
    Calendar(calendar::CalendarArgs),
    /// What was done, decided and refused
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Save the broker's state to a file
    Backup(backup::BackupArgs),
    /// Replace the broker's state by a backup; every device must attest again
    Restore(backup::RestoreArgs),
    /// Appraise evidence in a folder against golden releases; asks no broker
    Appraise(appraise::AppraiseArgs),
    /// Read evidence and certificates offline
    #[command(subcommand)]
    Inspect(inspect::InspectCommand),
    /// Contexts for several plants: list, use, show, add, remove
    #[command(subcommand)]
    Context(context::ContextCommand),
    /// Print the completion script of a shell
    Completion(completion::CompletionArgs),
    /// Write the man pages, one for each command
    Man(man::ManArgs),
}

/// For commands that change something.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct DryRun {
    /// Say what would change and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// A length of time: `90s`, `15m`, `8h`, `30d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) u32);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || format!("`{text}` is no length of time; write for example 90s, 15m, 8h or 30d");
        let unit = text.chars().next_back().ok_or_else(refuse)?;
        let factor = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return Err(refuse()),
        };
        let number: u32 = text.strip_suffix(unit).and_then(|n| n.parse().ok()).ok_or_else(refuse)?;
        number.checked_mul(factor).filter(|seconds| *seconds > 0).map(Self).ok_or_else(refuse)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_lists_the_exit_codes_and_examples() {
        let help = Cli::command().render_help().to_string();
        assert!(help.contains("Exit codes:") && help.contains("64  bad usage"), "{help}");
        assert!(help.contains("touchstone device why press-7"), "{help}");
    }

    #[test]
    fn global_options_stand_anywhere() {
        let cli =
            Cli::try_parse_from(["touchstone", "device", "list", "-o", "json", "--zone", "cell-3"]).unwrap();
        assert_eq!(cli.global.output, Format::Json);
    }

    #[test]
    fn lengths_of_time_need_a_unit() {
        assert_eq!("15m".parse(), Ok(Span(900)));
        assert_eq!("8h".parse(), Ok(Span(28_800)));
        for bad in ["", "15", "m", "0h", "-1h", "1.5h", "99999999d", "5é"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_value_that_says_nothing_is_bad_usage() {
        let usable = |line: &[&str]| Cli::try_parse_from([&["touchstone"], line].concat()).is_ok();
        let observe = |reason| usable(&["zone", "observe", "cell-3", "--reason", reason]);
        assert!(observe("the line stands") && !observe(""));
        let list = |limit| usable(&["audit", "list", "--limit", limit]);
        assert!(list("1") && list("1000") && !list("0") && !list("1001"));
    }

    #[test]
    fn a_malformed_name_is_bad_usage() {
        let error = Cli::try_parse_from(["touchstone", "zone", "show", "Cell_3"]).unwrap_err();
        assert_eq!(error.kind(), clap::error::ErrorKind::ValueValidation);
        assert!(error.to_string().contains("`Cell_3` is no zone name"), "{error}");
    }
}
