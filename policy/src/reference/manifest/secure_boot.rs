//! What a release asks of Secure Boot: the `[secure_boot]` section.
//!
//! ```toml
//! [secure_boot]
//! enabled = true
//! pk = ["<SHA-256 of the contents>"]
//! kek = ["<SHA-256 of the contents>"]
//! db = ["<SHA-256 of the contents>"]
//! dbx = ["<SHA-256 of the contents>", "<and after an update>"]
//! authorities = ["<fingerprint of a certificate>", "<hash of an image>", "<SHA-256 of another authority>"]
//! ```
//!
//! A list that is there must hold what was measured; one that is not there asks nothing. With `authorities` every
//! image that was verified is *signed by* one of the listed. Whatever else PCR 7 holds, as a debug mode or a vendor's
//! variable, no section accepts: state the whole value of PCR 7 for such machines.
//!
//! A section with all five lists *closes* PCR 7: nothing in the PCR is left that the section does not accept, but
//! for the order and number of authorities, and DeployedMode, which only makes keys harder to replace. A section with
//! fewer is compared as far as it goes, and PCR 7 counts as not constrained.
//!
//! Not promised: that everything was verified. Firmware starts its own images unverified, and shim can be told to
//! verify nothing (MokSBState, in PCR 14). What was started is in PCR 4, which the section does not constrain.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::digest::Digest;
use crate::evidence::secure_boot::{KeyDatabase, SecureBootState};
use crate::tpm::pcr::PcrIndex;

/// The fields of the section, and a key variable of each but the flag and the last.
pub(super) const FIELDS: &[&str] = &["enabled", "pk", "kek", "db", "dbx", "authorities"];

/// A key variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyVariable {
    /// The platform key.
    Pk,
    /// The key exchange keys.
    Kek,
    /// What may vouch for images.
    Db,
    /// What is forbidden.
    Dbx,
}

impl KeyVariable {
    /// Every key variable, the one that decides about the others first.
    pub const ALL: [Self; 4] = [Self::Pk, Self::Kek, Self::Db, Self::Dbx];

    /// Its name in UEFI.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pk => "PK",
            Self::Kek => "KEK",
            Self::Db => "db",
            Self::Dbx => "dbx",
        }
    }

    /// Its field in the section.
    pub(super) const fn field(self) -> &'static str {
        match self {
            Self::Pk => "pk",
            Self::Kek => "kek",
            Self::Db => "db",
            Self::Dbx => "dbx",
        }
    }

    /// What was measured of it.
    #[must_use]
    pub(crate) const fn of(self, state: &SecureBootState) -> &KeyDatabase {
        match self {
            Self::Pk => state.pk(),
            Self::Kek => state.kek(),
            Self::Db => state.db(),
            Self::Dbx => state.dbx(),
        }
    }
}

/// What a release asks of Secure Boot, which must be on. `None` asks nothing; no list is empty.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
pub struct SecureBootRule {
    pub(super) pk: Option<BTreeSet<Digest>>,
    pub(super) kek: Option<BTreeSet<Digest>>,
    pub(super) db: Option<BTreeSet<Digest>>,
    pub(super) dbx: Option<BTreeSet<Digest>>,
    pub(super) authorities: Option<BTreeSet<Digest>>,
}

impl SecureBootRule {
    /// The PCR that it is about.
    #[must_use]
    pub const fn pcr() -> Option<PcrIndex> {
        PcrIndex::new(7)
    }

    /// The SHA-256 that the contents of `variable` may have.
    #[must_use]
    pub const fn keys(&self, variable: KeyVariable) -> Option<&BTreeSet<Digest>> {
        match variable {
            KeyVariable::Pk => self.pk.as_ref(),
            KeyVariable::Kek => self.kek.as_ref(),
            KeyVariable::Db => self.db.as_ref(),
            KeyVariable::Dbx => self.dbx.as_ref(),
        }
    }

    /// What may have vouched for images
    /// ([`Authority::identity`](crate::evidence::secure_boot::Authority::identity)).
    #[must_use]
    pub const fn authorities(&self) -> Option<&BTreeSet<Digest>> {
        self.authorities.as_ref()
    }

    /// Whether it leaves nothing of PCR 7 open.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.authorities.is_some() && KeyVariable::ALL.iter().all(|variable| self.keys(*variable).is_some())
    }
}
