//! The order of RPM versions (rpm-version(7); `rpmvercmp` of rpm).

use std::cmp::Ordering;

/// Compares `epoch:version-release`; a release counts only where both have one. Nothing if one is no such version.
pub(super) fn compare(a: &str, b: &str) -> Option<Ordering> {
    let (a, b) = (Parts::of(a)?, Parts::of(b)?);
    let release = || match (a.release, b.release) {
        (Some(a), Some(b)) => part(a.as_bytes(), b.as_bytes()),
        _ => Ordering::Equal,
    };
    let version = || part(a.version.as_bytes(), b.version.as_bytes());
    Some(a.epoch.cmp(&b.epoch).then_with(version).then_with(release))
}

struct Parts<'a> {
    epoch: u32,
    version: &'a str,
    release: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let (epoch, rest) = match text.split_once(':') {
            Some((epoch, rest)) => (epoch.parse().ok()?, rest),
            None => (0, text),
        };
        let (version, release) = match rest.split_once('-') {
            Some((version, release)) => (version, Some(release)),
            None => (rest, None),
        };
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+~^-".contains(&b));
        (plain(rest) && !version.is_empty()).then_some(Self { epoch, version, release })
    }
}

/// Compares one part: segments of letters or digits, `~` before the end, `^` after it.
fn part(mut a: &[u8], mut b: &[u8]) -> Ordering {
    loop {
        (a, b) = (to_segment(a), to_segment(b));
        match (a.first(), b.first()) {
            (Some(b'~'), Some(b'~')) | (Some(b'^'), Some(b'^')) => (a, b) = (rest(a), rest(b)),
            (Some(b'~'), _) => return Ordering::Less,
            (_, Some(b'~')) => return Ordering::Greater,
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(b'^'), Some(_)) => return Ordering::Less,
            (Some(_), Some(b'^')) => return Ordering::Greater,
            (Some(first_a), Some(first_b)) => {
                let differs = match (first_a.is_ascii_digit(), first_b.is_ascii_digit()) {
                    (true, false) => return Ordering::Greater,
                    (false, true) => return Ordering::Less,
                    (true, true) => {
                        let (number_a, number_b);
                        (number_a, a) = super::digits(a);
                        (number_b, b) = super::digits(b);
                        super::number(number_a, number_b)
                    }
                    (false, false) => {
                        let (word_a, word_b);
                        (word_a, a) = super::letters(a);
                        (word_b, b) = super::letters(b);
                        word_a.cmp(word_b)
                    }
                };
                if differs != Ordering::Equal {
                    return differs;
                }
            }
        }
    }
}

/// Without what only separates.
fn to_segment(part: &[u8]) -> &[u8] {
    let means = |byte: &u8| byte.is_ascii_alphanumeric() || b"~^".contains(byte);
    let start = part.iter().position(means).unwrap_or(part.len());
    part.get(start..).unwrap_or_default()
}

fn rest(part: &[u8]) -> &[u8] {
    part.split_first().map_or(&[], |(_, rest)| rest)
}
