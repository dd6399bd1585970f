//! `touchstone-attestor status`: what the daemon last said of itself.

use std::path::Path;

use super::{CommandError, Format};
use crate::config::Config;
use crate::gate::{self, GateStatus};
use crate::ports::{Clock, System};
use crate::status::{Status, Word};
use crate::uptime::Uptime;

/// The status as text, and the exit code: 0 if the device is trusted, its attestor runs, listens where it should and no hook
/// fails; 1 otherwise.
pub fn status(config: &Path, format: Format) -> Result<(String, u8), CommandError> {
    let config = Config::load_local(config)?;
    let (now, up) = (System::default().now(), Uptime::now());
    let status = Status::read(&config.deliver, now)?;
    let live = status.is_live(&up);
    let good = matches!(status.state, Word::Trusted | Word::Holding)
        && live
        && status.failing_hooks.is_empty()
        && status.unbound.is_empty();
    let gates = gate::read_all(&config.deliver, &up);
    let text = match format {
        Format::Text => {
            status.describe(now, live) + &gates.iter().map(GateStatus::describe).collect::<String>()
        }
        Format::Json => {
            let mut json = serde_json::to_value(&status).unwrap_or_default();
            if let Some(fields) = json.as_object_mut() {
                fields.insert("running".to_owned(), live.into());
                fields.insert("gates".to_owned(), serde_json::to_value(&gates).unwrap_or_default());
            }
            format!("{json:#}\n")
        }
    };
    Ok((text, if good { 0 } else { 1 }))
}
