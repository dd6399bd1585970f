//! `touchstone-attestor reset`: makes a disk forget which device it was, before it is copied to others.
//!
//! The identity keys of a copied disk belong to another TPM, and its names and certificates to another device. What is
//! configured stays, and so does the TPM: the device enrolls as before when its attestor starts again.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::CommandError;
use crate::bootstrap::{ROOT_FILE, TOKEN_FILE};
use crate::config::Config;
use crate::ports::{Clock, System};
use crate::status::Status;
use crate::uptime::Uptime;
use crate::{deliver, gate, hooks, state, status, wanted};

/// Removes what the attestor made, or says what it would remove.
pub fn reset(config: &Path, dry_run: bool) -> Result<String, CommandError> {
    let config = Config::load(config)?;
    // A status that cannot be read is what an attestor that never ran leaves.
    if Status::read(&config.deliver, System::default().now())
        .is_ok_and(|status| status.is_live(&Uptime::now()))
    {
        return Err(CommandError::Running);
    }
    let mut out = String::new();
    for path in traces(&config) {
        if fs::symlink_metadata(&path).is_err() {
            continue;
        }
        if !dry_run {
            remove(&path).map_err(|source| CommandError::NotRemoved { path: path.clone(), source })?;
        }
        let done = if dry_run { "would remove" } else { "removed" };
        out.push_str(&format!("{done} {}\n", path.display()));
    }
    if out.is_empty() {
        out.push_str("nothing to remove: this disk knows no device\n");
    }
    for (what, file) in kept(&config) {
        out.push_str(&format!("kept {}: {what}\n", file.display()));
    }
    Ok(out)
}

/// Everything that the attestor makes on disk. Folders that an operator named are left: they may hold other things.
fn traces(config: &Config) -> Vec<PathBuf> {
    let replaced = |name: &str| [name.to_owned(), format!("{name}.new")];
    let state = [state::FILE, ROOT_FILE, TOKEN_FILE].into_iter().flat_map(replaced);
    let state = state.chain([state::CORRUPT.to_owned()]);
    let state = state.map(|name| config.state.join(name));
    let single = [status::FILE, wanted::FILE].into_iter().flat_map(replaced);
    let whole = [deliver::CURRENT, deliver::CURRENT_NEW, deliver::GENERATIONS, hooks::FOLDER, gate::FOLDER]
        .map(str::to_owned);
    let delivered = single.chain(whole).map(|name| config.deliver.join(name));
    state.chain(delivered).collect()
}

/// What every copy of the disk will share, for the operator to judge.
fn kept(config: &Config) -> impl Iterator<Item = (&'static str, &PathBuf)> {
    let token = config.join_token_file.iter().filter(|file| file.exists());
    let token =
        token.map(|file| ("every copy can join with this token; remove it unless it is meant for all", file));
    let root = ("it pins the plant, for every copy", &config.plant_root);
    token.chain([root])
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        _ => fs::remove_file(path),
    };
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "broker = \"127.0.0.1:1\"\nplant = \"plant.example\"\nplant_root = \"root.pem\"\n\
        tpm = \"swtpm:host=127.0.0.1,port=1\"\nstate = \"state\"\ndeliver = \"deliver\"\njoin_token_file = \"token\"\n";

    fn disk() -> (tempfile::TempDir, PathBuf) {
        let disk = tempfile::tempdir().unwrap();
        let file = disk.path().join("attestor.toml");
        fs::write(&file, CONFIG).unwrap();
        for folder in ["state", "deliver/generations/3/press", "deliver/hooks"] {
            fs::create_dir_all(disk.path().join(folder)).unwrap();
        }
        for name in [
            "state/state.json",
            "deliver/generations/3/press/caller.pem",
            "deliver/other",
            "token",
            "root.pem",
        ] {
            fs::write(disk.path().join(name), "content").unwrap();
        }
        std::os::unix::fs::symlink("generations/3", disk.path().join("deliver/current")).unwrap();
        (disk, file)
    }

    #[test]
    fn a_disk_forgets_its_device_and_nothing_else() {
        let (disk, file) = disk();
        let said = reset(&file, true).unwrap();
        assert!(disk.path().join("state/state.json").exists(), "a rehearsal removes nothing");
        assert_eq!(said.matches("would remove ").count(), 4, "{said}");
        let said = reset(&file, false).unwrap();
        assert_eq!(said.matches("removed ").count(), 4, "{said}");
        assert!(said.contains("every copy can join with this token"), "{said}");
        for gone in ["state/state.json", "deliver/current", "deliver/generations", "deliver/hooks"] {
            assert!(fs::symlink_metadata(disk.path().join(gone)).is_err(), "{gone}");
        }
        for kept in ["state", "deliver/other", "token", "root.pem", "attestor.toml"] {
            assert!(disk.path().join(kept).exists(), "{kept}");
        }
        assert!(reset(&file, false).unwrap().starts_with("nothing to remove"));
    }

    #[test]
    fn a_link_is_removed_and_not_what_it_leads_to() {
        let (disk, file) = disk();
        fs::remove_dir_all(disk.path().join("deliver/hooks")).unwrap();
        fs::create_dir(disk.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("../elsewhere", disk.path().join("deliver/hooks")).unwrap();
        reset(&file, false).unwrap();
        assert!(disk.path().join("elsewhere").exists());
    }
}
