//! Reads the SBOMs of a manifest.

use std::collections::BTreeMap;

use super::super::MAX_RULE_NAME;
use super::super::fault::ManifestProblem;
use super::super::sbom::{MAX_SBOMS, SbomRef};
use super::image::entries;
use super::{Faults, Fields, Value, shortened, string};
use crate::digest::Digest;
use crate::sbom::SbomFormat;

const SBOM_FIELDS: &[&str] = &["digest", "format", "name"];

pub(super) fn read(value: &Value<'_>, faults: &mut Faults<'_>) -> Vec<SbomRef> {
    let mut sboms = BTreeMap::new();
    for entry in entries(value, "sbom", MAX_SBOMS, ("a list of tables", "[[sbom]]"), faults) {
        let Some(table) = entry.get_ref().as_table() else {
            faults.wrong_type(entry.span(), "sbom", "a table", "[[sbom]]");
            continue;
        };
        let fields = Fields::new(table, entry.span(), SBOM_FIELDS, faults);
        let (digest, format) = (read_digest(&fields, faults), read_format(&fields, faults));
        let name = fields.text("name", MAX_RULE_NAME, faults);
        if let (Some(digest), Some(format)) = (digest, format)
            && sboms.insert(digest, SbomRef { digest, format, name }).is_some()
        {
            faults.add(entry.span(), ManifestProblem::Duplicate(format!("the SBOM {digest}")));
        }
    }
    sboms.into_values().collect()
}

fn read_digest(fields: &Fields<'_, '_>, faults: &mut Faults<'_>) -> Option<Digest> {
    let value = fields.required("digest", "digest = \"sha256:<64 hex digits>\"", faults)?;
    let text = string(value, "digest", "\"sha256:<64 hex digits>\"", faults)?;
    let digest = text.strip_prefix("sha256:").and_then(|digits| digits.parse().ok());
    if digest.is_none() {
        let (found, wanted) = (shortened(text), "sha256:".to_owned());
        faults.add(value.span(), ManifestProblem::Digest { found, wanted });
    }
    digest
}

fn read_format(fields: &Fields<'_, '_>, faults: &mut Faults<'_>) -> Option<SbomFormat> {
    let value = fields.required("format", "format = \"cyclonedx\", or \"spdx\"", faults)?;
    let format = string(value, "format", "\"cyclonedx\"", faults)?.parse();
    if format.is_err() {
        faults.wrong_type(value.span(), "format", "\"cyclonedx\" or \"spdx\"", "\"cyclonedx\"");
    }
    format.ok()
}
