//! `touchstone device retire` and `replace`: the end of a device, and of its TPM.

use clap::Args;
use policy::digest::Digest;
use policy::id::DeviceName;
use proto::v1::{ReplaceDeviceRequest, RetireDeviceRequest};
use serde::Serialize;

use crate::args::DryRun;
use crate::client::failed;
use crate::failure::Result;
use crate::output::{Report, Sentence, Session, words};

/// Whom, and why.
#[derive(Debug, Args)]
pub(crate) struct EndArgs {
    /// Name of the device
    name: DeviceName,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT", default_value = "no reason given")]
    reason: String,
    #[command(flatten)]
    dry_run: DryRun,
}

/// Whose TPM, and by which.
#[derive(Debug, Args)]
#[command(after_help = "\
For a new mainboard. The old TPM is barred for good and its certificates are revoked at once; the name, the
zones and the inventory stay. Read the digest with `touchstone-attestor identify` on the device itself:
  touchstone device replace press-7 --ek sha256:… --reason \"new mainboard\"")]
pub(crate) struct ReplaceArgs {
    #[command(flatten)]
    what: EndArgs,
    /// sha256:… of the new TPM's EK
    #[arg(long, value_name = "DIGEST")]
    ek: Digest,
}

#[derive(Serialize)]
struct Retired {
    device: String,
    revoked: u32,
    dry_run: bool,
}

#[derive(Serialize)]
struct Replaced {
    device: String,
    ek_digest: String,
    barred: String,
    revoked: u32,
    dry_run: bool,
}

fn certificates(revoked: u32) -> String {
    words::count(usize::try_from(revoked).unwrap_or(usize::MAX), "certificate")
}

pub(super) async fn retire(args: EndArgs, session: &Session) -> Result<Report> {
    let (device, dry_run) = (args.name.to_string(), args.dry_run.dry_run);
    let request = RetireDeviceRequest { name: device.clone(), reason: args.reason, dry_run };
    let answer = session.client().await?.retire_device(request).await.map_err(|s| failed(&s))?;
    let revoked = answer.into_inner().revoked;
    let text = match dry_run {
        true => format!("would retire {device} and revoke {}", certificates(revoked)),
        false => format!("{device} is retired; {} revoked", certificates(revoked)),
    };
    session.report(&Sentence { text, fields: Retired { device, revoked, dry_run } })
}

pub(super) async fn replace(args: ReplaceArgs, session: &Session) -> Result<Report> {
    let ReplaceArgs { what, ek } = args;
    let (device, dry_run) = (what.name.to_string(), what.dry_run.dry_run);
    let (name, ek_digest) = (device.clone(), ek.0.to_vec());
    let request = ReplaceDeviceRequest { name, ek_digest, reason: what.reason, dry_run };
    let answer = session.client().await?.replace_device(request).await.map_err(|s| failed(&s))?.into_inner();
    let (barred, revoked) = (words::digest(&answer.ek_digest), answer.revoked);
    let text = match dry_run {
        true => format!("would bar EK {barred} of {device} and revoke {}", certificates(revoked)),
        false => format!(
            "{device} has EK {ek} from now on; {barred} is barred, {} revoked. It is trusted when the new TPM proves itself",
            certificates(revoked)
        ),
    };
    let ek_digest = ek.to_string();
    session.report(&Sentence { text, fields: Replaced { device, ek_digest, barred, revoked, dry_run } })
}
