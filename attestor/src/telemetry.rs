//! Logs: one line for each thing that a technician or an auditor may ask about, to standard error.
//!
//! Fields have fixed names: `device.id`, `zone`, `verdict`, `reason`. Evidence is never logged.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Environment variable with the filter, for example `debug` or `attestor=debug`.
pub const FILTER: &str = "TOUCHSTONE_LOG";

/// What is logged unless told otherwise. The TPM library's own lines repeat our errors in worse words.
const DEFAULT: &str = "info,tss_esapi=off";

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object for each line, for whatever collects logs.
    Json,
}

/// Starts logging. A filter that cannot be read is the default.
pub fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_env(FILTER).unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    let stderr = std::io::stderr;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    // Only the first start of a process counts; tests start many.
    let _ = match format {
        LogFormat::Text => log.with_ansi(stderr().is_terminal()).try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
}
