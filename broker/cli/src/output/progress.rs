//! How far long work is: for whoever looks at a terminal, and for nobody else.
//!
//! It is drawn on standard error and wiped away when the work ends, so that what is printed then stands alone. In a
//! pipe, in a log, and where programs read the answer there is none.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Session;

/// How often it moves while nothing comes in: fast enough to show that the program lives.
const TICK: Duration = Duration::from_millis(200);

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Devices, records or files.
    Things,
    /// Bytes.
    Bytes,
    /// Nothing: somebody else works.
    Nothing,
}

impl Unit {
    const fn template(self, total: bool) -> &'static str {
        match (self, total) {
            (Self::Things, true) => "{msg} [{bar:30}] {human_pos} of {human_len}, {eta} left",
            (Self::Things, false) => "{spinner} {msg}: {human_pos}",
            (Self::Bytes, true) => "{msg} [{bar:30}] {bytes} of {total_bytes}, {eta} left",
            (Self::Bytes, false) => "{spinner} {msg}: {bytes}",
            (Self::Nothing, _) => "{spinner} {msg}, {elapsed}",
        }
    }
}

/// Shown as long as one of its clones lives.
#[derive(Clone, Debug)]
pub(crate) struct Progress(Arc<Bar>);

#[derive(Debug)]
struct Bar(ProgressBar);

impl Progress {
    /// So much more is done.
    pub(crate) fn add(&self, more: usize) {
        self.0.0.inc(u64::try_from(more).unwrap_or(u64::MAX));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

impl Session {
    /// Shows that `what` goes on, up to `total` where that is known.
    pub(crate) fn progress(&self, what: &'static str, unit: Unit, total: Option<u64>) -> Progress {
        if self.is_json() || !std::io::stderr().is_terminal() {
            return Progress(Arc::new(Bar(ProgressBar::hidden())));
        }
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr()).with_message(what);
        // A template that cannot be read leaves indicatif's own.
        if let Ok(style) = ProgressStyle::with_template(unit.template(total.is_some())) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.enable_steady_tick(TICK);
        Progress(Arc::new(Bar(bar)))
    }

    /// Shows that the broker works.
    pub(crate) fn waiting(&self, what: &'static str) -> Progress {
        self.progress(what, Unit::Nothing, None)
    }
}

#[test]
fn every_template_can_be_read() {
    for unit in [Unit::Things, Unit::Bytes, Unit::Nothing] {
        for total in [true, false] {
            assert!(ProgressStyle::with_template(unit.template(total)).is_ok(), "{unit:?}");
        }
    }
}
