//! What `[images]` names: whether it is there and can be read.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::Finding;
use crate::config::Images;

const CHECK: &str = "images";

/// Time for one file or folder; a file system of another machine may never answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Looks at each thing that is named.
pub(super) async fn of_images(images: &Images) -> Finding {
    let mut missing = Vec::new();
    for (path, look) in named(images) {
        let shown = path.display().to_string();
        let looked = timeout(PATIENCE, spawn_blocking(move || look(&path))).await;
        match looked.map(|looked| looked.unwrap_or_else(|error| Err(io::Error::other(error)))) {
            Ok(Ok(())) => {}
            Ok(Err(error)) if error.kind() == ErrorKind::NotFound => missing.push(shown),
            Ok(Err(error)) => {
                let found = format!("{shown} cannot be read: {error}; let the attestor's user read it");
                return Finding::fault(CHECK, found);
            }
            Err(_) => {
                let found =
                    format!("{shown} does not answer: its file system hangs; see what is mounted there");
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

/// How one is looked at.
type Look = fn(&Path) -> io::Result<()>;

fn named(images: &Images) -> Vec<(PathBuf, Look)> {
    let file: Look = |path| File::open(path).map(drop);
    let folder: Look = |path| fs::read_dir(path).map(drop);
    let files = images.files.iter().map(|path| (path.clone(), file));
    let containers = images.containers.iter().map(|one| (one.digest.clone(), file));
    files.chain(containers).chain(images.folders.iter().map(|path| (path.clone(), folder))).collect()
}
