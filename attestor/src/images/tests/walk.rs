//! What is looked at, and what is left alone.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use policy::digest::Digest;
use policy::eventlog::image::ImageKind;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::super::open::{self, Place};
use super::super::walk::{MAX_IMAGES, Seen, Sight, is_named, walk};
use super::rounds::config;

fn kind(seen: &Seen, path: &Path) -> Option<ImageKind> {
    match seen.sights.get(path.to_str().unwrap())? {
        Sight::File(..) => Some(ImageKind::File),
        Sight::Measured(image) => Some(image.kind),
    }
}

#[test]
fn a_folder_is_looked_at_file_by_file_and_never_left() {
    let dir = tempfile::tempdir().unwrap();
    let (inside, outside) = (dir.path().join("plc"), dir.path().join("secret"));
    fs::create_dir_all(inside.join("lib/deep")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("key"), "k").unwrap();
    fs::write(inside.join("lib/deep/a"), "a").unwrap();
    symlink(&outside, inside.join("way-out")).unwrap();
    symlink(outside.join("key"), inside.join("key")).unwrap();
    mknodat(CWD, inside.join("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(inside.join("socket")).unwrap();
    let seen = walk(&config(&[], &[&inside]), None);
    let kinds: Vec<Option<ImageKind>> =
        ["lib/deep/a", "way-out", "key", "pipe", "socket", "way-out/key", "lib"]
            .map(|name| kind(&seen, &inside.join(name)))
            .to_vec();
    use ImageKind::{File, Link, Unreadable};
    assert_eq!(kinds, [Some(File), Some(Link), Some(Link), Some(Unreadable), Some(Unreadable), None, None]);
    let Some(Sight::Measured(link)) = seen.sights.get(inside.join("key").to_str().unwrap()) else { panic!() };
    assert_eq!(
        link.digest,
        Digest::of(outside.join("key").as_os_str().as_bytes()),
        "where it leads, not what is there"
    );
    let told = seen.problems.join("\n");
    assert!(
        told.contains("pipe cannot be measured: it is a FIFO") && told.contains("it is a socket"),
        "{told}"
    );
}

/// Between look and hash a file may become something else.
#[test]
fn what_is_opened_is_a_regular_file_below_its_folder_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::create_dir_all(path("plc/lib")).unwrap();
    fs::create_dir(path("elsewhere")).unwrap();
    fs::write(path("elsewhere/a"), "not this").unwrap();
    let place = |below: &str| Place { root: path("plc"), below: below.into() };
    symlink(path("elsewhere"), path("plc/link")).unwrap();
    symlink(path("elsewhere/a"), path("plc/lib/a")).unwrap();
    mknodat(CWD, path("plc/pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    assert!(open::file(&place("link/a")).is_err(), "a folder that became a link");
    assert!(open::file(&place("lib/a")).is_err(), "a file that became a link");
    let fifo = open::file(&place("pipe")).unwrap_err();
    assert!(fifo.to_string().contains("FIFO"), "{fifo}: and it did not wait for a writer");
    assert!(open::file(&place("lib")).unwrap_err().to_string().contains("folder"));
    let device = Place::of_file("/dev/zero".as_ref()).unwrap();
    assert!(open::file(&device).unwrap_err().to_string().contains("device"));
}

#[test]
fn a_named_file_that_is_a_link_or_a_folder_is_not_measured_and_a_missing_one_is_no_image() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("a"), "a").unwrap();
    symlink(path("a"), path("link")).unwrap();
    let seen = walk(&config(&[&path("a"), &path("link"), dir.path(), &path("none/none")], &[]), None);
    let kinds =
        [path("a"), path("link"), dir.path().to_owned(), path("none/none")].map(|path| kind(&seen, &path));
    use ImageKind::{File, Unreadable};
    assert_eq!(kinds, [Some(File), Some(Unreadable), Some(Unreadable), None]);
    assert!(seen.problems.join("\n").contains("it is a symbolic link: name the file"), "{:?}", seen.problems);
}

#[test]
fn depth_and_number_are_bounded_and_the_rest_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let deep = (0..20).fold(dir.path().join("deep"), |path, _| path.join("d"));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("hidden"), "h").unwrap();
    let seen = walk(&config(&[], &[&dir.path().join("deep")]), None);
    let overflow = |seen: &Seen| {
        let is_overflow =
            |sight: &Sight| matches!(sight, Sight::Measured(image) if image.kind == ImageKind::Overflow);
        seen.sights.values().filter(|sight| is_overflow(sight)).count()
    };
    assert_eq!((overflow(&seen), kind(&seen, &deep.join("hidden"))), (1, None));
    let many = dir.path().join("many");
    fs::create_dir(&many).unwrap();
    for number in 0..=MAX_IMAGES {
        fs::write(many.join(number.to_string()), "").unwrap();
    }
    let seen = walk(&config(&[], &[&many]), None);
    assert_eq!((overflow(&seen), seen.sights.len()), (1, MAX_IMAGES + 1));
    assert!(seen.problems[0].contains("more than 1000 images"), "{:?}", seen.problems);
}

#[test]
fn names_that_cannot_be_shown_are_refused_and_not_confused() {
    let dir = tempfile::tempdir().unwrap();
    for name in [&b"bad\xff"[..], b"line\nbreak"] {
        fs::write(dir.path().join(std::ffi::OsStr::from_bytes(name)), "x").unwrap();
    }
    let seen = walk(&config(&[], &[dir.path()]), None);
    assert_eq!(seen.sights.len(), 2);
    for (path, sight) in &seen.sights {
        assert!(matches!(sight, Sight::Measured(image) if image.kind == ImageKind::Unreadable), "{path}");
        assert!(!path.chars().any(char::is_control), "{path:?}");
    }
}

#[test]
fn only_what_is_named_is_missed() {
    let config = config(&["/opt/press".as_ref()], &["/opt/models".as_ref()]);
    for (path, named) in
        [("/opt/press", true), ("/opt/models/a/b", true), ("/opt/modelsb", false), ("press", false)]
    {
        assert_eq!(is_named(&config, path), named, "{path}");
    }
}
