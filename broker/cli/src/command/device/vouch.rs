//! `touchstone device vouch`: machines without a TPM or keys, behind a gateway that vouches for them.

use clap::{Args, Subcommand};
use policy::id::DeviceName;
use proto::v1::{ListVouchedRequest, SettleVouchedRequest, Vouched, VouchedMachine};
use serde::Serialize;

use crate::args::DryRun;
use crate::client::failed;
use crate::failure::Result;
use crate::output::moment::Moment;
use crate::output::table::Table;
use crate::output::{Page, Report, Sentence, Session, View, words};

/// Verbs of `device vouch`.
#[derive(Debug, Subcommand)]
pub(crate) enum VouchCommand {
    /// Every machine that a gateway states, and how it stands
    #[command(after_help = "Example: touchstone device vouch list")]
    List,
    /// Accept a machine behind a gateway; with --kind also before the gateway states it
    #[command(after_help = "\
A machine counts while its gateway is trusted and states it as it was accepted. It gets no certificate.
  touchstone device vouch accept plc-1 --by gateway-3
  touchstone device vouch accept plc-1 --by gateway-3 --kind PLC --machine-address 10.9.0.7 --serial A1")]
    Accept(AcceptArgs),
    /// Forget a machine behind a gateway
    #[command(after_help = "Example: touchstone device vouch drop plc-1 --by gateway-3")]
    Drop(MachineArgs),
}

/// Which machine behind whom.
#[derive(Debug, Args)]
pub(crate) struct MachineArgs {
    /// Name of the machine
    machine: DeviceName,
    /// The gateway that vouches for it
    #[arg(long = "by", value_name = "DEVICE")]
    gateway: DeviceName,
    #[command(flatten)]
    dry_run: DryRun,
}

/// The same, and what it has to be.
#[derive(Debug, Args)]
pub(crate) struct AcceptArgs {
    #[command(flatten)]
    what: MachineArgs,
    /// What it has to be, for example PLC [default: what the gateway states]
    #[arg(long, value_name = "TEXT")]
    kind: Option<String>,
    /// Where it is reached behind the gateway
    #[arg(long, value_name = "TEXT", requires = "kind")]
    machine_address: Option<String>,
    /// Its serial number
    #[arg(long, value_name = "TEXT", requires = "kind")]
    serial: Option<String>,
}

/// A machine behind a gateway.
#[derive(Debug, Serialize)]
pub(super) struct MachineView {
    name: String,
    kind: String,
    address: String,
    serial: String,
    vouched_by: String,
    state: String,
    zones: Vec<String>,
    stated_since: Moment,
    accepted_by: Option<String>,
    accepted_at: Moment,
}

impl From<Vouched> for MachineView {
    fn from(vouched: Vouched) -> Self {
        let VouchedMachine { name, kind, address, serial } = vouched.machine.unwrap_or_default();
        Self {
            name,
            kind,
            address,
            serial,
            vouched_by: vouched.gateway,
            state: vouched.state,
            zones: vouched.zones,
            stated_since: Moment(vouched.stated_since),
            accepted_by: (!vouched.accepted_by.is_empty()).then_some(vouched.accepted_by),
            accepted_at: Moment(vouched.accepted_at),
        }
    }
}

impl MachineView {
    /// Its row in the list of devices.
    pub(super) fn among_devices(&self) -> [String; 8] {
        let none = || words::or_dash("");
        let (name, state, zones) = (self.name.clone(), self.state.clone(), words::list(&self.zones));
        [name, state, zones, none(), none(), none(), self.kind.clone(), format!("behind {}", self.vouched_by)]
    }
}

#[derive(Debug, Serialize)]
struct Machines {
    machines: Vec<MachineView>,
}

impl View for Machines {
    fn text(&self, page: &Page) -> String {
        let mut table = Table::new(["MACHINE", "STATE", "VOUCHED BY", "ZONES", "KIND", "ADDRESS", "SERIAL"]);
        for one in &self.machines {
            table.row([
                one.name.clone(),
                one.state.clone(),
                one.vouched_by.clone(),
                words::list(&one.zones),
                one.kind.clone(),
                words::or_dash(&one.address),
                words::or_dash(&one.serial),
            ]);
        }
        table.text("no machines; a gateway names them in its attestor.toml, in [[vouches]]", page.colour)
    }
}

#[derive(Serialize)]
struct Settled {
    machine: String,
    vouched_by: String,
    accepted: bool,
    dry_run: bool,
}

pub(super) async fn run(command: VouchCommand, session: &Session) -> Result<Report> {
    let (what, about, accept) = match command {
        VouchCommand::List => {
            let answer = session.client().await?.list_vouched(ListVouchedRequest {}).await;
            let machines = answer.map_err(|s| failed(&s))?.into_inner().machines;
            return session.report(&Machines { machines: machines.into_iter().map(Into::into).collect() });
        }
        VouchCommand::Accept(AcceptArgs { what, kind, machine_address, serial }) => {
            let about = [kind, machine_address, serial].map(Option::unwrap_or_default);
            (what, about, true)
        }
        VouchCommand::Drop(what) => (what, Default::default(), false),
    };
    let [kind, address, serial] = about;
    let (name, gateway, dry_run) = (what.machine.to_string(), what.gateway.to_string(), what.dry_run.dry_run);
    let machine = Some(VouchedMachine { name: name.clone(), kind, address, serial });
    let request = SettleVouchedRequest { gateway: gateway.clone(), machine, accept, dry_run };
    session.client().await?.settle_vouched(request).await.map_err(|s| failed(&s))?;
    let text = match (accept, dry_run) {
        (true, false) => {
            format!("{name} is accepted; it is vouched for while {gateway} is trusted and states it")
        }
        (false, false) => format!("{name} behind {gateway} is forgotten"),
        (true, true) => format!("would accept {name} behind {gateway}"),
        (false, true) => format!("would forget {name} behind {gateway}"),
    };
    let fields = Settled { machine: name, vouched_by: gateway, accepted: accept, dry_run };
    session.report(&Sentence { text, fields })
}
