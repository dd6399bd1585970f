//! `touchstone golden show`: a release from a file or from the broker.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use policy::reference::release::ReleaseId;
use proto::v1::GetReleaseRequest;
use serde::Serialize;

use super::envelope::LocalRelease;
use super::view::ReleaseView;
use crate::client::failed;
use crate::failure::Result;
use crate::output::{Page, Report, Session, View, words};

/// Which release.
#[derive(Debug, Args)]
#[command(
    after_help = "The manifest goes to standard output in canonical form, what is known of it to standard error.\nExample: touchstone golden show edge@1.4"
)]
pub(crate) struct ShowArgs {
    /// Manifest or signed release as a file, or product@version of one that the broker has
    #[arg(value_name = "FILE|PRODUCT@VERSION")]
    release: ReleaseRef,
}

/// A release by file or by name; what names a release is not looked for as a file.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ReleaseRef {
    Known(ReleaseId),
    File(PathBuf),
}

impl FromStr for ReleaseRef {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let file = ["/", ".toml", ".json"].iter().any(|part| text.contains(part));
        Ok(match text.parse() {
            Ok(id) if !file => Self::Known(id),
            _ => Self::File(PathBuf::from(text)),
        })
    }
}

/// A release whole.
#[derive(Serialize)]
struct ReleasePage {
    product: String,
    version: String,
    counter: u64,
    digest: String,
    /// Where the broker has it; null for a file.
    state: Option<String>,
    /// Why it counts for nothing; null: it counts, or nobody asked the broker.
    void: Option<String>,
    /// Key ids: verified by the broker, or only claimed by a file.
    signers: Vec<String>,
    signatures_verified: bool,
    manifest: String,
}

impl View for ReleasePage {
    fn text(&self, _page: &Page) -> String {
        self.manifest.clone()
    }
}

impl ReleasePage {
    fn aside(&self) -> String {
        let signers: Vec<_> = self.signers.iter().map(|signer| words::short(signer)).collect();
        let signed = match (self.signers.is_empty(), self.signatures_verified) {
            (true, _) => "not signed".to_owned(),
            (false, true) => format!("signed by {}", words::list(&signers)),
            (false, false) => {
                format!("claims to be signed by {}; `golden apply` verifies it", words::list(&signers))
            }
        };
        let void =
            self.void.as_deref().map(|why| format!("; it counts for nothing: {why}")).unwrap_or_default();
        let state = self.state.as_deref().map(|state| format!("{state}, ")).unwrap_or_default();
        format!(
            "{}@{}: {state}counter {}, {}, {signed}{void}",
            self.product, self.version, self.counter, self.digest
        )
    }
}

impl From<LocalRelease> for ReleasePage {
    fn from(local: LocalRelease) -> Self {
        let manifest = &local.manifest;
        Self {
            product: manifest.product().to_string(),
            version: manifest.version().to_string(),
            counter: manifest.counter(),
            digest: manifest.digest().to_string(),
            state: None,
            void: None,
            signers: local.claimed_signers,
            signatures_verified: false,
            manifest: manifest.render(),
        }
    }
}

/// Shows the release.
pub(super) async fn run(args: ShowArgs, session: &Session) -> Result<Report> {
    let page = match args.release {
        ReleaseRef::File(path) => ReleasePage::from(LocalRelease::read(&path)?),
        ReleaseRef::Known(id) => fetch(&id, session).await?,
    };
    Ok(session.report(&page)?.aside(page.aside()))
}

async fn fetch(id: &ReleaseId, session: &Session) -> Result<ReleasePage> {
    let request = GetReleaseRequest { product: id.product.to_string(), version: id.version.to_string() };
    let answer = session.client().await?.get_release(request).await.map_err(|s| failed(&s))?.into_inner();
    let release = ReleaseView::from(answer.release.unwrap_or_default());
    Ok(ReleasePage {
        product: release.product,
        version: release.version,
        counter: release.counter,
        digest: release.digest,
        state: Some(release.state),
        void: release.void,
        signers: release.signers,
        signatures_verified: true,
        manifest: answer.manifest,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_asked_of_the_broker_and_a_path_is_read() {
        let read = |text: &str| ReleaseRef::from_str(text).unwrap();
        assert_eq!(read("edge@1.4"), ReleaseRef::Known("edge@1.4".parse().unwrap()));
        for file in ["edge.toml", "./edge@1.4", "edge@1.4.toml", "edge@1.4.toml.dsse.json", "edge"] {
            assert_eq!(read(file), ReleaseRef::File(PathBuf::from(file)));
        }
    }
}
