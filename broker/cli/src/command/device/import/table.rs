//! A list of devices as a table in CSV (RFC 4180): the first line names the columns.

use std::path::Path;

use csv::{ReaderBuilder, StringRecord, Trim};
use policy::digest::{Digest, ParseDigestError};
use policy::id::{DeviceName, NameError, ZoneName};
use proto::v1::DeviceEntry;

use super::list::{INVENTORY, Lines};
use crate::failure::{Failure, Result};

/// Columns beside the inventory's.
const IDENTITY: [&str; 3] = ["name", "ek", "zones"];
/// Faults that are told; the others are counted.
const MAX_TOLD: usize = 50;

/// Reads a table. Every fault is told, so that a supplier's list is mended once.
pub(super) fn read(path: &Path, text: &str) -> Result<Vec<DeviceEntry>> {
    let mut reader = ReaderBuilder::new().trim(Trim::All).comment(Some(b'#')).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|e| Failure::unusable(format!("{}: {e}", path.display())))?;
    let header: StringRecord = header.iter().map(str::to_ascii_lowercase).collect();
    let mut faults = columns(&header);
    let (mut entries, mut lines) = (Vec::new(), Lines::default());
    let rows = if faults.is_empty() { Some(reader.records()) } else { None };
    for row in rows.into_iter().flatten() {
        match device(&header, row, &mut lines) {
            Ok(entry) => entries.push(entry),
            Err(fault) => faults.push(fault),
        }
    }
    match faults.len().checked_sub(MAX_TOLD) {
        None if faults.is_empty() && entries.is_empty() => {
            return Err(Failure::unusable(format!("{}: no device under its columns", path.display())));
        }
        None if faults.is_empty() => return Ok(entries),
        Some(more) if more > 0 => {
            faults.truncate(MAX_TOLD);
            faults.push(format!("and {more} more"));
        }
        _ => {}
    }
    let told: Vec<String> = faults.iter().map(|fault| format!("{}: {fault}", path.display())).collect();
    Err(Failure::unusable(told.join("\n")).next("nothing was sent; mend the list and import it again"))
}

/// What is wrong with the columns.
fn columns(header: &StringRecord) -> Vec<String> {
    let known = || IDENTITY.into_iter().chain(INVENTORY);
    let unknown = header.iter().filter(|name| !known().any(|known| known == *name));
    let unknown = unknown.map(|name| {
        let known = known().collect::<Vec<_>>().join(", ");
        format!("line 1: column `{name}` is not known; write one of {known}")
    });
    let twice =
        header.iter().enumerate().filter(|(place, name)| header.iter().take(*place).any(|has| has == *name));
    let twice = twice.map(|(_, name)| format!("line 1: column `{name}` stands there twice; leave one"));
    let missing = ["name", "ek"].into_iter().filter(|name| !header.iter().any(|has| has == *name));
    let missing = missing.map(|name| format!("line 1: there is no column `{name}`"));
    unknown.chain(twice).chain(missing).collect()
}

fn device(
    header: &StringRecord,
    row: csv::Result<StringRecord>,
    lines: &mut Lines,
) -> std::result::Result<DeviceEntry, String> {
    let row = row.map_err(|error| match error.position() {
        Some(place) => format!("line {}: {}", place.line(), kind(&error)),
        None => error.to_string(),
    })?;
    let line = row.position().map_or(0, csv::Position::line);
    let at = |what: String| format!("line {line}: {what}");
    // A quote that is not closed takes all that follows into one value, and whole devices with it.
    if row.iter().any(|cell| cell.contains(['\n', '\r'])) {
        return Err(at("a value goes over several lines; close its quote".to_owned()));
    }
    let cell = |column: &str| {
        let place = header.iter().position(|name| name == column);
        place.and_then(|place| row.get(place)).unwrap_or_default()
    };
    let name: DeviceName = cell("name").parse().map_err(|e: NameError| at(e.to_string()))?;
    let ek: Digest = cell("ek").parse().map_err(|e: ParseDigestError| at(e.to_string()))?;
    let zones = zones(cell("zones")).map_err(|e| at(e.to_string()))?;
    lines.take(&name, ek, usize::try_from(line).unwrap_or(usize::MAX)).map_err(at)?;
    let stated = INVENTORY.into_iter().map(|column| (column.to_owned(), cell(column).to_owned()));
    Ok(DeviceEntry {
        name: name.to_string(),
        zones,
        ek_digest: ek.0.to_vec(),
        inventory: stated.filter(|(_, value)| !value.is_empty()).collect(),
    })
}

fn kind(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} values under {expected_len} columns")
        }
        _ => error.to_string(),
    }
}

/// Zones in one cell, between spaces, semicolons or plus signs.
fn zones(cell: &str) -> std::result::Result<Vec<String>, NameError> {
    let names = cell.split([' ', ';', '+']).filter(|name| !name.is_empty());
    names.map(|name| name.parse::<ZoneName>().map(|zone| zone.to_string())).collect()
}
