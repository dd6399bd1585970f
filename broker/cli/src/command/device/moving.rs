//! `touchstone device move`: to another zone, without a moment without certificates.

use clap::Args;
use policy::id::{DeviceName, ZoneName};
use policy::zone::Schedule;
use proto::v1::{MoveDeviceRequest, MoveDeviceResponse, PeerChange};
use serde::Serialize;

use crate::args::DryRun;
use crate::client::failed;
use crate::failure::Result;
use crate::output::moment::Moment;
use crate::output::table::Table;
use crate::output::{Page, Report, Session, View, words};

/// Who moves where, and when.
#[derive(Debug, Args)]
#[command(after_help = "\
The device gets certificates of the new zone first; those of the old one are revoked when it says that its
software has them. `device show` says how far it is. Moving it back is the way out; a week after the move has
begun, those of the old zone are made anew no more.
  touchstone device move press-7 --to cell-4 --dry-run
  touchstone device move press-7 --to cell-4 --at 'sat 22:00-04:00 in Europe/Berlin'")]
pub(crate) struct MoveArgs {
    /// Name of the device
    name: DeviceName,
    /// Zone that it goes to
    #[arg(long, value_name = "ZONE", required_unless_present = "cancel", conflicts_with = "cancel")]
    to: Option<ZoneName>,
    /// Zone that it leaves [default: the only one it is in]
    #[arg(long, value_name = "ZONE", conflicts_with = "cancel")]
    from: Option<ZoneName>,
    /// Hours of the week; it moves when they come next [default: at once]
    #[arg(long = "at", value_name = "WINDOW", conflicts_with = "cancel")]
    window: Option<Schedule>,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT", conflicts_with = "cancel")]
    reason: Option<String>,
    /// Drop a move that waits for its window
    #[arg(long)]
    cancel: bool,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Debug, Serialize)]
struct PeerView {
    gained: bool,
    /// Whether the device opens the service, or is opened.
    opens: bool,
    zone: String,
    service: String,
    devices: u32,
}

impl From<PeerChange> for PeerView {
    fn from(PeerChange { gained, opens, zone, service, devices }: PeerChange) -> Self {
        Self { gained, opens, zone, service, devices }
    }
}

impl PeerView {
    fn row(&self) -> [String; 2] {
        let what = if self.gained { "gains" } else { "loses" };
        let text = match self.opens {
            true => {
                let devices = words::count(usize::try_from(self.devices).unwrap_or(usize::MAX), "device");
                format!("may open {} in {} ({devices})", self.service, self.zone)
            }
            false => format!("its {} may be opened from {}", self.service, self.zone),
        };
        [what.to_owned(), text]
    }
}

#[derive(Debug, Serialize)]
struct Moved {
    device: String,
    from: String,
    to: String,
    begins_at: Moment,
    peers: Vec<PeerView>,
    dry_run: bool,
    #[serde(skip)]
    cancelled: bool,
}

impl View for Moved {
    fn text(&self, page: &Page) -> String {
        let Self { device, from, to, .. } = self;
        let would =
            |will: &str, done: &str| if self.dry_run { format!("would {will}") } else { done.to_owned() };
        if self.cancelled {
            return format!(
                "{}: {device} from {from} to {to}\n",
                would("cancel the move", "the move is cancelled")
            );
        }
        let when = match self.begins_at.0 {
            0 => "at once; `touchstone device show` says when it has arrived".to_owned(),
            _ => format!("when its window opens next, {}", self.begins_at),
        };
        let mut text = format!("{device} {} from {from} to {to}, {when}\n", would("move", "moves"));
        if !self.peers.is_empty() {
            let mut table = Table::new(["PEERS", "WHAT"]);
            self.peers.iter().for_each(|peer| table.row(peer.row()));
            text.push_str(&table.text("", page.colour));
        }
        text
    }
}

pub(super) async fn run(args: MoveArgs, session: &Session) -> Result<Report> {
    let zone = |zone: Option<ZoneName>| zone.map(|zone| zone.to_string()).unwrap_or_default();
    let mut request = MoveDeviceRequest {
        name: args.name.to_string(),
        to: zone(args.to),
        from: zone(args.from),
        window: args.window.map(|window| window.to_string()).unwrap_or_default(),
        reason: args.reason.unwrap_or_default(),
        cancel: args.cancel,
        dry_run: true,
        seen: None,
    };
    let mut client = session.client().await?;
    let mut answer = client.move_device(request.clone()).await.map_err(|s| failed(&s))?.into_inner();
    if !args.dry_run.dry_run {
        // Whoever changes the device between the two calls is not overwritten.
        (request.dry_run, request.seen) = (false, answer.seen);
        answer = client.move_device(request).await.map_err(|s| failed(&s))?.into_inner();
    }
    let MoveDeviceResponse { from, to, begins_at, peers, .. } = answer;
    session.report(&Moved {
        device: args.name.to_string(),
        from,
        to,
        begins_at: Moment(begins_at),
        peers: peers.into_iter().map(Into::into).collect(),
        dry_run: args.dry_run.dry_run,
        cancelled: args.cancel,
    })
}
