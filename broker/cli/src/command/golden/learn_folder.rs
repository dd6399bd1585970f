//! `touchstone golden learn --from-evidence`: a manifest from evidence in folders, without a broker.

use std::path::{Path, PathBuf};

use policy::appraisal::measurements::Measurements;
use policy::cause::chain;
use policy::evidence::offline::OfflineEvidence;
use policy::id::ProductName;
use policy::reference::learn::{LearnError, learn};
use policy::reference::learn_words::{describe, describe_notes, name_at};
use policy::reference::release::ReleaseVersion;

use crate::command::appraise::folder::EvidenceFolder;
use crate::exit::Exit;
use crate::failure::{Failure, Result};

/// The version of a release that nobody named.
const FIRST: &str = "1";
/// The product of a release that nobody named, where the folder's name is no product name.
const UNNAMED: &str = "learned";

/// What the release is called; what is left out has a default.
pub(super) struct Named {
    pub(super) product: Option<ProductName>,
    pub(super) version: Option<ReleaseVersion>,
    pub(super) counter: Option<u64>,
}

/// Learns what the folders agree on; returns the manifest and what was left out, one line each.
pub(super) fn from_folders(folders: &[PathBuf], named: Named) -> Result<(String, Vec<String>)> {
    let mut evidence = Vec::new();
    for folder in folders {
        evidence.push(believable(folder)?);
    }
    let measurements: Vec<Measurements<'_>> = evidence.iter().map(OfflineEvidence::measurements).collect();
    let version = named.version.map_or_else(|| FIRST.parse().map_err(internal), Ok)?;
    let product = named.product.map_or_else(|| default_product(folders), Ok)?;
    let names: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
    let counter = named.counter.unwrap_or(1);
    let learned = learn(&measurements, product, version, counter).map_err(|e| refusal(&e, &names))?;
    let mut notes = describe(&learned, &names);
    for (name, _) in names.iter().zip(&evidence).filter(|(_, evidence)| evidence.quote().is_none()) {
        notes.push(format!("{name}: no quote, so the PCR values that were learned are unproven"));
    }
    Ok((learned.manifest.render(), notes))
}

/// The evidence of a folder whose files agree.
fn believable(folder: &Path) -> Result<OfflineEvidence> {
    EvidenceFolder::read(folder)?.verify()?.map_err(|error| {
        Failure::new(Exit::Negative, format!("{}: {}", folder.display(), chain(&error)))
            .next("nothing is learned from evidence that contradicts itself; collect it again")
    })
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
