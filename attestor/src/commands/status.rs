//! `touchstone-attestor status`: what the daemon last said of itself.

use std::path::Path;

use super::{CommandError, Format};
use crate::config::Config;
use crate::gate::{self, GateStatus};
use crate::ports::{Clock, System};
use crate::status::{Status, Word};

/// The status as text, and the exit code: 0 if the device is trusted, its attestor runs, listens where it should and no hook
/// fails; 1 otherwise.
pub fn status(config: &Path, format: Format) -> Result<(String, u8), CommandError> {
    let config = Config::load_local(config)?;
    let now = System::default().now();
    let status = Status::read(&config.deliver, now)?;
    let good = matches!(status.state, Word::Trusted | Word::Holding)
        && status.is_live(now)
        && status.failing_hooks.is_empty()
        && status.unbound.is_empty();
    let gates = gate::read_all(&config.deliver, now);
    let text = match format {
        Format::Text => status.describe(now) + &gates.iter().map(GateStatus::describe).collect::<String>(),
        Format::Json => {
            let mut json = serde_json::to_value(&status).unwrap_or_default();
            if let Some(fields) = json.as_object_mut() {
                fields.insert("running".to_owned(), status.is_live(now).into());
                fields.insert("gates".to_owned(), serde_json::to_value(&gates).unwrap_or_default());
            }
            format!("{json:#}\n")
        }
    };
    Ok((text, if good { 0 } else { 1 }))
}
