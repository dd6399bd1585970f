//! Generations of files: a folder is written whole and synced, then one symbolic link is switched to it.
//!
//! ```text
//! <deliver>/generations/<n>/...      the delivery; the one before is kept, software may still be reading it
//! <deliver>/current -> generations/<n>
//! ```

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use policy::digest::Digest;
use rustix::process::{getegid, geteuid};

use super::{Content, Delivery};
use crate::durable;

pub(crate) const GENERATIONS: &str = "generations";
/// Name of the link that software follows.
pub(crate) const CURRENT: &str = "current";
/// Name of the link before it is renamed over the current one.
pub(crate) const CURRENT_NEW: &str = ".current.new";
/// File in a generation that holds its digest: what is there already is not delivered again.
const DIGEST: &str = "digest";
/// Longest digest file in bytes.
const MAX_DIGEST: u64 = 128;
/// Longest file that is kept as it is shown, in bytes: a chain, a key, or trust files at their bound.
const MAX_SHOWN: u64 = 32 * 1024 * 1024;
/// Everybody may look for certificates.
const FOLDER: u32 = 0o755;

/// Writes deliveries below one folder.
#[derive(Debug, Clone)]
pub struct FileSink {
    dir: PathBuf,
}

/// A delivery could not be written. Software still sees the one before.
#[derive(Debug, thiserror::Error)]
#[error(
    "certificates cannot be delivered to {}: {source}; free space or correct its owner, software keeps the former \
     ones meanwhile", dir.display()
)]
pub struct InstallError {
    dir: PathBuf,
    #[source]
    source: io::Error,
}

/// A moment at which the power may be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Folder,
    File,
    Synced,
    Link,
    Switched,
    Pruned,
}

impl FileSink {
    /// Delivers below `dir`, which is made when it is needed.
    #[must_use]
    pub const fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The folder it delivers below.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Switches software to `delivery` and gives true; false if it sees exactly this already.
    pub fn install(&self, delivery: &Delivery) -> Result<bool, InstallError> {
        if self.current() == Some(delivery.digest()) {
            return Ok(false);
        }
        self.write(delivery, &mut |_| Ok(()))
            .map(|()| true)
            .map_err(|source| InstallError { dir: self.dir.clone(), source })
    }

    /// Takes everything away from software: it is of another device.
    pub(crate) fn withdraw(&self) -> Result<(), InstallError> {
        let current = std::fs::remove_file(self.dir.join(CURRENT));
        let all = std::fs::remove_dir_all(self.dir.join(GENERATIONS));
        let gone = |done: io::Result<()>| match done {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        };
        gone(current).and(gone(all)).map_err(|source| InstallError { dir: self.dir.clone(), source })
    }

    /// Whether software sees a delivery at all.
    pub(crate) fn shows_something(&self) -> bool {
        self.current().is_some()
    }

    /// Adds what software sees and `delivery` does not name: it would not start, or not read its files again, without.
    pub(crate) fn keep_shown(&self, delivery: &mut Delivery) -> Result<(), InstallError> {
        let kept = keep_below(&self.dir.join(CURRENT), Path::new(""), delivery);
        kept.map_err(|source| InstallError { dir: self.dir.clone(), source })
    }

    /// The digest of what software sees; None if that is nothing.
    fn current(&self) -> Option<Digest> {
        let text = durable::read_bounded(&self.dir.join(CURRENT).join(DIGEST), MAX_DIGEST).ok()?;
        String::from_utf8(text).ok()?.trim_end().parse().ok()
    }

    /// Tests cut the power by failing a step.
    fn write(&self, delivery: &Delivery, step: &mut dyn FnMut(Step) -> io::Result<()>) -> io::Result<()> {
        let generations = self.dir.join(GENERATIONS);
        durable::make_dir(&generations, FOLDER)?;
        let former = self.linked();
        let number = numbers(&generations)?.last().map_or(1, |last| last.saturating_add(1));
        let name = number.to_string();
        step(Step::Folder)?;
        write_generation(&generations.join(&name), delivery, step)?;
        durable::sync_dir(&generations)?;
        step(Step::Synced)?;
        let fresh = self.dir.join(CURRENT_NEW);
        match std::fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => symlink(Path::new(GENERATIONS).join(&name), &fresh)?,
        }
        step(Step::Link)?;
        std::fs::rename(&fresh, self.dir.join(CURRENT))?;
        durable::sync_dir(&self.dir)?;
        step(Step::Switched)?;
        prune(&generations, &[Some(number), former])?;
        step(Step::Pruned)
    }

    /// The number of the generation that software sees.
    fn linked(&self) -> Option<u64> {
        let target = std::fs::read_link(self.dir.join(CURRENT)).ok()?;
        target.file_name()?.to_str()?.parse().ok()
    }
}

fn write_generation(
    dir: &Path,
    delivery: &Delivery,
    step: &mut dyn FnMut(Step) -> io::Result<()>,
) -> io::Result<()> {
    let mut folders = std::collections::BTreeSet::from([dir.to_owned()]);
    for (path, content) in &delivery.files {
        let file = dir.join(path);
        let inner = file.ancestors().skip(1).take_while(|folder| folder.starts_with(dir));
        folders.extend(inner.map(Path::to_owned));
        file.parent().map_or(Ok(()), |folder| durable::make_dir(folder, FOLDER))?;
        write_file(&file, content)?;
        step(Step::File)?;
    }
    durable::make_dir(dir, FOLDER)?;
    durable::write_new(&dir.join(DIGEST), format!("{}\n", delivery.digest()).as_bytes(), 0o644)?;
    folders.iter().try_for_each(|folder| durable::sync_dir(folder))
}

/// A file that is given away is so before it is anybody's to read but its writer's.
fn write_file(file: &Path, content: &Content) -> io::Result<()> {
    let (user, group) = (content.user, content.group);
    if user.is_none() && group.is_none() {
        return durable::write_new(file, &content.bytes, content.mode);
    }
    durable::write_new(file, &content.bytes, 0o600)?;
    let given = chown(file, user, group)
        .and_then(|()| std::fs::set_permissions(file, Permissions::from_mode(content.mode)));
    given.map_err(|error| {
        let words = format!(
            "{} cannot be given to its server's user or group ({error}); let the attestor have the group \
             (SupplementaryGroups= in its unit), a user of its own takes CAP_CHOWN and CAP_FOWNER",
            file.display()
        );
        io::Error::new(error.kind(), words)
    })
}

/// The numbers of the generations there are, half-written ones too, ascending.
fn numbers(generations: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(generations)? {
        numbers.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn prune(generations: &Path, keep: &[Option<u64>]) -> io::Result<()> {
    for number in numbers(generations)? {
        if !keep.contains(&Some(number)) {
            std::fs::remove_dir_all(generations.join(number.to_string()))?;
        }
    }
    Ok(())
}

/// Adds what is in the folder `below` of the generation `shown`, and in those in it.
fn keep_below(shown: &Path, below: &Path, delivery: &mut Delivery) -> io::Result<()> {
    for entry in std::fs::read_dir(shown.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            keep_below(shown, &path, delivery)?;
        } else if path != Path::new(DIGEST) && !delivery.files.contains_key(&path) {
            let bytes = durable::read_bounded(&entry.path(), MAX_SHOWN)?.into();
            let metadata = entry.metadata()?;
            let mode = metadata.permissions().mode() & 0o777;
            // Whoever was given it has it still.
            let user = Some(metadata.uid()).filter(|user| *user != geteuid().as_raw());
            let group = Some(metadata.gid()).filter(|group| *group != getegid().as_raw());
            delivery.files.insert(path, Content { bytes, mode, user, group });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KeyOwner;

    fn delivery(text: &str) -> Delivery {
        let mut delivery = Delivery::default();
        delivery.add("press/caller.pem".into(), format!("certificate {text}"), 0o644);
        delivery.add("press/caller.key".into(), format!("key {text}"), 0o640);
        delivery.add("press/services/opcua/inbound.pem".into(), format!("authority {text}"), 0o644);
        delivery
    }

    #[test]
    fn a_key_is_given_to_its_server_or_nothing_is_switched() {
        let dir = tempfile::tempdir().unwrap();
        let sink = FileSink::new(dir.path().join("run"));
        let key = "press/services/hmi/server.key";
        let owned = |user, group| {
            let mut delivery = delivery("1");
            delivery.add(key.into(), "key".to_owned(), 0o600);
            delivery.give(&[("hmi".parse().unwrap(), KeyOwner { user, group })].into());
            delivery
        };
        let own = std::fs::metadata(dir.path()).unwrap();
        assert!(sink.install(&owned(Some(own.uid()), Some(own.gid()))).unwrap());
        let given = std::fs::metadata(sink.dir.join(CURRENT).join(key)).unwrap();
        assert_eq!((given.mode() & 0o777, given.uid(), given.gid()), (0o640, own.uid(), own.gid()));
        assert!(sink.install(&owned(Some(own.uid()), None)).unwrap(), "another owner is another delivery");
        let given = std::fs::metadata(sink.dir.join(CURRENT).join(key)).unwrap();
        assert_eq!(given.mode() & 0o777, 0o600, "without a group it is for its owner alone");
        if own.uid() != 0 {
            let why = sink.install(&owned(Some(0), None)).unwrap_err().to_string();
            assert!(why.contains("server.key cannot be given") && why.contains("CAP_CHOWN"), "{why}");
        }
    }

    fn seen(sink: &FileSink, file: &str) -> String {
        std::fs::read_to_string(sink.dir.join(CURRENT).join(file)).unwrap()
    }

    #[test]
    fn software_sees_the_last_delivery_with_its_modes_and_the_former_one_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let sink = FileSink::new(dir.path().join("run"));
        for text in ["1", "2", "3"] {
            assert!(sink.install(&delivery(text)).unwrap());
        }
        assert!(!sink.install(&delivery("3")).unwrap(), "what is there is not delivered again");
        assert_eq!(seen(&sink, "press/caller.pem"), "certificate 3");
        let key = std::fs::metadata(sink.dir.join("current/press/caller.key")).unwrap();
        assert_eq!(key.permissions().mode() & 0o777, 0o640);
        assert_eq!(numbers(&sink.dir.join(GENERATIONS)).unwrap(), [2, 3]);
    }

    #[test]
    fn a_power_cut_at_any_step_leaves_one_whole_delivery_and_the_next_one_cleans_up() {
        let mut cut_at = 0;
        loop {
            let dir = tempfile::tempdir().unwrap();
            let sink = FileSink::new(dir.path().to_owned());
            sink.install(&delivery("old")).unwrap();
            let (mut count, mut last) = (0, None);
            let cut = sink.write(&delivery("new"), &mut |step| {
                last = Some(step);
                count += 1;
                if count > cut_at { Err(io::Error::other("power cut")) } else { Ok(()) }
            });
            let expected = match last {
                Some(Step::Switched | Step::Pruned) => "new",
                _ => "old",
            };
            let whole = ["certificate", "key", "authority"].map(|kind| format!("{kind} {expected}"));
            let files = ["press/caller.pem", "press/caller.key", "press/services/opcua/inbound.pem"];
            assert_eq!(files.map(|file| seen(&sink, file)), whole, "cut at {last:?}");
            sink.install(&delivery("after")).unwrap();
            assert_eq!(seen(&sink, "press/caller.key"), "key after");
            assert!(numbers(&sink.dir.join(GENERATIONS)).unwrap().len() <= 2);
            if cut.is_ok() {
                assert_eq!(last, Some(Step::Pruned));
                break;
            }
            cut_at += 1;
        }
    }

    #[test]
    fn what_is_withdrawn_is_gone_and_can_be_delivered_again() {
        let dir = tempfile::tempdir().unwrap();
        let sink = FileSink::new(dir.path().to_owned());
        sink.withdraw().unwrap();
        sink.install(&delivery("1")).unwrap();
        sink.withdraw().unwrap();
        assert_eq!((sink.shows_something(), std::fs::read_dir(&sink.dir).unwrap().count()), (false, 0));
        assert!(sink.install(&delivery("1")).unwrap());
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = FileSink::new(file).install(&delivery("1")).unwrap_err().to_string();
        assert!(error.contains("correct its owner"), "{error}");
    }
}
