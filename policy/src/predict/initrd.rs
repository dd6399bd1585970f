//! The initrd that systemd-stub hands to Linux, which measures it into PCR 9.
//!
//! The stub joins the initrd of the image with small archives of its own, each filled up to four bytes. Format of the
//! archives: Linux, `Documentation/driver-api/early-userspace/buffer-format.rst` ("newc").

use super::pe::PeError;
use super::stub::adds_texts;
use super::uki::Profile;
use crate::tpm::alg::{HashAlg, HashValue};

/// Folder of what the stub adds.
const FOLDER: &str = ".extra";
const FOLDER_MODE: u32 = 0o040_555;
const FILE_MODE: u32 = 0o100_444;
/// The end of an archive: an entry of this name, filled up.
const TRAILER: &str = "TRAILER!!!";
/// Sections that are added by every stub, and those that only newer ones add, with their file names.
const POLICY: [(&str, &str); 2] =
    [(".pcrsig", "tpm2-pcr-signature.json"), (".pcrpkey", "tpm2-pcr-public-key.pem")];
const TEXTS: [(&str, &str); 2] = [(".osrel", "os-release"), (".profile", "profile")];

/// Digests that the joined initrd of `profile` may have, in `alg`; `None` if the stub's way is not known.
pub(super) fn digests(profile: &Profile<'_>, alg: HashAlg) -> Result<Option<Vec<HashValue>>, PeError> {
    let Some((without, with)) = adds_texts(profile.stub()) else { return Ok(None) };
    let mut digests = Vec::new();
    for (_, texts) in [(without, false), (with, true)].into_iter().filter(|(may_be, _)| *may_be) {
        let parts = parts(profile, texts)?;
        if let [only] = parts.as_slice() {
            digests.push(alg.hash(&[only]));
        } else if !parts.is_empty() {
            let padded: Vec<&[u8]> =
                parts.iter().flat_map(|part| [part.as_slice(), padding(part.len())]).collect();
            digests.push(alg.hash(&padded));
        }
    }
    Ok(Some(digests))
}

/// What is joined, in order.
fn parts(profile: &Profile<'_>, texts: bool) -> Result<Vec<Vec<u8>>, PeError> {
    let mut parts = Vec::new();
    for name in [".ucode", ".initrd"] {
        if let Some(section) = profile.section(name) {
            parts.push(section.content()?.into_owned());
        }
    }
    let added = POLICY.iter().chain(TEXTS.iter().filter(|_| texts));
    for (section, file) in added {
        if let Some(section) = profile.section(section) {
            parts.push(archive(file, &section.content()?));
        }
    }
    Ok(parts)
}

/// An archive with one file in its folder.
fn archive(file: &str, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    entry(&mut out, 1, FOLDER_MODE, FOLDER, &[]);
    entry(&mut out, 2, FILE_MODE, &format!("{FOLDER}/{file}"), content);
    entry(&mut out, 0, 0, TRAILER, &[]);
    out
}

fn entry(out: &mut Vec<u8>, inode: u32, mode: u32, name: &str, content: &[u8]) {
    let name_len = name.len().saturating_add(1);
    // The trailer is a constant of the stub's, whose length has a capital letter.
    let name_len = if name == TRAILER { format!("{name_len:08X}") } else { format!("{name_len:08x}") };
    let content_len = content.len();
    let header = format!(
        "070701{inode:08x}{mode:08x}{:016x}{:08x}{:08x}{content_len:08x}{:032x}{name_len}{:08x}",
        0, 1, 0, 0, 0
    );
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(name.as_bytes());
    out.push(0);
    out.extend_from_slice(padding(out.len()));
    out.extend_from_slice(content);
    out.extend_from_slice(padding(out.len()));
}

/// The zeros that fill up to four bytes.
const fn padding(len: usize) -> &'static [u8] {
    match len % 4 {
        1 => &[0; 3],
        2 => &[0; 2],
        3 => &[0; 1],
        _ => &[],
    }
}
