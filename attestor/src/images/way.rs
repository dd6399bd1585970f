//! The way to what is named: whoever uses it goes over links that may lead elsewhere tomorrow.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// Links that are followed on one way, as the kernel does (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// The folders in which the way to `path` follows a symbolic link. `path` itself counts: it is a folder that was named.
pub(super) fn folders_with_links(path: &Path) -> Vec<PathBuf> {
    let (mut found, mut at, mut rest) = (Vec::new(), PathBuf::new(), parts(path));
    while let Some(part) = rest.pop() {
        let next = at.join(&part);
        match std::fs::read_link(&next) {
            Ok(target) if found.len() < MAX_LINKS => {
                found.push(at.clone());
                rest.extend(parts(&target));
            }
            Ok(_) => break,
            // The kernel goes up from where the link led.
            Err(_) if part == ".." => drop(at.pop()),
            Err(_) => at = next,
        }
    }
    found
}

/// The parts of a path, the last one first. One that begins at the root leads there from anywhere.
fn parts(path: &Path) -> Vec<OsString> {
    let parts = path.components().rev().filter(|part| *part != Component::CurDir);
    parts.map(|part| part.as_os_str().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::create_dir_all;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_folder_with_a_link_on_the_way_is_found() {
        let dir = tempfile::tempdir().unwrap();
        // A temporary folder may be behind a link itself.
        let root = dir.path().canonicalize().unwrap();
        create_dir_all(root.join("opt/plc")).unwrap();
        create_dir_all(root.join("data/releases/3/bin")).unwrap();
        symlink("releases/3", root.join("data/current")).unwrap();
        symlink("../../data/current/bin", root.join("opt/plc/bin")).unwrap();
        let found = folders_with_links(&root.join("opt/plc/bin"));
        assert_eq!(found, [root.join("opt/plc"), root.join("data")]);
        symlink(root.join("opt"), root.join("absolute")).unwrap();
        let found = folders_with_links(&root.join("absolute/plc/./bin/none"));
        assert_eq!(found, [root.clone(), root.join("opt/plc"), root.join("data")]);
        assert!(folders_with_links(&root.join("data/releases")).is_empty());
    }

    #[test]
    fn links_in_a_circle_are_left() {
        let dir = tempfile::tempdir().unwrap();
        symlink("b", dir.path().join("a")).unwrap();
        symlink("a", dir.path().join("b")).unwrap();
        assert_eq!(folders_with_links(&dir.path().canonicalize().unwrap().join("a/c")).len(), MAX_LINKS);
    }
}
