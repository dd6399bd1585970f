//! Text in event data: ASCII, UTF-8 or UTF-16, with or without terminating zeros.

use crate::budget::MAX_DESCRIPTION;

/// ASCII or UTF-16 text for people, with or without terminating zeros; `None` if it is no plain text.
pub(crate) fn text(data: &[u8]) -> Option<String> {
    ascii(data).or_else(|| utf16(data))
}

/// UTF-8 text for people.
pub(crate) fn ascii(data: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(data).ok()?.trim_end_matches('\0');
    printable(text.to_owned())
}

/// UTF-16 text for people: cut, and with a replacement for what is no character.
pub(crate) fn utf16(data: &[u8]) -> Option<String> {
    if !data.len().is_multiple_of(2) {
        return None;
    }
    let text: String = char::decode_utf16(units(data).take(MAX_DESCRIPTION))
        .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect();
    printable(text.trim_end_matches('\0').to_owned())
}

/// UTF-16 text exactly as it stands, for what is compared.
pub(crate) fn exact_utf16(data: &[u8]) -> Option<String> {
    if !data.len().is_multiple_of(2) {
        return None;
    }
    let text: String = char::decode_utf16(units(data)).collect::<Result<_, _>>().ok()?;
    printable(text)
}

fn units(data: &[u8]) -> impl Iterator<Item = u16> {
    data.chunks_exact(2).filter_map(|unit| unit.try_into().ok().map(u16::from_le_bytes))
}

/// Text that may reach a terminal: no control characters, not empty.
fn printable(text: String) -> Option<String> {
    let shown = !text.is_empty() && !text.chars().any(|c| c.is_control() || c == char::REPLACEMENT_CHARACTER);
    shown.then_some(text)
}
