//! What `[images]` names: whether it is there and can be read.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

use super::Finding;
use crate::config::Images;

const CHECK: &str = "images";

/// Looks at each thing that is named.
pub(super) fn of_images(images: &Images) -> Finding {
    let mut missing = Vec::new();
    for (path, looked) in named(images) {
        match looked {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => missing.push(path.display().to_string()),
            Err(error) => {
                let found =
                    format!("{} cannot be read: {error}; let the attestor's user read it", path.display());
                return Finding::fault(CHECK, found);
            }
        }
    }
    let Images { files, folders, containers, .. } = images;
    let named = format!("{} files, {} folders, {} containers", files.len(), folders.len(), containers.len());
    match missing.is_empty() {
        true => Finding::good(CHECK, format!("{named} can be read")),
        false => {
            let missing = missing.join(", ");
            let found = format!(
                "not there: {missing}; put it there, or take it out of [images], before the attestor starts"
            );
            Finding::warning(CHECK, found)
        }
    }
}

fn named(images: &Images) -> impl Iterator<Item = (&Path, io::Result<()>)> {
    let file = |path: &Path| File::open(path).map(drop);
    let folder = |path: &Path| fs::read_dir(path).map(drop);
    let files = images.files.iter().map(move |path| (path.as_path(), file(path)));
    let containers = images.containers.iter().map(move |one| (one.digest.as_path(), file(&one.digest)));
    files.chain(containers).chain(images.folders.iter().map(move |path| (path.as_path(), folder(path))))
}
