//! Compares the files that Linux measured with what a release approves of files.

mod vouched;

use self::vouched::Vouched;
use super::claims::{Claim, ClaimValue};
use super::finding::{Finding, FindingKind, MAX_EXPECTED, MAX_FINDINGS};
use super::measurements::Measurements;
use crate::budget::MAX_DESCRIPTION;
use crate::eventlog::ima::aggregate::BOOT_AGGREGATE;
use crate::eventlog::ima::list::Record;
use crate::eventlog::ima::signature::FileSignatureError;
use crate::eventlog::ima::template::{DigestOf, FileDigest};
use crate::eventlog::ima::verify::VerifiedIma;
use crate::reference::hash_text::HashText;
use crate::reference::manifest::Manifest;
use crate::reference::manifest::ima::{ImaRules, Violations};

/// A way in which files differ from a release.
enum Fault<'a> {
    /// The release has rules and no list was sent.
    NoList,
    /// Records before this one were not approved under the release.
    Earlier(u64),
    /// A file that the release does not approve, and why its signature does not either.
    Unknown(Record<'a>, FileSignatureError),
    /// A file that was written while it was measured.
    Violation(Record<'a>),
}

/// How a list compares with one release.
#[derive(Default)]
pub(super) struct Files<'a> {
    /// At most as many as are told.
    faults: Vec<Fault<'a>>,
    count: usize,
    appraised: bool,
}

/// Compares; nothing is appraised where the release says nothing about files.
pub(super) fn compare<'a>(manifest: &Manifest, seen: &Measurements<'a>) -> Files<'a> {
    let mut files = Files::default();
    let Some(rules) = manifest.ima() else { return files };
    files.appraised = true;
    let Some(list) = seen.ima() else {
        files.add(Fault::NoList);
        return files;
    };
    if list.first() > 0 && !list.approved_before().contains(manifest.id()) {
        files.add(Fault::Earlier(list.first()));
    }
    files.compare_records(rules, list);
    files
}

impl<'a> Files<'a> {
    /// Whether there are rules and every file satisfies them.
    pub(super) const fn approved(&self) -> bool {
        self.appraised && self.count == 0
    }

    /// Whether nothing is known against the files: no list, or one whose beginning is not known.
    pub(super) fn is_silence(&self) -> bool {
        self.faults.iter().all(|fault| matches!(fault, Fault::NoList | Fault::Earlier(_)))
    }

    /// How many faults there are.
    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// How many faults are not among the findings.
    pub(super) fn left_out(&self) -> usize {
        self.count.saturating_sub(self.faults.len())
    }

    fn add(&mut self, fault: Fault<'a>) {
        self.count = self.count.saturating_add(1);
        if self.faults.len() < MAX_FINDINGS {
            self.faults.push(fault);
        }
    }

    fn compare_records(&mut self, rules: &ImaRules, list: &'a VerifiedIma) {
        let mut vouched = Vouched::default();
        // The first record of a boot was compared with the quoted PCRs.
        for record in list.records().filter(|record| record.position > 0) {
            if record.is_violation() {
                if rules.violations() == Violations::Refuse {
                    self.add(Fault::Violation(record));
                }
            } else if !is_listed(rules, &record)
                && let Err(why) = vouched.verify(&record.fields, rules.keys())
            {
                self.add(Fault::Unknown(record, why));
            }
        }
    }

    /// The claims that the faults lower, and to what (AR4SI, section 2.3.4).
    pub(super) fn claims(&self) -> impl Iterator<Item = (Claim, ClaimValue)> {
        let about_files = |fault: &Fault<'_>| matches!(fault, Fault::Unknown(..) | Fault::Violation(_));
        let executables = (self.count > 0).then_some((Claim::Executables, ClaimValue::UNRECOGNISED));
        let files = self.faults.iter().any(about_files);
        let file_system = files.then_some((Claim::FileSystem, ClaimValue::UNRECOGNISED_FILES));
        executables.into_iter().chain(file_system)
    }

    /// The faults as reasons.
    pub(super) fn findings(&self, manifest: &Manifest) -> impl Iterator<Item = Finding> {
        self.faults.iter().map(|fault| fault.to_finding(manifest))
    }
}

/// Whether the path of a record is excluded, or listed with its digest. A digest of fs-verity is of
/// another kind than a listed one, which is of the content.
fn is_listed(rules: &ImaRules, record: &Record<'_>) -> bool {
    let Some(path) = record.fields.name.and_then(|name| std::str::from_utf8(name).ok()) else { return false };
    let digest = record.fields.digest.filter(|digest| digest.of != DigestOf::Verity);
    let listed = |FileDigest { value, .. }| rules.digests(path).is_some_and(|known| known.contains(&value));
    rules.excludes(path) || digest.is_some_and(listed)
}

impl Fault<'_> {
    fn to_finding(&self, manifest: &Manifest) -> Finding {
        let id = manifest.id();
        let (kind, record) = match self {
            Self::NoList => (FindingKind::NoFileList, None),
            Self::Earlier(_) => (FindingKind::FileListIncomplete, None),
            Self::Unknown(record, _) => (FindingKind::UnknownFile, Some(record)),
            Self::Violation(record) => (FindingKind::FileViolation, Some(record)),
        };
        let mut finding = Finding::new(kind, Claim::Executables, self.sentence(manifest)).with_release(id);
        finding.pcr = record.map(|record| record.pcr.number());
        finding.name = record.map(path);
        finding.seen = match self {
            Self::Unknown(record, _) => record.fields.digest.map(|digest| HashText(digest.value)),
            _ => None,
        };
        let listed = || {
            let path = std::str::from_utf8(record?.fields.name?).ok()?;
            manifest.ima()?.digests(path)
        };
        finding.expected = listed().into_iter().flatten().take(MAX_EXPECTED).copied().map(HashText).collect();
        finding
    }

    fn sentence(&self, manifest: &Manifest) -> String {
        let id = manifest.id();
        let place = |record: &Record<'_>| format!("IMA record {}, {}", record.position, path(record));
        match self {
            Self::NoList => format!(
                "{id} says which files may run and the device sent no IMA list; boot it with an IMA policy and let the attestor read the list"
            ),
            Self::Earlier(first) => format!(
                "the IMA list begins with record {first} and {id} has not approved those before; send the whole list"
            ),
            Self::Unknown(record, _) if record.fields.name == Some(BOOT_AGGREGATE.as_bytes()) => format!(
                "{}: the kernel was replaced by kexec, and no PCR says which one runs; reboot the device through its firmware, or list this record in a release",
                place(record)
            ),
            Self::Unknown(record, why) => {
                let digest = record.fields.digest.map(|digest| HashText(digest.value).to_string());
                let digest = digest.unwrap_or_else(|| format!("template {}", record.template));
                format!(
                    "{} ({digest}): {id} does not list this file and {why}; remove the file, or sign a release that accepts it",
                    place(record)
                )
            }
            Self::Violation(record) => format!(
                "{}: the file was written while it was measured, so nobody knows what ran; reboot the device, or set violations = \"allow\" in a release",
                place(record)
            ),
        }
    }
}

/// The path of a record as it can be shown: short, and without characters that change what is around it.
fn path(record: &Record<'_>) -> String {
    let Some(name) = record.fields.name else { return format!("template {}", record.template) };
    let shown = |c: char| if c.is_control() || !c.is_ascii() && !c.is_alphanumeric() { '?' } else { c };
    String::from_utf8_lossy(name).chars().take(MAX_DESCRIPTION).map(shown).collect()
}
