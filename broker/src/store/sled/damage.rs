//! Failures of sled as text. sled panics where it finds its file corrupt, so every call that touches the
//! disk goes through here.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `work`; a panic or an error becomes its message.
///
/// Unwinding through `work` is safe because nothing goes on with what it was changing: a failed write
/// closes or poisons the store, a failed read changes nothing.
pub(super) fn contained<T, E: Display>(work: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(payload) => Err(match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
            (Some(text), _) => format!("sled panicked: {text}"),
            (None, Some(text)) => format!("sled panicked: {text}"),
            (None, None) => "sled panicked".to_owned(),
        }),
    }
}
