//! Which release of a distribution a package is of: `bookworm`, `debian-12` and `debian-12.4` are one.

/// Code names of the releases that are still met.
const CODE_NAMES: [(&str, &str, &str); 14] = [
    ("buster", "debian", "10"),
    ("bullseye", "debian", "11"),
    ("bookworm", "debian", "12"),
    ("trixie", "debian", "13"),
    ("forky", "debian", "14"),
    ("xenial", "ubuntu", "16.04"),
    ("bionic", "ubuntu", "18.04"),
    ("focal", "ubuntu", "20.04"),
    ("jammy", "ubuntu", "22.04"),
    ("mantic", "ubuntu", "23.10"),
    ("noble", "ubuntu", "24.04"),
    ("oracular", "ubuntu", "24.10"),
    ("plucky", "ubuntu", "25.04"),
    ("questing", "ubuntu", "25.10"),
];

/// Distributions whose point releases are one release.
const BY_MAJOR: [&str; 8] = ["debian", "rhel", "redhat", "centos", "rocky", "almalinux", "fedora", "ol"];

/// A release of a distribution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    id: String,
    /// None if the text gives no number that is known.
    release: Option<String>,
}

impl Distribution {
    /// Reads a `distro` qualifier of a package with this namespace.
    #[must_use]
    pub fn of(namespace: Option<&str>, text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        if let Some((_, id, release)) = CODE_NAMES.iter().find(|(name, ..)| *name == text) {
            return Self { id: (*id).to_owned(), release: Some((*release).to_owned()) };
        }
        let digit = |c: char| c.is_ascii_digit();
        let (id, release) = match text.rsplit_once('-') {
            Some((id, release)) => (id.to_owned(), release.to_owned()),
            None if text.trim_start_matches('v').starts_with(digit) => {
                (namespace.unwrap_or_default().to_ascii_lowercase(), text)
            }
            None => (text, String::new()),
        };
        let number = release.trim_start_matches('v');
        let parts = if BY_MAJOR.contains(&id.as_str()) { 1 } else { 2 };
        let release = number.split('.').take(parts).collect::<Vec<_>>().join(".");
        let known = release.starts_with(digit).then_some(release);
        Self { id, release: known }
    }

    /// Whether it is the same release as `other`; nothing if that cannot be said.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> Option<bool> {
        match (&self.release, &other.release) {
            _ if self == other => Some(true),
            (Some(one), Some(another)) => Some(self.id == other.id && one == another),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(a: &str, b: &str) -> Option<bool> {
        Distribution::of(Some("debian"), a).is_same(&Distribution::of(Some("debian"), b))
    }

    #[test]
    fn names_and_numbers_of_one_release_are_one() {
        assert_eq!(same("bookworm", "debian-12"), Some(true));
        assert_eq!(same("debian-12.4", "12"), Some(true));
        assert_eq!(same("bookworm", "trixie"), Some(false));
        assert_eq!(same("ubuntu-22.04", "jammy"), Some(true));
        assert_eq!(same("alpine-3.18.4", "alpine-v3.18"), Some(true));
        assert_eq!(same("alpine-3.18", "alpine-3.19"), Some(false));
        assert_eq!(same("sid", "bookworm"), None);
        assert_eq!(same("sid", "sid"), Some(true));
    }
}
