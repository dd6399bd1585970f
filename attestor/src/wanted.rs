//! The release that the broker wants this device to run: shown, written beside the trust files, and told once to the
//! device's own updater. Installing it is the updater's work; that it runs is proven by the next quote.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use policy::digest::Digest;
use policy::id::{NameError, ProductName};
use policy::reference::release::{ReleaseNameError, ReleaseVersion};
use proto::v1;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::durable;
use crate::program::{self, ProgramError};
use crate::renewal::Attester;
use crate::state::State;

/// Name of the file in the delivery folder.
pub const FILE: &str = "wanted.json";
/// Version of its form.
const SCHEMA: u32 = 1;
/// Time that the updater has: a download and an installation. What takes longer it starts as a service of its own.
const UPDATER_LIMIT: Duration = Duration::from_secs(3600);

/// A release that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// The product.
    pub product: ProductName,
    /// Its version.
    pub version: ReleaseVersion,
    /// SHA-256 of the release's canonical manifest: what an updater may compare.
    pub manifest: Digest,
}

/// What the broker wants is malformed.
#[derive(Debug, thiserror::Error)]
pub enum WantedError {
    /// The product.
    #[error(transparent)]
    Product(#[from] NameError),
    /// The version.
    #[error(transparent)]
    Version(#[from] ReleaseNameError),
    /// The digest.
    #[error("the manifest's digest has {0} bytes and not 32")]
    Digest(usize),
}

impl TryFrom<&v1::WantedRelease> for Wanted {
    type Error = WantedError;

    fn try_from(wire: &v1::WantedRelease) -> Result<Self, WantedError> {
        let manifest = wire.manifest_digest.as_slice();
        let manifest = Digest::try_from(manifest).map_err(|_| WantedError::Digest(manifest.len()))?;
        Ok(Self { product: wire.product.parse()?, version: wire.version.parse()?, manifest })
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.product, self.version)
    }
}

#[derive(Serialize)]
struct Form<'a> {
    schema: u32,
    #[serde(flatten)]
    wanted: &'a Wanted,
}

impl Wanted {
    /// Writes it into the delivery folder.
    pub fn write(&self, dir: &Path) -> std::io::Result<()> {
        let form = Form { schema: SCHEMA, wanted: self };
        let mut json = serde_json::to_vec_pretty(&form).map_err(std::io::Error::other)?;
        json.push(b'\n');
        durable::make_dir(dir, 0o755)?;
        durable::replace(&dir.join(FILE), &json, 0o644)
    }

    /// Removes it again.
    pub(crate) fn remove(dir: &Path) -> std::io::Result<()> {
        match std::fs::remove_file(dir.join(FILE)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Tells the updater of `attester` what is wanted, each time that `changed` says that it may be another release.
/// One run at a time; a release that was wanted only while another run went on is never told.
pub(crate) async fn tell_updater(attester: Arc<Attester>, changed: Arc<Notify>) {
    loop {
        changed.notified().await;
        let due = attester.keeper.read(|state: &State| {
            state.wanted.clone().filter(|wanted| state.told_updater.as_ref() != Some(wanted))
        });
        if let (Some(command), Some(wanted)) = (&attester.config.on_wanted, due) {
            match run(&attester, command, &wanted).await {
                Ok(status) if status.success() => tracing::info!(%wanted, "the updater ended well"),
                Ok(status) => tracing::error!(%wanted, %status, "the updater failed; see its own log"),
                Err(error) => tracing::error!(%wanted, %error, "the updater failed"),
            }
        }
    }
}

/// Runs the updater. It is on record once it was started: a release is told once, and again only if it could not
/// be started, or the power went in between.
async fn run(
    attester: &Attester,
    command: &[String],
    wanted: &Wanted,
) -> Result<std::process::ExitStatus, ProgramError> {
    let (manifest, file) = (wanted.manifest.hex(), attester.sink.dir().join(FILE).display().to_string());
    let variables = [
        ("TOUCHSTONE_PRODUCT", wanted.product.as_str()),
        ("TOUCHSTONE_VERSION", wanted.version.as_str()),
        ("TOUCHSTONE_MANIFEST", manifest.as_str()),
        ("TOUCHSTONE_WANTED", file.as_str()),
    ];
    let child = program::start(command, variables)?;
    if let Err(error) = attester.keeper.update(|state| state.told_updater = Some(wanted.clone())) {
        tracing::error!(%error, "the updater may be told the same once more");
    }
    program::end(child, UPDATER_LIMIT).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire() -> v1::WantedRelease {
        let manifest_digest = vec![0xab; 32];
        v1::WantedRelease { product: "edge-box".into(), version: "1.5.0".into(), manifest_digest }
    }

    #[test]
    fn what_is_wanted_is_written_for_software() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = Wanted::try_from(&wire()).unwrap();
        wanted.write(dir.path()).unwrap();
        let read: serde_json::Value =
            serde_json::from_slice(&std::fs::read(dir.path().join(FILE)).unwrap()).unwrap();
        assert_eq!(
            (&read["schema"], &read["product"], &read["version"]),
            (&1.into(), &"edge-box".into(), &"1.5.0".into())
        );
        assert!(read["manifest"].as_str().unwrap().ends_with(&"ab".repeat(32)), "{read}");
        Wanted::remove(dir.path()).unwrap();
        Wanted::remove(dir.path()).unwrap();
        assert!(!dir.path().join(FILE).exists());
    }

    #[test]
    fn a_name_that_could_be_more_than_a_name_is_refused() {
        let refused = |change: fn(&mut v1::WantedRelease)| {
            let mut wire = wire();
            change(&mut wire);
            Wanted::try_from(&wire).unwrap_err().to_string()
        };
        assert!(refused(|wire| wire.product = "../etc".into()).contains("is no product name"));
        assert!(refused(|wire| wire.version = "1;reboot".into()).contains("is no version"));
        assert!(refused(|wire| wire.manifest_digest = vec![1]).contains("has 1 bytes and not 32"));
    }
}
