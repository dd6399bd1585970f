//! `touchstone drill`: break something in a staging zone on purpose, and hold what comes of it against what the zone
//! promises.

mod course;
mod report;
mod session;

use clap::{Args, Subcommand};
use policy::id::{DeviceName, ZoneName};
use policy::zone::Fault;
use proto::v1::{EndDrillRequest, StartDrillRequest, StartDrillResponse};
use serde::Serialize;

use self::report::DrillReport;
use self::session::Sessions;
use crate::args::{DryRun, Span};
use crate::client::failed;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::output::{Report, Sentence, Session, agree, words};

/// Faults, and the way back.
#[derive(Debug, Subcommand)]
pub(crate) enum DrillCommand {
    /// The broker is not there for the zone's devices: nobody may lose trust or a session
    #[command(after_help = "\
Sessions go on, whatever the zone says of new ones. What it says of those (gate_fail) is tried with --across.
Example: touchstone drill link-loss staging --reason \"yearly drill\" --session 10.9.0.7:502 --across 10.9.0.8:502")]
    LinkLoss(LinkLossArgs),
    /// The broker answers the zone's devices late: each must still prove itself in time
    #[command(after_help = "Example: touchstone drill delay staging --by 5s --reason \"yearly drill\"")]
    Delay(DelayArgs),
    /// The certificates of one device are revoked as if its key were stolen: it is cut off, and comes back with others
    #[command(after_help = "\
A session that is given must be one of this device.
Example: touchstone drill compromised-credential staging --device press-7 --reason \"yearly drill\" --session \
10.9.0.7:502")]
    CompromisedCredential(DeviceArgs),
    /// One device counts as booting what no release accepts: it is cut off, and trusted again afterwards
    #[command(after_help = "\
Nothing is installed or signed; the broker only refuses. A session that is given must be one of this device.
Example: touchstone drill corrupted-update staging --device press-7 --reason \"yearly drill\"")]
    CorruptedUpdate(DeviceArgs),
    /// One device is rebooted by whoever stands before it: it is trusted again by itself
    #[command(after_help = "\
The broker reboots nothing: when the drill says so, reboot the device or cut its power.
Example: touchstone drill reboot staging --device press-7 --for 15m --reason \"yearly drill\"")]
    Reboot(DeviceArgs),
    /// End the fault that runs in a zone before its time
    #[command(after_help = "Example: touchstone drill end staging")]
    End(EndArgs),
}

/// How long a fault runs if nothing asks for more.
const LENGTH: Span = Span(60);
/// How long a lost link takes to be tried at gates: they miss the broker after 90 s (`attestor/src/renewal/heard.rs`), and
/// then sessions are begun.
const GATES_TRIED: Span = Span(150);

/// What every drill is given.
#[derive(Clone, Debug, Args)]
pub(crate) struct ZoneArgs {
    /// The staging zone, marked with `touchstone zone set ZONE --drills on`
    zone: ZoneName,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    reason: String,
    /// For how long the fault runs at most, up to 1h; it ends by itself, even if this program does not live to see it.
    /// Left out: 60s, or for as long as the zone's bounds ask for
    #[arg(long = "for", value_name = "TIME")]
    length: Option<Span>,
    /// Open a session to this address (a gate or what is behind it) before the fault, and watch it; may repeat
    #[arg(long = "session", value_name = "HOST:PORT")]
    sessions: Vec<String>,
    /// Begin without asking
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    dry_run: DryRun,
}

/// What is tried while the link is lost.
#[derive(Debug, Args)]
pub(crate) struct LinkLossArgs {
    #[command(flatten)]
    of: ZoneArgs,
    /// Hold a session as with --session, of which one end is in another zone, and begin another while the link is lost:
    /// gates let it in or not as gate_fail of the zone says; may repeat
    #[arg(long, value_name = "HOST:PORT")]
    across: Vec<String>,
}

/// By how much answers are late.
#[derive(Debug, Args)]
pub(crate) struct DelayArgs {
    #[command(flatten)]
    of: ZoneArgs,
    /// By how much each answer is late, up to 20s
    #[arg(long, value_name = "TIME", default_value = "5s")]
    by: Span,
}

/// Which device it befalls.
#[derive(Debug, Args)]
pub(crate) struct DeviceArgs {
    #[command(flatten)]
    of: ZoneArgs,
    /// The device that it befalls
    #[arg(long, value_name = "NAME")]
    device: DeviceName,
}

/// Whose drill ends.
#[derive(Debug, Args)]
pub(crate) struct EndArgs {
    /// The zone
    zone: ZoneName,
    #[command(flatten)]
    dry_run: DryRun,
}

/// Runs a verb.
pub(crate) async fn run(command: DrillCommand, session: &Session) -> Result<Report> {
    match command {
        DrillCommand::LinkLoss(LinkLossArgs { of, across }) => {
            let asked = Asked { across, ..Asked::of(Fault::LinkLoss, of) };
            drill(asked, session).await
        }
        DrillCommand::Delay(args) => {
            let asked = Asked { delay: args.by.0, ..Asked::of(Fault::Delay, args.of) };
            drill(asked, session).await
        }
        DrillCommand::CompromisedCredential(args) => one(Fault::CompromisedCredential, args, session).await,
        DrillCommand::CorruptedUpdate(args) => one(Fault::CorruptedUpdate, args, session).await,
        DrillCommand::Reboot(args) => one(Fault::Reboot, args, session).await,
        DrillCommand::End(args) => end(&args, session).await,
    }
}

async fn one(fault: Fault, args: DeviceArgs, session: &Session) -> Result<Report> {
    drill(Asked { device: Some(args.device), ..Asked::of(fault, args.of) }, session).await
}

/// What somebody asks for.
struct Asked {
    fault: Fault,
    args: ZoneArgs,
    device: Option<DeviceName>,
    /// By how many seconds answers are late.
    delay: u32,
    /// Where a session with another zone begins.
    across: Vec<String>,
}

impl Asked {
    const fn of(fault: Fault, args: ZoneArgs) -> Self {
        Self { fault, args, device: None, delay: 0, across: Vec::new() }
    }
}

async fn drill(asked: Asked, session: &Session) -> Result<Report> {
    let Asked { fault, args, device, delay, across } = asked;
    let dry_run = args.dry_run.dry_run;
    if fault == Fault::Reboot && !args.sessions.is_empty() {
        let what = "a reboot ends the sessions of the device, whatever the zone says".to_owned();
        return Err(Failure::new(Exit::Usage, what).next("leave --session out"));
    }
    agree::possible(args.yes || dry_run, "drill", "--dry-run")?;
    let mut client = session.client().await?;
    let mut request = StartDrillRequest {
        zone: args.zone.to_string(),
        fault: fault.to_string(),
        device: device.as_ref().map(ToString::to_string).unwrap_or_default(),
        seconds: args.length.unwrap_or(LENGTH).0,
        delay_seconds: delay,
        reason: args.reason.clone(),
        dry_run: true,
    };
    let could = client.start_drill(request.clone()).await.map_err(|s| failed(&s))?.into_inner();
    let length = long_enough(fault, args.length, &could, !across.is_empty())?;
    request.seconds = length.0;
    let whom = device.as_ref().map_or_else(|| "its devices".to_owned(), ToString::to_string);
    let what = format!("{fault} of {whom} in zone {} for {}", args.zone, words::span(length.0.into()));
    let watched = course::healthy(&could, device.as_ref())?;
    if dry_run {
        let counted = words::count(watched.len(), "healthy device");
        return session.report(&Sentence::would(format!("would begin {what}, and watch {counted}")));
    }
    agree::settle(args.yes, &format!("Begin {what}?"))?;
    let sessions = Sessions::open(args.sessions, across).await?;
    request.dry_run = false;
    let begun = client.start_drill(request).await.map_err(|s| failed(&s))?.into_inner();
    announce(fault, &args.zone, &whom, &begun);
    let course = course::Course::new(session, client, &begun, device.as_ref())?;
    let drilled = course.run(fault, &args.zone, length, sessions).await;
    // The broker would end it by itself; nobody waits for that.
    if drilled.is_err() {
        let request = EndDrillRequest { zone: args.zone.to_string() };
        if session.client().await?.end_drill(request).await.is_err() {
            eprintln!("the drill in zone {} ends by itself at {}", args.zone, words::rfc3339(begun.ends_at));
        }
    }
    let report = DrillReport::new(fault, &args.zone, device.as_ref(), begun, drilled?);
    let exit = if report.is_kept() { Exit::Done } else { Exit::NeedsYou };
    Ok(session.report(&report)?.ending(exit))
}

fn announce(fault: Fault, zone: &ZoneName, whom: &str, begun: &StartDrillResponse) {
    let until = words::rfc3339(begun.ends_at);
    eprintln!("{fault} of {whom} runs in zone {zone} until {until}; `touchstone drill end {zone}` ends it");
    if fault == Fault::Reboot {
        eprintln!("reboot {whom} now, or cut its power and switch it on again");
    }
}

#[derive(Serialize)]
struct Ended {
    zone: String,
    ended: bool,
}

async fn end(args: &EndArgs, session: &Session) -> Result<Report> {
    let zone = args.zone.to_string();
    if args.dry_run.dry_run {
        return session.report(&Sentence::would(format!("would end the drill in zone {zone}")));
    }
    let request = EndDrillRequest { zone: zone.clone() };
    let answer = session.client().await?.end_drill(request).await.map_err(|s| failed(&s))?;
    let ended = answer.into_inner().ended;
    let text = match ended {
        true => format!("the drill in zone {zone} has ended"),
        false => format!("no drill runs in zone {zone}"),
    };
    session.report(&Sentence { text, fields: Ended { zone, ended } })
}

/// How long the fault runs: as long as was said, if that is as long as what is promised of it takes. A device that is
/// refused for a shorter time than its zone takes to cut it off would prove nothing, nor would one that proves itself
/// when answers come in time again, nor a gate that has not missed the broker yet.
fn long_enough(
    fault: Fault,
    length: Option<Span>,
    could: &StartDrillResponse,
    tries_gates: bool,
) -> Result<Span> {
    let bounds = could.before.as_ref().and_then(|before| before.zone.as_ref()?.drills).unwrap_or_default();
    let (least, what) = match fault {
        Fault::CorruptedUpdate => (bounds.cut_within_seconds, "have cut the device off"),
        Fault::Delay => (bounds.recover_within_seconds, "have heard from every device"),
        Fault::LinkLoss if tries_gates => (GATES_TRIED.0, "have missed the broker at its gates"),
        Fault::LinkLoss | Fault::CompromisedCredential | Fault::Reboot => (0, ""),
    };
    match length {
        None => Ok(Span(least.max(LENGTH.0))),
        Some(length) if length.0 >= least => Ok(length),
        Some(_) => {
            let least = words::span(least.into());
            let what =
                format!("the fault is to end before the zone has to {what}, which takes up to {least}");
            Err(Failure::new(Exit::Usage, what).next(format!("let it run for at least {least} with --for")))
        }
    }
}

/// A device or zone that is not there as it should be.
fn unfit(what: String) -> Failure {
    Failure::new(Exit::Negative, what).next(
        "a drill begins with devices that are trusted and connected: see `touchstone status`; of several brokers, \
         drill at the one that the zone's devices watch",
    )
}

#[cfg(test)]
mod tests {
    use proto::v1::{DrillBounds, Zone, ZoneInDrill};

    use super::*;

    #[test]
    fn a_fault_lasts_until_its_bound_can_be_held_against_it() {
        let bounds = Some(DrillBounds { cut_within_seconds: 10, recover_within_seconds: 120 });
        let zone = Some(Zone { drills: bounds, ..Zone::default() });
        let before = Some(ZoneInDrill { zone, ..ZoneInDrill::default() });
        let could = StartDrillResponse { before, ..StartDrillResponse::default() };
        let lasts =
            |fault, length| long_enough(fault, length, &could, false).map_err(|failure| failure.exit());
        assert_eq!(lasts(Fault::Delay, None), Ok(Span(120)));
        assert_eq!(lasts(Fault::Delay, Some(Span(119))), Err(Exit::Usage));
        assert_eq!(lasts(Fault::CorruptedUpdate, None), Ok(Span(60)));
        assert_eq!(lasts(Fault::CorruptedUpdate, Some(Span(9))), Err(Exit::Usage));
        assert_eq!(lasts(Fault::LinkLoss, Some(Span(1))), Ok(Span(1)));
        let across = |length| long_enough(Fault::LinkLoss, length, &could, true).ok();
        assert_eq!((across(None), across(Some(Span(149)))), (Some(GATES_TRIED), None));
    }
}
