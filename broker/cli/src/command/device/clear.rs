//! `touchstone device expect-clear`: a TPM that is cleared on purpose is no alarm.

use clap::Args;
use proto::v1::ExpectClearRequest;
use serde::Serialize;

use super::{DeviceRef, ReasonArgs, would};
use crate::args::Span;
use crate::client::failed;
use crate::failure::Result;
use crate::output::moment::Moment;
use crate::output::{Report, Sentence, Session};

/// Whose TPM, why, and for how long.
#[derive(Debug, Args)]
#[command(after_help = "\
A Clear resets the TPM's counters, which otherwise looks like a copy of the device. The first one
within the time is accepted; say so before the service visit, or after the alarm:
  touchstone device expect-clear press-7 --reason \"firmware service\" --for 8h")]
pub(crate) struct ClearArgs {
    #[command(flatten)]
    what: ReasonArgs,
    /// How long the announcement holds, at most 7d
    #[arg(long = "for", value_name = "TIME", default_value = "24h")]
    lifetime: Span,
}

#[derive(Serialize)]
struct Expected {
    device: String,
    until: Moment,
}

pub(super) async fn run(args: ClearArgs, session: &Session) -> Result<Report> {
    let ClearArgs { what, lifetime } = args;
    if what.dry_run.dry_run {
        return would(&DeviceRef::Name(what.name), "expect a Clear of", session).await;
    }
    let device = what.name.to_string();
    let request =
        ExpectClearRequest { name: device.clone(), reason: what.reason, lifetime_seconds: lifetime.0 };
    let answer = session.client().await?.expect_clear(request).await.map_err(|s| failed(&s))?;
    let until = Moment(answer.into_inner().until);
    let text = format!("the TPM of {device} may be cleared once until {until}");
    session.report(&Sentence { text, fields: Expected { device, until } })
}
