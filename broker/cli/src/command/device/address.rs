//! `touchstone device address`: IP addresses in a device's certificates.

use std::net::IpAddr;

use clap::{Args, Subcommand};
use policy::id::{DeviceName, ZoneName};
use proto::v1::ChangeAddressesRequest;
use serde::Serialize;

use crate::args::DryRun;
use crate::client::failed;
use crate::failure::Result;
use crate::output::{Report, Sentence, Session, words};

/// Verbs of `device address`.
#[derive(Debug, Subcommand)]
pub(crate) enum AddressCommand {
    /// Admit an address; the device gets new certificates, and those it has go on
    #[command(after_help = "\
The zone has to have a subnet with it: touchstone zone set cell-3 --subnet 10.1.3.0/24
Example: touchstone device address add press-7 10.1.3.7")]
    Add(AddressArgs),
    /// Admit it no more; certificates that name it are revoked at once, and the device gets others
    #[command(after_help = "Example: touchstone device address remove press-7 10.1.3.7")]
    Remove(AddressArgs),
}

/// Whose address, and where.
#[derive(Debug, Args)]
pub(crate) struct AddressArgs {
    /// Name of the device
    name: DeviceName,
    /// IPv4 or IPv6 address
    #[arg(value_name = "ADDRESS")]
    ip: IpAddr,
    /// Zone that it has the address in [default: the only one it is in]
    #[arg(long, value_name = "ZONE")]
    zone: Option<ZoneName>,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Serialize)]
struct Addressed {
    device: String,
    zone: String,
    addresses: Vec<String>,
    revoked: u32,
    dry_run: bool,
}

pub(super) async fn run(command: AddressCommand, session: &Session) -> Result<Report> {
    let (args, adds) = match command {
        AddressCommand::Add(args) => (args, true),
        AddressCommand::Remove(args) => (args, false),
    };
    let (device, dry_run) = (args.name.to_string(), args.dry_run.dry_run);
    let named = vec![args.ip.to_string()];
    let (add, remove) = if adds { (named, Vec::new()) } else { (Vec::new(), named) };
    let zone = args.zone.map(|zone| zone.to_string()).unwrap_or_default();
    let request = ChangeAddressesRequest { name: device.clone(), zone, add, remove, dry_run };
    let answer =
        session.client().await?.change_addresses(request).await.map_err(|s| failed(&s))?.into_inner();
    let text = format!(
        "{device} {} in {}: {}; {} {}",
        if dry_run { "would have" } else { "has" },
        answer.zone,
        if answer.addresses.is_empty() { "no address".to_owned() } else { words::list(&answer.addresses) },
        words::count(usize::try_from(answer.revoked).unwrap_or(usize::MAX), "certificate"),
        if dry_run { "would be revoked" } else { "revoked" },
    );
    let (zone, addresses, revoked) = (answer.zone, answer.addresses, answer.revoked);
    session.report(&Sentence { text, fields: Addressed { device, zone, addresses, revoked, dry_run } })
}
