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
const BY_MAJOR: [&str; 8] =
    ["debian", "redhat", "centos", "rocky", "almalinux", "fedora", "oracle", "amazon"];
/// Distributions that publish advisories of their own. Others are rebuilt from one of these, or may be.
const OWN: [&str; 14] = [
    "debian",
    "ubuntu",
    "alpine",
    "wolfi",
    "chainguard",
    "redhat",
    "rocky",
    "almalinux",
    "fedora",
    "oracle",
    "amazon",
    "suse",
    "photon",
    "azurelinux",
];
/// Other names of distributions, in purls and in `ID` of os-release.
const ALIASES: [(&str, &str); 15] = [
    ("rhel", "redhat"),
    ("red-hat", "redhat"),
    ("rockylinux", "rocky"),
    ("alma", "almalinux"),
    ("ol", "oracle"),
    ("oraclelinux", "oracle"),
    ("amzn", "amazon"),
    ("amazonlinux", "amazon"),
    ("sles", "suse"),
    ("sled", "suse"),
    ("opensuse", "suse"),
    ("opensuse-leap", "suse"),
    ("opensuse-tumbleweed", "suse"),
    ("centos-stream", "centos"),
    ("mariner", "azurelinux"),
];

/// The name of a distribution here.
pub(super) fn id_of(text: &str) -> String {
    let text = text.to_ascii_lowercase();
    ALIASES.iter().find(|(alias, _)| *alias == text).map_or(text, |(_, id)| (*id).to_owned())
}

/// Whether these are certainly two distributions, each with its own packages.
pub(super) fn are_two(one: &str, other: &str) -> bool {
    one != other && OWN.contains(&one) && OWN.contains(&other)
}

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
                (namespace.unwrap_or_default().to_owned(), text)
            }
            None => (text, String::new()),
        };
        let id = id_of(&id);
        // What follows the number, as in `22.04:LTS`, is no part of it.
        let number =
            release.trim_start_matches('v').split(|c: char| !digit(c) && c != '.').next().unwrap_or("");
        let parts = if BY_MAJOR.contains(&id.as_str()) { 1 } else { 2 };
        let release: Vec<&str> = number.split('.').filter(|part| !part.is_empty()).take(parts).collect();
        let known = (!release.is_empty()).then(|| release.join("."));
        Self { id, release: known }
    }

    /// Whether it is the same release as `other`; nothing if that cannot be said.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> Option<bool> {
        if self == other {
            return Some(true);
        }
        if self.id != other.id {
            return if are_two(&self.id, &other.id) { Some(false) } else { None };
        }
        let (one, another) = (self.release.as_deref()?, other.release.as_deref()?);
        // `3` says less than `3.18`.
        let alike = one.split('.').zip(another.split('.')).all(|(one, another)| one == another);
        if alike { None } else { Some(false) }
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
        assert_eq!(same("rhel-9.2", "redhat-9"), Some(true));
        assert_eq!(same("ubuntu-22.04:LTS", "jammy"), Some(true));
        assert_eq!(same("alpine-3", "alpine-3.18"), None);
        assert_eq!(same("alpine-3", "alpine-2.7"), Some(false));
        assert_eq!(same("debian-12", "ubuntu-22.04"), Some(false));
        assert_eq!(same("raspbian-12", "debian-12"), None, "rebuilt from it, maybe");
        assert_eq!(same("el9", "redhat-9"), None);
    }
}
