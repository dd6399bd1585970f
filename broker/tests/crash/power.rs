//! A disk whose power can be cut: ext4 on a loop device, ended by `EXT4_IOC_SHUTDOWN` without a flush of
//! its journal. What was not synced is gone at the next mount, as after a real power cut.
//!
//! Does not show: what a drive with a volatile cache, or one that lies about flushes, loses beyond that.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

/// Bytes of the file that holds the file system; sparse.
const IMAGE_BYTES: u64 = 256 << 20;

/// `EXT4_IOC_SHUTDOWN` is `_IOR('X', 125, __u32)`, 2 is `EXT4_GOING_FLAGS_NOLOGFLUSH` (fs/ext4/ext4.h). There
/// is no tool for it on ext4 that every system has, and this workspace forbids unsafe code.
const CUT: &str = "import fcntl,os,struct,sys; \
    fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";

/// A file system in a file.
pub(crate) struct Disk {
    image: PathBuf,
    point: PathBuf,
}

/// The file system while it is mounted.
pub(crate) struct Mounted<'a> {
    point: &'a Path,
}

impl Disk {
    /// Makes a disk in `folder` and tries it, or says why this machine cannot.
    pub(crate) fn create(folder: &Path) -> Result<Self, String> {
        let disk = Self { image: folder.join("disk.ext4"), point: folder.join("mounted") };
        let made = File::create(&disk.image).and_then(|file| file.set_len(IMAGE_BYTES));
        made.and_then(|()| fs::create_dir(&disk.point)).map_err(|error| error.to_string())?;
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&disk.image))?;
        let mounted = disk.mount()?;
        mounted.cut_power()?;
        drop(mounted);
        Ok(disk)
    }

    /// Mounts the disk, as after a start of the machine.
    pub(crate) fn mount(&self) -> Result<Mounted<'_>, String> {
        run(Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.point))?;
        let mounted = Mounted { point: &self.point };
        // Written just before the cut and never synced: had it survived, the cut would prove nothing.
        match fs::read(mounted.witness()) {
            Ok(bytes) if !bytes.is_empty() => Err("what was not synced survived the power cut".to_owned()),
            Ok(_) => fs::remove_file(mounted.witness()).map(|()| mounted).map_err(|error| error.to_string()),
            Err(_) => Ok(mounted),
        }
    }
}

impl Mounted<'_> {
    pub(crate) fn path(&self) -> &Path {
        self.point
    }

    fn witness(&self) -> PathBuf {
        self.point.join("witness")
    }

    fn filling(&self) -> PathBuf {
        self.point.join("filling")
    }

    /// Leaves no room on the disk.
    pub(crate) fn fill(&self) -> Result<(), String> {
        let mut file = File::create(self.filling()).map_err(|error| error.to_string())?;
        // The last bytes too: room for one more sector would let the store go on.
        for piece in [1 << 20, 1 << 12, 1] {
            let piece = vec![0xff; piece];
            while file.write_all(&piece).is_ok() {}
        }
        drop(file.sync_all());
        Ok(())
    }

    /// Makes room again.
    pub(crate) fn make_room(&self) -> Result<(), String> {
        fs::remove_file(self.filling()).map_err(|error| error.to_string())
    }

    /// Cuts the power: nothing reaches the disk any more.
    pub(crate) fn cut_power(&self) -> Result<(), String> {
        let written = File::create(self.witness()).and_then(|mut file| file.write_all(b"not synced"));
        written.map_err(|error| error.to_string())?;
        run(Command::new("python3").args(["-c", CUT]).arg(self.point))
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        if let Err(why) = run(Command::new("umount").arg(self.point)) {
            eprintln!("{why}");
            // Frees the folder as soon as its last user ends.
            let _ = run(Command::new("umount").arg("--lazy").arg(self.point));
        }
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("{name}: {error}")),
    }
}
