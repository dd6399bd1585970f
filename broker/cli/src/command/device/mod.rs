//! `touchstone device`: the plant's devices, and why one is refused.

mod address;
mod clear;
mod ending;
mod import;
mod moving;
mod result;
mod show;
mod view;
mod vouch;

use std::fmt;
use std::str::FromStr;

use clap::{Args, Subcommand};
use policy::digest::Digest;
use policy::id::{DeviceName, ZoneName};
use proto::v1::{
    AdmitDeviceRequest, AttestDeviceRequest, Device, GetDeviceRequest, GetDeviceResponse, ListDevicesRequest,
    QuarantineDeviceRequest, ReadmitDeviceRequest,
};
use serde::Serialize;

use crate::args::DryRun;
use crate::client::failed;
use crate::command::watch::Watch;
use crate::failure::Result;
use crate::output::{Report, Sentence, Session, words};

use show::ShowPage;
use view::{DevicePage, Devices, WhyPage};

/// Devices in one answer of the broker.
const PAGE: u32 = 500;

/// Verbs of `device`.
#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// Every device with its zone and state
    #[command(after_help = "Example: touchstone device list --zone cell-3 --state refused")]
    List(ListArgs),
    /// One device: releases, inventory, services, certificates, last attestation
    #[command(after_help = "Example: touchstone device show press-7")]
    Show {
        /// Name of the device, or sha256:… of its EK
        device: DeviceRef,
    },
    /// Why a device is in its state, what was expected and seen, and what to do
    #[command(after_help = "Example: touchstone device why press-7")]
    Why {
        /// Name of the device, or sha256:… of its EK
        device: DeviceRef,
    },
    /// Let a pending device in
    Admit(AdmitArgs),
    /// Revoke a device's certificates and give it no new ones
    #[command(after_help = "Example: touchstone device quarantine press-7 --reason 'found open'")]
    Quarantine(ReasonArgs),
    /// End a quarantine, or take a retired device back; it must attest before it is trusted
    #[command(after_help = "Example: touchstone device readmit press-7 --reason repaired")]
    Readmit(ReasonArgs),
    /// Bring a device into another zone, with certificates of both until it has arrived
    Move(moving::MoveArgs),
    /// Give a device's name to the TPM of a new mainboard
    Replace(ending::ReplaceArgs),
    /// Take a device out of service; its name stays taken and its TPM is barred
    #[command(after_help = "Example: touchstone device retire press-7 --reason scrapped")]
    Retire(ending::EndArgs),
    /// IP addresses in a device's certificates, for peers that know each other by nothing else
    #[command(subcommand)]
    Address(address::AddressCommand),
    /// Machines without a TPM behind a gateway that vouches for them: list, accept, drop
    #[command(subcommand)]
    Vouch(vouch::VouchCommand),
    /// Announce that a device's TPM is cleared, so that its new counters are no alarm
    ExpectClear(clear::ClearArgs),
    /// Ask a device to prove itself now
    #[command(after_help = "Example: touchstone device attest press-7")]
    Attest {
        /// Name of the device
        name: DeviceName,
        #[command(flatten)]
        dry_run: DryRun,
    },
    /// The last appraisal of a device, also as a signed attestation result (EAR)
    Result(result::ResultArgs),
    /// Register devices by the EK of their TPM, so that they are admitted when they come
    Import(import::ImportArgs),
}

/// Which devices.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only devices of this zone
    #[arg(long, value_name = "ZONE")]
    zone: Option<ZoneName>,
    /// Only devices in this state
    #[arg(long, value_name = "STATE", value_parser = [
        "registered", "pending", "trusted", "holding", "silent", "refused", "quarantined", "retired", "vouched",
        "ended",
    ])]
    state: Option<String>,
    #[command(flatten)]
    watch: Watch,
}

/// Whom to let in, as what.
#[derive(Debug, Args)]
#[command(after_help = "\
Compare the EK digest with what `touchstone-attestor identify` prints on the device itself:
  touchstone device admit sha256:… --zone cell-3 --as press-7")]
pub(crate) struct AdmitArgs {
    /// Name that the device asks for, or sha256:… of its EK
    device: DeviceRef,
    /// Zone that it joins; may repeat
    #[arg(long = "zone", value_name = "ZONE")]
    zones: Vec<ZoneName>,
    /// Name to give it [default: the one it asks for]
    #[arg(long = "as", value_name = "NAME")]
    name: Option<DeviceName>,
    #[command(flatten)]
    dry_run: DryRun,
}

/// Whom, and why.
#[derive(Debug, Args)]
pub(crate) struct ReasonArgs {
    /// Name of the device
    name: DeviceName,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    dry_run: DryRun,
}

/// A device by its name or by the digest of its EK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DeviceRef {
    Name(DeviceName),
    Ek(Digest),
}

impl FromStr for DeviceRef {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if text.starts_with("sha256:") {
            return text.parse().map(Self::Ek).map_err(|e: policy::digest::ParseDigestError| e.to_string());
        }
        text.parse().map(Self::Name).map_err(|e: policy::id::NameError| e.to_string())
    }
}

impl fmt::Display for DeviceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Ek(digest) => digest.fmt(f),
        }
    }
}

/// Runs a verb.
pub(crate) async fn run(command: DeviceCommand, session: &Session) -> Result<Report> {
    match command {
        DeviceCommand::List(args) => {
            args.watch.show(session, async |session| list(&args, session).await).await
        }
        DeviceCommand::Show { device } => session.report(&ShowPage::from(read(&device, session).await?)),
        DeviceCommand::Why { device } => session.report(&WhyPage::from(read(&device, session).await?)),
        DeviceCommand::Admit(args) => admit(args, session).await,
        DeviceCommand::Quarantine(args) => quarantine(args, session).await,
        DeviceCommand::Readmit(args) => readmit(args, session).await,
        DeviceCommand::Move(args) => moving::run(args, session).await,
        DeviceCommand::Replace(args) => ending::replace(args, session).await,
        DeviceCommand::Retire(args) => ending::retire(args, session).await,
        DeviceCommand::Address(command) => address::run(command, session).await,
        DeviceCommand::Vouch(command) => vouch::run(command, session).await,
        DeviceCommand::ExpectClear(args) => clear::run(args, session).await,
        DeviceCommand::Attest { name, dry_run } => attest(name, dry_run, session).await,
        DeviceCommand::Result(args) => result::run(args, session).await,
        DeviceCommand::Import(args) => import::run(args, session).await,
    }
}

async fn list(args: &ListArgs, session: &Session) -> Result<Report> {
    let mut client = session.client().await?;
    let mut request = ListDevicesRequest {
        zone: args.zone.as_ref().map(ToString::to_string).unwrap_or_default(),
        state: args.state.clone().unwrap_or_default(),
        after: String::new(),
        limit: PAGE,
    };
    let (mut devices, mut machines) = (Vec::new(), Vec::new());
    loop {
        let answer = client.list_devices(request.clone()).await.map_err(|s| failed(&s))?.into_inner();
        devices.extend(answer.devices);
        machines.extend(answer.machines);
        // Pages are ordered; one that does not lead on would be asked for ever.
        if answer.next.is_empty() || answer.next <= request.after {
            return session.report(&Devices::new(devices, machines));
        }
        request.after = answer.next;
    }
}

async fn read(device: &DeviceRef, session: &Session) -> Result<GetDeviceResponse> {
    let request = GetDeviceRequest { name: device.to_string() };
    let mut client = session.client().await?;
    Ok(client.get_device(request).await.map_err(|s| failed(&s))?.into_inner())
}

/// What a change would meet, for `--dry-run`.
async fn would(device: &DeviceRef, what: &str, session: &Session) -> Result<Report> {
    let found: Device = read(device, session).await?.device.unwrap_or_default();
    let text = format!(
        "would {what} {}: it is {} in {} with {}",
        if found.name.is_empty() { device.to_string() } else { found.name },
        found.state,
        words::list(&found.zones),
        words::count(found.svids.len(), "certificate"),
    );
    session.report(&Sentence::would(text))
}

async fn admit(args: AdmitArgs, session: &Session) -> Result<Report> {
    if args.dry_run.dry_run {
        return would(&args.device, "admit", session).await;
    }
    let ek_digest = match &args.device {
        DeviceRef::Ek(digest) => digest.0.to_vec(),
        DeviceRef::Name(_) => Vec::new(),
    };
    let seen = read(&args.device, session).await?.seen;
    let request = AdmitDeviceRequest {
        device: args.device.to_string(),
        ek_digest,
        name: args.name.map(|name| name.to_string()).unwrap_or_default(),
        zones: args.zones.iter().map(ToString::to_string).collect(),
        seen,
    };
    let answer = session.client().await?.admit_device(request).await.map_err(|s| failed(&s))?;
    let device = answer.into_inner().device.unwrap_or_default();
    let text = format!("{} is admitted to {}", device.name, words::list(&device.zones));
    session.report(&Sentence { text, fields: DevicePage::from(device) })
}

#[derive(Serialize)]
struct Quarantined {
    device: String,
    revoked: u32,
}

async fn quarantine(args: ReasonArgs, session: &Session) -> Result<Report> {
    if args.dry_run.dry_run {
        return would(&DeviceRef::Name(args.name), "quarantine", session).await;
    }
    let device = args.name.to_string();
    let request = QuarantineDeviceRequest { name: device.clone(), reason: args.reason };
    let answer = session.client().await?.quarantine_device(request).await.map_err(|s| failed(&s))?;
    let revoked = answer.into_inner().revoked;
    let certificates = words::count(usize::try_from(revoked).unwrap_or(usize::MAX), "certificate");
    let text = format!("{device} is quarantined; {certificates} revoked");
    session.report(&Sentence { text, fields: Quarantined { device, revoked } })
}

#[derive(Serialize)]
struct Readmitted {
    device: String,
    /// None: the device comes back by itself.
    next_command: Option<String>,
}

#[derive(Serialize)]
struct Named {
    device: String,
}

async fn readmit(args: ReasonArgs, session: &Session) -> Result<Report> {
    if args.dry_run.dry_run {
        return would(&DeviceRef::Name(args.name), "readmit", session).await;
    }
    let device = args.name.to_string();
    let seen = read(&DeviceRef::Name(args.name), session).await?.seen;
    let request = ReadmitDeviceRequest { name: device.clone(), reason: args.reason, seen };
    let answer = session.client().await?.readmit_device(request).await.map_err(|s| failed(&s))?;
    let next_command = answer.into_inner().next_command;
    let text = match next_command.is_empty() {
        true => format!("{device} may attest again; it is trusted again when it proves itself"),
        false => format!(
            "what any copy of {device} has counts for nothing any more; delete the state of the right one, and let it join \
             again: {next_command}"
        ),
    };
    let next_command = (!next_command.is_empty()).then_some(next_command);
    session.report(&Sentence { text, fields: Readmitted { device, next_command } })
}

async fn attest(name: DeviceName, dry_run: DryRun, session: &Session) -> Result<Report> {
    if dry_run.dry_run {
        return would(&DeviceRef::Name(name), "ask for proof from", session).await;
    }
    let device = name.to_string();
    let request = AttestDeviceRequest { name: device.clone() };
    session.client().await?.attest_device(request).await.map_err(|s| failed(&s))?;
    let text = format!("{device} is asked to prove itself now; see `touchstone device why {device}`");
    session.report(&Sentence { text, fields: Named { device } })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn parse(line: &str) -> std::result::Result<DeviceCommand, clap::Error> {
        let cli = Cli::try_parse_from(["touchstone", "device"].into_iter().chain(line.split(' ')))?;
        match cli.command {
            Command::Device(command) => Ok(command),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn admit_takes_a_name_or_an_ek() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let DeviceCommand::Admit(args) =
            parse(&format!("admit {digest} --zone cell-3 --zone lab --as press-7")).unwrap()
        else {
            panic!("not admit")
        };
        assert_eq!(args.device, DeviceRef::Ek(Digest([0xab; 32])));
        assert_eq!(args.zones.len(), 2);
        assert_eq!(args.name.unwrap().as_str(), "press-7");
        let error = parse("admit sha256:abc").unwrap_err().to_string();
        assert!(error.contains("`sha256:abc` is not a digest"), "{error}");
    }

    #[test]
    fn quarantine_needs_a_reason() {
        let error = parse("quarantine press-7").unwrap_err();
        assert_eq!(error.kind(), clap::error::ErrorKind::MissingRequiredArgument);
        assert!(parse("quarantine press-7 --reason x --dry-run").is_ok());
    }

    #[test]
    fn an_unknown_state_is_refused() {
        assert!(parse("list --state broken").is_err());
        assert!(parse("list --state refused --zone cell-3").is_ok());
    }
}
