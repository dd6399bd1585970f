//! Bounds on what an administrator sends besides names, which `policy::id` bounds.

use crate::session::Refusal;

/// Longest reason in bytes: it is stored in a record of at most 4 KiB and shown in one line.
pub(super) const MAX_REASON: usize = 400;

/// `text`, if it is short, printable and not empty.
pub(super) fn printable<'a>(what: &str, text: &'a str, max: usize) -> Result<&'a str, Refusal> {
    let text = text.trim();
    if text.is_empty() || text.len() > max || text.chars().any(char::is_control) {
        return Err(Refusal::malformed(format!("{what}: write 1 to {max} printable bytes")));
    }
    Ok(text)
}
