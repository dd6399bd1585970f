//! `touchstone override`: accept for a time what one device is refused for.

use std::fmt::Write as _;

use clap::Args;
use policy::id::DeviceName;
use proto::v1::{
    EndOverrideRequest, ListOverridesRequest, OverrideDeviceRequest, OverrideDeviceResponse, OverrideState,
};
use serde::Serialize;

use crate::args::{DryRun, Span};
use crate::client::failed;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::output::finding::Finding;
use crate::output::moment::Moment;
use crate::output::table::Table;
use crate::output::{Page, Report, Sentence, Session, View, agree, words};

/// Which device, why and for how long.
#[derive(Debug, Args)]
#[command(after_help = "\
Accepts what the device is refused for now, digest by digest, and nothing else. An operator asks, security
agrees (`touchstone change approve`); it ends by itself. A withdrawn release, a TPM that nobody vouches for and
evidence that is not authentic cannot be overridden.
  touchstone override press-7 --reason \"line stands, release is being signed\" --for 4h
  touchstone override press-7 --end
  touchstone override                       lists those that hold")]
pub(crate) struct OverrideArgs {
    /// Name of the device; none lists the overrides that hold
    device: Option<DeviceName>,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT", requires = "device")]
    reason: Option<String>,
    /// How long it holds, at most 24h
    #[arg(long = "for", value_name = "TIME", default_value = "4h")]
    lifetime: Span,
    /// End the device's override now
    #[arg(long, requires = "device", conflicts_with = "reason")]
    end: bool,
    /// Ask for it without showing first what it accepts
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    dry_run: DryRun,
}

/// What an override accepts.
#[derive(Debug, Serialize)]
struct Accepts {
    device: String,
    until: Moment,
    dry_run: bool,
    findings: Vec<Finding>,
}

impl Accepts {
    fn new(device: &DeviceName, answer: OverrideDeviceResponse, dry_run: bool) -> Self {
        Self {
            device: device.to_string(),
            until: Moment(answer.until),
            dry_run,
            findings: answer.findings.into_iter().map(Into::into).collect(),
        }
    }
}

impl View for Accepts {
    fn text(&self, _: &Page) -> String {
        let verb = if self.dry_run { "would be" } else { "is" };
        let mut text =
            format!("Until {}, {} {verb} accepted with:\n", self.until, words::visible(&self.device));
        for finding in &self.findings {
            let _ = writeln!(text, "  {}", words::visible(&finding.sentence()));
        }
        text
    }
}

/// An override that holds.
#[derive(Debug, Serialize)]
pub(crate) struct OverrideView {
    device: String,
    at: Moment,
    until: Moment,
    by: String,
    approved_by: String,
    reason: String,
    mismatches: Vec<String>,
}

impl From<OverrideState> for OverrideView {
    fn from(state: OverrideState) -> Self {
        Self {
            device: state.device,
            at: Moment(state.at),
            until: Moment(state.until),
            by: state.by,
            approved_by: state.approved_by,
            reason: state.reason,
            mismatches: state.mismatches,
        }
    }
}

impl OverrideView {
    /// In a line: until when, by whom and why.
    pub(crate) fn line(&self, page: &Page) -> String {
        let Self { by, approved_by, reason, .. } = self;
        format!("ends {}, by {by} and {approved_by}: {reason}", words::left(self.until.0, page.now))
    }
}

#[derive(Debug, Serialize)]
struct Overrides {
    overrides: Vec<OverrideView>,
}

impl View for Overrides {
    fn text(&self, page: &Page) -> String {
        let mut table = Table::new(["DEVICE", "ENDS", "BY", "WHY", "ACCEPTS"]);
        for one in &self.overrides {
            table.row([
                one.device.clone(),
                words::left(one.until.0, page.now),
                format!("{}, {}", one.by, one.approved_by),
                one.reason.clone(),
                one.mismatches.join("; "),
            ]);
        }
        table.text("no override holds", page.colour)
    }
}

/// Runs the command.
pub(crate) async fn run(args: OverrideArgs, session: &Session) -> Result<Report> {
    let Some(device) = &args.device else { return list(session).await };
    if args.end {
        return end(device, &args, session).await;
    }
    agree::possible(args.yes || args.dry_run.dry_run, "override", "--dry-run")?;
    let reason = match &args.reason {
        Some(reason) => reason.clone(),
        None if args.dry_run.dry_run => "dry run".to_owned(),
        None => return Err(Failure::new(Exit::Usage, "say why, for the audit log, with --reason TEXT")),
    };
    let mut client = session.client().await?;
    let mut request = OverrideDeviceRequest {
        name: device.to_string(),
        reason,
        lifetime_seconds: args.lifetime.0,
        mismatches: Vec::new(),
        dry_run: true,
    };
    let shown = client.override_device(request.clone()).await.map_err(|s| failed(&s))?.into_inner();
    request.mismatches.clone_from(&shown.mismatches);
    let accepts = Accepts::new(device, shown, true);
    if args.dry_run.dry_run {
        return session.report(&accepts);
    }
    eprint!("{}", accepts.text(&session.plain_page()));
    agree::settle(args.yes, &format!("Ask for this override of {device}?"))?;
    request.dry_run = false;
    let answer = client.override_device(request).await.map_err(|s| failed(&s))?.into_inner();
    session.report(&Accepts::new(device, answer, false))
}

async fn list(session: &Session) -> Result<Report> {
    let answer = session.client().await?.list_overrides(ListOverridesRequest {}).await;
    let overrides = answer.map_err(|s| failed(&s))?.into_inner().overrides;
    session.report(&Overrides { overrides: overrides.into_iter().map(Into::into).collect() })
}

#[derive(Serialize)]
struct Ended {
    device: String,
}

async fn end(device: &DeviceName, args: &OverrideArgs, session: &Session) -> Result<Report> {
    if args.dry_run.dry_run {
        return session.report(&Sentence::would(format!("would end the override of {device}")));
    }
    let request = EndOverrideRequest { name: device.to_string() };
    session.client().await?.end_override(request).await.map_err(|s| failed(&s))?;
    let text = format!("the override of {device} has ended; it proves itself again now");
    session.report(&Sentence { text, fields: Ended { device: device.to_string() } })
}
