//! Releases, signed with the key that `init` made for the owner.

use std::path::Path;

use broker::admin::Act;
use broker::admin::golden::apply::{Terms, apply};
use broker::ca::AuthorityKey;
use broker::plant::Plant;
use policy::digest::Digest;
use policy::reference::dsse::{Envelope, Unsigned};
use policy::reference::manifest::Manifest;
use policy::reference::state::ReleaseState;
use rcgen::SigningKey as _;

use super::actor;

/// Makes a release of the plant in `dir` active.
pub(crate) async fn activate(plant: &Plant, dir: &Path, manifest: &str) {
    let key = std::fs::read_to_string(dir.join("owner/release.key")).unwrap();
    let key = AuthorityKey::from_pkcs8(pem::parse(key).unwrap().contents()).unwrap();
    let unsigned = Unsigned::new(&Manifest::parse(manifest).unwrap());
    let signature = key.sign(&unsigned.to_be_signed()).unwrap();
    let envelope = Envelope::new(&unsigned, &[(Digest::of(&key.spki()), signature)]).to_json();
    let terms = Terms {
        to: ReleaseState::Active,
        allow_rollback: None,
        seen: None,
        base: None,
        plan: None,
        reason: String::new(),
        dry_run: false,
    };
    let actor = actor(plant, Act::ApplyRelease).await;
    apply(plant, &actor, envelope.as_bytes(), &terms).await.unwrap();
}
