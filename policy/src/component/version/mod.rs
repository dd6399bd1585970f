//! The order of versions, which is another one in each ecosystem.
//!
//! Where an order is not known the answer is "cannot be compared". That is never taken for safe.

mod apk;
mod deb;
mod rpm;

use std::cmp::Ordering;
use std::str::FromStr;

/// Longest version in bytes that is compared: the longest of Debian 12 has 60.
pub const MAX_VERSION: usize = 256;

/// How versions of one type of package are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// deb-version(7).
    Deb,
    /// rpm-version(7).
    Rpm,
    /// Alpine.
    Apk,
    /// Semantic Versioning 2.0.0, as cargo, npm and Go modules use it.
    Semver,
    /// PEP 440.
    Pep440,
    /// Numbers with dots; anything else compares to its own text only.
    Dotted,
}

impl Scheme {
    /// The scheme of a purl's type.
    #[must_use]
    pub fn of(purl_type: &str) -> Self {
        match purl_type {
            "deb" => Self::Deb,
            "rpm" => Self::Rpm,
            "apk" => Self::Apk,
            "cargo" | "npm" | "golang" => Self::Semver,
            "pypi" => Self::Pep440,
            _ => Self::Dotted,
        }
    }

    /// The order of `a` and `b`; nothing if it is not known.
    #[must_use]
    pub fn compare(self, a: &str, b: &str) -> Option<Ordering> {
        if a.len().max(b.len()) > MAX_VERSION {
            return None;
        }
        if a.is_empty() || b.is_empty() {
            return None;
        }
        if a == b {
            return Some(Ordering::Equal);
        }
        match self {
            Self::Deb => deb::compare(a, b),
            Self::Rpm => rpm::compare(a, b),
            Self::Apk => apk::compare(a, b),
            Self::Semver => Some(semantic(a)?.cmp_precedence(&semantic(b)?)),
            Self::Pep440 => {
                let parse = |text| pep440_rs::Version::from_str(text).ok();
                Some(parse(a)?.cmp(&parse(b)?))
            }
            Self::Dotted => dotted(a, b),
        }
    }
}

/// A semantic version; a `v` before it and numbers that are left out at its end are forgiven.
fn semantic(text: &str) -> Option<semver::Version> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let short = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let missing = 2usize.saturating_sub(text.matches('.').count());
    let padding = if short { ".0".repeat(missing) } else { String::new() };
    semver::Version::parse(&format!("{text}{padding}")).ok()
}

fn dotted(a: &str, b: &str) -> Option<Ordering> {
    let (a, b) = (numbers(a)?, numbers(b)?);
    let at =
        |list: &[&str], place: usize| list.get(place).map_or_else(String::new, |text| (*text).to_owned());
    let order = |place| number(at(&a, place).as_bytes(), at(&b, place).as_bytes());
    Some((0..a.len().max(b.len())).map(order).find(|order| order.is_ne()).unwrap_or(Ordering::Equal))
}

fn numbers(text: &str) -> Option<Vec<&str>> {
    let parts: Vec<&str> = text.split('.').collect();
    let digits = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    parts.iter().all(digits).then_some(parts)
}

/// Splits the digits off the beginning.
fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len()))
}

/// Splits the letters off the beginning.
fn letters(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(text.len()))
}

/// Compares digits as numbers of any length; no digits are zero.
fn number(a: &[u8], b: &[u8]) -> Ordering {
    let significant = |text: &'_ [u8]| text.iter().position(|byte| *byte != b'0').unwrap_or(text.len());
    let (a, b) = (a.get(significant(a)..).unwrap_or_default(), b.get(significant(b)..).unwrap_or_default());
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}
