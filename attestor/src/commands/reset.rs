//! `touchstone-attestor reset`: makes a disk forget which device it was, before it is copied to others.
//!
//! The identity keys of a copied disk belong to another TPM, and its names and certificates to another device. What is
//! configured stays, and so does the TPM: the device enrolls as before when its attestor starts again.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::CommandError;
use crate::bootstrap::{ROOT_FILE, Sources, TOKEN_FILE};
use crate::config::{IdevIdFiles, IdevIdKey, Local, Outline};
use crate::ports::{Clock, System};
use crate::state::Lock;
use crate::status::Status;
use crate::uptime::Uptime;
use crate::{deliver, gate, hooks, state, status, wanted};

/// Removes what the attestor made, or says what it would remove.
pub fn reset(config: &Path, dry_run: bool) -> Result<String, CommandError> {
    // Whom the device believed is removed too: a reset that was cut short goes on without knowing it.
    let outline = Outline::read(config, &Sources::of_machine())?;
    let (state, (root, token)) = (outline.state.clone(), outline.operators_files());
    let Local { deliver, idevid, .. } = outline.local()?;
    let _held = match Lock::take(&state) {
        Ok(None) => return Err(CommandError::Running),
        // One that was killed left a status that it would have renewed by now.
        Ok(held) => held,
        // A folder that is not there, or that only its owner opens.
        Err(_) if says_that_it_runs(&deliver) => return Err(CommandError::Running),
        Err(_) => None,
    };
    let mut out = String::new();
    for path in traces(&state, &deliver) {
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
    for (what, file) in kept(root, token, idevid) {
        out.push_str(&format!("kept {}: {what}\n", file.display()));
    }
    Ok(out)
}

/// A status that cannot be read is what an attestor that never ran leaves.
fn says_that_it_runs(deliver: &Path) -> bool {
    Status::read(deliver, System::default().now()).is_ok_and(|status| status.is_live(&Uptime::now()))
}

/// Everything that the attestor makes on disk: keys that software has first, whom it believes last. Folders that an operator
/// named are left: they may hold other things.
fn traces(state: &Path, deliver: &Path) -> Vec<PathBuf> {
    let replaced = |name: &str| [name.to_owned(), format!("{name}.new")];
    let known = [state::FILE, TOKEN_FILE].into_iter().flat_map(replaced).chain([state::CORRUPT.to_owned()]);
    let known = known.chain(replaced(ROOT_FILE)).map(|name| state.join(name));
    let single = [status::FILE, wanted::FILE].into_iter().flat_map(replaced);
    let whole = [deliver::CURRENT, deliver::CURRENT_NEW, deliver::GENERATIONS, hooks::FOLDER, gate::FOLDER]
        .map(str::to_owned);
    let delivered = whole.into_iter().chain(single).map(|name| deliver.join(name));
    delivered.chain(known).collect()
}

/// What every copy of the disk will share, for the operator to judge.
fn kept(
    root: Option<PathBuf>,
    token: Option<PathBuf>,
    idevid: Option<IdevIdFiles>,
) -> impl Iterator<Item = (&'static str, PathBuf)> {
    let token = token.filter(|file| file.exists());
    let token =
        token.map(|file| ("every copy can join with this token; remove it unless it is meant for all", file));
    let key = match idevid.map(|files| files.key) {
        Some(IdevIdKey::File(file)) if file.exists() => Some(file),
        Some(IdevIdKey::File(_) | IdevIdKey::Handle(_)) | None => None,
    };
    let key = key.map(|file| {
        let what = "it is the key that the manufacturer certified for this box, and every copy could join as it; take it, and what \
                    `[idevid]` names beside it, off the disk before it is copied, and give each box its own";
        (what, file)
    });
    let root = root.map(|file| ("it pins the plant, for every copy", file));
    key.into_iter().chain(token).chain(root)
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
    fn a_key_that_the_manufacturer_certified_is_named_unless_it_is_in_the_tpm() {
        let (disk, file) = disk();
        let idevid = |key: &str| {
            let text = format!("{CONFIG}[idevid]\ncertificate = \"idevid.pem\"\nkey = \"{key}\"\n");
            fs::write(&file, text).unwrap();
            reset(&file, true).unwrap()
        };
        assert!(!idevid("idevid.key").contains("the manufacturer"), "it is not there");
        fs::write(disk.path().join("idevid.key"), "key").unwrap();
        let said = idevid("idevid.key");
        assert!(said.contains("idevid.key: it is the key that the manufacturer certified"), "{said}");
        assert!(!idevid("0x81020000").contains("the manufacturer"), "it stays with the box");
    }

    #[test]
    fn a_reset_that_was_cut_short_goes_on() {
        let (disk, file) = disk();
        for known in ["state/state.json", "root.pem"] {
            fs::remove_file(disk.path().join(known)).unwrap();
        }
        let said = reset(&file, false).unwrap();
        assert_eq!(said.matches("removed ").count(), 3, "{said}");
        assert!(fs::symlink_metadata(disk.path().join("deliver/generations")).is_err());
        assert!(reset(&file, false).unwrap().starts_with("nothing to remove"));
    }

    #[test]
    fn whom_the_device_believes_is_removed_last() {
        let traces = traces(Path::new("state"), Path::new("deliver"));
        assert_eq!(traces.first(), Some(&Path::new("deliver").join(deliver::CURRENT)));
        assert_eq!(traces.last(), Some(&Path::new("state").join(format!("{ROOT_FILE}.new"))));
    }

    #[test]
    fn a_disk_whose_attestor_runs_is_left() {
        let (disk, file) = disk();
        let _running = Lock::take(&disk.path().join("state")).unwrap().unwrap();
        assert!(matches!(reset(&file, false), Err(CommandError::Running)));
        assert!(disk.path().join("state/state.json").exists());
    }

    #[test]
    fn a_disk_whose_attestor_was_killed_a_moment_ago_is_reset() {
        use crate::status::Word;
        use crate::status::tests::status;
        let (disk, file) = disk();
        let status = Status { written_up: Some(Uptime::now()), ..status(Word::Trusted) };
        status.write(&disk.path().join("deliver")).unwrap();
        assert!(says_that_it_runs(&disk.path().join("deliver")));
        assert!(reset(&file, false).unwrap().contains("state/state.json"));
        // Where the state cannot be asked, its word counts.
        status.write(&disk.path().join("deliver")).unwrap();
        fs::remove_dir_all(disk.path().join("state")).unwrap();
        assert!(matches!(reset(&file, false), Err(CommandError::Running)));
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
