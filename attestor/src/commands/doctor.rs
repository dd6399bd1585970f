//! `touchstone-attestor doctor`: what a technician runs on a device that is not trusted.

use std::path::Path;

use super::Format;
use crate::doctor::Report;

/// The report as text, and the exit code: 0 if nothing stands in the way of trust, 1 otherwise.
pub async fn doctor(config: &Path, format: Format) -> (String, u8) {
    let report = Report::of(config).await;
    let text = match format {
        Format::Text => report.describe(),
        Format::Json => format!("{:#}\n", serde_json::to_value(&report).unwrap_or_default()),
    };
    (text, if report.is_good() { 0 } else { 1 })
}
