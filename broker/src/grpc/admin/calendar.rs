//! The calendar: convert, call, convert.

use proto::v1;

use crate::admin::{Actor, calendar};
use crate::plant::Plant;
use crate::session::Refusal;

pub(super) async fn read(
    plant: &Plant,
    actor: &Actor,
    _: v1::GetCalendarRequest,
) -> Result<v1::GetCalendarResponse, Refusal> {
    let entry = |entry: calendar::Entry| v1::CalendarEntry {
        kind: entry.kind.to_owned(),
        subject: entry.subject,
        at: entry.at.0,
        until: entry.until.map_or(0, |at| at.0),
        text: entry.text,
        next_command: entry.next_command,
    };
    let entries = calendar::all(plant, actor).await?.into_iter().map(entry).collect();
    Ok(v1::GetCalendarResponse { plant: plant.domain().to_string(), entries })
}
