//! What a technician reads of an error: it, and everything behind it.
//!
//! Texts of errors here name one thing each and leave their cause to [`Error::source`], so whoever shows one
//! shows the chain.

use std::error::Error;

/// An error and all its causes in one line, joined by `: `.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eventlog::tcg::EventLog;
    use crate::evidence::verify::EvidenceError;

    #[test]
    fn a_cause_behind_a_cause_is_told() {
        let log = EventLog::parse(&[1, 2, 3]).unwrap_err();
        let whole = chain(&EvidenceError::Log(log.clone()));
        assert_eq!(whole, format!("the firmware log cannot be read: {}", chain(&log)));
    }
}
