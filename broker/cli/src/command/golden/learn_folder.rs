//! `touchstone golden learn --from-evidence`: a manifest from evidence in folders, without a broker.

use std::path::{Path, PathBuf};

use policy::cause::chain;
use policy::digest::Digest;
use policy::evidence::offline::OfflineEvidence;
use policy::id::ProductName;
use policy::reference::learn::{LearnError, Lesson, ReferenceDevice, learn};
use policy::reference::learn_words::{describe, describe_notes, describe_warnings, name_at};
use policy::reference::release::{ReleaseId, ReleaseVersion};

use super::draft::DraftPage;
use crate::command::appraise::folder::EvidenceFolder;
use crate::exit::Exit;
use crate::failure::{Failure, Result};

/// The version of a release that nobody named.
const FIRST: &str = "1";
/// The product of a release that nobody named, where the folder's name is no product name.
const UNNAMED: &str = "learned";

/// What the release is called, where what is left out has a default, and how it is learned.
pub(super) struct Named {
    pub(super) product: Option<ProductName>,
    pub(super) version: Option<ReleaseVersion>,
    pub(super) counter: Option<u64>,
    pub(super) one_of: bool,
}

/// Learns what the folders agree on.
pub(super) fn from_folders(folders: &[PathBuf], named: Named) -> Result<DraftPage> {
    let mut boots = Vec::new();
    for folder in folders {
        boots.push(Boot::read(folder)?);
    }
    let devices = devices(&boots);
    let references: Vec<ReferenceDevice<'_>> = devices.iter().filter_map(|boots| reference(boots)).collect();
    let version = named.version.map_or_else(|| FIRST.parse().map_err(internal), Ok)?;
    let product = named.product.map_or_else(|| default_product(folders), Ok)?;
    let names: Vec<String> =
        devices.iter().filter_map(|boots| Some(boots.first()?.folder.display().to_string())).collect();
    let lesson = Lesson {
        id: ReleaseId { product, version },
        counter: named.counter.unwrap_or(1),
        one_of: named.one_of,
    };
    let learned = learn(&references, lesson).map_err(|e| refusal(&e, &names))?;
    let mut notes = describe(&learned, &names);
    for boot in boots.iter().filter(|boot| boot.evidence.quote().is_none()) {
        let folder = boot.folder.display();
        notes.push(format!("{folder}: no quote, so the PCR values that were learned are unproven"));
    }
    let warnings = describe_warnings(&learned, &names);
    Ok(DraftPage { manifest: learned.manifest.render(), notes, warnings, file: None })
}

/// The evidence of a folder.
struct Boot<'p> {
    folder: &'p Path,
    evidence: OfflineEvidence,
}

impl<'p> Boot<'p> {
    /// The evidence of a folder whose files agree.
    fn read(folder: &'p Path) -> Result<Self> {
        let evidence = EvidenceFolder::read(folder)?.verify()?.map_err(|error| {
            Failure::new(Exit::Negative, format!("{}: {}", folder.display(), chain(&error)))
                .next("nothing is learned from evidence that contradicts itself; collect it again")
        })?;
        Ok(Self { folder, evidence })
    }

    /// The key that quoted it.
    fn signer(&self) -> Option<Digest> {
        self.evidence.quote().map(|quote| quote.key)
    }
}

/// The boots of each device. Without a quote nothing says whose boot it is, so it counts as another device's.
fn devices<'b, 'p>(boots: &'b [Boot<'p>]) -> Vec<Vec<&'b Boot<'p>>> {
    let mut devices: Vec<Vec<&Boot<'_>>> = Vec::new();
    for boot in boots {
        let same = |known: &&mut Vec<&Boot<'_>>| {
            known.first().is_some_and(|first| first.signer().is_some() && first.signer() == boot.signer())
        };
        match devices.iter_mut().find(same) {
            Some(known) => known.push(boot),
            None => devices.push(vec![boot]),
        }
    }
    devices
}

/// A device by its boots, the last one first.
fn reference<'e>(boots: &[&'e Boot<'_>]) -> Option<ReferenceDevice<'e>> {
    let mut measured = boots.iter().map(|boot| boot.evidence.measurements());
    let last = measured.next()?;
    Some(ReferenceDevice { earlier: measured.collect(), ..last.into() })
}

fn internal(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Internal, error.to_string())
}

/// The first folder's name, in the letters of product names.
fn default_product(folders: &[PathBuf]) -> Result<ProductName> {
    let name = folders.first().and_then(|folder| folder.file_name()).unwrap_or_default();
    let name: String = name.to_string_lossy().to_ascii_lowercase().replace(['_', '.', ' '], "-");
    name.parse().or_else(|_| UNNAMED.parse()).map_err(internal)
}

fn refusal(error: &LearnError, names: &[String]) -> Failure {
    match error {
        LearnError::NothingAgreed(notes) => {
            Failure::new(Exit::Negative, format!("{error}: {}", describe_notes(notes, names).join("; ")))
        }
        LearnError::Banks { device, .. } => {
            Failure::unusable(format!("{}: {error}", name_at(names, *device)))
        }
        LearnError::NoDevice
        | LearnError::TooManyDevices(_)
        | LearnError::Unproven(_)
        | LearnError::Manifest(_) => Failure::unusable(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gives_its_name_or_none() {
        let of = |path: &str| default_product(&[PathBuf::from(path)]).unwrap().to_string();
        assert_eq!(of("/tmp/Press_7/"), "press-7");
        assert_eq!(of("/"), "learned");
        assert_eq!(of("-"), "learned");
    }
}
