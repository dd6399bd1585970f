//! What each release contains of what is asked for, by its SBOMs.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use policy::component::{Component, Inquiry, Match, Purl, Via};
use policy::digest::Digest;
use policy::reference::manifest::sbom::SbomRef;
use policy::reference::release::ReleaseId;
use policy::reference::{ReferenceValues, Release};
use policy::sbom::{MAX_SBOM_BYTES, Sbom, SbomFormat};

use crate::admin::sbom::READERS;
use crate::plant::Plant;
use crate::record::fetch;
use crate::record::sbom::{SbomRecord, sbom_key};
use crate::session::Refusal;

/// Components told of one release: a kernel or a tool chain is built into some dozens of packages.
const MAX_TOLD: usize = 50;

/// A component that is affected, or may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// The version that was compared.
    pub version: String,
    /// Its purl, if it has one.
    pub purl: String,
    /// The document.
    pub sbom: Digest,
    /// The source package by which it was recognised; none for its own name.
    pub source: Option<String>,
    /// Why that is not certain.
    pub doubt: Option<String>,
}

/// What one document says.
#[derive(Debug, Clone)]
struct Reading {
    found: Vec<Found>,
    left_out: usize,
    format: SbomFormat,
    /// It names binary packages of a distribution, and none of the sources that advisories speak of.
    lacks_sources: bool,
}

/// What is known of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseFindings {
    /// The release.
    pub id: ReleaseId,
    /// Components, the certain ones first, at most some dozens.
    pub found: Vec<Found>,
    /// Components that are not told.
    pub left_out: usize,
    /// Why what it contains is not fully known.
    pub unknown: Vec<String>,
}

impl ReleaseFindings {
    /// Whether it certainly has an affected component.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        self.found.first().is_some_and(|found| found.doubt.is_none())
    }

    /// Whether it certainly has none.
    #[must_use]
    pub const fn is_clear(&self) -> bool {
        self.found.is_empty() && self.unknown.is_empty()
    }
}

/// The findings of every release. Each document is read once, however many releases state it.
pub(super) async fn findings(
    plant: &Plant,
    values: &ReferenceValues,
    inquiry: Inquiry,
) -> Result<BTreeMap<ReleaseId, ReleaseFindings>, Refusal> {
    let (inquiry, mut read, mut all) = (Arc::new(inquiry), BTreeMap::new(), BTreeMap::new());
    for release in values.iter() {
        for sbom in release.signed().manifest().sboms() {
            if let Entry::Vacant(unread) = read.entry(sbom.digest) {
                unread.insert(reading(plant, sbom.digest, &inquiry).await?);
            }
        }
        let findings = of_release(release, &read);
        all.insert(findings.id.clone(), findings);
    }
    Ok(all)
}

fn of_release(release: &Release, read: &BTreeMap<Digest, Result<Reading, String>>) -> ReleaseFindings {
    let (id, sboms) = (release.signed().id().clone(), release.signed().manifest().sboms());
    let mut findings = ReleaseFindings { id, found: Vec::new(), left_out: 0, unknown: Vec::new() };
    if sboms.is_empty() {
        findings.unknown.push(format!("{} states no SBOM", findings.id));
    }
    for sbom in sboms {
        match read.get(&sbom.digest) {
            Some(Ok(reading)) if reading.format == sbom.format => {
                findings.found.extend(reading.found.iter().cloned());
                findings.left_out = findings.left_out.saturating_add(reading.left_out);
                if reading.lacks_sources {
                    findings.unknown.push(format!(
                        "{}: {} does not say from which source packages its binary packages were built, and advisories name those; make it with a tool that does, or ask for each binary package",
                        findings.id,
                        called(sbom)
                    ));
                }
            }
            Some(Ok(reading)) => findings.unknown.push(format!(
                "{} states {} as {}, and the document is {}",
                findings.id,
                called(sbom),
                sbom.format,
                reading.format
            )),
            Some(Err(why)) => findings.unknown.push(format!("{}: {} {why}", findings.id, called(sbom))),
            None => findings.unknown.push(format!("{}: {} was not read", findings.id, called(sbom))),
        }
    }
    findings.left_out = findings.left_out.saturating_add(certain_first(&mut findings.found));
    findings
}

/// Sorts and shortens what is told, and returns how many are left out.
fn certain_first(found: &mut Vec<Found>) -> usize {
    found.sort_by_key(|found| found.doubt.is_some());
    let left_out = found.len().saturating_sub(MAX_TOLD);
    found.truncate(MAX_TOLD);
    left_out
}

fn called(sbom: &SbomRef) -> String {
    match &sbom.name {
        Some(name) => format!("the SBOM {} ({name})", sbom.digest),
        None => format!("the SBOM {}", sbom.digest),
    }
}

/// What a document says, or why it says nothing.
async fn reading(
    plant: &Plant,
    digest: Digest,
    inquiry: &Arc<Inquiry>,
) -> Result<Result<Reading, String>, Refusal> {
    let add = "; add it with `touchstone sbom add`";
    if fetch::<SbomRecord>(plant.store.as_ref(), sbom_key(&digest)).await?.is_none() {
        return Ok(Err(format!("is not here{add}")));
    }
    let _place = READERS.acquire().await.map_err(Refusal::internal)?;
    let bytes = match plant.blobs.fetch(digest, MAX_SBOM_BYTES).await {
        Ok(bytes) => bytes,
        Err(error) => {
            tracing::warn!(%error, "an SBOM cannot be read");
            return Ok(Err(format!("is gone or damaged{add}")));
        }
    };
    let inquiry = Arc::clone(inquiry);
    let work = tokio::task::spawn_blocking(move || match Sbom::parse(&bytes) {
        Ok(sbom) => Ok(search(&sbom, digest, &inquiry)),
        Err(error) => Err(format!("is not understood: {error}")),
    });
    work.await.map_err(Refusal::internal)
}

fn search(sbom: &Sbom, digest: Digest, inquiry: &Inquiry) -> Reading {
    let matched = sbom.components.iter().filter_map(|component| {
        inquiry.applies_to(component).map(|matched| found(component, matched, digest))
    });
    let mut found: Vec<Found> = matched.collect();
    let left_out = certain_first(&mut found);
    let lacks_sources = found.is_empty() && inquiry.needs_sources(&sbom.components);
    Reading { found, left_out, format: sbom.format, lacks_sources }
}

fn found(component: &Component, matched: Match, sbom: Digest) -> Found {
    Found {
        name: component.purl.as_ref().map_or(component.name.as_str(), Purl::name).to_owned(),
        version: matched.version.unwrap_or_default(),
        purl: component.purl.as_ref().map(ToString::to_string).unwrap_or_default(),
        sbom,
        source: match matched.via {
            Via::Name => None,
            Via::Source(name) => Some(name),
        },
        doubt: matched.doubt.map(|doubt| doubt.to_string()),
    }
}
