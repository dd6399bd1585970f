//! CSAF 2.0 documents (OASIS CSAF 2.0, sections 3.2.2 and 3.2.3).

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::{Advisory, AdvisoryError, json, vers};
use crate::component::affected::{Affected, MAX_AFFECTED};
use crate::component::purl::Purl;

#[derive(Deserialize)]
struct Csaf {
    document: Document,
    product_tree: Tree,
    vulnerabilities: Option<Vec<Vulnerability>>,
}

#[derive(Deserialize)]
struct Document {
    csaf_version: String,
    title: Option<String>,
    tracking: Tracking,
}

#[derive(Deserialize)]
struct Tracking {
    id: String,
}

#[derive(Deserialize)]
struct Tree {
    branches: Option<Vec<Branch>>,
    full_product_names: Option<Vec<Product>>,
    relationships: Option<Vec<Relationship>>,
}

#[derive(Deserialize)]
struct Branch {
    category: String,
    name: String,
    product: Option<Product>,
    branches: Option<Vec<Branch>>,
}

#[derive(Deserialize)]
struct Product {
    product_id: String,
    product_identification_helper: Option<Helper>,
}

#[derive(Deserialize)]
struct Helper {
    purl: Option<String>,
}

#[derive(Deserialize)]
struct Relationship {
    product_reference: String,
    full_product_name: Product,
}

#[derive(Deserialize)]
struct Vulnerability {
    product_status: Option<Status>,
}

#[derive(Deserialize)]
struct Status {
    known_affected: Option<Vec<String>>,
    first_affected: Option<Vec<String>>,
    last_affected: Option<Vec<String>>,
    under_investigation: Option<Vec<String>>,
}

/// What the product tree says of a product.
#[derive(Default)]
struct Known {
    purl: Option<Purl>,
    range: Option<String>,
    /// A relationship's product is this one within another.
    part: Option<String>,
}

pub(super) fn parse(bytes: &[u8]) -> Result<Advisory, AdvisoryError> {
    let csaf: Csaf = serde_json::from_slice(bytes).map_err(json)?;
    if csaf.document.csaf_version != "2.0" {
        return Err(AdvisoryError::Version(csaf.document.csaf_version.chars().take(40).collect()));
    }
    let known = products(csaf.product_tree);
    let (mut wanted, mut bounds, mut open) = (BTreeSet::new(), BTreeSet::new(), 0usize);
    for status in csaf.vulnerabilities.unwrap_or_default().into_iter().filter_map(|one| one.product_status) {
        wanted.extend(status.known_affected.unwrap_or_default());
        for list in [status.first_affected, status.last_affected] {
            bounds.extend(list.unwrap_or_default());
        }
        open = open.saturating_add(status.under_investigation.unwrap_or_default().len());
    }
    let (mut affected, mut notes) = (Vec::new(), Vec::new());
    // The first and the last affected version bound a range whose inside is not listed.
    let of = |id: String, incomplete: bool| {
        let found =
            product(&id, &known).map(|one| Affected { incomplete: one.incomplete || incomplete, ..one });
        (id, found)
    };
    let wanted = wanted.into_iter().map(|id| of(id, false));
    for (id, found) in wanted.chain(bounds.into_iter().map(|id| of(id, true))) {
        match found {
            Some(one) if affected.contains(&one) => {}
            // Before the list is compared with itself too often.
            Some(_) if affected.len() >= MAX_AFFECTED => {
                return Err(AdvisoryError::TooMany { what: "packages", limit: MAX_AFFECTED });
            }
            Some(one) => affected.push(one),
            None => notes.push(format!("the product {id} is affected and has no purl")),
        }
    }
    if open > 0 {
        notes.push(format!("{open} products are still under investigation"));
    }
    let (id, summary) = (csaf.document.tracking.id, csaf.document.title.unwrap_or_default());
    Ok(Advisory { id, summary, affected, notes })
}

fn products(tree: Tree) -> BTreeMap<String, Known> {
    let mut known = BTreeMap::new();
    let mut learn = |product: Product, range: Option<String>, part: Option<String>| {
        let purl = product.product_identification_helper.and_then(|helper| helper.purl?.parse().ok());
        known.insert(product.product_id, Known { purl, range, part });
    };
    for product in tree.full_product_names.unwrap_or_default() {
        learn(product, None, None);
    }
    // serde_json bounds how deep branches are nested.
    let mut waiting = tree.branches.unwrap_or_default();
    while let Some(branch) = waiting.pop() {
        waiting.extend(branch.branches.unwrap_or_default());
        if let Some(product) = branch.product {
            let range = match branch.category.as_str() {
                "product_version_range" => Some(branch.name),
                "product_version" => Some(format!("={}", branch.name)),
                _ => None,
            };
            learn(product, range, None);
        }
    }
    for relationship in tree.relationships.unwrap_or_default() {
        learn(relationship.full_product_name, None, Some(relationship.product_reference));
    }
    known
}

/// The package of a product: by its own purl, or by that of the part that a relationship names.
fn product(id: &str, known: &BTreeMap<String, Known>) -> Option<Affected> {
    let found = known.get(id)?;
    let part = found.part.as_ref().and_then(|part| known.get(part));
    let purl = found.purl.as_ref().or_else(|| part?.purl.as_ref())?;
    let range = found.range.as_ref().or_else(|| part?.range.as_ref());
    let mut affected =
        Affected { package: purl.package(), ranges: Vec::new(), versions: Vec::new(), incomplete: false };
    match (purl.version(), range) {
        (Some(version), _) => affected.versions.push(version),
        (None, Some(range)) => vers::add(range, &mut affected),
        (None, None) => {}
    }
    Some(affected)
}
