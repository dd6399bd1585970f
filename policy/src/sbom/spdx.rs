//! SPDX 2 in JSON (ISO/IEC 5962; SPDX 2.3, clause 7).

use serde::Deserialize;

use super::{Components, Sbom, SbomError, SbomFormat, bounded, json};
use crate::component::{Component, Purl, Source};

const VERSIONS: [&str; 2] = ["SPDX-2.2", "SPDX-2.3"];

/// Begins `sourceInfo` where a generator says what a package was built from.
const BUILT_FROM: &str = "built package from: ";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    spdx_version: String,
    name: Option<String>,
    packages: Option<Vec<Package>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Package {
    name: String,
    version_info: Option<String>,
    source_info: Option<String>,
    external_refs: Option<Vec<Reference>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    reference_type: Option<String>,
    reference_locator: Option<String>,
}

pub(super) fn parse(bytes: &[u8]) -> Result<Sbom, SbomError> {
    let document: Document = serde_json::from_slice(bytes).map_err(json)?;
    if !VERSIONS.contains(&document.spdx_version.as_str()) {
        let (format, found) = (SbomFormat::Spdx, document.spdx_version.chars().take(40).collect());
        return Err(SbomError::Version { format, found, wanted: "SPDX 2.2 or 2.3" });
    }
    let mut components = Components::default();
    for package in document.packages.unwrap_or_default() {
        for component in package_components(package)? {
            components.add(component)?;
        }
    }
    Ok(Sbom {
        format: SbomFormat::Spdx,
        spec_version: document.spdx_version.trim_start_matches("SPDX-").to_owned(),
        subject: bounded("name", document.name.unwrap_or_default())?,
        components: components.0,
    })
}

/// One component for each purl of the package, and one without where there is none.
fn package_components(package: Package) -> Result<Vec<Component>, SbomError> {
    let name = bounded("name", package.name)?;
    let version = package.version_info.map(|text| bounded("version", text)).transpose()?;
    let sources: Vec<Source> = package.source_info.as_deref().and_then(source).into_iter().collect();
    let mut purls: Vec<Option<Purl>> = Vec::new();
    for reference in package.external_refs.unwrap_or_default() {
        // SPDX writes the type as a word or as the end of a URI.
        if reference.reference_type.is_some_and(|kind| kind == "purl" || kind.ends_with("/purl")) {
            let text = bounded("purl", reference.reference_locator.unwrap_or_default())?;
            purls.push(text.parse().ok());
        }
    }
    if purls.is_empty() {
        purls.push(None);
    }
    let component = |purl| {
        let (name, version, sources) = (name.clone(), version.clone(), sources.clone());
        Component { name, version, purl, sources }.with_upstream()
    };
    Ok(purls.into_iter().map(component).collect())
}

fn source(text: &str) -> Option<Source> {
    let mut words = text.strip_prefix(BUILT_FROM)?.split_whitespace();
    Some(Source { name: words.next()?.to_owned(), version: words.next().map(str::to_owned) })
}
