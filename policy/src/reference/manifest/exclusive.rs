//! Whether one boot could satisfy two releases: a TPM cannot tell those apart.

use std::collections::BTreeSet;

use super::{EventRule, Manifest};
use crate::tpm::alg::{HashAlg, HashValue};

impl Manifest {
    /// Whether no boot satisfies both releases, by their PCR values and event rules. What only other sections tell
    /// apart counts as not told apart.
    #[must_use]
    pub fn excludes(&self, other: &Self) -> bool {
        let values = self.pcrs.iter().any(|(bank, rules)| {
            rules.iter().any(|(pcr, values)| {
                let others = other.pcrs.get(bank).and_then(|rules| rules.get(pcr));
                others.is_some_and(|others| values.is_disjoint(others))
            })
        });
        let (ours, theirs) = (self.variants(), other.variants());
        let events = || {
            ours.iter().all(|mine| {
                theirs.iter().all(|their| {
                    self.demands_more(*mine, other, *their) || other.demands_more(*their, self, *mine)
                })
            })
        };
        values || events()
    }

    /// Whether a required event of `variant` breaks a PCR that `theirs` of `other` closes.
    fn demands_more(&self, variant: Option<&str>, other: &Self, theirs: Option<&str>) -> bool {
        let ours = self.events.iter().filter(|rule| rule.is_of(variant));
        let required = ours.filter(|rule| rule.closes() && !rule.is_optional());
        required.into_iter().any(|rule| {
            let closed: Vec<&EventRule> =
                other.rules_of(rule.pcr, theirs).filter(|rule| rule.closes()).collect();
            let same_type = closed.iter().filter(|known| known.event_type == rule.event_type);
            let allowed: BTreeSet<&HashValue> = same_type.flat_map(|known| all_digests(known)).collect();
            // In another bank the same event has digests that cannot be compared.
            let banks: BTreeSet<HashAlg> =
                closed.iter().flat_map(|known| all_digests(known)).map(HashValue::alg).collect();
            let comparable = all_digests(rule).all(|digest| banks.contains(&digest.alg()));
            !closed.is_empty() && comparable && all_digests(rule).all(|digest| !allowed.contains(digest))
        })
    }
}

fn all_digests(rule: &EventRule) -> impl Iterator<Item = &HashValue> {
    HashAlg::ALL.iter().flat_map(|bank| rule.digests(*bank))
}
