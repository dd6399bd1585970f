//! Package URLs (ECMA-427), as far as they say which software a component is.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use packageurl::PackageUrl;

use super::distribution::Distribution;

/// Longest purl in bytes: those of software in containers, with a checksum and a repository, have some 500.
pub const MAX_PURL: usize = 2048;

/// Types whose packages belong to a distribution, which their namespace names.
const DISTRIBUTED: [&str; 3] = ["deb", "rpm", "apk"];

/// The text is no purl.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PurlError {
    /// Too long.
    #[error("the purl has {0} bytes, at most {MAX_PURL}")]
    TooLong(usize),
    /// Not of the form of a purl.
    #[error("`{text}` is no purl ({reason}); write for example pkg:deb/debian/openssl")]
    Malformed {
        /// What was read.
        text: String,
        /// Why not.
        reason: String,
    },
}

/// A package by type, namespace and name, with its version and what else is said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purl {
    package_type: String,
    namespace: Option<String>,
    name: String,
    version: Option<String>,
    qualifiers: BTreeMap<String, String>,
}

impl Purl {
    /// The type: `deb`, `npm`, in lower case.
    #[must_use]
    pub fn package_type(&self) -> &str {
        &self.package_type
    }

    /// The namespace: distribution, scope or group.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version; for RPM with the epoch, which a purl keeps apart.
    #[must_use]
    pub fn version(&self) -> Option<String> {
        let version = self.version.clone()?;
        match self.qualifier("epoch") {
            Some(epoch) if self.package_type == "rpm" && !version.contains(':') => {
                Some(format!("{epoch}:{version}"))
            }
            _ => Some(version),
        }
    }

    /// A qualifier.
    #[must_use]
    pub fn qualifier(&self, key: &str) -> Option<&str> {
        self.qualifiers.get(key).map(String::as_str)
    }

    /// The distribution and its release, if the purl says which.
    #[must_use]
    pub fn distribution(&self) -> Option<Distribution> {
        self.qualifier("distro").map(|text| Distribution::of(self.namespace(), text))
    }

    /// Whether the namespace is that of a distribution.
    #[must_use]
    pub fn is_distributed(&self) -> bool {
        DISTRIBUTED.contains(&self.package_type.as_str())
    }

    /// The package without version and qualifiers but its distribution.
    #[must_use]
    pub fn package(&self) -> Self {
        let mut package = Self { version: None, ..self.clone() };
        package.qualifiers.retain(|key, _| key == "distro");
        package
    }

    /// The package in a distribution, unless the purl names one already.
    #[must_use]
    pub fn within(mut self, distro: &str) -> Self {
        self.qualifiers.entry("distro".to_owned()).or_insert_with(|| distro.to_owned());
        self
    }

    /// A package of these parts.
    pub fn of(package_type: &str, namespace: Option<&str>, name: &str) -> Result<Self, PurlError> {
        let fault = |error: packageurl::Error| malformed(name, &error);
        let mut purl = PackageUrl::new(package_type, name).map_err(fault)?;
        if let Some(namespace) = namespace {
            purl.with_namespace(namespace).map_err(fault)?;
        }
        purl.to_string().parse()
    }

    /// `namespace` as this type of package compares it; that of a distribution by the name that it has here.
    #[must_use]
    pub(super) fn comparable_namespace(&self, namespace: &str) -> String {
        if self.is_distributed() { super::distribution::id_of(namespace) } else { self.comparable(namespace) }
    }

    /// `name` as this type of package compares it.
    #[must_use]
    pub(super) fn comparable(&self, name: &str) -> String {
        match self.package_type.as_str() {
            "pypi" => folded(name),
            "deb" | "apk" | "npm" | "composer" | "github" | "bitbucket" | "golang" | "hex" | "nuget" => {
                name.to_ascii_lowercase()
            }
            _ => name.to_owned(),
        }
    }
}

/// `name` as PEP 503 compares it: runs of `-`, `_` and `.` are one `-`.
pub(super) fn folded(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '-' | '_' | '.' if out.ends_with('-') => {}
            '-' | '_' | '.' => out.push('-'),
            c => out.push(c.to_ascii_lowercase()),
        }
    }
    out
}

fn malformed(text: &str, reason: &packageurl::Error) -> PurlError {
    PurlError::Malformed { text: text.chars().take(100).collect(), reason: reason.to_string() }
}

impl FromStr for Purl {
    type Err = PurlError;

    fn from_str(text: &str) -> Result<Self, PurlError> {
        if text.len() > MAX_PURL {
            return Err(PurlError::TooLong(text.len()));
        }
        let purl = PackageUrl::from_str(text).map_err(|error| malformed(text, &error))?;
        let qualifiers = purl
            .qualifiers()
            .iter()
            .map(|(key, value)| (key.clone().into_owned(), value.clone().into_owned()));
        Ok(Self {
            package_type: purl.ty().to_ascii_lowercase(),
            namespace: purl.namespace().map(str::to_owned),
            name: purl.name().to_owned(),
            version: purl.version().map(str::to_owned),
            qualifiers: qualifiers.collect(),
        })
    }
}

impl fmt::Display for Purl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut purl =
            PackageUrl::new(self.package_type.as_str(), self.name.as_str()).map_err(|_| fmt::Error)?;
        if let Some(namespace) = &self.namespace {
            purl.with_namespace(namespace.as_str()).map_err(|_| fmt::Error)?;
        }
        if let Some(version) = &self.version {
            purl.with_version(version.as_str()).map_err(|_| fmt::Error)?;
        }
        for (key, value) in &self.qualifiers {
            purl.add_qualifier(key.as_str(), value.as_str()).map_err(|_| fmt::Error)?;
        }
        write!(f, "{purl}")
    }
}
