//! What software has seen of a delivery: compared, and kept beside it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path};

use policy::digest::Digest;
use policy::id::ServiceName;
use serde::{Deserialize, Serialize};

use crate::deliver::Delivery;
use crate::durable;

/// Version of the form.
const SCHEMA: u32 = 1;
/// Longest file in bytes: a line for each authority in each trust file, of which a set has a few thousand.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// What a hook's software sees, or may have seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    schema: u32,
    /// Of all its files; None: they may be those of several deliveries.
    files: Option<Digest>,
    /// Of each trust file's name with each authority that was in it.
    authorities: BTreeSet<Digest>,
}

impl Seen {
    /// What software that serves or opens `service` sees of `delivery`.
    pub(super) fn of(delivery: &Delivery, service: Option<&ServiceName>) -> Self {
        let mut authorities = BTreeSet::new();
        let mut files = Vec::new();
        for (path, bytes) in delivery.files().filter(|(path, _)| concerns(path, service)) {
            let name = Digest::of(path.as_os_str().as_encoded_bytes());
            files.extend(name.0);
            files.extend(Digest::of(bytes).0);
            if is_trust(path) {
                // What was composed here parses; what did not would be no authority.
                let blocks = pem::parse_many(bytes).unwrap_or_default();
                authorities.extend(blocks.iter().map(|block| Digest::of_parts(&[&name.0, block.contents()])));
            }
        }
        Self { schema: SCHEMA, files: Some(Digest::of(&files)), authorities }
    }

    /// Takes in that `next` may have been seen too.
    pub(super) fn add(&mut self, next: &Self) {
        if self.files != next.files {
            self.files = None;
            self.authorities.extend(&next.authorities);
        }
    }

    /// Whether an authority of `before` is not there any more.
    pub(super) fn lacks_authority_of(&self, before: &Self) -> bool {
        !before.authorities.is_subset(&self.authorities)
    }

    /// What was kept; None if there is nothing that can be read: the hook then runs once more.
    pub(super) fn read(file: &Path) -> Option<Self> {
        let seen: Self = serde_json::from_slice(&durable::read_bounded(file, MAX_FILE).ok()?).ok()?;
        (seen.schema == SCHEMA).then_some(seen)
    }

    pub(super) fn write(&self, file: &Path) -> io::Result<()> {
        let json = serde_json::to_vec(self).map_err(io::Error::other)?;
        file.parent().map_or(Ok(()), |folder| durable::make_dir(folder, 0o755))?;
        durable::replace(file, &json, 0o644)
    }
}

/// `<zone>/services/<service>/...` is for the software of that service, everything else for all.
fn concerns(path: &Path, service: Option<&ServiceName>) -> bool {
    let mut parts = path.components().map(Component::as_os_str).skip(1);
    match (parts.next(), parts.next(), service) {
        (Some(folder), Some(of), Some(service)) if folder == "services" => of == service.as_str(),
        _ => true,
    }
}

fn is_trust(path: &Path) -> bool {
    ["inbound.pem", "outbound.pem"].map(OsStr::new).iter().any(|name| path.file_name() == Some(name))
}
