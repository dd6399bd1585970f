//! The order of Alpine versions (`apk version`, apk-package(5)).

use std::cmp::Ordering;

/// Suffixes in their order; a version without one stands between `rc` and `cvs`.
const SUFFIXES: [(&str, i8); 9] = [
    ("alpha", -4),
    ("beta", -3),
    ("pre", -2),
    ("rc", -1),
    ("cvs", 1),
    ("svn", 2),
    ("git", 3),
    ("hg", 4),
    ("p", 5),
];

/// Compares `1.2.3b_rc4-r5`; nothing if one is no such version.
pub(super) fn compare(a: &str, b: &str) -> Option<Ordering> {
    let (a, b) = (Parts::of(a)?, Parts::of(b)?);
    let suffixes = || {
        let longest = a.suffixes.len().max(b.suffixes.len());
        let at = |parts: &Parts<'_>, place| parts.suffixes.get(place).copied().unwrap_or((0, 0));
        (0..longest).map(|place| at(&a, place).cmp(&at(&b, place))).find(|order| order.is_ne())
    };
    Some(
        numbers(&a.numbers, &b.numbers)
            .then(a.letter.cmp(&b.letter))
            .then_with(|| suffixes().unwrap_or(Ordering::Equal))
            .then(a.revision.cmp(&b.revision)),
    )
}

struct Parts<'a> {
    numbers: Vec<&'a str>,
    letter: Option<u8>,
    suffixes: Vec<(i8, u64)>,
    revision: u64,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let (text, revision) = match text.rsplit_once("-r") {
            Some((text, revision)) => (text, revision.parse().ok()?),
            None => (text, 0),
        };
        let mut pieces = text.split('_');
        let head = pieces.next()?;
        let letter = head.bytes().next_back().filter(u8::is_ascii_lowercase);
        let numbers: Vec<&str> =
            head.strip_suffix(|c: char| c.is_ascii_lowercase()).unwrap_or(head).split('.').collect();
        let digits = |text: &&str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let suffixes = pieces.map(suffix).collect::<Option<Vec<_>>>()?;
        numbers.iter().all(digits).then_some(Self { numbers, letter, suffixes, revision })
    }
}

fn suffix(text: &str) -> Option<(i8, u64)> {
    let name = text.trim_end_matches(|c: char| c.is_ascii_digit());
    let rank = SUFFIXES.iter().find(|(known, _)| *known == name)?.1;
    let number = text.strip_prefix(name)?;
    Some((rank, if number.is_empty() { 0 } else { number.parse().ok()? }))
}

/// A part with a leading zero, but for the first, is a fraction.
fn numbers(a: &[&str], b: &[&str]) -> Ordering {
    for (place, (one, other)) in a.iter().zip(b).enumerate() {
        let fraction = place > 0 && (one.starts_with('0') || other.starts_with('0'));
        let order = match fraction {
            true => one.trim_end_matches('0').cmp(other.trim_end_matches('0')),
            false => super::number(one.as_bytes(), other.as_bytes()),
        };
        if order.is_ne() {
            return order;
        }
    }
    a.len().cmp(&b.len())
}
