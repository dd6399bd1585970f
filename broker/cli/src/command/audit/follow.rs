//! `touchstone audit export --follow`: the audit as it goes on, as JSON lines on standard output.
//!
//! A broker that stops and comes back loses nothing: the next question names the last record that was written.

use std::collections::BTreeMap;
use std::io::Write;
use std::str::FromStr;
use std::time::Duration;

use policy::audit::AuditRecord;
use proto::v1::{AuditChunk, AuditPlace, ExportAuditRequest};
use tokio::signal::unix::{SignalKind, signal};

use super::export::from_wire;
use super::line::Line;
use crate::client::failed;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::output::{Report, Session, words};

/// Pause before a broker that was lost is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// A record by its writer and number, as a line of an export shows them: `a1b2c3d4.7/1042`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    writer: String,
    number: u64,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let parts = text.rsplit_once('/').and_then(|(writer, number)| Some((writer, number.parse().ok()?)));
        let (writer, number) = parts.filter(|(writer, _)| writer.contains('.')).ok_or_else(|| {
            format!("`{text}` names no record; write its writer and sequence, for example a1b2c3d4.7/1042")
        })?;
        Ok(Self { writer: writer.to_owned(), number })
    }
}

/// How a stream ended that was not refused.
enum End {
    /// Nobody reads standard output any more.
    Unread,
    /// The broker stopped.
    Stopped,
}

/// What was written so far.
struct Following {
    since: u64,
    /// The last record of each broker.
    last: BTreeMap<String, AuditPlace>,
    /// The broker answered once, so that it is worth waiting for.
    begun: bool,
}

/// Follows until Ctrl-C, or until nobody reads.
pub(super) async fn follow(since: u64, after: &[Place], session: &Session) -> Result<Report> {
    let mut interrupt = signal(SignalKind::interrupt())
        .map_err(|e| Failure::new(Exit::Internal, format!("Ctrl-C cannot be awaited: {e}")))?;
    let place = |place: &Place| AuditPlace { writer: place.writer.clone(), number: place.number };
    let last = after.iter().map(|after| (broker(&after.writer).to_owned(), place(after))).collect();
    let mut following = Following { since, last, begun: false };
    loop {
        let ended = tokio::select! {
            _ = interrupt.recv() => return Ok(Report::raw(String::new())),
            ended = following.once(session) => ended,
        };
        match ended {
            Ok(End::Unread) => return Ok(Report::raw(String::new())),
            Ok(End::Stopped) => eprintln!("touchstone: the broker stopped; it is asked again"),
            Err(failure) if following.begun && failure.exit() == Exit::Unreachable => {
                eprint!("{}", failure.text());
            }
            Err(failure) => return Err(failure),
        }
        tokio::select! {
            _ = interrupt.recv() => return Ok(Report::raw(String::new())),
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

/// The broker that a writer's name begins with.
fn broker(writer: &str) -> &str {
    writer.rsplit_once('.').map_or(writer, |(broker, _)| broker)
}

impl Following {
    /// Writes what one stream brings.
    async fn once(&mut self, session: &Session) -> Result<End> {
        let mut client = session.patient_client().await?;
        let after = self.last.values().cloned().collect();
        let request = ExportAuditRequest { since: self.since, follow: true, after };
        let mut chunks = client.export_audit(request).await.map_err(|s| failed(&s))?.into_inner();
        self.begun = true;
        while let Some(chunk) = chunks.message().await.map_err(|s| failed(&s))? {
            if !self.write(chunk)? {
                return Ok(End::Unread);
            }
        }
        Ok(End::Stopped)
    }

    /// Writes a chunk; says whether somebody reads.
    fn write(&mut self, chunk: AuditChunk) -> Result<bool> {
        let mut text = String::new();
        for seal in chunk.seals {
            text.push_str(&Line::of_seal(from_wire(seal))?.text()?);
        }
        for bytes in chunk.records {
            if let Ok(AuditRecord { writer, sequence: number, .. }) = AuditRecord::parse(&bytes) {
                self.last.insert(broker(&writer).to_owned(), AuditPlace { writer, number });
            }
            text.push_str(&Line::of_record(bytes)?.text()?);
        }
        let mut out = std::io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => {
                let what = words::visible(&error.to_string());
                Err(Failure::new(Exit::Internal, format!("standard output cannot be written: {what}")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_named_as_a_line_shows_it() {
        let place: Place = "a1b2c3d4.7/1042".parse().unwrap();
        assert_eq!(place, Place { writer: "a1b2c3d4.7".to_owned(), number: 1042 });
        for text in ["1042", "a1b2c3d4/1042", "a1b2c3d4.7/", "a1b2c3d4.7/-1"] {
            assert!(text.parse::<Place>().unwrap_err().contains("a1b2c3d4.7/1042"), "{text}");
        }
    }
}
