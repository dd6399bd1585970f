//! Typed readings of the events of real machines: what is bound and what is a hint.
//!
//! The third-party logs are not part of the project; without them the tests say so and pass.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a recorded log is there and well formed")]

use std::path::{Path, PathBuf};

use policy::eventlog::tcg::EventLog;
use policy::eventlog::typed::ipl::Ipl;
use policy::eventlog::typed::signature_list::parse_database;
use policy::eventlog::typed::tagged::Tag;
use policy::eventlog::typed::variable::BootVariable;
use policy::eventlog::typed::{Data, Guid, TypedEvent};
use policy::tpm::alg::HashAlg;
use proptest::prelude::*;

#[expect(clippy::disallowed_methods, reason = "tests read recorded logs")]
fn third_party(name: &str) -> Option<Vec<u8>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors");
    let root = std::env::var("TOUCHSTONE_VECTORS").map_or(here, PathBuf::from);
    if !root.is_dir() {
        println!("skipped: no third-party vectors");
        return None;
    }
    Some(std::fs::read(root.join("eventlogs").join(name)).unwrap())
}

#[expect(clippy::disallowed_methods, reason = "tests read recorded logs")]
fn our_own() -> Vec<u8> {
    let boot = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/measured-boot/boot-a");
    std::fs::read(boot.join("eventlog.bin")).unwrap()
}

/// The events of `log` by type, with their places.
fn typed(log: &[u8], read: impl FnMut(usize, TypedEvent<'_>)) {
    let mut read = read;
    let log = EventLog::parse(log).unwrap();
    for event in log.events() {
        let found = TypedEvent::parse(event, HashAlg::Sha256);
        let found = found.unwrap_or_else(|error| panic!("event {}: {error}", event.position));
        read(event.position, found);
    }
}

#[test]
fn our_own_boot_is_read_by_type() {
    let (mut sections, mut contents, mut boot, mut tags) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut disks, mut images) = (Vec::new(), Vec::new());
    typed(&our_own(), |_, event| match event {
        TypedEvent::Ipl(Ipl::Section(Data::Bound(name))) => sections.push(name.into_value()),
        TypedEvent::Ipl(Ipl::Section(Data::Hint(name))) => contents.push(name),
        TypedEvent::Boot(BootVariable::Contents { told, .. }) => boot.push(told.name),
        TypedEvent::Tagged(Data::Hint(tagged)) => tags.push(tagged.tag),
        TypedEvent::Gpt(Data::Bound(gpt)) => disks.push(gpt.into_value()),
        TypedEvent::Image(image) => images.push(image.file()),
        TypedEvent::Separator(data) => assert_eq!(data.bound().map(|b| *b.value()), Some(&[0; 4][..])),
        TypedEvent::DriverConfig(data) => assert!(data.bound().is_some()),
        TypedEvent::Authority(data) => assert_eq!(data.bound().unwrap().value().name, "db"),
        TypedEvent::Action(data) => assert!(data.bound().is_some()),
        TypedEvent::Other => {}
        other => panic!("{other:?}"),
    });
    assert_eq!(sections, [".linux", ".osrel", ".cmdline", ".initrd"]);
    assert_eq!(contents, sections, "what follows each name is its contents, and the name a hint");
    assert_eq!(boot, ["BootOrder", "Boot0001", "Boot0000", "Boot0002"]);
    assert_eq!(tags, [Tag::LINUX_LOAD_OPTIONS, Tag::LINUX_INITRD]);
    assert_eq!((disks.len(), disks[0].partitions.len()), (1, 1));
    assert!(images[0].as_deref().unwrap().to_lowercase().ends_with(".efi"), "{images:?}");
}

#[test]
fn grubs_commands_are_bound_and_its_files_are_named() {
    let Some(log) = third_party("tpm2-tools-moklisttrusted.bin") else { return };
    let (mut commands, mut lines, mut named) = (0, Vec::new(), Vec::new());
    typed(&log, |position, event| match event {
        TypedEvent::Ipl(Ipl::GrubCommand(data)) => {
            assert!(data.bound().is_some(), "event {position}");
            commands += 1;
        }
        TypedEvent::Ipl(Ipl::KernelCommandLine(data)) => lines.push(data.bound().unwrap().value().clone()),
        TypedEvent::Ipl(Ipl::Named(name)) => named.push(name),
        TypedEvent::Ipl(other) => panic!("{other:?}"),
        _ => {}
    });
    assert_eq!(commands, 51);
    assert!(lines[0].starts_with("(hd0,gpt2)/vmlinuz-5.14.0-130.el9.x86_64 root="), "{lines:?}");
    assert_eq!(named[..3], ["MokList", "MokListX", "MokListTrusted"]);
}

#[test]
fn systemds_command_line_is_bound_whole() {
    let Some(log) = third_party("tpm2-tools-sd-boot-fedora37.bin") else { return };
    let mut texts = Vec::new();
    typed(&log, |_, event| {
        if let TypedEvent::Ipl(Ipl::Text(text)) = event {
            texts.push(text.into_value());
        }
    });
    assert!(texts.len() == 2 && texts[0].contains("console=ttyS0 console=tty0"), "{texts:?}");
}

#[test]
fn real_databases_hold_certificates_and_hashes() {
    let Some(log) = third_party("go-attestation-coreos-36.bin") else { return };
    let mut kinds = Vec::new();
    typed(&log, |_, event| {
        if let TypedEvent::DriverConfig(Data::Bound(variable)) = event
            && variable.value().name == "dbx"
        {
            let database = parse_database(variable.value().value).unwrap();
            kinds.extend(database.iter().map(|signature| signature.kind));
        }
    });
    let count = |wanted| kinds.iter().filter(|kind| **kind == wanted).count();
    assert_eq!((count(Guid::CERT_SHA256), count(Guid::CERT_X509), kinds.len()), (183, 3, 186));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400), kind in 0_u32..0x20) {
        let _ = parse_database(&bytes);
        let mut log = vec![7, 0, 0, 0];
        let kind = if kind & 1 == 0 { kind / 2 } else { 0x8000_0000 | (kind / 2) };
        log.extend(kind.to_le_bytes());
        log.extend(HashAlg::Sha1.hash(&[&bytes]).as_bytes());
        log.extend(u32::try_from(bytes.len()).unwrap().to_le_bytes());
        log.extend(&bytes);
        if let Ok(log) = EventLog::parse(&log) {
            for event in log.events() {
                let _ = TypedEvent::parse(event, HashAlg::Sha1);
                let _ = TypedEvent::parse(event, HashAlg::Sha256);
            }
        }
    }
}
