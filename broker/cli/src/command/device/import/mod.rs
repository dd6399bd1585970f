//! `touchstone device import`: registers devices by the EK of their TPM, the whole list or nobody.

mod list;
mod read;
mod table;

use std::path::{Path, PathBuf};

use clap::Args;
use futures::{StreamExt, stream};
use policy::id::{DeviceName, ZoneName};
use proto::v1::{DeviceEntry, ImportListRequest};
use serde::Serialize;

use crate::args::DryRun;
use crate::client::failed;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::output::progress::Unit;
use crate::output::{Report, Sentence, Session, words};

/// Devices in one part of the list: far below gRPC's default limit of 4 MiB.
const PART: usize = 500;

/// What to register.
#[derive(Debug, Args)]
#[command(after_help = "\
FILE is what `touchstone-attestor identify -o json` prints on the devices, one after the other, or a
list in CSV, whose first line names the columns; or the same in TOML, a [[device]] for each:
  name,ek,zones,owner,criticality
  press-7,sha256:…,cell-3 lab,line 3,high
Other columns: kind, manufacturer, model, serial, firmware, update_mechanism, depends_on, location.
All of the list is registered, or nobody:
  touchstone device import supplier.csv --zone cell-3 --dry-run
  cat identities/*.json | touchstone device import - --zone cell-3")]
pub(crate) struct ImportArgs {
    /// File to read; - is standard input
    file: PathBuf,
    /// Zone that they join; may repeat
    #[arg(long = "zone", value_name = "ZONE")]
    zones: Vec<ZoneName>,
    /// Name of the device, for a file with one device
    #[arg(long, value_name = "NAME")]
    name: Option<DeviceName>,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Serialize)]
struct Imported {
    dry_run: bool,
    created: u32,
    unchanged: u32,
    /// TPMs of the list that were stopped.
    warnings: Vec<String>,
}

/// Registers the file's devices.
pub(super) async fn run(args: ImportArgs, session: &Session) -> Result<Report> {
    let mut entries = read::read(&args.file)?;
    if let Some(name) = &args.name {
        match entries.as_mut_slice() {
            [one] => one.name = name.to_string(),
            many => {
                let what = format!("--name is for one device, {} has {}", args.file.display(), many.len());
                return Err(Failure::new(Exit::Usage, what).next("write each device's name into the list"));
            }
        }
    }
    complete(&args.file, &mut entries, &args.zones)?;
    let dry_run = args.dry_run.dry_run;
    let mut client = session.patient_client().await?;
    let progress = session.progress("sending devices", Unit::Things, u64::try_from(entries.len()).ok());
    let sent = progress.clone();
    let parts = stream::iter(parts(&entries, dry_run)).inspect(move |part| sent.add(part.devices.len()));
    let answer = client.import_list(parts).await.map_err(|s| broken_off(failed(&s)))?.into_inner();
    drop(progress);
    let verb = if dry_run { "would be registered" } else { "registered" };
    let warnings = answer.warnings;
    let done = Imported { dry_run, created: answer.created, unchanged: answer.unchanged, warnings };
    let left = if done.unchanged > 0 { ", left as they are" } else { "" };
    let text = format!("{} {verb}, {} already known{left}", done.created, done.unchanged);
    let told: Vec<String> = done.warnings.iter().map(|warning| words::visible(warning)).collect();
    let report = session.report(&Sentence { text, fields: done })?;
    let report = told.into_iter().fold(report, |report, warning| report.aside(warning));
    Ok(match entries.iter().filter(|entry| entry.zones.is_empty()).count() {
        0 => report,
        nowhere => report.aside(format!(
            "In no zone, so without certificates until `touchstone device admit NAME --zone ZONE`: {}",
            words::count(nowhere, "device")
        )),
    })
}

/// A list that did not arrive whole registered nobody; one whose answer was lost may be registered.
fn broken_off(failure: Failure) -> Failure {
    match failure.exit() {
        Exit::Unreachable => failure.next(
            "either all of the list is registered or nobody: import it again, who is known already stays as they are",
        ),
        _ => failure,
    }
}

/// The list in messages. The broker counts, so that half of one is never taken for the whole.
fn parts(entries: &[DeviceEntry], dry_run: bool) -> Vec<ImportListRequest> {
    let total = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    let part = |devices: &[DeviceEntry]| ImportListRequest { devices: devices.to_vec(), total, dry_run };
    entries.chunks(PART).map(part).collect()
}

/// Adds the zones of the command line and makes sure that each device has a name.
fn complete(path: &Path, entries: &mut [DeviceEntry], zones: &[ZoneName]) -> Result<()> {
    for entry in entries {
        if entry.name.is_empty() {
            let what = format!("{}: `device` is empty, the device has no name yet", path.display());
            return Err(Failure::unusable(what).next("give it one with --name NAME"));
        }
        for zone in zones {
            if !entry.zones.iter().any(|has| has == zone.as_str()) {
                entry.zones.push(zone.to_string());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_without_a_name_asks_for_one() {
        let mut entries = [DeviceEntry::default()];
        let failure = complete(Path::new("id.json"), &mut entries, &[]).unwrap_err().text();
        assert!(failure.contains("--name NAME"), "{failure}");
    }

    #[test]
    fn every_part_says_how_long_the_list_is() {
        let parts = parts(&vec![DeviceEntry::default(); PART + 1], true);
        let sizes: Vec<_> = parts.iter().map(|part| (part.devices.len(), part.total, part.dry_run)).collect();
        assert_eq!(sizes, [(PART, 501, true), (1, 501, true)]);
    }
}
