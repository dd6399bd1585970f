//! The order of the keys that a device without a TPM proves itself with one after the other, and what it means when one
//! is used that is not expected.
//!
//! Promises: of two keys of a line that were both followed, at most one can still count as the later, and none once the
//! line went on in a newer plant epoch. So a broker that was restored from a backup believes the device, which comes with
//! a later key than it remembers, and finds out whoever else has one.
//! Does not promise to tell which of two is the device.

use serde::{Deserialize, Serialize};

use crate::time::UnixTime;

/// The turn of a key: keys were accepted in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Turn {
    /// The plant epoch in which it was accepted: a restore begins another.
    #[serde(default)]
    pub epoch: u64,
    /// When the device was admitted last: every token begins a line of keys of its own, and ends the one before.
    #[serde(rename = "admitted")]
    pub line: UnixTime,
    /// How many keys came before it in its line.
    pub generation: u64,
}

/// What the use of a key means that is not the expected one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// It was accepted after the one that is expected, which only a broker expects that was restored from a backup.
    Later,
    /// It was followed by another, so two have what the device alone should have.
    Copied,
    /// Its line ended when the device joined again: it is nobody's key any more.
    Ended,
}

impl Turn {
    /// What it means that the key of the turn `used` is used while that of `self` is expected.
    #[must_use]
    pub fn when_used(self, used: Self) -> Use {
        let same_line = used.line == self.line;
        match used.line < self.line {
            true => Use::Ended,
            false if same_line && (used.epoch, used.generation) > (self.epoch, self.generation) => Use::Later,
            // A token ended the line that is expected, and its key was not used since the backup.
            false if !same_line && used.epoch >= self.epoch => Use::Later,
            false => Use::Copied,
        }
    }

    /// The turn of the key that follows this one when it is used in `epoch`.
    #[must_use]
    pub const fn next(self, epoch: u64) -> Self {
        Self { epoch, generation: self.generation.saturating_add(1), ..self }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn turn(epoch: u64, line: u64, generation: u64) -> Turn {
        Turn { epoch, line: UnixTime(line), generation }
    }

    #[test]
    fn what_a_key_means_that_is_not_expected() {
        let expected = turn(1, 100, 5);
        for (used, meaning) in [
            (turn(1, 100, 4), Use::Copied),
            (turn(1, 100, 5), Use::Copied),
            (turn(1, 100, 6), Use::Later),
            (turn(1, 200, 1), Use::Later),
            (turn(1, 99, 9), Use::Ended),
            (turn(2, 100, 1), Use::Later),
        ] {
            assert_eq!(expected.when_used(used), meaning, "{used:?}");
        }
        // Somebody came since the restore: a key of before it is another's, however late it was.
        let since = turn(2, 100, 6);
        for used in [turn(1, 100, 9), turn(1, 200, 1)] {
            assert_eq!(since.when_used(used), Use::Copied, "{used:?}");
        }
    }

    #[test]
    fn a_ticket_of_before_there_were_epochs_is_read() {
        let old: Turn = serde_json::from_str(r#"{"admitted":100,"generation":5}"#).unwrap();
        assert_eq!(old, turn(0, 100, 5));
    }

    fn any() -> impl Strategy<Value = Turn> {
        (0..4_u64, 0..4_u64, 0..4_u64).prop_map(|(epoch, line, generation)| turn(epoch, line, generation))
    }

    proptest! {
        #[test]
        fn of_two_keys_at_most_one_is_the_later(one in any(), two in any()) {
            prop_assert!(one.when_used(two) != Use::Later || two.when_used(one) != Use::Later);
        }

        #[test]
        fn once_the_line_went_on_no_key_of_an_earlier_epoch_counts(
            expected in any(), other in any(), ahead in 1..3_u64,
        ) {
            let epoch = expected.epoch.max(other.epoch) + ahead;
            prop_assert_ne!(expected.next(epoch).when_used(other), Use::Later);
        }
    }
}
