//! Cabinets to order, right and wrong, and Microsoft's own.
#![expect(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "these tests read files, run gcab and panic when they fail"
)]

use std::path::PathBuf;
use std::process::Command;

use super::forge::{Authority, judge};
use policy::evidence::endorsement::{
    Added, CabinetError, Import, MAX_CABINET_DATA, Manufacturer, Outcome, RootError, RootStore,
};
use policy::reader::ReadError;

/// How the one folder of a cabinet is packed.
#[derive(Clone, Copy)]
enum Method {
    Stored,
    MsZip,
    Lzx,
}

/// A cabinet of one folder with these files.
fn cabinet(method: Method, files: &[(&str, &[u8])]) -> Vec<u8> {
    let data: Vec<u8> = files.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
    let mut entries = Vec::new();
    let mut start = 0;
    for (name, bytes) in files {
        entries.extend(le32(bytes.len()));
        entries.extend(le32(start));
        // Folder 0, date, time, attributes.
        entries.extend([0; 8]);
        entries.extend(name.as_bytes());
        entries.push(0);
        start += bytes.len();
    }
    let blocks: Vec<&[u8]> = data.chunks(32 * 1024).collect();
    let mut packed = Vec::new();
    for block in &blocks {
        let bytes = match method {
            Method::MsZip => [b"CK".to_vec(), miniz_oxide::deflate::compress_to_vec(block, 6)].concat(),
            Method::Stored | Method::Lzx => block.to_vec(),
        };
        packed.extend([0; 4]);
        packed.extend(le16(bytes.len()));
        packed.extend(le16(block.len()));
        packed.extend(bytes);
    }
    let files_offset = 36 + 8;
    let blocks_offset = files_offset + entries.len();
    let total = blocks_offset + packed.len();
    let mut out = b"MSCF\0\0\0\0".to_vec();
    out.extend(le32(total));
    out.extend([0; 4]);
    out.extend(le32(files_offset));
    out.extend([0, 0, 0, 0, 3, 1]);
    out.extend([le16(1), le16(files.len()), le16(0), le16(0), le16(0)].concat());
    out.extend(le32(blocks_offset));
    let number = match method {
        Method::Stored => 0,
        Method::MsZip => 1,
        Method::Lzx => 3,
    };
    out.extend([le16(blocks.len()), le16(number)].concat());
    out.extend(entries);
    out.extend(packed);
    assert_eq!(out.len(), total);
    out
}

fn le16(number: usize) -> Vec<u8> {
    u16::try_from(number).unwrap().to_le_bytes().to_vec()
}

fn le32(number: usize) -> Vec<u8> {
    u32::try_from(number).unwrap().to_le_bytes().to_vec()
}

fn refusal(cabinet: &[u8]) -> CabinetError {
    match RootStore::new().add("c.cab", cabinet).unwrap_err() {
        RootError::Cabinet { source, .. } => source,
        other => panic!("{other}"),
    }
}

#[test]
fn a_cabinet_gives_its_certificates_and_names_the_rest() {
    let (root, other) = (Authority::root("Root"), Authority::root("Other"));
    let middle = root.below("Middle");
    let cut = &other.der[..other.der.len() - 1];
    let files: [(&str, &[u8]); 5] = [
        ("setup.cmd", b"@echo off"),
        ("Infineon\\RootCA\\root.cer", &root.der),
        ("Infineon\\IntermediateCA\\middle.crt", &middle.der),
        ("Intel\\RootCA\\cut.der", cut),
        ("QC\\RootCA\\again.cer", &root.der),
    ];
    for method in [Method::Stored, Method::MsZip] {
        let mut roots = RootStore::new();
        let Added { anchors, intermediates, known, refused, passed_over } =
            roots.add("c.cab", &cabinet(method, &files)).unwrap();
        assert_eq!((anchors, intermediates, known), (1, 1, 1));
        assert_eq!(passed_over, ["setup.cmd"]);
        let [refused] = refused.as_slice() else { panic!("{refused:?}") };
        assert_eq!(refused.to_string(), "c.cab:Intel/RootCA/cut.der: certificate 1 is malformed; remove it");
        assert_eq!((roots.anchors(), roots.intermediates()), (1, 1));
    }
}

#[test]
fn a_cabinet_that_cannot_be_read_is_refused_by_name() {
    let files: [(&str, &[u8]); 1] = [("a", &[7; 40_000])];
    assert_eq!(refusal(&cabinet(Method::Lzx, &files)), CabinetError::Method(3));

    let good = cabinet(Method::MsZip, &files);
    let mut parts = good.clone();
    parts[30] = 2;
    assert_eq!(refusal(&parts), CabinetError::InParts);

    let mut outside = good.clone();
    outside[44..48].copy_from_slice(&40_001_u32.to_le_bytes());
    assert_eq!(refusal(&outside), CabinetError::Outside("a".to_owned()));
    outside[44..52].fill(0xff);
    assert_eq!(refusal(&outside), CabinetError::Outside("a".to_owned()));

    // The first block says that it unpacks to a byte more than it does, then to more than a block may.
    let block = 44 + 18 + 4;
    let mut longer = good.clone();
    longer[block + 2..block + 4].copy_from_slice(&32_767_u16.to_le_bytes());
    assert_eq!(refusal(&longer), CabinetError::Block { folder: 1, block: 1 });
    longer[block + 2..block + 4].copy_from_slice(&32_769_u16.to_le_bytes());
    assert_eq!(refusal(&longer), CabinetError::Block { folder: 1, block: 1 });

    let error = refusal(&good[..good.len() - 1]);
    assert!(matches!(error, CabinetError::Read(ReadError::Truncated { what: "block", .. })), "{error}");
}

/// A small cabinet whose one folder claims its one block 65,535 times cannot exist; one that has the blocks can.
#[test]
fn a_cabinet_unpacks_to_a_bounded_amount() {
    let zeros = vec![0; MAX_CABINET_DATA + 1];
    let bomb = cabinet(Method::MsZip, &[("a", &zeros)]);
    assert!(bomb.len() < 1 << 20, "{}", bomb.len());
    assert_eq!(refusal(&bomb), CabinetError::TooMuch);
}

#[test]
fn every_cut_and_every_flipped_byte_of_a_cabinet_is_survived() {
    let root = Authority::root("Root");
    let good = cabinet(Method::MsZip, &[("Intel\\a.cer", &root.der), ("b.txt", &[65; 100])]);
    for length in 0..good.len() {
        RootStore::new().add("c.cab", &good[..length]).unwrap_err();
    }
    for at in 0..good.len() {
        for bits in [1, 0x80, 0xff] {
            let mut flipped = good.clone();
            flipped[at] ^= bits;
            drop(RootStore::new().add("c.cab", &flipped));
        }
    }
}

/// Blocks of a real packer refer back to the blocks before them.
#[test]
fn a_cabinet_of_another_packer_is_read() {
    let folder = std::env::temp_dir().join(format!("touchstone-gcab-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("Nuvoton/RootCA")).unwrap();
    let root = Authority::root("Root");
    // Noise of 40,000 bytes twice, so that the second copy is known from a block before.
    let noise: Vec<u8> = (0_u32..10_000).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
    std::fs::write(folder.join("noise.txt"), [noise.clone(), noise].concat()).unwrap();
    std::fs::write(folder.join("Nuvoton/RootCA/root.der"), &root.der).unwrap();
    let made = Command::new("gcab")
        .args(["--create", "--zip", "made.cab", "noise.txt", "Nuvoton/RootCA/root.der"])
        .current_dir(&folder)
        .output();
    let made = made.map(|output| {
        assert!(output.status.success(), "gcab: {}", String::from_utf8_lossy(&output.stderr));
        std::fs::read(folder.join("made.cab")).unwrap()
    });
    std::fs::remove_dir_all(&folder).unwrap();
    let Ok(made) = made else {
        eprintln!("skipped: gcab does not run here");
        return;
    };
    let added = RootStore::new().add("made.cab", &made).unwrap();
    assert_eq!((added.anchors, added.passed_over.as_slice()), (1, &["noise.txt".to_owned()][..]));
}

#[test]
fn microsofts_cabinet_is_read_whole() {
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors"));
    let folder = std::env::var_os("TOUCHSTONE_VECTORS").map_or_else(beside, PathBuf::from);
    let Ok(bytes) = std::fs::read(folder.join("ek-cabinet/TrustedTpm.cab")) else {
        eprintln!("skipped: Microsoft's cabinet is not among the third-party vectors");
        return;
    };
    let mut import = Import::new();
    import.found("TrustedTpm.cab", "TrustedTpm.cab", &bytes);
    let (store, files) = import.finish();
    let [file] = files.as_slice() else { panic!("{files:?}") };
    let Outcome::Added(added) = &file.outcome else { panic!("{file}") };
    eprintln!("{file}");
    file.left_out().for_each(|line| eprintln!("{line}"));
    assert!(added.anchors >= 40 && added.intermediates >= 1_000, "{file}");
    assert!(added.passed_over.contains(&"setup.cmd".to_owned()), "{file}");
    assert!(added.passed_over.len() <= 10, "{file}");
    assert_eq!((store.anchors(), store.intermediates()), (added.anchors, added.intermediates));
    // Microsoft lists some roots in two folders; a real chain ends in it, under the folder of its manufacturer.
    let ek = std::fs::read(folder.join("ek/infineon-rsa-029.der")).unwrap();
    let endorsed = judge(&ek, &[], &store).unwrap();
    assert_eq!(endorsed.manufacturer(), Manufacturer::INFINEON);
    assert!(
        endorsed.root_label().starts_with("TrustedTpm.cab:Infineon/RootCA/"),
        "{}",
        endorsed.root_label()
    );
}
