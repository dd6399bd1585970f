//! Why a command did not do what it says: one line of what, one line of what to do next.

use std::fmt::Write as _;

use policy::time::UnixTime;
use proto::v1::{Denial, DenialReason};
use serde::Serialize;

use crate::args::Format;
use crate::exit::Exit;
use crate::output::finding::Finding;
use crate::output::{SCHEMA, document, words};

/// Result of a command's steps.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// What is told to the person at the terminal, and the exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    what: String,
    findings: Vec<Finding>,
    next: Option<String>,
    change: Option<String>,
    lack: Option<Lack>,
}

/// What the broker does not have. To ask it once more tells more about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// A thing of this name.
    Thing,
    /// The call: it is older than this program.
    Call,
}

/// What programs read of a call that waits for a second person.
#[derive(Serialize)]
struct Waiting<'a> {
    schema: u32,
    waits: bool,
    change: &'a str,
}

impl Failure {
    /// A failure in one line.
    pub(crate) fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), findings: Vec::new(), next: None, change: None, lack: None }
    }

    /// A file or value that cannot be used.
    pub(crate) fn unusable(what: impl Into<String>) -> Self {
        Self::new(Exit::UnusableInput, what)
    }

    /// The same, with another exit code.
    pub(crate) const fn ending(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// Adds the line that says what to do next.
    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// A broker that is older than this program and does not know the call.
    pub(crate) fn outdated() -> Self {
        let what = "the broker does not know this call: it is older than this touchstone";
        Self { lack: Some(Lack::Call), ..Self::new(Exit::Internal, what) }
    }

    /// A structured refusal of the broker, received `now`.
    pub(crate) fn denied(denial: Denial, now: UnixTime) -> Self {
        let lack = (denial.reason() == DenialReason::NotFound).then_some(Lack::Thing);
        let next = match (denial.retry_after_seconds, denial.reason()) {
            (0, DenialReason::NotPermitted) => {
                Some("ask an administrator whose certificate allows it".to_owned())
            }
            (0, DenialReason::ClockSkew) => Some(format!(
                "the broker's clock says {}, this machine's {now}, {} apart: set the one that is wrong",
                words::rfc3339(denial.broker_time),
                words::span(now.0.abs_diff(denial.broker_time))
            )),
            (0, _) => None,
            (seconds, _) => Some(format!("try again in {}", words::span(u64::from(seconds)))),
        };
        Self {
            exit: exit_of(denial.reason()),
            what: denial.message,
            findings: denial.findings.into_iter().map(Finding::from).collect(),
            next,
            change: (!denial.change.is_empty()).then_some(denial.change),
            lack,
        }
    }

    /// What the broker does not have, if that is why.
    pub(crate) const fn lack(&self) -> Option<Lack> {
        self.lack
    }

    /// Adds what may be meant, unless it is said already what to do next.
    pub(crate) fn hint(mut self, hint: String) -> Self {
        self.next.get_or_insert(hint);
        self
    }

    /// How the program ends.
    pub(crate) const fn exit(&self) -> Exit {
        self.exit
    }

    /// Writes the lines to standard error, and for programs the change that waits to standard output.
    pub(crate) fn print(&self, format: Format) -> Exit {
        eprint!("{}", self.text());
        if let Some(change) = self.change.as_deref().filter(|_| format != Format::Table) {
            let waiting = Waiting { schema: SCHEMA, waits: true, change };
            print!("{}", document(format, &waiting).unwrap_or_default());
        }
        self.exit
    }

    /// The lines: what, the findings, what next.
    pub(crate) fn text(&self) -> String {
        // What is told in several lines stays so, set in: no line that others chose looks like one of these.
        let lines: Vec<String> = self.what.trim_end().lines().map(words::visible).collect();
        let mut text = format!("touchstone: {}\n", lines.join("\n  "));
        for finding in &self.findings {
            text.push_str(&finding.text());
        }
        if let Some(next) = &self.next {
            let _ = writeln!(text, "{}", words::visible(next));
        }
        text
    }
}

/// Exhaustive: a new reason must choose its exit code.
const fn exit_of(reason: DenialReason) -> Exit {
    match reason {
        DenialReason::Unspecified => Exit::Internal,
        DenialReason::Malformed | DenialReason::UnsupportedVersion => Exit::UnusableInput,
        DenialReason::NotPermitted => Exit::NotPermitted,
        DenialReason::TryLater => Exit::Unreachable,
        DenialReason::Waits => Exit::Waits,
        DenialReason::MustReattest
        | DenialReason::EvidenceInvalid
        | DenialReason::ReferenceMismatch
        | DenialReason::NotAdmitted
        | DenialReason::Quarantined
        | DenialReason::Retired
        | DenialReason::ClockSkew
        | DenialReason::Conflict
        | DenialReason::NotEndorsed
        | DenialReason::NotFound => Exit::Negative,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_shows_message_findings_and_when_to_retry() {
        let failure = Failure::denied(
            Denial {
                reason: DenialReason::ReferenceMismatch.into(),
                message: "press-7 does not match edge@1.4".to_owned(),
                findings: vec![proto::v1::Finding {
                    pcr: Some(4),
                    event: Some(23),
                    event_type: "EV_EFI_BOOT_SERVICES_APPLICATION".to_owned(),
                    subject: "kernel".to_owned(),
                    expected: vec!["aa".repeat(32)],
                    seen: "bb".repeat(32),
                    ..proto::v1::Finding::default()
                }],
                retry_after_seconds: 90,
                ..Denial::default()
            },
            UnixTime(0),
        );
        assert_eq!(failure.exit(), Exit::Negative);
        let text = failure.text();
        for part in ["touchstone: press-7 does not match", "PCR 4, event 23", "kernel", "try again in 90 s"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(text.contains(&format!("expected sha256:{}", "aa".repeat(32))), "{text}");
        assert!(text.contains(&format!("seen     sha256:{}", "bb".repeat(32))), "{text}");
    }

    #[test]
    fn two_clocks_are_told_apart() {
        let denial =
            Denial { reason: DenialReason::ClockSkew.into(), broker_time: 7_200, ..Denial::default() };
        let text = Failure::denied(denial, UnixTime(0)).text();
        assert!(text.contains("broker's clock says 1970-01-01T02:00:00Z, this machine's 1970"), "{text}");
        assert!(text.contains("2 h apart"), "{text}");
    }

    #[test]
    fn reasons_choose_their_exit_code() {
        assert_eq!(exit_of(DenialReason::NotPermitted), Exit::NotPermitted);
        assert_eq!(exit_of(DenialReason::TryLater), Exit::Unreachable);
        assert_eq!(exit_of(DenialReason::NotFound), Exit::Negative);
        assert_eq!(exit_of(DenialReason::Waits), Exit::Waits);
        assert_eq!(exit_of(DenialReason::Malformed), Exit::UnusableInput);
    }

    #[test]
    fn a_message_cannot_steer_the_terminal() {
        let text = Failure::unusable("bad\u{1b}[2Jname\r\n").text();
        assert_eq!(text, "touchstone: bad\\u{1b}[2Jname\n");
        let text = Failure::unusable("a\ntouchstone: done\r\u{1b}[2J").text();
        assert_eq!(text, "touchstone: a\n  touchstone: done\\u{d}\\u{1b}[2J\n");
    }

    #[test]
    fn faults_that_are_told_together_have_a_line_each() {
        let what = "e.toml: the manifest has 2 fault(s)\nline 1, column 1: one\nline 7, column 3: two";
        assert_eq!(
            Failure::unusable(what).next("mend it").text(),
            "touchstone: e.toml: the manifest has 2 fault(s)\n  line 1, column 1: one\n  line 7, column 3: two\nmend it\n"
        );
    }
}
