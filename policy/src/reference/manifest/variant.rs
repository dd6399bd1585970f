//! Kinds of boots of one release: event rules that hold together.
//!
//! ```toml
//! [[event]]
//! pcr = 11
//! type = "EV_IPL"
//! digest = ["<64 hex digits>"]
//! variant = "image 1"
//! ```
//!
//! Where rules have variants, a boot satisfies the rules without one and those of exactly one variant. Two images of
//! one release are two variants: the kernel of one with the command line of the other is neither.

use std::collections::BTreeSet;

use super::{EventRule, Manifest};
use crate::tpm::pcr::PcrIndex;

/// Most variants of one release: each is compared with each boot, and a person reviews them.
pub const MAX_VARIANTS: usize = 16;

impl Manifest {
    /// The variants by name; the one without a name where no rule has any.
    #[must_use]
    pub fn variants(&self) -> Vec<Option<&str>> {
        let names: BTreeSet<&str> = self.events.iter().filter_map(|rule| rule.variant.as_deref()).collect();
        if names.is_empty() { vec![None] } else { names.into_iter().map(Some).collect() }
    }

    /// The event rules of `pcr` that a boot of `variant` is held against, as written.
    pub fn rules_of<'a>(
        &'a self,
        pcr: PcrIndex,
        variant: Option<&'a str>,
    ) -> impl Iterator<Item = &'a EventRule> {
        self.rules(pcr).filter(move |rule| rule.is_of(variant))
    }

    /// The PCRs whose events are listed in every variant.
    pub(super) fn closed(&self) -> BTreeSet<PcrIndex> {
        let closes = |pcr: &PcrIndex, variant: &Option<&str>| {
            self.rules_of(*pcr, *variant).any(super::EventRule::closes)
        };
        let pcrs: BTreeSet<PcrIndex> = self.events.iter().map(|rule| rule.pcr).collect();
        let variants = self.variants();
        pcrs.into_iter().filter(|pcr| variants.iter().all(|variant| closes(pcr, variant))).collect()
    }
}
