//! CycloneDX in JSON (ECMA-424).

use serde::Deserialize;

use super::{Components, Sbom, SbomError, SbomFormat, bounded, json};
use crate::component::{Component, Source};

const VERSIONS: [&str; 3] = ["1.4", "1.5", "1.6"];

/// Properties in which the common generators name the source package, with those of its version.
const SOURCES: [(&str, &str); 2] = [
    ("aquasecurity:trivy:SrcName", "aquasecurity:trivy:SrcVersion"),
    ("syft:metadata:source", "syft:metadata:sourceVersion"),
];
/// What Trivy keeps apart of a source package's version.
const TRIVY_EPOCH: &str = "aquasecurity:trivy:SrcEpoch";
const TRIVY_RELEASE: &str = "aquasecurity:trivy:SrcRelease";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    spec_version: String,
    metadata: Option<Metadata>,
    components: Option<Vec<Raw>>,
}

#[derive(Deserialize)]
struct Metadata {
    component: Option<Raw>,
}

#[derive(Deserialize)]
struct Raw {
    name: String,
    version: Option<String>,
    purl: Option<String>,
    properties: Option<Vec<Property>>,
    components: Option<Vec<Raw>>,
}

#[derive(Deserialize)]
struct Property {
    name: Option<String>,
    value: Option<String>,
}

pub(super) fn parse(bytes: &[u8]) -> Result<Sbom, SbomError> {
    let document: Document = serde_json::from_slice(bytes).map_err(json)?;
    if !VERSIONS.contains(&document.spec_version.as_str()) {
        let (format, found) = (SbomFormat::CycloneDx, document.spec_version.chars().take(40).collect());
        return Err(SbomError::Version { format, found, wanted: "CycloneDX 1.4, 1.5 or 1.6" });
    }
    let subject = document.metadata.and_then(|metadata| metadata.component);
    let name = subject.as_ref().map(named).unwrap_or_default();
    let mut components = Components::default();
    // serde_json bounds how deep they are nested.
    let mut waiting: Vec<Raw> = subject.into_iter().chain(document.components.unwrap_or_default()).collect();
    waiting.reverse();
    while let Some(mut raw) = waiting.pop() {
        waiting.extend(raw.components.take().unwrap_or_default().into_iter().rev());
        components.add(component(raw)?)?;
    }
    Ok(Sbom {
        format: SbomFormat::CycloneDx,
        spec_version: document.spec_version,
        subject: bounded("name", name)?,
        components: components.0,
    })
}

fn named(raw: &Raw) -> String {
    match &raw.version {
        Some(version) => format!("{} {version}", raw.name),
        None => raw.name.clone(),
    }
}

fn component(raw: Raw) -> Result<Component, SbomError> {
    let purl = raw.purl.map(|text| bounded("purl", text)).transpose()?;
    let component = Component {
        name: bounded("name", raw.name)?,
        version: raw.version.map(|text| bounded("version", text)).transpose()?,
        purl: purl.and_then(|text| text.parse().ok()),
        sources: source(&raw.properties.unwrap_or_default()).into_iter().collect(),
    };
    Ok(component.with_upstream())
}

fn source(properties: &[Property]) -> Option<Source> {
    let value = |name: &str| {
        let found = properties.iter().find(|property| property.name.as_deref() == Some(name));
        found.and_then(|property| property.value.clone()).filter(|text| !text.is_empty())
    };
    SOURCES.iter().find_map(|(name, version)| {
        let version = value(version).map(|version| {
            let epoch = value(TRIVY_EPOCH).filter(|epoch| epoch != "0").map(|epoch| format!("{epoch}:"));
            let release = value(TRIVY_RELEASE).map(|release| format!("-{release}"));
            format!("{}{version}{}", epoch.unwrap_or_default(), release.unwrap_or_default())
        });
        Some(Source { name: value(name)?, version })
    })
}
