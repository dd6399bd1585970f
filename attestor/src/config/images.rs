//! `[images]`: what the attestor measures itself.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::{Component, Path, PathBuf};

use policy::budget::MAX_IMAGE_PATH;
use policy::zone::schedule::Schedule;
use serde::Deserialize;

use super::Faults;
use super::raw::Raw;
use crate::images::Limits;

/// Most files, folders and containers that are named, of each.
const MAX_NAMED: usize = 64;
/// Longest reference of a container in bytes; OCI distribution has 255 for a name and 128 for a tag.
const MAX_REFERENCE: usize = 400;
/// Bytes in a second unless told otherwise: what any disk of an edge box reads beside its work.
const DEFAULT_IO: NonZeroU64 = NonZeroU64::MIN.saturating_add(99_999_999);
/// Fewest bytes in a second that may be asked for: a gigabyte takes a quarter of an hour.
const LEAST_IO: u64 = 1_000_000;
/// Share of one processor unless told otherwise.
const DEFAULT_PROCESSOR: f64 = 0.5;
/// Least share that may be asked for.
const LEAST_PROCESSOR: f64 = 0.01;

/// What is measured, and how.
#[derive(Debug, Clone)]
pub struct Images {
    /// The log; it has to end with the boot.
    pub log: PathBuf,
    /// Files.
    pub files: Vec<PathBuf>,
    /// Folders, each file in them for itself.
    pub folders: Vec<PathBuf>,
    /// Containers.
    pub containers: Vec<Container>,
    /// How fast.
    pub limits: Limits,
    /// Hours in which nothing is hashed again.
    pub quiet: Option<Schedule>,
}

/// A container image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// What releases call it.
    pub name: String,
    /// The file that states its digest.
    pub digest: PathBuf,
}

/// As it is written.
#[derive(Debug, Deserialize)]
pub(super) struct RawImages {
    log: Option<String>,
    #[serde(default)]
    files: Vec<String>,
    #[serde(default)]
    folders: Vec<String>,
    #[serde(default, rename = "container")]
    containers: Vec<RawContainer>,
    io_limit: Option<i64>,
    cpu_limit: Option<f64>,
    quiet: Option<String>,
    #[serde(flatten)]
    unknown: BTreeMap<String, toml::Value>,
}

#[derive(Debug, Deserialize)]
struct RawContainer {
    name: Option<String>,
    digest: Option<String>,
    #[serde(flatten)]
    unknown: BTreeMap<String, toml::Value>,
}

pub(super) fn images(base: &Path, raw: &Raw, faults: &mut Faults) -> Option<Images> {
    let has_tpm = raw.tpm.as_deref() != Some("none");
    let raw = raw.images.as_ref()?;
    faults.unknown("images.", &raw.unknown);
    if !has_tpm {
        faults.add("images", "a device without a TPM proves no measurement; remove this section");
    }
    if raw.files.is_empty() && raw.folders.is_empty() && raw.containers.is_empty() {
        faults.add("images", "names nothing; write for example files = [\"/opt/plc/press.bin\"]");
    }
    let log = base.join(raw.log.as_deref().unwrap_or("/run/touchstone-attestor/images.log"));
    let files = paths("images.files", &raw.files, faults);
    let folders = paths("images.folders", &raw.folders, faults);
    if folders.iter().any(|folder| log.starts_with(folder)) || files.contains(&log) {
        faults.add("images.log", "is itself measured, and would never rest; put it elsewhere in /run");
    }
    let containers = containers(&raw.containers, faults);
    let limits =
        Limits { bytes: io_limit(raw.io_limit, faults), processor: cpu_limit(raw.cpu_limit, faults) };
    let quiet = raw.quiet.as_deref().and_then(|text| faults.parsed("images.quiet", text));
    Some(Images { log, files, folders, containers, limits, quiet })
}

/// Paths that are the same on every device: releases name them.
fn paths(key: &str, raw: &[String], faults: &mut Faults) -> Vec<PathBuf> {
    faults.bounded(key, raw.len(), MAX_NAMED);
    let mut paths = Vec::new();
    for text in raw.iter().take(MAX_NAMED) {
        match path(text) {
            Some(path) if !paths.contains(&path) => paths.push(path),
            Some(_) => faults.add(key, format_args!("`{text}` is listed twice; remove one")),
            None => faults.add(
                key,
                format_args!("write full paths without . and .., for example \"/opt/plc/press.bin\""),
            ),
        }
    }
    paths
}

fn path(text: &str) -> Option<PathBuf> {
    let path = Path::new(text);
    let is_plain = |component| matches!(component, Component::RootDir | Component::Normal(_));
    let fits = text.len() <= MAX_IMAGE_PATH && !text.chars().any(char::is_control);
    // Collected anew: without a slash at its end, and with single ones between.
    (fits && path.is_absolute() && path.parent().is_some() && path.components().all(is_plain))
        .then(|| path.components().collect())
}

fn containers(raw: &[RawContainer], faults: &mut Faults) -> Vec<Container> {
    faults.bounded("images.container", raw.len(), MAX_NAMED);
    let mut containers: Vec<Container> = Vec::new();
    for one in raw.iter().take(MAX_NAMED) {
        faults.unknown("images.container.", &one.unknown);
        let name = faults.required("images.container.name", one.name.as_ref(), "historian");
        let digest = faults.required(
            "images.container.digest",
            one.digest.as_ref(),
            "/var/lib/images/historian/index.json",
        );
        let (Some(name), Some(digest)) = (name, digest) else { continue };
        let plain = |c: char| c.is_ascii_graphic();
        if name.is_empty() || name.len() > MAX_REFERENCE || name.starts_with('/') || !name.chars().all(plain)
        {
            faults.add(
                "images.container.name",
                "write a reference as releases name it, for example historian:7",
            );
            continue;
        }
        let Some(digest) = path(digest) else {
            faults.add("images.container.digest", "write the full path of a file that states the digest");
            continue;
        };
        match containers.iter().any(|other| other.name == name) {
            true => faults.add("images.container.name", format_args!("`{name}` is listed twice; remove one")),
            false => containers.push(Container { name: name.to_owned(), digest }),
        }
    }
    containers
}

fn io_limit(raw: Option<i64>, faults: &mut Faults) -> NonZeroU64 {
    let Some(raw) = raw else { return DEFAULT_IO };
    let limit = u64::try_from(raw).ok().filter(|limit| *limit >= LEAST_IO).and_then(NonZeroU64::new);
    limit.unwrap_or_else(|| {
        faults.add("images.io_limit", format_args!("write bytes in a second, at least {LEAST_IO}"));
        DEFAULT_IO
    })
}

fn cpu_limit(raw: Option<f64>, faults: &mut Faults) -> f64 {
    let Some(raw) = raw else { return DEFAULT_PROCESSOR };
    if (LEAST_PROCESSOR..=1.0).contains(&raw) {
        return raw;
    }
    faults.add(
        "images.cpu_limit",
        format_args!("write the share of one processor, from {LEAST_PROCESSOR} to 1.0"),
    );
    DEFAULT_PROCESSOR
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Images};

    const HEAD: &str =
        "broker = \"b:1\"\nplant = \"plant.example\"\nplant_root = \"r\"\ndevice = \"press-7\"\n";

    fn parse(head: &str, section: &str) -> Result<Images, Vec<String>> {
        let text = format!("{HEAD}{head}[images]\n{section}\n");
        Config::parse("/etc/touchstone".as_ref(), &text).map(|config| config.images.unwrap())
    }

    #[test]
    fn images_are_read() {
        let images = parse(
            "",
            "files = [\"/opt/plc/press.bin\"]\nfolders = [\"/opt//models/\"]\nio_limit = 20_000_000\ncpu_limit = 1\n\
             quiet = \"mon-fri 06:00-22:00 in Europe/Berlin\"\n[[images.container]]\nname = \"historian:7\"\n\
             digest = \"/var/lib/images/historian/index.json\"",
        );
        let images = images.unwrap();
        assert_eq!(images.folders, ["/opt/models"].map(std::path::PathBuf::from));
        assert_eq!(images.log.to_str(), Some("/run/touchstone-attestor/images.log"));
        assert_eq!((images.limits.bytes.get(), images.limits.processor), (20_000_000, 1.0));
        assert_eq!((images.containers.len(), images.quiet.is_some()), (1, true));
    }

    #[test]
    fn faults_of_images_are_named_with_their_key() {
        for (section, fault) in [
            ("", "images: names nothing"),
            ("files = [\"press.bin\"]", "images.files: write full paths"),
            ("files = [\"/opt/../etc\"]", "images.files: write full paths"),
            ("folders = [\"/\"]", "images.folders: write full paths"),
            ("files = [\"/a\", \"/a\"]", "images.files: `/a` is listed twice"),
            ("folders = [\"/run/x\"]\nlog = \"/run/x/images.log\"", "images.log: is itself measured"),
            ("files = [\"/a\"]\nio_limit = 5", "images.io_limit: write bytes in a second"),
            ("files = [\"/a\"]\ncpu_limit = 0.0", "images.cpu_limit: write the share"),
            ("files = [\"/a\"]\nquiet = \"always\"", "images.quiet: "),
            ("files = [\"/a\"]\npcr = 12", "images.pcr: there is no such key"),
            ("[[images.container]]\nname = \"x\"", "images.container.digest: missing"),
            (
                "[[images.container]]\nname = \"/x\"\ndigest = \"/d\"",
                "images.container.name: write a reference",
            ),
        ] {
            let faults = parse("", section).unwrap_err().join("; ");
            assert!(faults.contains(fault), "{section}: {faults}");
        }
        let faults = parse("tpm = \"none\"\n", "files = [\"/a\"]").unwrap_err().join("; ");
        assert!(faults.contains("images: a device without a TPM"), "{faults}");
    }
}
