//! Puts a manifest together from predicted rules and from an earlier release.

use std::collections::{BTreeMap, BTreeSet};

use super::manifest::image::ImageRule;
use super::manifest::{EventRule, Manifest, ManifestFaults};
use super::release::ReleaseId;
use crate::eventlog::image::IMAGE_PCR;
use crate::tpm::alg::{HashAlg, HashValue};
use crate::tpm::pcr::PcrIndex;

/// What takes the place of parts of an earlier release.
#[derive(Debug, Clone, Default)]
pub(crate) struct Draft {
    /// PCRs of which nothing of the earlier release stays.
    pub(crate) replaced: BTreeSet<PcrIndex>,
    /// Rules about events.
    pub(crate) events: Vec<EventRule>,
    /// PCRs that nothing may be extended into, in these banks.
    pub(crate) untouched: Vec<(PcrIndex, Vec<HashAlg>)>,
    /// Files that may run, in place of all listed ones.
    pub(crate) files: Option<BTreeMap<String, BTreeSet<HashValue>>>,
    /// Images, in place of all listed ones if there are any.
    pub(crate) images: Vec<ImageRule>,
}

impl Draft {
    /// The manifest, read back through its one door, so that it is held to the limits of every other.
    pub(crate) fn complete(
        self,
        id: ReleaseId,
        counter: u64,
        base: Option<&Manifest>,
    ) -> Result<Manifest, ManifestFaults> {
        let mut manifest = match base {
            // What the earlier release says it is made of is not said of this one.
            Some(base) => Manifest { id, counter, description: None, sboms: Vec::new(), ..base.clone() },
            None => empty(id, counter),
        };
        manifest.events.retain(|rule| !self.replaced.contains(&rule.pcr));
        for rules in manifest.pcrs.values_mut() {
            rules.retain(|pcr, _| !self.replaced.contains(pcr));
        }
        for (pcr, banks) in self.untouched {
            for bank in banks {
                let zero = BTreeSet::from([HashValue::repeated(bank, 0)]);
                manifest.pcrs.entry(bank).or_default().insert(pcr, zero);
            }
        }
        manifest.events.extend(self.events);
        if let Some(files) = self.files {
            manifest.ima = Some(manifest.ima.unwrap_or_default().with_files(files));
        }
        if !self.images.is_empty() {
            // An earlier release may say that nothing is measured where these are.
            manifest.pcrs.values_mut().for_each(|rules| drop(rules.remove(&IMAGE_PCR)));
            manifest.images = self.images;
        }
        manifest.pcrs.retain(|_, rules| !rules.is_empty());
        Manifest::parse(&manifest.render())
    }
}

fn empty(id: ReleaseId, counter: u64) -> Manifest {
    Manifest {
        id,
        counter,
        description: None,
        pcrs: BTreeMap::new(),
        events: Vec::new(),
        ima: None,
        secure_boot: None,
        images: Vec::new(),
        sboms: Vec::new(),
    }
}
